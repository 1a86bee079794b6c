/*
 * resolver - answer the DNS questions of the suite, with one validating cache.
 *   runs as   tappal-dns (started as root it becomes that account)
 *   reads     the network (DNS); questions on its socket, from root, tappal-remote and tappal-smtpd only (SO_PEERCRED); the control files
 *             marked for resolver, the trust anchor
 *   writes    answers on the socket; the socket itself, path_run/resolver
 *   never     mail, the queue, exec
 *   signals   TERM ends it, HUP reads the settings again and begins with an empty cache
 *   exit      0 TERM | 100 settings, another resolver runs | 111 the system
 *   killed    askers see their connection end: a temporary failure each
 */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/settings.h"
#include "lookup.h"

#define CLIENTS_MAX 1100          /* every worker that concurrencyremote allows, and some sessions of smtpd */
#define QUESTIONS_EACH 16u        /* of one client at a time; further ones wait in its socket */
#define ANSWERS_MAX (1u << 20)    /* octets that wait for one client */
#define BACKLOG 512
#define FILES 4096u
#define PAUSE_MS 200u             /* before the next try to accept when descriptors have run out */

enum { POLL_SIGNAL, POLL_LISTEN, POLL_ENGINE, POLL_CLIENT };

struct client {
	int fd;                        /* -1: free */
	bool gone;                     /* to be closed at the end of the turn */
	unsigned asked;                /* questions without an answer */
	deadline_t last;               /* when it last asked or was answered */
	struct record_reader in;
	struct record_writer out;
};

struct resolver {
	struct settings settings;
	struct engine *engine;
	int listener, signals;
	uid_t admitted[3];
	size_t admitted_count;
	struct client client[CLIENTS_MAX];
	struct pollfd poll[POLL_CLIENT + CLIENTS_MAX];
	size_t place[CLIENTS_MAX];     /* of each client in poll; 0: it was not there */
	deadline_t accept_after;       /* descriptors had run out; 0: they had not */
	bool stop;
};

/* ---- clients ---- */

static void client_close(struct resolver *r, struct client *c)
{
	lookup_forget(r->engine, c);
	record_reader_free(&c->in);
	record_writer_free(&c->out);
	(void)close(c->fd);
	c->fd = -1;
}

/* The one that has been silent longest and waits for nothing. */
static struct client *client_close_idle(struct resolver *r)
{
	struct client *oldest = NULL;

	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &r->client[i];

		if (c->fd != -1 && c->asked == 0 && (oldest == NULL || c->last < oldest->last))
			oldest = c;
	}
	if (oldest != NULL)
		client_close(r, oldest);
	return oldest;
}

static struct client *client_free_slot(struct resolver *r)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (r->client[i].fd == -1)
			return &r->client[i];
	return client_close_idle(r);
}

static bool peer_is_admitted(const struct resolver *r, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return false;
	for (size_t i = 0; i < r->admitted_count; i++)
		if (peer.uid == r->admitted[i])
			return true;
	log_warn("uid %lu asked, who is not admitted", (unsigned long)peer.uid);
	return false;
}

static void client_accept(struct resolver *r, deadline_t now)
{
	int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *c = fd != -1 && peer_is_admitted(r, fd) ? client_free_slot(r) : NULL;

	/* A connection that cannot be taken stays and would wake us without end. */
	if (fd == -1 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && client_close_idle(r) == NULL)
		r->accept_after = deadline_in(now, PAUSE_MS);
	if (c == NULL && fd != -1)
		(void)close(fd);
	if (c == NULL)
		return;
	*c = (struct client){ .fd = fd, .last = now };
	record_reader_init(&c->in, fd);
	record_writer_init(&c->out, fd, ANSWERS_MAX);
}

/* ---- questions and answers ---- */

static void answer(void *context, uint32_t number, const struct dns_reply *reply)
{
	struct client *c = context;
	struct dns_answer record = {
		.query = number, .status = (uint8_t)reply->status, .secure = reply->secure, .count = (uint32_t)reply->count, .text = bytes_of(reply->text),
	};
	bool good = dns_answer_encode(&record, &c->out.buffer);

	for (size_t i = 0; good && i < reply->count; i++) {
		const struct dns_address *a = &reply->host[i];
		size_t octets = a->addr.family == AF_INET ? 4 : a->addr.family == AF_INET6 ? 16 : 0;
		struct dns_host host = {
			.query = number, .preference = a->preference, .name = bytes_of(a->name), .address = { (const char *)a->addr.octets, octets },
		};

		good = dns_host_encode(&host, &c->out.buffer);
	}
	c->asked--;
	c->gone |= !good || record_writer_push(&c->out) == -1;
}

static void busy(struct client *c, uint32_t number)
{
	static const struct dns_reply reply = { .status = DNS_TEMPORARY, .text = "the resolver has too much to do" };

	answer(c, number, &reply);
}

static bool question_take(struct resolver *r, struct client *c, const struct record *record, deadline_t now)
{
	struct dns_ask ask;

	if (record->type != REC_dns_ask || !dns_ask_decode(record->payload, &ask))
		return false;
	if (ask.kind != DNS_MAIL && ask.kind != DNS_ADDRESS)
		return false;
	c->asked++;
	c->last = now;
	if (!lookup_start(r->engine, (enum dns_kind)ask.kind, ask.name, now, answer, c, ask.query))
		busy(c, ask.query);
	return true;
}

/* Records that are already here; the rest waits while the client has its share. */
static void questions_take(struct resolver *r, struct client *c, deadline_t now)
{
	while (!c->gone && c->asked < QUESTIONS_EACH) {
		struct record record;
		enum record_result result = record_reader_next(&c->in, &record);

		if (result == RECORD_MORE)
			return;
		if (result == RECORD_BAD || !question_take(r, c, &record, now))
			c->gone = true;
	}
}

static void client_read(struct resolver *r, struct client *c, deadline_t now)
{
	ssize_t got = record_reader_fill(&c->in);

	if (got == 0 || (got == -1 && errno != EAGAIN))
		c->gone = true;
	else
		questions_take(r, c, now);
}

/* ---- the loop ---- */

static void reload(struct resolver *r)
{
	struct str error = STR_INIT(4096);

	if (!settings_reload(&r->settings, USED_RESOLVER))
		return;
	if (!engine_renew(r->engine, &r->settings, &error))
		log_error("the new settings are not used: %s", log_text(str_bytes(&error)));
	else
		log_info("settings read again");
	str_free(&error);
}

static void signals_take(struct resolver *r)
{
	unsigned char number;

	while (read(r->signals, &number, 1) == 1) {
		if (number == SIGHUP)
			reload(r);
		else
			r->stop = true;
	}
}

/* Only what is open: poll(2) takes no more entries than the process may have descriptors. */
static nfds_t poll_prepare(struct resolver *r, deadline_t now)
{
	nfds_t n = POLL_CLIENT;

	if (deadline_passed(r->accept_after, now))
		r->accept_after = 0;
	r->poll[POLL_SIGNAL] = (struct pollfd){ .fd = r->signals, .events = POLLIN };
	r->poll[POLL_LISTEN] = (struct pollfd){ .fd = r->accept_after == 0 ? r->listener : -1, .events = POLLIN };
	r->poll[POLL_ENGINE] = (struct pollfd){ .fd = engine_fd(r->engine), .events = POLLIN };
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		const struct client *c = &r->client[i];
		int events = (c->asked < QUESTIONS_EACH ? POLLIN : 0) | (record_writer_pending(&c->out) ? POLLOUT : 0);

		r->place[i] = c->fd == -1 ? 0 : n;
		if (c->fd != -1)
			r->poll[n++] = (struct pollfd){ .fd = c->fd, .events = (short)events };
	}
	return n;
}

static void client_turn(struct resolver *r, struct client *c, short events, deadline_t now)
{
	if ((events & POLLIN) != 0)
		client_read(r, c, now);
	else if ((events & (POLLHUP | POLLERR)) != 0)
		c->gone = true;
	if ((events & POLLOUT) != 0 && record_writer_push(&c->out) == -1)
		c->gone = true;
	questions_take(r, c, now);
}

static void turn(struct resolver *r)
{
	deadline_t now = clock_monotonic_ms();
	nfds_t n = poll_prepare(r, now);

	if (poll(r->poll, n, deadline_poll_ms(deadline_earlier(engine_deadline(r->engine), r->accept_after), now)) == -1) {
		if (errno != EINTR)
			die_system("cannot poll");
		return;
	}
	now = clock_monotonic_ms();
	errno = 0;
	if (r->poll[POLL_ENGINE].revents != 0 && !engine_run(r->engine))
		die_system("libunbound does not work any more");
	engine_expire(r->engine, now);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (r->client[i].fd != -1)
			client_turn(r, &r->client[i], r->place[i] == 0 ? 0 : r->poll[r->place[i]].revents, now);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (r->client[i].fd != -1 && r->client[i].gone)
			client_close(r, &r->client[i]);
	if (r->poll[POLL_LISTEN].revents != 0)
		client_accept(r, now);
	if (r->poll[POLL_SIGNAL].revents != 0)
		signals_take(r);
}

/* ---- start ---- */

static void admit(struct resolver *r, const char *account)
{
	const struct passwd *pw = getpwnam(account);

	if (pw == NULL)
		log_warn("the account %s does not exist; nobody is admitted by that name", account);
	else
		r->admitted[r->admitted_count++] = pw->pw_uid;
}

static void socket_address(struct sockaddr_un *sa_r)
{
	int n;

	*sa_r = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(sa_r->sun_path, sizeof sa_r->sun_path, "%s/%s", path_run, SOCKET_RESOLVER);
	if (n < 0 || (size_t)n >= sizeof sa_r->sun_path)
		die_usage("%s/%s is too long for a socket's name", path_run, SOCKET_RESOLVER);
}

/* Who may ask is decided by SO_PEERCRED, not by the file's mode. */
static int socket_listen(void)
{
	struct sockaddr_un sa;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	socket_address(&sa);
	if (fd == -1)
		die_system("cannot make a socket");
	if (connect(fd, (const struct sockaddr *)&sa, sizeof sa) == 0)
		die_usage("another resolver serves %s", sa.sun_path);
	(void)unlink(sa.sun_path);
	(void)umask(0);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof sa) == -1 || listen(fd, BACKLOG) == -1)
		die_system("cannot listen on %s", sa.sun_path);
	(void)umask(077);
	return fd;
}

static void start(struct resolver *r)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, 0 };
	struct str error = STR_INIT(4096);

	settings_or_die(&r->settings, "resolver", USED_RESOLVER);
	r->admitted[r->admitted_count++] = 0;
	admit(r, ACCOUNT_REMOTE);
	admit(r, ACCOUNT_SMTPD);
	priv_run_directory();
	io_want_files(FILES);
	priv_become_alone("resolver", ACCOUNT_DNS);
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		r->client[i].fd = -1;
	r->listener = socket_listen();
	r->signals = io_signal_pipe(signals);
	if (r->signals == -1)
		die_system("cannot take signals");
	r->engine = engine_new(&r->settings, &error);
	if (r->engine == NULL) {
		errno = 0;
		die_usage("%s", str_c(&error));
	}
	str_free(&error);
}

int main(void)
{
	struct resolver *r = calloc(1, sizeof *r);
	struct sockaddr_un sa;

	if (r == NULL)
		die_system("no memory");
	start(r);
	while (!r->stop)
		turn(r);
	socket_address(&sa);
	(void)unlink(sa.sun_path);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (r->client[i].fd != -1)
			client_close(r, &r->client[i]);
	engine_free(r->engine);
	settings_free(&r->settings);
	free(r);
	return EXIT_OK;
}
