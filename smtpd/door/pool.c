/* pool - smtpd's room: the parent of pre-forked sessions. See pool.h; the life of one of them is in serve.c. */
#include "pool.h"

#include "peer.h"
#include "role.h"
#include "serve.h"
#include "smtpd/ask/places.h"
#include "smtpd/session/session.h"

#include "common/clock.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKLOG 1024
#define SPARE_MIN 4u              /* processes that wait for a client */
#define SPARE_MAX 12u             /* more than this for SURPLUS_MS: one goes */
#define SURPLUS_MS 1000u
#define FULL_PATIENCE_MS 1000u    /* all busy for so long: turn clients away */
#define TURN_AWAY_BATCH 64
#define CRASH_FIRST_MS 50u        /* pause after a session that crashed, doubled for each one that follows */
#define CRASH_MAX_MS 500u
#define BACKOFF_FIRST_MS 100u     /* the same when they crash before they are ready for a client */
#define BACKOFF_MAX_MS 30000u
#define CALM_MS 5000u             /* no crash for so long: the next one is the first again */
#define PAUSE_MS 200u             /* after EMFILE and its kin */
#define STOP_REPEAT_MS 500u       /* a signal between a check and a read would be missed: say it again */
#define STOP_GRACE_MS 30000u
#define LISTEN_PATIENCE_MS 5000u  /* how long an address may be in use at the start, asked again after LISTEN_AGAIN_MS */
#define LISTEN_AGAIN_MS 100u

struct child { pid_t pid; };

struct pool {
	struct settings *settings;
	struct access access;
	const struct listeners *listeners;
	struct board *board;
	struct child *children;       /* POOL_SESSIONS_MAX of them, pid 0: free; the slot of the same number is its own */
	size_t limit;                 /* smtpdsessions */
	size_t top;                   /* no child has a slot at or above it */
	size_t total, idle;           /* as counted in this turn */
	int signals, news;            /* pipe of signals; eventfd that children write */
	sigset_t quiet;               /* signals blocked around fork */
	bool stopping;
	deadline_t now, stop_until, stop_again;
	deadline_t fork_after;        /* no fork before it; 0 */
	uint64_t backoff_ms;
	deadline_t last_crash;
	deadline_t full_since, surplus_since, accept_after;
};

/* ---- sockets */

static int listen_on(const struct netaddr *addr, bool any)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(addr, &sa);
	int on = 1, only6 = any ? 0 : 1;
	int fd = socket(addr->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (addr->family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof only6);
	if (bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	io_close(&fd);
	return -1;
}

/* Sessions of a pool that was killed hold the address until they hear of it: a start right after waits for them. */
static int listen_patiently(const struct netaddr *addr, bool any)
{
	deadline_t end = deadline_in(clock_monotonic_ms(), LISTEN_PATIENCE_MS);
	int fd;
	while ((fd = listen_on(addr, any)) < 0 && errno == EADDRINUSE && !deadline_passed(end, clock_monotonic_ms()))
		usleep(LISTEN_AGAIN_MS * 1000);
	return fd;
}

static const char *listen_advice(int error)
{
	switch (error) {
	case EADDRINUSE: return "; `ss -ltnp` shows who listens there";
	case EACCES: return "; ports below 1024 take root, or a socket from systemd or inetd";
	case EADDRNOTAVAIL: return "; this host has no such address";
	default: return "";
	}
}

bool pool_listen(struct listeners *l, struct bytes address, enum smtpd_role role, struct str *error)
{
	static const uint8_t zero[16];
	struct netaddr addr;
	if (l->count == POOL_LISTENERS) {
		str_addf(error, "more than %d addresses to listen on", POOL_LISTENERS);
		return false;
	}
	if (!netaddr_parse_listen(address, &addr) || addr.port == 0) {
		str_addf(error, "\"%s\" is no address to listen on; write port, address:port or [v6]:port", log_text(address));
		return false;
	}
	bool any = addr.family == AF_INET6 && memcmp(addr.octets, zero, sizeof zero) == 0;
	int fd = listen_patiently(&addr, any);
	if (fd < 0 && any && errno == EAFNOSUPPORT) {
		addr.family = AF_INET;   /* a kernel without IPv6 */
		fd = listen_on(&addr, true);
	}
	if (fd < 0) {
		str_addf(error, "cannot listen on %s: %s%s", log_text(address), strerror(errno), listen_advice(errno));
		return false;
	}
	l->role[l->count] = role;
	l->fd[l->count++] = fd;
	return true;
}

/* ---- counting and reaping */

static void pool_count(struct pool *p)
{
	p->total = p->idle = 0;
	for (size_t i = 0; i < p->top; i++) {
		if (p->children[i].pid == 0)
			continue;
		p->total++;
		if (slot_is_waiting(&p->board->slots[i]))
			p->idle++;
	}
	while (p->top > 0 && p->children[p->top - 1].pid == 0)
		p->top--;
}

/* Several that end in the same turn are one reason to wait longer, not several. */
static void slow_down(struct pool *p, uint64_t first, uint64_t max)
{
	if (p->last_crash == p->now)
		return;
	if (p->last_crash == 0 || deadline_passed(deadline_in(p->last_crash, p->backoff_ms + CALM_MS), p->now))
		p->backoff_ms = 0;
	p->last_crash = p->now;
	p->backoff_ms = p->backoff_ms == 0 ? first : p->backoff_ms * 2;
	if (p->backoff_ms > max)
		p->backoff_ms = max;
	p->fork_after = deadline_in(p->now, p->backoff_ms);
}

static void child_ended(struct pool *p, size_t i, int status)
{
	bool was_ready = board_release(p->board, i);
	pid_t pid = p->children[i].pid;
	p->children[i].pid = 0;
	if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || p->stopping)
		return;
	if (WIFSIGNALED(status))
		log_warn("session process %ld was killed by signal %d", (long)pid, WTERMSIG(status));
	else
		log_warn("session process %ld ended with exit code %d", (long)pid, WEXITSTATUS(status));
	slow_down(p, was_ready ? CRASH_FIRST_MS : BACKOFF_FIRST_MS, was_ready ? CRASH_MAX_MS : BACKOFF_MAX_MS);
}

static void pool_reap(struct pool *p)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < p->top; i++)
			if (p->children[i].pid == pid)
				child_ended(p, i, status);
}

static void pool_signal_all(struct pool *p, int signal_number)
{
	for (size_t i = 0; i < p->top; i++)
		if (p->children[i].pid > 0)
			kill(p->children[i].pid, signal_number);
}

/* ---- forking */

static size_t free_slot(const struct pool *p)
{
	size_t i = 0;
	while (i < p->top && p->children[i].pid != 0)
		i++;
	return i;
}

static bool pool_fork(struct pool *p)
{
	size_t i = free_slot(p);
	sigset_t before;
	struct server server = { .access = &p->access, .listeners = p->listeners, .board = p->board, .slot = i, .news = p->news, .parent = getpid() };
	board_take(p->board, i);
	/* A signal between fork and the child's own handlers would go down the parent's pipe. */
	sigprocmask(SIG_BLOCK, &p->quiet, &before);
	pid_t pid = fork();
	if (pid == 0)
		_exit(serve_connections(&server));
	int saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		board_release(p->board, i);
		slow_down(p, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
		log_warn("cannot start a session process: %s; next try in %llu ms", strerror(saved), (unsigned long long)p->backoff_ms);
		return false;
	}
	p->children[i].pid = pid;
	if (i >= p->top)
		p->top = i + 1;
	return true;
}

static size_t spare_wanted(const struct pool *p, size_t spare)
{
	return spare < p->limit ? spare : p->limit;
}

static void pool_grow(struct pool *p)
{
	if (!deadline_passed(p->fork_after, p->now) && p->fork_after != 0)
		return;
	p->fork_after = 0;
	while (p->idle < spare_wanted(p, SPARE_MIN) && p->total < p->limit && pool_fork(p)) {
		p->idle++;
		p->total++;
	}
}

/* One surplus process goes per SURPLUS_MS; it may have just taken a connection, which it then finishes. */
static void pool_shrink(struct pool *p)
{
	if (p->idle <= SPARE_MAX && p->total <= p->limit) {
		p->surplus_since = 0;
		return;
	}
	if (p->surplus_since == 0)
		p->surplus_since = p->now;
	if (!deadline_passed(deadline_in(p->surplus_since, SURPLUS_MS), p->now))
		return;
	p->surplus_since = p->now;
	for (size_t i = p->top; i-- > 0;)
		if (p->children[i].pid > 0 && slot_is_waiting(&p->board->slots[i])) {
			kill(p->children[i].pid, SIGHUP);
			return;
		}
}

/* ---- when all are busy */

static bool pool_is_full(const struct pool *p)
{
	return p->idle == 0 && p->total >= p->limit;
}

/* Not inlined: what this needs of the stack is no part of the frame under which sessions run. */
static __attribute__((noinline)) void turn_away(struct pool *p, int fd, const struct sockaddr_storage *sa, socklen_t len, enum smtpd_role role)
{
	char reply[400];
	struct peer peer;
	peer_of_address(sa, len, &peer);
	log_msg(0, "reject: CONNECT from %s: 421 4.3.2 all %zu sessions are busy; proto=SMTP", peer.text, p->limit);
	int n = snprintf(reply, sizeof reply, "421 4.3.2 %.*s Too many connections, try again later\r\n", (int)p->settings->me.len, p->settings->me.at);
	if (!role_row(role)->tls_at_once)
		(void)!send(fd, reply, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
	close(fd);
}

static void pool_turn_away(struct pool *p, size_t i)
{
	for (int n = 0; n < TURN_AWAY_BATCH; n++) {
		struct sockaddr_storage sa;
		socklen_t len = sizeof sa;
		int fd = accept4(p->listeners->fd[i], (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0 && p->listeners->passes[i]) {
			close(fd);   /* smtpd-start helps itself */
			continue;
		}
		if (fd >= 0) {
			turn_away(p, fd, &sa, len, p->listeners->role[i]);
			continue;
		}
		if (accept_wants_pause(errno))
			p->accept_after = deadline_in(p->now, PAUSE_MS);
		return;
	}
}

/* From this listener? A pool that stops takes nothing that is passed, so smtpd-start does not wait for its last session. */
static bool pool_turns_away(const struct pool *p, size_t i)
{
	if (p->stopping)
		return p->listeners->passes[i];
	return p->full_since != 0 && deadline_passed(deadline_in(p->full_since, FULL_PATIENCE_MS), p->now)
		&& (p->accept_after == 0 || deadline_passed(p->accept_after, p->now));
}

/* ---- the loop */

/* On Linux a connection has these from its listening socket. A process asks its first one whether that is so. */
static void prepare_listeners(const struct pool *p)
{
	for (size_t i = 0; i < p->listeners->count; i++)
		session_prepare_socket(p->listeners->fd[i], p->settings);
}

static void pool_reload(struct pool *p)
{
	if (!settings_reload(p->settings, USED_SMTPD))
		return;
	access_free(&p->access);
	if (!access_init(&p->access, p->settings))
		die_system("out of memory");
	p->limit = (size_t)p->settings->smtpdsessions;
	prepare_listeners(p);
	log_info("settings read again");
	pool_signal_all(p, SIGHUP);
}

static void pool_signals(struct pool *p)
{
	unsigned char number;
	while (read(p->signals, &number, 1) == 1) {
		if (number == SIGHUP && !p->stopping)
			pool_reload(p);
		if ((number == SIGTERM || number == SIGINT) && !p->stopping) {
			log_info("stopping");
			p->stopping = true;
			p->stop_until = deadline_in(p->now, STOP_GRACE_MS);
			p->stop_again = p->now;
		}
	}
}

static void pool_stop(struct pool *p)
{
	if (deadline_passed(p->stop_until, p->now)) {
		pool_signal_all(p, SIGKILL);   /* no client was told 250 for what is cut off here */
	} else if (deadline_passed(p->stop_again, p->now)) {
		pool_signal_all(p, SIGTERM);
		p->stop_again = deadline_in(p->now, STOP_REPEAT_MS);
	}
}

static void pool_balance(struct pool *p)
{
	pool_grow(p);
	pool_shrink(p);
	if (!pool_is_full(p))
		p->full_since = 0;
	else if (p->full_since == 0)
		p->full_since = p->now;
}

/* When to look again without being told: children that went idle, surplus, back-off. Asleep for good when nothing is going on. */
static deadline_t pool_next(const struct pool *p)
{
	deadline_t next = p->fork_after;
	if (p->stopping)
		return deadline_earlier(p->stop_again, p->stop_until);
	if (p->idle != p->total || p->idle > SPARE_MAX || p->full_since != 0)
		next = deadline_earlier(next, deadline_in(p->now, SURPLUS_MS));
	return next;
}

static void pool_wait(struct pool *p)
{
	struct pollfd fds[2 + POOL_LISTENERS] = { { .fd = p->signals, .events = POLLIN }, { .fd = p->news, .events = POLLIN } };
	nfds_t n = 2;
	uint64_t count;
	for (size_t i = 0; i < p->listeners->count; i++)
		fds[n++] = (struct pollfd){ .fd = pool_turns_away(p, i) ? p->listeners->fd[i] : -1, .events = POLLIN };
	if (poll(fds, n, deadline_poll_ms(pool_next(p), p->now)) <= 0)
		return;
	p->now = clock_monotonic_ms();
	if (fds[1].revents)
		(void)!read(p->news, &count, sizeof count);
	pool_count(p);
	for (nfds_t i = 2; i < n && (p->stopping || pool_is_full(p)); i++)
		if (fds[i].revents)
			pool_turn_away(p, i - 2);
}

static int pool_loop(struct pool *p)
{
	for (;;) {
		p->now = clock_monotonic_ms();
		pool_signals(p);
		pool_reap(p);
		pool_count(p);
		if (p->stopping && p->total == 0)
			return EXIT_OK;
		if (p->stopping)
			pool_stop(p);
		else
			pool_balance(p);
		pool_wait(p);
	}
}

/* Not inherited: what the parent writes after a fork would be one more page of its own for every child. */
static struct child *children_create(void)
{
	size_t size = POOL_SESSIONS_MAX * sizeof(struct child);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED || madvise(at, size, MADV_DONTFORK) < 0 ? NULL : at;
}

static void say_ready(const struct pool *p)
{
	size_t passing = 0;
	for (size_t i = 0; i < p->listeners->count; i++)
		passing += p->listeners->passes[i];
	size_t own = p->listeners->count - passing;
	log_info("ready: %zu sessions at most on %zu socket%s%s", p->limit, own, own == 1 ? "" : "s", passing > 0 ? ", and for smtpd-start" : "");
}

static void say_places(const char *sentence)
{
	log_warn("%s", sentence);
}

int pool_run(struct settings *settings, const struct listeners *l)
{
	static const int caught[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD, 0 };
	struct pool p = { .settings = settings, .listeners = l, .limit = (size_t)settings->smtpdsessions };
	p.board = board_create(POOL_SESSIONS_MAX, SPARE_MIN);
	p.children = children_create();
	if (p.board == NULL || p.children == NULL || !access_init(&p.access, settings))
		die_system("out of memory");
	sigemptyset(&p.quiet);
	for (size_t i = 0; caught[i] != 0; i++)
		sigaddset(&p.quiet, caught[i]);
	p.news = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p.signals = io_signal_pipe(caught);
	if (p.news < 0 || p.signals < 0)
		die_system("cannot prepare the pool");
	for (size_t i = 0; i < l->count; i++)
		if (io_set_nonblocking(l->fd[i], true) < 0)
			die_system("cannot prepare a listening socket");
	prepare_listeners(&p);
	places_look(settings, say_places);
	say_ready(&p);
	int code = pool_loop(&p);
	access_free(&p.access);
	munmap(p.children, POOL_SESSIONS_MAX * sizeof(struct child));
	return code;
}
