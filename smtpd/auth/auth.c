/*
 * auth - say for smtpd who a client is: the server's side of SASL.
 *   runs as   tappal-key (started as root it binds its socket, then becomes that account)
 *   reads     path_etc/auth/passwords and saltkey; the control files marked for auth; exchanges on its socket, from root and tappal-smtpd
 *             only (SO_PEERCRED)
 *   writes    answers on the socket; the socket itself, path_run/auth; log lines, which hold no password
 *   starts    its own workers (fork); where authbackend says so, a checkpassword program in one (exec, no shell), or a connection to
 *             Dovecot's socket
 *   never     mail, the queue, the network
 *   signals   TERM ends it, HUP reads the settings again
 *   exit      0 TERM | 100 settings, another auth runs | 111 the system
 *   killed    exchanges end with 454; counts of failures are forgotten
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "crew.h"
#include "table.h"
#include "wire.h"
#include "failures.h"
#include "sasl.h"

#define CLIENTS_MAX 1100          /* connections of smtpd */
#define BACKLOG 512
#define FILES 4096u
#define PAUSE_MS 200u             /* before the next try to accept when descriptors have run out */
#define ANSWERS_MAX 32768u        /* octets that wait for one client */
#define INPUT_ROOM 32768u         /* of one client's records: had at once, so that no buffer grows and leaves a password behind */
#define SILENCE_MS 660000u        /* an exchange in which smtpd says nothing for so long has lost its client (timeoutsmtpd is his) */
#define DELAY_STEPS 4u            /* failures of an address that make the wait longer; the longest is this many times authdelay */

enum { POLL_SIGNAL, POLL_LISTEN, POLL_CREW, POLL_CLIENT = POLL_CREW + AUTHCREW_MAX };

enum state { IDLE, TALKING /* the next line is the client's */, WAITING /* for a worker */, ASKED, DELAYED /* the answer is known and waits */ };

struct client {
	int fd;                        /* -1: free */
	bool gone;                     /* to be closed at the end of the turn */
	enum state state;
	struct sasl *sasl;             /* NULL between exchanges */
	struct netaddr addr;
	bool scram_known;
	uint64_t turn;                 /* its place among those that wait */
	uint32_t failures;             /* of its address: who has fewer goes first */
	deadline_t arrived;            /* its last line */
	deadline_t answer_at;
	enum auth_result result;
	struct record_reader in;
	struct record_writer out;
};

struct auth {
	struct settings settings;
	struct authtable table;
	struct authcrew crew;
	struct failures *failures;
	int listener, signals;
	uid_t admitted[2];
	size_t admitted_count;
	uint64_t turns;
	struct client client[CLIENTS_MAX];
	struct pollfd poll[POLL_CLIENT + CLIENTS_MAX];
	size_t crew_polled;
	size_t place[CLIENTS_MAX];
	deadline_t accept_after;
	bool stop;
};

static struct auth *the_auth;      /* for the answer of a worker, which knows only its client */

/* ---- ends of an exchange ---- */

static void exchange_free(struct client *c)
{
	if (c->sasl != NULL) {
		sasl_wipe(c->sasl);
		free(c->sasl);
	}
	c->sasl = NULL;
	c->state = IDLE;
}

static void send_done(struct client *c)
{
	struct auth_done done = { .result = (uint8_t)c->result, .login = bytes_of(c->sasl != NULL ? c->sasl->login : "") };
	c->gone |= !auth_done_encode(&done, &c->out.buffer) || record_writer_push(&c->out) == -1;
	exchange_free(c);
}

static struct failures_limits limits_of(const struct auth *a)
{
	return (struct failures_limits){ a->settings.authwindow * SECOND_MS, a->settings.authfailures, a->settings.authloginfailures };
}

/* A refusal is answered at a time that tells neither how long it took to find out nor, therefore, why. */
static void finish(struct auth *a, struct client *c, enum auth_result result, deadline_t now)
{
	struct failures_limits limits = limits_of(a);
	uint64_t wait = 0;
	c->result = result;
	if (result == AUTH_OK || result == AUTH_WRONG)
		failures_note(a->failures, &limits, &c->addr, bytes_of(c->sasl->login), result == AUTH_OK, now);
	if (result == AUTH_WRONG || result == AUTH_LIMITED) {
		uint32_t steps = failures_of(a->failures, &c->addr, now);
		wait = a->settings.authdelay * SECOND_MS * (steps < 1 ? 1 : steps > DELAY_STEPS ? DELAY_STEPS : steps);
	}
	c->state = DELAYED;
	c->answer_at = deadline_in(c->arrived, wait);
	if (deadline_passed(c->answer_at, now))
		send_done(c);
}

/* ---- an exchange ---- */

static size_t count_waiting(const struct auth *a)
{
	size_t n = 0;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		n += a->client[i].fd != -1 && a->client[i].state == WAITING;
	return n;
}

static void want_verify(struct auth *a, struct client *c, deadline_t now)
{
	struct failures_limits limits = limits_of(a);
	if (!failures_allow(a->failures, &limits, &c->addr, bytes_of(c->sasl->login), now)) {
		finish(a, c, AUTH_LIMITED, now);
	} else if (count_waiting(a) >= a->settings.authqueue) {
		log_warn("authqueue is full: a client is turned away");
		finish(a, c, AUTH_TEMPORARY, now);
	} else {
		c->state = WAITING;
		c->turn = a->turns++;
		c->failures = failures_of(a->failures, &c->addr, now);
	}
}

static void send_challenge(struct client *c)
{
	struct auth_line line = { .text = str_bytes(&c->sasl->out) };
	c->state = TALKING;
	c->gone |= !auth_line_encode(&line, &c->out.buffer) || record_writer_push(&c->out) == -1;
}

static enum sasl_result give_keys(struct auth *a, struct client *c, deadline_t now)
{
	struct failures_limits limits = limits_of(a);
	if (!failures_allow(a->failures, &limits, &c->addr, bytes_of(c->sasl->login), now)) {
		finish(a, c, AUTH_LIMITED, now);
		return SASL_KEYS;
	}
	authtable_scram(&a->table, bytes_of(c->sasl->login), &c->sasl->scram.keys, &c->scram_known);
	return sasl_keys(c->sasl);
}

static void step(struct auth *a, struct client *c, enum sasl_result result, deadline_t now)
{
	c->arrived = now;
	if (result == SASL_KEYS)
		result = give_keys(a, c, now);
	switch (result) {
	case SASL_CHALLENGE:
		send_challenge(c);
		break;
	case SASL_VERIFY:
		want_verify(a, c, now);
		break;
	case SASL_OK:
		finish(a, c, c->scram_known ? AUTH_OK : AUTH_WRONG, now);
		break;
	case SASL_FAILED:
		finish(a, c, AUTH_WRONG, now);
		break;
	case SASL_CANCELLED:
		finish(a, c, AUTH_CANCELLED, now);
		break;
	case SASL_NOT_BASE64:
		finish(a, c, AUTH_NOT_BASE64, now);
		break;
	case SASL_KEYS:   /* it has ended already */
		break;
	default:
		finish(a, c, AUTH_TEMPORARY, now);
	}
}

/* Is it offered at all? SCRAM needs the keys of the own table. */
static bool mechanism_allowed(const struct auth *a, enum sasl_mechanism mechanism)
{
	const struct lines *list = &a->settings.authmechanisms;
	bool listed = false, scram = mechanism == SASL_SCRAM || mechanism == SASL_SCRAM_PLUS;
	for (size_t i = 0; i < list->count; i++)
		listed = listed || bytes_equal_nocase(list->at[i], bytes_of(sasl_names[mechanism]));
	return listed && (!scram || verify_backend_of(&a->settings) == VERIFY_OWN);
}

static void begin(struct auth *a, struct client *c, const struct auth_begin *begin, deadline_t now)
{
	enum sasl_mechanism mechanism;
	struct failures_limits limits = limits_of(a);
	c->arrived = now;
	c->scram_known = false;
	if (!netaddr_parse(begin->client, &c->addr))
		c->addr = (struct netaddr){ 0 };   /* a program of this host */
	c->sasl = calloc(1, sizeof *c->sasl);
	if (c->sasl == NULL)
		finish(a, c, AUTH_TEMPORARY, now);
	else if (!sasl_mechanism(begin->mechanism, &mechanism) || !mechanism_allowed(a, mechanism))
		finish(a, c, AUTH_NO_MECHANISM, now);
	else if (!failures_allow(a->failures, &limits, &c->addr, (struct bytes){ NULL, 0 }, now))
		finish(a, c, AUTH_LIMITED, now);
	else if (verify_backend_of(&a->settings) == VERIFY_OWN && !authtable_refresh(&a->table))
		finish(a, c, AUTH_TEMPORARY, now);
	else
		step(a, c, sasl_begin(c->sasl, mechanism, begin->has_initial ? begin->initial : (struct bytes){ NULL, 0 }, begin->plus, begin->binding), now);
}

/* ---- workers ---- */

static void verified(void *asked, enum verify_result result)
{
	struct client *c = asked;
	static const enum auth_result results[] = { [VERIFY_YES] = AUTH_OK, [VERIFY_NO] = AUTH_WRONG, [VERIFY_LATER] = AUTH_TEMPORARY };
	finish(the_auth, c, results[result], clock_monotonic_ms());
}

static struct client *next_waiting(struct auth *a)
{
	struct client *best = NULL;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &a->client[i];
		if (c->fd == -1 || c->state != WAITING)
			continue;
		if (best == NULL || c->failures < best->failures || (c->failures == best->failures && c->turn < best->turn))
			best = c;
	}
	return best;
}

static bool ask(struct auth *a, struct client *c, deadline_t now)
{
	char ip[NETADDR_TEXT];
	struct bytes login = bytes_of(c->sasl->login);
	const struct password_entry *entry = passwords_find(&a->table.passwords, login);
	struct auth_check check = { .login = login, .client = bytes_of(ip), .password = { c->sasl->password, c->sasl->password_len } };
	netaddr_format(&c->addr, ip);
	check.client = bytes_of(ip);
	if (entry != NULL) {
		check.scheme = (uint8_t)entry->scheme;
		check.hash = entry->hash;
		check.scram = entry->scram;
	}
	bool asked = authcrew_ask(&a->crew, &check, c, now);
	sodium_memzero(c->sasl->password, sizeof c->sasl->password);
	return asked;
}

static void dispatch(struct auth *a, deadline_t now)
{
	struct client *c;
	while (authcrew_has_room(&a->crew) && (c = next_waiting(a)) != NULL) {
		c->state = ASKED;
		if (!ask(a, c, now))
			finish(a, c, AUTH_TEMPORARY, now);
	}
}

/* ---- clients ---- */

static void client_close(struct auth *a, struct client *c)
{
	authcrew_forget(&a->crew, c);
	exchange_free(c);
	if (c->in.buffer.at != NULL)
		sodium_memzero(c->in.buffer.at, c->in.buffer.room);
	record_reader_free(&c->in);
	record_writer_free(&c->out);
	(void)close(c->fd);
	c->fd = -1;
}

static struct client *client_close_idle(struct auth *a)
{
	struct client *oldest = NULL;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &a->client[i];
		if (c->fd != -1 && (c->state == IDLE || c->state == TALKING) && (oldest == NULL || c->arrived < oldest->arrived))
			oldest = c;
	}
	if (oldest != NULL)
		client_close(a, oldest);
	return oldest;
}

static struct client *client_free_slot(struct auth *a)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (a->client[i].fd == -1)
			return &a->client[i];
	return client_close_idle(a);
}

static bool peer_is_admitted(const struct auth *a, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return false;
	for (size_t i = 0; i < a->admitted_count; i++)
		if (peer.uid == a->admitted[i])
			return true;
	log_warn("uid %lu asked, who is not admitted", (unsigned long)peer.uid);
	return false;
}

static void client_accept(struct auth *a, deadline_t now)
{
	int fd = accept4(a->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *c = fd != -1 && peer_is_admitted(a, fd) ? client_free_slot(a) : NULL;
	/* A connection that cannot be taken stays and would wake us without end. */
	if (fd == -1 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && client_close_idle(a) == NULL)
		a->accept_after = deadline_in(now, PAUSE_MS);
	if (c == NULL && fd != -1)
		(void)close(fd);
	if (c == NULL)
		return;
	*c = (struct client){ .fd = fd, .arrived = now };
	record_reader_init(&c->in, fd);
	record_writer_init(&c->out, fd, ANSWERS_MAX);
	c->gone = str_reserve(&c->in.buffer, INPUT_ROOM) == NULL;
}

static bool take_record(struct auth *a, struct client *c, const struct record *record, deadline_t now)
{
	struct auth_begin first;
	struct auth_line line;
	if (c->state == IDLE && record->type == REC_auth_begin && auth_begin_decode(record->payload, &first)) {
		begin(a, c, &first, now);
		return true;
	}
	if (c->state == TALKING && record->type == REC_auth_line && auth_line_decode(record->payload, &line)) {
		step(a, c, sasl_line(c->sasl, line.text), now);
		return true;
	}
	return false;
}

/* One record is all that a sibling has to say at a time: more of it waiting is no reason to read on. */
static void client_read(struct auth *a, struct client *c, deadline_t now)
{
	struct record record;
	ssize_t got = record_reader_fill(&c->in);
	if (got == 0 || (got == -1 && errno != EAGAIN)) {
		c->gone = true;
		return;
	}
	while (!c->gone) {
		enum record_result result = record_reader_next(&c->in, &record);
		if (result == RECORD_MORE)
			break;
		if (result == RECORD_BAD || !take_record(a, c, &record, now)) {
			log_warn("smtpd sent what it may not send now; its connection is closed");
			c->gone = true;
		}
	}
	if (record_reader_rest(&c->in).len == 0)
		sodium_memzero(c->in.buffer.at, c->in.buffer.room);
}

static void client_turn(struct auth *a, struct client *c, short events, deadline_t now)
{
	if ((events & POLLIN) != 0)
		client_read(a, c, now);
	else if ((events & (POLLHUP | POLLERR)) != 0)
		c->gone = true;
	if ((events & POLLOUT) != 0 && record_writer_push(&c->out) == -1)
		c->gone = true;
	if (c->state == DELAYED && deadline_passed(c->answer_at, now))
		send_done(c);
	if (c->state == TALKING && deadline_passed(deadline_in(c->arrived, SILENCE_MS), now))
		c->gone = true;
}

/* ---- the loop ---- */

static void reload(struct auth *a)
{
	if (!settings_reload(&a->settings, USED_AUTH))
		return;
	authcrew_renew(&a->crew, &a->settings);
}

static void signals_take(struct auth *a)
{
	unsigned char number;
	while (read(a->signals, &number, 1) == 1) {
		if (number == SIGHUP)
			reload(a);
		else
			a->stop = true;
	}
}

static nfds_t poll_prepare(struct auth *a, deadline_t now, deadline_t *next)
{
	if (deadline_passed(a->accept_after, now))
		a->accept_after = 0;
	*next = a->accept_after;
	a->poll[POLL_SIGNAL] = (struct pollfd){ .fd = a->signals, .events = POLLIN };
	a->poll[POLL_LISTEN] = (struct pollfd){ .fd = a->accept_after == 0 ? a->listener : -1, .events = POLLIN };
	a->crew_polled = authcrew_prepare(&a->crew, a->poll + POLL_CREW, next);
	nfds_t n = POLL_CREW + a->crew_polled;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		const struct client *c = &a->client[i];
		a->place[i] = c->fd == -1 ? 0 : n;
		if (c->fd == -1)
			continue;
		a->poll[n++] = (struct pollfd){ .fd = c->fd, .events = (short)(POLLIN | (record_writer_pending(&c->out) ? POLLOUT : 0)) };
		if (c->state == DELAYED)
			*next = deadline_earlier(*next, c->answer_at);
		if (c->state == TALKING)
			*next = deadline_earlier(*next, deadline_in(c->arrived, SILENCE_MS));
	}
	return n;
}

static void turn(struct auth *a)
{
	deadline_t now = clock_monotonic_ms(), next;
	nfds_t n = poll_prepare(a, now, &next);
	if (poll(a->poll, n, deadline_poll_ms(next, now)) == -1) {
		if (errno != EINTR)
			die_system("cannot poll");
		return;
	}
	now = clock_monotonic_ms();
	authcrew_run(&a->crew, a->poll + POLL_CREW, a->crew_polled, now);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (a->client[i].fd != -1)
			client_turn(a, &a->client[i], a->place[i] == 0 ? 0 : a->poll[a->place[i]].revents, now);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (a->client[i].fd != -1 && a->client[i].gone)
			client_close(a, &a->client[i]);
	dispatch(a, now);
	if (a->poll[POLL_LISTEN].revents != 0)
		client_accept(a, now);
	if (a->poll[POLL_SIGNAL].revents != 0)
		signals_take(a);
}

/* ---- start ---- */

static void admit(struct auth *a, const char *account)
{
	struct account found;
	if (account_by_name(account, &found) != ACCOUNT_FOUND)
		log_warn("the account %s does not exist; nobody is admitted by that name", account);
	else
		a->admitted[a->admitted_count++] = found.uid;
}

/* Who may ask is decided by SO_PEERCRED, not by the file's mode. Bound as root, for the directory is the resolver's; it listens as
 * tappal-key, which is what smtpd sees of us. */
static int socket_bind(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(sa.sun_path, sizeof sa.sun_path, "%s/%s", path_run, SOCKET_AUTH);
	if (n < 0 || (size_t)n >= sizeof sa.sun_path)
		die_usage("%s/%s is too long for a socket's name", path_run, SOCKET_AUTH);
	if (fd == -1)
		die_system("cannot make a socket");
	if (connect(fd, (const struct sockaddr *)&sa, sizeof sa) == 0)
		die_usage("another auth serves %s", sa.sun_path);
	(void)unlink(sa.sun_path);
	(void)umask(0);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof sa) == -1)
		die_system("cannot bind %s", sa.sun_path);
	(void)umask(077);
	return fd;
}

static void start(struct auth *a)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, 0 };
	priv_standard_descriptors();
	settings_or_die(&a->settings, "auth", USED_AUTH);
	a->admitted[a->admitted_count++] = 0;
	admit(a, ACCOUNT_SMTPD);
	priv_run_directory();
	a->listener = socket_bind();
	io_want_files(FILES);
	priv_become_alone("auth", ACCOUNT_KEY);
	priv_limit(0, 0);
	if (listen(a->listener, BACKLOG) == -1)
		die_system("cannot listen");
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		a->client[i].fd = -1;
	a->signals = io_signal_pipe(signals);
	errno = 0;
	if (a->signals == -1 || sodium_init() < 0)
		die_system("cannot prepare signals and libsodium");
	a->failures = failures_new();
	if (a->failures == NULL || !verify_init())
		die_system("no memory");
	authtable_init(&a->table);
	(void)authtable_refresh(&a->table);
	authcrew_init(&a->crew, &a->settings, verified);
	the_auth = a;
}

int main(void)
{
	struct auth *a = calloc(1, sizeof *a);
	if (a == NULL)
		die_system("no memory");
	start(a);
	log_info("ready: %zu logins", a->table.passwords.count);
	while (!a->stop)
		turn(a);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (a->client[i].fd != -1)
			client_close(a, &a->client[i]);
	authcrew_stop(&a->crew);
	authtable_free(&a->table);
	failures_free(a->failures);
	settings_free(&a->settings);
	free(a);
	return EXIT_OK;
}
