/* passing - descriptors along with octets, the sending end. Room: common. See passing.h. */
#include "passing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

bool passing_send(int fd, struct bytes octets, const int *descriptors, size_t count, int flags)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(PASSING_MAX * sizeof(int))]; } control = { .room = "" };
	struct iovec iov = { (void *)(uintptr_t)octets.at, octets.len };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room };
	ssize_t sent;
	errno = EINVAL;
	if (count == 0 || count > PASSING_MAX)
		return false;
	message.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof *descriptors);   /* its type is libc's choice */
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = (socklen_t)CMSG_LEN(count * sizeof *descriptors);
	memcpy(CMSG_DATA(head), descriptors, count * sizeof *descriptors);
	do
		sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)octets.len;
}
