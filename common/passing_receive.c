/* passing_receive - the other end: a file of its own, for who only sends can call nothing that receives. Room: common. See passing.h. */
#include "passing.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(CMSG_SPACE(PASSING_MAX * sizeof(int)) == CMSG_LEN(PASSING_MAX * sizeof(int)), "no room between");

ssize_t passing_receive(int fd, void *at, size_t room, int flags, int *descriptors_r, size_t count)
{
	/* Room for PASSING_MAX and not one more: the kernel closes what does not fit, and says so. */
	union { struct cmsghdr head; char room[CMSG_SPACE(PASSING_MAX * sizeof(int))]; } control;
	struct iovec iov = { at, room };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room };
	int got[PASSING_MAX];
	size_t came = 0;
	for (size_t i = 0; i < count; i++)
		descriptors_r[i] = -1;
	ssize_t n = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *head = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
		came = (head->cmsg_len - CMSG_LEN(0)) / sizeof *got;
		memcpy(got, CMSG_DATA(head), came * sizeof *got);
	}
	bool wanted = came == count && (message.msg_flags & MSG_CTRUNC) == 0;
	for (size_t i = 0; i < came; i++) {
		if (wanted)
			descriptors_r[i] = got[i];
		else
			close(got[i]);
	}
	return n;
}
