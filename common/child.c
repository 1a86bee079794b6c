/* child - a child of a daemon and its socket. Room: common. See child.h. */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exits.h"
#include "io.h"
#include "logsocket.h"

static void settle(int fd, pid_t parent)
{
	sigset_t none;
	struct sigaction action = { .sa_handler = SIG_DFL };
	if (dup2(fd, CHILD_FD) < 0 || !io_close_from(CHILD_FD + 1, logsocket_descriptor()) || io_set_cloexec(CHILD_FD, true) < 0)
		_exit(EXIT_SYSTEM);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGCHLD, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGHUP, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(EXIT_SYSTEM);
}

/* Signals wait during the fork: one that came before the child has its own handlers would go down the parent's pipe. */
pid_t child_start(int *fd_r)
{
	int pair[2];
	sigset_t all, before;
	pid_t parent = getpid();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid_t pid = fork();
	if (pid == 0) {
		settle(pair[1], parent);
		*fd_r = CHILD_FD;
		return 0;
	}
	int error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(pair[1]);
	*fd_r = pair[0];
	if (pid < 0)
		close(pair[0]);
	errno = error;
	return pid;
}

void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}
