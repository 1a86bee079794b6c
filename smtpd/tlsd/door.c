/* door - tlsd's room: sessions that wait, and how many. See door.h. */
#include "door.h"

#include "session.h"

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/logsocket.h"
#include "common/passing.h"
#include "common/paths.h"
#include "common/service.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPARE_MIN 6u              /* processes that wait for smtpd */
#define SPARE_MAX 12u             /* more than this for SURPLUS_MS: one goes */
#define SURPLUS_MS 1000u
#define CHAINS_MS 30000u
#define BACKOFF_FIRST_MS 100u     /* after a fork that failed, doubled for each one that follows */
#define BACKOFF_MAX_MS 5000u
#define PAUSE_MS 200u             /* after EMFILE and its kin */
#define TURN_AWAY 64              /* in one turn */
#define EVENTS 64

/* A process that has let go of us, or we of it, is LEAVING: it may still have its last client. */
enum child_state { CHILD_NONE, CHILD_IDLE, CHILD_BUSY, CHILD_LEAVING };
struct child {
	enum child_state state;
	pid_t pid;
	int fd;                       /* our end; -1: closed */
	uint64_t clients;             /* that it was given */
	bool sent_off;                /* it leaves because we said so */
};
struct door {
	const struct door_start *start;
	struct tls_contexts contexts;
	struct askers askers;
	struct room room;
	int signals, queue;
	struct child *children;       /* `limit` of them; each one's signatures are owed at the same place */
	size_t *idle;                 /* places of those that wait; the last was busy last, and is the next to be: its memory is the warmest */
	size_t count, idle_count, limit;
	deadline_t now, fork_after, accept_after, surplus_since;
	uint64_t backoff_ms;
	bool stop, full, listening;
};

/* What epoll tells of, besides the children by their places. */
enum { FROM_SIGNALS, FROM_PARENT, FROM_SIGNER, FROM_LISTENER };

static bool watch_on(const struct door *d, int fd, uint64_t what, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.u64 = what };
	return epoll_ctl(d->queue, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* ---- the signer */

/* A new channel to the signer, for the session at this place: our end, or -1. It owes it nothing yet. */
static int channel_open(const struct door *d, size_t place)
{
	int pair[2];
	struct str out = STR_INIT(100);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	(void)grants_take(d->start->grants, place);
	bool sent = tls_channel_encode(&(struct tls_channel){ .place = (uint32_t)place }, &out)
		&& passing_send(d->start->signer, str_bytes(&out), &pair[1], 1, MSG_DONTWAIT);
	close(pair[1]);
	str_free(&out);
	if (sent)
		return pair[0];
	close(pair[0]);
	errno = EAGAIN;
	return -1;
}

/* At a place that no session has yet. */
static void grant_for_trial(void *context)
{
	const struct door *d = context;
	grants_give(d->start->grants, 0);
}

static bool contexts_work(struct door *d, struct str *error)
{
	int signer = channel_open(d, 0);
	keyless_ask_on(signer);
	bool ok = signer >= 0 && contexts_try(&d->contexts, grant_for_trial, d, error);
	io_close(&signer);
	return ok;
}

/* ---- the certificates */

struct chain { X509 *at[CHAIN_MAX]; size_t count; };

static bool chain_end(struct door *d, struct chain *chain, struct str *error)
{
	bool ok = chain->count == 0 || contexts_add(&d->contexts, d->start->settings, chain->at, chain->count, error);
	chain->count = 0;
	return ok;
}

/* One record of the signer's. *done_r: it was the last. */
static bool take_chain(struct door *d, const struct record *record, struct chain *chain, bool *done_r, struct str *error)
{
	struct tls_chain one;
	struct tls_chains_end end;
	if (record->type == REC_tls_chains_end && tls_chains_end_decode(record->payload, &end)) {
		*done_r = true;
		return chain_end(d, chain, error);
	}
	if (record->type != REC_tls_chain || !tls_chain_decode(record->payload, &one) || (one.place == 0 && !chain_end(d, chain, error))
		|| one.place != chain->count
		|| chain->count == CHAIN_MAX)
		return false;
	const unsigned char *at = (const unsigned char *)one.certificate.at;
	X509 *cert = d2i_X509(NULL, &at, (long)one.certificate.len);
	if (cert == NULL)
		return false;
	chain->at[chain->count++] = cert;
	return true;
}

static bool take_chains(struct door *d, struct str *error)
{
	struct record_reader in;
	struct record record;
	struct chain chain = { .count = 0 };
	bool done = false, ok = true;
	deadline_t until = deadline_in(clock_monotonic_ms(), CHAINS_MS);
	record_reader_init(&in, d->start->signer);
	while (ok && !done)
		ok = record_reader_wait(&in, &record, until) == 1 && take_chain(d, &record, &chain, &done, error);
	record_reader_free(&in);
	return ok && d->contexts.count > 0;
}

/* ---- sessions */

static struct child *child_find(struct door *d, pid_t pid)
{
	for (size_t i = 0; i < d->limit; i++)
		if (d->children[i].state != CHILD_NONE && d->children[i].pid == pid)
			return &d->children[i];
	return NULL;
}

static size_t place_of(const struct door *d, const struct child *c)
{
	return (size_t)(c - d->children);
}

static void idle_add(struct door *d, struct child *c)
{
	c->state = CHILD_IDLE;
	d->idle[d->idle_count++] = place_of(d, c);
}

static void idle_remove(struct door *d, const struct child *c)
{
	size_t i = 0;
	while (d->idle[i] != place_of(d, c))
		i++;
	memmove(d->idle + i, d->idle + i + 1, (--d->idle_count - i) * sizeof *d->idle);
}

/* It reads our end of the socket, and ends when it has no client. */
static void child_let_go(struct door *d, struct child *c)
{
	if (c->state == CHILD_IDLE)
		idle_remove(d, c);
	c->state = CHILD_LEAVING;
	io_close(&c->fd);
}

/* Of all descriptors only these two stay, under the numbers of session.h, and the log's. */
static bool keep_two(int door, int signer)
{
	int high_door = fcntl(door, F_DUPFD_CLOEXEC, SESSION_LAST + 1), high_signer = fcntl(signer, F_DUPFD_CLOEXEC, SESSION_LAST + 1);
	return high_door >= 0 && high_signer >= 0 && dup3(high_door, SESSION_DOOR, O_CLOEXEC) >= 0 && dup3(high_signer, SESSION_SIGNER, O_CLOEXEC) >= 0
		&& io_close_from(SESSION_LAST + 1, logsocket_descriptor());
}

static _Noreturn void child_live(const struct door *d, int door, int signer)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(keep_two(door, signer) ? session_live(&d->room) : EXIT_SYSTEM);
}

static void slow_down(struct door *d, const char *what)
{
	d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_FIRST_MS : d->backoff_ms * 2;
	if (d->backoff_ms > BACKOFF_MAX_MS)
		d->backoff_ms = BACKOFF_MAX_MS;
	d->fork_after = deadline_in(d->now, d->backoff_ms);
	log_warn("%s: %s; next try in %llu ms", what, strerror(errno), (unsigned long long)d->backoff_ms);
}

/* -1: errno. *fd_r: our end of its socket. */
static pid_t child_fork(const struct door *d, size_t place, int *fd_r)
{
	int pair[2] = { -1, -1 }, signer = channel_open(d, place);
	sigset_t all, before;
	sigfillset(&all);
	if (signer < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		io_close(&signer);
		return -1;
	}
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		child_live(d, pair[1], signer);
	int saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(signer);
	close(pair[1]);
	errno = saved;
	*fd_r = pair[0];
	return pid;
}

static bool child_start(struct door *d)
{
	size_t place = 0;
	int fd = -1;
	while (d->children[place].state != CHILD_NONE)
		place++;
	pid_t pid = child_fork(d, place, &fd);
	if (pid < 0) {
		io_close(&fd);
		slow_down(d, "cannot start a session");
		return false;
	}
	struct child *c = &d->children[place];
	*c = (struct child){ .pid = pid, .fd = fd };
	d->count++;
	idle_add(d, c);
	if (!watch_on(d, fd, FROM_LISTENER + 1 + place, EPOLLIN)) {
		slow_down(d, "cannot watch a session");
		child_let_go(d, c);
		return false;
	}
	return true;
}

static void children_start(struct door *d)
{
	if (d->fork_after != 0 && !deadline_passed(d->fork_after, d->now))
		return;
	d->fork_after = 0;
	while (d->idle_count < SPARE_MIN && d->count < d->limit)
		if (!child_start(d))
			return;
	d->backoff_ms = 0;
}

/* One surplus process goes per SURPLUS_MS, the one that has waited longest. */
static void children_shrink(struct door *d)
{
	if (d->idle_count <= SPARE_MAX) {
		d->surplus_since = 0;
		return;
	}
	if (d->surplus_since == 0)
		d->surplus_since = d->now;
	if (!deadline_passed(deadline_in(d->surplus_since, SURPLUS_MS), d->now))
		return;
	d->surplus_since = d->now;
	struct child *c = &d->children[d->idle[0]];
	c->sent_off = true;
	child_let_go(d, c);
}

static void child_ended(struct door *d, struct child *c, int status)
{
	if (WIFSIGNALED(status))
		log_warn("session process %ld was killed by signal %d", (long)c->pid, WTERMSIG(status));
	/* One that ends before it had a client would be forked again and again. */
	if (c->clients == 0 && !c->sent_off) {
		errno = ECHILD;
		slow_down(d, "a session ended before its time");
	}
	child_let_go(d, c);
	*c = (struct child){ 0 };
	d->count--;
}

static void reap(struct door *d)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = child_find(d, pid);
		if (c != NULL)
			child_ended(d, c, status);
	}
}

/* Its client is gone, or it is itself, or it is not what it was. What it did not sign for that client it signs for nobody. */
static void child_told(struct door *d, struct child *c)
{
	char octet = '\0';
	bool ours = c->state == CHILD_IDLE || c->state == CHILD_BUSY;
	ssize_t n = ours ? recv(c->fd, &octet, 1, MSG_DONTWAIT | MSG_TRUNC) : 0;
	if (!ours || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	(void)grants_take(d->start->grants, place_of(d, c));
	if (n == 1 && octet == SESSION_DONE && c->state == CHILD_BUSY)
		idle_add(d, c);
	else
		child_let_go(d, c);
}

/* ---- handing smtpd's connections over */

/* False: this one cannot take it. */
static bool child_give(struct door *d, struct child *c, int control)
{
	grants_give(d->start->grants, place_of(d, c));
	if (!passing_send(c->fd, LIT("c"), &control, 1, MSG_DONTWAIT)) {
		(void)grants_take(d->start->grants, place_of(d, c));
		child_let_go(d, c);
		return false;
	}
	idle_remove(d, c);
	c->state = CHILD_BUSY;
	if (++c->clients == d->start->settings->tlsreuse) {
		c->sent_off = true;
		child_let_go(d, c);
	}
	return true;
}

static int next_connection(const struct door *d)
{
	return accept4(d->start->listener, NULL, NULL, SOCK_CLOEXEC);
}

/* smtpd hears at once that there is no TLS now, instead of waiting. */
static void turn_away(struct door *d)
{
	if (!d->full)
		log_warn("all %zu TLS sessions are busy (tlssessions)", d->limit);
	d->full = true;
	for (int i = 0; i < TURN_AWAY; i++) {
		int fd = next_connection(d);
		if (fd < 0)
			return;
		close(fd);
	}
}

static void hand_over(struct door *d)
{
	int control = next_connection(d);
	d->full = false;
	logsocket_reach();   /* sessions may not */
	if (control < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
		log_warn("cannot accept a connection of smtpd's: %s", strerror(errno));
		d->accept_after = deadline_in(d->now, PAUSE_MS);
	}
	if (control < 0)
		return;
	for (bool given = !askers_admit(&d->askers, control); !given && d->idle_count > 0;)
		given = child_give(d, &d->children[d->idle[d->idle_count - 1]], control);
	close(control);
}

/* ---- the loop */

static bool has_none_left(const struct door *d)
{
	return d->idle_count == 0 && d->count >= d->limit;
}

/* smtpd waits in the listening socket's queue while there is nobody for it, but soon. */
static void listen_or_not(struct door *d)
{
	if (d->accept_after != 0 && deadline_passed(d->accept_after, d->now))
		d->accept_after = 0;
	bool wanted = (d->idle_count > 0 || has_none_left(d)) && d->accept_after == 0;
	struct epoll_event event = { .events = wanted ? EPOLLIN : 0, .data.u64 = FROM_LISTENER };
	if (wanted != d->listening && epoll_ctl(d->queue, EPOLL_CTL_MOD, d->start->listener, &event) == 0)
		d->listening = wanted;
}

static void signals_take(struct door *d)
{
	struct signalfd_siginfo told;
	while (read(d->signals, &told, sizeof told) == sizeof told)
		d->stop = d->stop || told.ssi_signo == SIGTERM;
	reap(d);
}

static void event_take(struct door *d, uint64_t what)
{
	if (what > FROM_LISTENER)
		child_told(d, &d->children[what - FROM_LISTENER - 1]);
	else if (what == FROM_SIGNALS)
		signals_take(d);
	else if (what != FROM_LISTENER)
		d->stop = true;   /* the parent or the signer is gone */
	else if (d->idle_count > 0)
		hand_over(d);
	else if (has_none_left(d))
		turn_away(d);
}

static void turn(struct door *d)
{
	struct epoll_event event[EVENTS];
	deadline_t surplus = d->surplus_since != 0 ? deadline_in(d->surplus_since, SURPLUS_MS) : 0;
	deadline_t next = deadline_earlier(deadline_earlier(d->fork_after, d->accept_after), surplus);
	int n = epoll_wait(d->queue, event, EVENTS, deadline_poll_ms(next, d->now));
	d->now = clock_monotonic_ms();
	for (int i = 0; i < n && !d->stop; i++)
		event_take(d, event[i].data.u64);
	if (d->stop)
		return;
	children_start(d);
	children_shrink(d);
	listen_or_not(d);
}

static int catch_signals(void)
{
	sigset_t caught;
	sigemptyset(&caught);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGCHLD);
	return sigprocmask(SIG_BLOCK, &caught, NULL) == 0 ? signalfd(-1, &caught, SFD_NONBLOCK | SFD_CLOEXEC) : -1;
}

static bool watch_all(struct door *d)
{
	d->signals = catch_signals();
	d->queue = epoll_create1(EPOLL_CLOEXEC);
	return d->signals >= 0 && d->queue >= 0 && watch_on(d, d->signals, FROM_SIGNALS, EPOLLIN) && watch_on(d, d->start->parent, FROM_PARENT, EPOLLIN)
		&& watch_on(d, d->start->signer, FROM_SIGNER, EPOLLIN) && watch_on(d, d->start->listener, FROM_LISTENER, 0);
}

static bool prepare(struct door *d)
{
	struct str error = STR_INIT(2000);
	const struct settings *settings = d->start->settings;
	d->room = (struct room){ .settings = settings, .contexts = &d->contexts, .once = settings->tlsreuse == 1 };
	askers_add(&d->askers, ACCOUNT_SMTPD);
	d->limit = d->start->grants->count;
	d->children = calloc(d->limit, sizeof *d->children);
	d->idle = calloc(d->limit, sizeof *d->idle);
	bool ok = grants_hide(d->start->grants) && keyless_init() && take_chains(d, &error) && contexts_work(d, &error);
	if (!ok)
		log_error("the certificates are of no use: %s", error.len > 0 ? log_text(str_bytes(&error)) : "they did not come");
	str_free(&error);
	return ok && d->children != NULL && d->idle != NULL && watch_all(d);
}

int door_live(const struct door_start *start)
{
	struct door *d = calloc(1, sizeof *d);
	if (d == NULL)
		return EXIT_SYSTEM;
	d->start = start;
	if (!prepare(d))
		return EXIT_SYSTEM;
	d->now = clock_monotonic_ms();
	(void)malloc_trim(0);   /* the heap is tidied once, and not by each session in its copies of the pages */
	children_start(d);
	listen_or_not(d);
	if (write(start->parent, "1", 1) != 1)
		return EXIT_SYSTEM;
	while (!d->stop)
		turn(d);
	return EXIT_OK;
}
