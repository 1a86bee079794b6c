/*
 * test_calls - what a session of tlsd needs of the kernel it still gets, and by the same calls nothing else: no signal, no other receiver.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "smtpd/tlsd/calls.h"

static bool is_refused(long result)
{
	return result == -1 && errno == EPERM;
}

static bool fcntl_is_held(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_GETFL) == (flags | O_NONBLOCK)
		&& is_refused(fcntl(fd, F_SETOWN, getpid())) && is_refused(fcntl(fd, F_SETSIG, SIGKILL))
		&& is_refused(fcntl(fd, F_SETOWN_EX, &(struct f_owner_ex){ F_OWNER_PID, getpid() })) && is_refused(fcntl(fd, F_DUPFD, 0))
		&& is_refused(fcntl(fd, F_SETFD, 0));
}

static bool sendto_is_held(int fd, int other)
{
	char octet;
	struct sockaddr_un nobody = { .sun_family = AF_UNIX, .sun_path = "/nowhere" };
	return send(fd, "x", 1, MSG_NOSIGNAL) == 1 && recv(other, &octet, 1, 0) == 1
		&& is_refused(sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&nobody, sizeof nobody))
		&& is_refused(sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)(uintptr_t)(UINT64_C(1) << 32), sizeof nobody));
}

static void restricted(void **state)
{
	(void)state;
	int pair[2], status;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !calls_restrict())
			_exit(errno == ENOSYS || errno == EINVAL ? 77 : 1);
		_exit(!fcntl_is_held(pair[0]) ? 2 : !sendto_is_held(pair[0], pair[1]) ? 3 : !is_refused(socket(AF_UNIX, SOCK_DGRAM, 0)) ? 4 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(pair[0]);
	close(pair[1]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();   /* no filters here */
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(restricted) };
	return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
