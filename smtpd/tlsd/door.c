/* door - tlsd's room: sessions that wait, and how many. See door.h. */
#include "door.h"

#include "session.h"

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPARE 6u                  /* processes that wait for smtpd */
#define CHAINS_MS 30000u
#define BACKOFF_FIRST_MS 100u     /* after a fork that failed, doubled for each one that follows */
#define BACKOFF_MAX_MS 5000u
#define TURN_AWAY 64              /* in one turn */

struct child { pid_t pid; bool busy; };
struct door {
	const struct door_start *start;
	struct tls_contexts contexts;
	struct askers askers;
	struct room room;
	int life, news, signals;
	struct child *children;
	size_t count, idle, limit;
	deadline_t now, fork_after;
	uint64_t backoff_ms;
	bool stop, full;
};

/* ---- the signer */

/* A new channel to the signer: our end, or -1. */
static int channel_open(int signer)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	bool sent = passing_send(signer, LIT("c"), &pair[1], 1, MSG_DONTWAIT);
	close(pair[1]);
	if (sent)
		return pair[0];
	close(pair[0]);
	errno = EAGAIN;
	return -1;
}

static bool channel_for_trial(void *context)
{
	struct door *d = context;
	if (d->room.signer >= 0)
		close(d->room.signer);
	d->room.signer = channel_open(d->start->signer);
	keyless_ask_on(d->room.signer);
	return d->room.signer >= 0;
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
	for (size_t i = 0; i < d->count; i++)
		if (d->children[i].pid == pid)
			return &d->children[i];
	return NULL;
}

static void close_own(const struct door *d)
{
	close(d->start->signer);
	close(d->start->parent);
	close(d->signals);
}

static _Noreturn void child_live(const struct door *d, int signer, int life)
{
	struct room room = d->room;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_own(d);
	close(d->life);
	close(d->news);
	room.signer = signer;
	room.life = life;
	_exit(session_live(&room));
}

static void slow_down(struct door *d, const char *what)
{
	d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_FIRST_MS : d->backoff_ms * 2;
	if (d->backoff_ms > BACKOFF_MAX_MS)
		d->backoff_ms = BACKOFF_MAX_MS;
	d->fork_after = deadline_in(d->now, d->backoff_ms);
	log_warn("%s: %s; next try in %llu ms", what, strerror(errno), (unsigned long long)d->backoff_ms);
}

static bool child_start(struct door *d)
{
	int signer = channel_open(d->start->signer);
	sigset_t all, before;
	if (signer < 0) {
		slow_down(d, "no channel to the signer");
		return false;
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		child_live(d, signer, d->room.life);
	int saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(signer);
	if (pid < 0) {
		errno = saved;
		slow_down(d, "cannot start a session");
		return false;
	}
	d->children[d->count++] = (struct child){ .pid = pid };
	d->idle++;
	return true;
}

static void children_start(struct door *d)
{
	if (d->fork_after != 0 && !deadline_passed(d->fork_after, d->now))
		return;
	d->fork_after = 0;
	while (d->idle < SPARE && d->count < d->limit)
		if (!child_start(d))
			return;
	d->backoff_ms = 0;
}

static void child_ended(struct door *d, struct child *c, int status)
{
	if (WIFSIGNALED(status))
		log_warn("session process %ld was killed by signal %d", (long)c->pid, WTERMSIG(status));
	/* One that ends before it had a client would be forked again and again. */
	if (!c->busy) {
		d->idle--;
		errno = ECHILD;
		slow_down(d, "a session ended before its time");
	}
	*c = d->children[--d->count];
}

/* What is told on the pipe was told before its end, so it is taken first. */
static void news_take(struct door *d)
{
	pid_t pid;
	while (read(d->news, &pid, sizeof pid) == sizeof pid) {
		struct child *c = child_find(d, pid);
		if (c != NULL && !c->busy) {
			c->busy = true;
			d->idle--;
		}
	}
}

static void reap(struct door *d)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = child_find(d, pid);
		news_take(d);
		if (c != NULL)
			child_ended(d, c, status);
	}
}

/* ---- the loop */

/* smtpd hears at once that there is no TLS now, instead of waiting. */
static void turn_away(struct door *d)
{
	if (!d->full)
		log_warn("all %zu TLS sessions are busy (tlssessions)", d->limit);
	d->full = true;
	for (int i = 0; i < TURN_AWAY; i++) {
		int fd = accept4(d->start->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return;
		close(fd);
	}
}

static void signals_take(struct door *d)
{
	struct signalfd_siginfo told;
	while (read(d->signals, &told, sizeof told) == sizeof told)
		d->stop = d->stop || told.ssi_signo == SIGTERM;
}

static void turn(struct door *d)
{
	bool full = d->idle == 0 && d->count >= d->limit;
	struct pollfd fds[] = {
		{ .fd = d->signals, .events = POLLIN }, { .fd = d->news, .events = POLLIN }, { .fd = d->start->parent, .events = POLLIN },
		{ .fd = d->start->signer, .events = POLLIN }, { .fd = full ? d->start->listener : -1, .events = POLLIN },
	};
	if (poll(fds, sizeof fds / sizeof *fds, deadline_poll_ms(d->fork_after, d->now)) < 0)
		return;
	d->now = clock_monotonic_ms();
	signals_take(d);
	news_take(d);
	reap(d);
	if (fds[2].revents != 0 || fds[3].revents != 0)
		d->stop = true;   /* the parent or the signer is gone */
	if (fds[4].revents != 0)
		turn_away(d);
	else if (d->idle > 0)
		d->full = false;
	if (!d->stop)
		children_start(d);
}

static int catch_signals(void)
{
	sigset_t caught;
	sigemptyset(&caught);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGCHLD);
	return sigprocmask(SIG_BLOCK, &caught, NULL) == 0 ? signalfd(-1, &caught, SFD_NONBLOCK | SFD_CLOEXEC) : -1;
}

static bool prepare(struct door *d)
{
	int life[2], news[2];
	struct str error = STR_INIT(2000);
	d->room = (struct room){ .settings = d->start->settings, .contexts = &d->contexts, .askers = &d->askers, .listener = d->start->listener, .signer = -1 };
	askers_add(&d->askers, ACCOUNT_SMTPD);
	d->limit = (size_t)d->start->settings->tlssessions;
	d->children = calloc(d->limit, sizeof *d->children);
	bool ok = keyless_init() && take_chains(d, &error) && contexts_try(&d->contexts, channel_for_trial, d, &error);
	if (ok && d->room.signer >= 0)
		close(d->room.signer);
	if (!ok)
		log_error("the certificates are of no use: %s", error.len > 0 ? log_text(str_bytes(&error)) : "they did not come");
	str_free(&error);
	ok = ok && d->children != NULL && pipe2(life, O_CLOEXEC) == 0 && pipe2(news, O_CLOEXEC) == 0 && io_set_nonblocking(news[0], true) == 0;
	if (!ok || (d->signals = catch_signals()) < 0)
		return false;
	d->room.life = life[0];
	d->life = life[1];
	d->news = news[0];
	d->room.news = news[1];
	return true;
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
	if (write(start->parent, "1", 1) != 1)
		return EXIT_SYSTEM;
	while (!d->stop)
		turn(d);
	return EXIT_OK;
}
