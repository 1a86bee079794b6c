/* run - one run of a filter program. Room: smtpd (filterd). See run.h. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"

#define TAKE_MAX 65536u          /* octets of one descriptor in one turn */

/* ---- the child */

enum { CHILD_FDS = 4, ABOVE = 10 };

static bool set_limit(int what, uint64_t most)
{
	struct rlimit limit;
	if (getrlimit((__rlimit_resource_t)what, &limit) < 0)
		return false;
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < most)
		most = limit.rlim_max;
	limit.rlim_cur = limit.rlim_max = (rlim_t)most;
	return setrlimit((__rlimit_resource_t)what, &limit) == 0;
}

static bool set_limits(const struct run_order *order)
{
	return set_limit(RLIMIT_CORE, 0) && set_limit(RLIMIT_CPU, order->seconds) && set_limit(RLIMIT_NPROC, order->processes)
		&& (order->memory == 0 || set_limit(RLIMIT_AS, order->memory));
}

/* The numbers wanted may be taken: each goes up first, and then down to its place. */
static bool place_descriptors(int fds[CHILD_FDS])
{
	static const int places[CHILD_FDS] = { 0, 1, 2, 4 };
	for (size_t i = 0; i < CHILD_FDS; i++)
		if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, ABOVE)) < 0)
			return false;
	for (size_t i = 0; i < CHILD_FDS; i++)
		if (dup2(fds[i], places[i]) < 0)
			return false;
	close(3);
	return close_range(5, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

static void forget_signals(void)
{
	static const int numbers[] = { SIGPIPE, SIGHUP, SIGTERM, SIGINT };
	sigset_t none;
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		signal(numbers[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child(const struct run_order *order, int fds[CHILD_FDS], int failure)
{
	forget_signals();
	failure = fcntl(failure, F_DUPFD_CLOEXEC, ABOVE);
	umask(077);
	if (setsid() >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && chdir("/") == 0 && place_descriptors(fds) && set_limits(order))
		execve(order->words[0], order->words, order->environment);
	int error = errno;
	(void)!write(failure, &error, sizeof error);
	_exit(EXIT_SYSTEM);
}

/* ---- start */

static void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		io_close(&fds[i]);
}

/* The three pipes: [0], [2], [4] are ours. */
static bool make_pipes(int pipes[6])
{
	for (size_t i = 0; i < 6; i += 2)
		if (pipe2(&pipes[i], O_CLOEXEC) < 0 || io_set_nonblocking(pipes[i], true) < 0)
			return false;
	return true;
}

static bool fork_it(struct run *r, const struct run_order *order, int pipes[6], int given[2])
{
	int fds[CHILD_FDS] = { given[0], given[1], pipes[1], pipes[3] };
	r->pid = fork();
	if (r->pid == 0)
		child(order, fds, pipes[5]);
	if (r->pid < 0)
		return false;
	r->watch = pidfd_open(r->pid, 0);
	if (r->watch < 0) {
		kill(r->pid, SIGKILL);   /* reaped like any other */
		return false;
	}
	return true;
}

int run_start(struct run *r, const struct run_order *order)
{
	int pipes[6] = { -1, -1, -1, -1, -1, -1 };
	int given[2] = { io_open_again(order->message), io_open_again(order->envelope) };
	*r = (struct run){ .watch = -1, .log = -1, .text = -1, .failure = -1 };
	bool good = given[0] >= 0 && given[1] >= 0 && make_pipes(pipes) && fork_it(r, order, pipes, given);
	int error = good ? 0 : errno;
	for (size_t i = 1; i < 6; i += 2)
		io_close(&pipes[i]);
	close_all(given, 2);
	if (!good) {
		close_all(pipes, 6);
		return error;
	}
	r->log = pipes[0];
	r->text = pipes[2];
	r->failure = pipes[4];
	return 0;
}

/* ---- what it writes */

static void log_line_of(struct run *r, const char *name)
{
	if (r->line_len > 0 && r->lines++ < RUN_LOG_LINES)
		log_info("filter %s says: %s", name, log_text((struct bytes){ r->line, r->line_len }));
	else if (r->line_len > 0 && r->lines == RUN_LOG_LINES + 1)
		log_info("filter %s says more than %u lines; the rest is dropped", name, RUN_LOG_LINES);
	r->line_len = 0;
}

static void take_log(struct run *r, const char *name, struct bytes octets)
{
	for (size_t i = 0; i < octets.len; i++) {
		if (octets.at[i] == '\n' || r->line_len == RUN_TEXT)
			log_line_of(r, name);
		if (octets.at[i] != '\n')
			r->line[r->line_len++] = octets.at[i];
	}
}

/* Its first line; a NUL, which would end it sooner elsewhere, ends it, too. */
static void take_text(struct run *r, const char *name, struct bytes octets)
{
	(void)name;
	for (size_t i = 0; i < octets.len && !r->said_whole; i++) {
		r->said_whole = octets.at[i] == '\n' || octets.at[i] == '\r' || octets.at[i] == '\0' || r->said_len == RUN_TEXT;
		if (!r->said_whole)
			r->said[r->said_len++] = octets.at[i];
	}
}

static void take_from(struct run *r, int *fd, const char *name, void (*take)(struct run *, const char *, struct bytes))
{
	char piece[4096];
	for (size_t taken = 0; *fd >= 0 && taken < TAKE_MAX;) {
		ssize_t n = read(*fd, piece, sizeof piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			io_close(fd);
			return;
		}
		take(r, name, (struct bytes){ piece, (size_t)n });
		taken += (size_t)n;
	}
}

void run_take(struct run *r, const char *name)
{
	take_from(r, &r->log, name, take_log);
	take_from(r, &r->text, name, take_text);
}

void run_prepare(const struct run *r, struct pollfd fds[RUN_FDS])
{
	fds[0] = (struct pollfd){ .fd = r->watch, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = r->log, .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = r->text, .events = POLLIN };
}

/* ---- the end */

void run_kill(const struct run *r)
{
	kill(-r->pid, SIGKILL);
	kill(r->pid, SIGKILL);       /* before it was a group */
}

void run_finish(struct run *r, const char *name)
{
	run_take(r, name);
	log_line_of(r, name);
	if (r->failure >= 0 && read(r->failure, &r->error, sizeof r->error) != (ssize_t)sizeof r->error)
		r->error = 0;
	io_close(&r->watch);
	io_close(&r->log);
	io_close(&r->text);
	io_close(&r->failure);
}
