/* launch - room: queue (spawn). See launch.h. */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "home.h"

#define PATH_TEXT "PATH=/usr/local/bin:/usr/bin:/bin"

static struct rlimit first_files;   /* written once by launch_init */

void launch_init(void) {
	if (getrlimit(RLIMIT_NOFILE, &first_files) < 0)
		die_system("cannot read the limit of open files");
}

static void close_both(const int pair[2]) {
	close(pair[0]);
	close(pair[1]);
}

/* The child's side until it is whoever it must be: its two descriptors, and nothing inherited from spawn's own ways. */
static void child_begins(int in, int out) {
	sigset_t none;
	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	umask(077);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
		die_system("cannot place a worker's descriptors");
	setrlimit(RLIMIT_NOFILE, &first_files);
}

static _Noreturn void child_execs(const char *program, char *const argv[], char *const envp[]) {
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/%s", path_libexec, program) >= sizeof path)
		die_usage("the path of %s is too long", program);
	execve(path, argv, envp);
	die_system("cannot execute %s", path);
}

static _Noreturn void child_remote(void) {
	char *argv[] = { (char[]){ "remote" }, NULL };
	char *envp[] = { NULL };
	child_execs("remote", argv, envp);
}

static _Noreturn void child_local(const struct mailbox *box) {
	char user[sizeof box->user + 8], logname[sizeof box->user + 8], home[MAILBOX_HOME_MAX + 8], place[MAILBOX_HOME_MAX] = "-c";
	snprintf(user, sizeof user, "USER=%s", box->user);
	snprintf(logname, sizeof logname, "LOGNAME=%s", box->user);
	snprintf(home, sizeof home, "HOME=%s", box->home);
	if (!box->is_virtual)
		snprintf(place, sizeof place, "%s", box->home);
	/* A failure here is local's to report: it finds the home missing and says so for every recipient. */
	if (box->is_virtual && home_make(box->home, box->uid, box->gid) < 0 && errno != EPERM)
		log_warn("cannot make the home %s: %m; the directory above it must be there, and be root's or its owner's", log_text(bytes_of(box->home)));
	priv_become_user(box->is_virtual ? NULL : box->user, box->uid, box->gid);
	char *argv[] = { (char[]){ "local" }, place, NULL };
	char *envp[] = { (char[]){ PATH_TEXT }, user, logname, home, NULL };
	child_execs("local", argv, envp);
}

static _Noreturn void child(const struct mailbox *box, int in, int out) {
	child_begins(in, out);
	if (box)
		child_local(box);
	child_remote();
}

/* Two pipes and a child between them. box NULL: remote. */
static int launch(const struct mailbox *box, struct launched *out) {
	int down[2], up[2];
	if (pipe2(down, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(up, O_CLOEXEC) < 0) {
		int error = errno;
		close_both(down);
		errno = error;
		return -1;
	}
	pid_t pid = -1;
	if (io_set_nonblocking(down[1], true) == 0 && io_set_nonblocking(up[0], true) == 0)
		pid = fork();
	if (pid == 0)
		child(box, down[0], up[1]);
	int error = errno;
	close(down[0]);
	close(up[1]);
	if (pid < 0) {
		close(down[1]);
		close(up[0]);
		errno = error;
		return -1;
	}
	*out = (struct launched){ .pid = pid, .to = down[1], .from = up[0] };
	return 0;
}

int launch_remote(struct launched *out) {
	return launch(NULL, out);
}

int launch_local(const struct mailbox *box, struct launched *out) {
	return launch(box, out);
}
