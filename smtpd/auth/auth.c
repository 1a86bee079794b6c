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
 *   exit      0 TERM | 100 an argument, settings, another auth runs | 111 the system
 *   killed    exchanges end with 454; counts of failures are forgotten
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "common/exits.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/service.h"
#include "crew.h"
#include "table.h"
#include "wire.h"
#include "failures.h"
#include "sasl.h"

#define FILES 4096u
#define ANSWERS_MAX 32768u        /* octets that wait for one client */
#define INPUT_ROOM 32768u         /* of one client's records: had at once, so that no buffer grows and leaves a password behind */
#define SILENCE_MS 660000u        /* an exchange in which smtpd says nothing for so long has lost its client (timeoutsmtpd is his) */
#define DELAY_STEPS 4u            /* failures of an address that make the wait longer; the longest is this many times authdelay */

enum state { IDLE, TALKING /* the next line is the client's */, WAITING /* for a worker */, ASKED, DELAYED /* the answer is known and waits */ };

/* What a client of ours has: its client's exchange. `last` of the client is that one's last line. */
struct exchange {
	enum state state;
	struct sasl *sasl;             /* NULL between exchanges */
	struct netaddr addr;
	bool scram_known;
	uint64_t turn;                 /* its place among those that wait */
	uint32_t failures;             /* of its address: who has fewer goes first */
	enum auth_result result;
	char login[PASSWORD_LOGIN_MAX + 1];   /* what a back-end calls him; "": as he calls himself */
};

struct auth {
	struct settings settings;
	struct authtable table;
	struct authcrew crew;
	struct failures *failures;
	struct service service;
	uint64_t turns;
};

/* ---- ends of an exchange ---- */

static void exchange_free(struct service_client *c)
{
	struct exchange *x = c->own;
	if (x->sasl != NULL) {
		sasl_wipe(x->sasl);
		free(x->sasl);
	}
	x->sasl = NULL;
	x->state = IDLE;
	c->due = 0;
}

static void send_done(struct service_client *c)
{
	const struct exchange *x = c->own;
	const char *login = x->login[0] != '\0' ? x->login : x->sasl != NULL ? x->sasl->login : "";
	struct auth_done done = { .result = (uint8_t)x->result, .login = bytes_of(login) };
	service_send(c, auth_done_encode(&done, &c->out.buffer));
	exchange_free(c);
}

static struct failures_limits limits_of(const struct auth *a)
{
	return (struct failures_limits){ a->settings.authwindow * SECOND_MS, a->settings.authfailures, a->settings.authloginfailures };
}

/* A refusal is answered at a time that tells neither how long it took to find out nor, therefore, why. */
static void finish(struct auth *a, struct service_client *c, enum auth_result result, deadline_t now)
{
	struct exchange *x = c->own;
	struct failures_limits limits = limits_of(a);
	uint64_t wait = 0;
	x->result = result;
	if (result == AUTH_OK || result == AUTH_WRONG)
		failures_note(a->failures, &limits, &x->addr, bytes_of(x->sasl->login), result == AUTH_OK, now);
	if (result == AUTH_WRONG || result == AUTH_LIMITED) {
		uint32_t steps = failures_of(a->failures, &x->addr, now);
		wait = a->settings.authdelay * SECOND_MS * (steps < 1 ? 1 : steps > DELAY_STEPS ? DELAY_STEPS : steps);
	}
	x->state = DELAYED;
	c->due = deadline_in(c->last, wait);
	if (deadline_passed(c->due, now))
		send_done(c);
}

/* ---- an exchange ---- */

static bool is_waiting(const struct service_client *c)
{
	return ((const struct exchange *)c->own)->state == WAITING;
}

static size_t count_waiting(const struct auth *a)
{
	const struct service_client *c;
	size_t n = 0;
	for (size_t i = 0; (c = service_next(&a->service, &i)) != NULL;)
		n += is_waiting(c);
	return n;
}

static bool may_try(const struct auth *a, const struct exchange *x, deadline_t now)
{
	struct failures_limits limits = limits_of(a);
	return failures_allow(a->failures, &limits, &x->addr, bytes_of(x->sasl->login), now);
}

static void want_verify(struct auth *a, struct service_client *c, deadline_t now)
{
	struct exchange *x = c->own;
	if (!may_try(a, x, now)) {
		finish(a, c, AUTH_LIMITED, now);
	} else if (count_waiting(a) >= a->settings.authqueue) {
		log_warn("authqueue is full: a client is turned away");
		finish(a, c, AUTH_TEMPORARY, now);
	} else {
		x->state = WAITING;
		x->turn = a->turns++;
		x->failures = failures_of(a->failures, &x->addr, now);
		c->due = 0;
	}
}

static void send_challenge(struct service_client *c)
{
	struct exchange *x = c->own;
	struct auth_line line = { .text = str_bytes(&x->sasl->out) };
	x->state = TALKING;
	c->due = deadline_in(c->last, SILENCE_MS);
	service_send(c, auth_line_encode(&line, &c->out.buffer));
}

static enum sasl_result give_keys(struct auth *a, struct service_client *c, deadline_t now)
{
	struct exchange *x = c->own;
	if (!may_try(a, x, now)) {
		finish(a, c, AUTH_LIMITED, now);
		return SASL_KEYS;
	}
	authtable_scram(&a->table, bytes_of(x->sasl->login), &x->sasl->scram.keys, &x->scram_known);
	return sasl_keys(x->sasl);
}

static void step(struct auth *a, struct service_client *c, enum sasl_result result, deadline_t now)
{
	const struct exchange *x = c->own;
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
		finish(a, c, x->scram_known ? AUTH_OK : AUTH_WRONG, now);
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

static void begin(struct auth *a, struct service_client *c, const struct auth_begin *begin, deadline_t now)
{
	struct exchange *x = c->own;
	enum sasl_mechanism mechanism;
	struct failures_limits limits = limits_of(a);
	x->scram_known = false;
	x->login[0] = '\0';
	if (!netaddr_parse(begin->client, &x->addr))
		x->addr = (struct netaddr){ 0 };   /* a program of this host */
	x->sasl = calloc(1, sizeof *x->sasl);
	if (x->sasl == NULL)
		finish(a, c, AUTH_TEMPORARY, now);
	else if (!sasl_mechanism(begin->mechanism, &mechanism) || !mechanism_allowed(a, mechanism))
		finish(a, c, AUTH_NO_MECHANISM, now);
	else if (!failures_allow(a->failures, &limits, &x->addr, (struct bytes){ NULL, 0 }, now))
		finish(a, c, AUTH_LIMITED, now);
	else if (verify_backend_of(&a->settings) == VERIFY_OWN && !authtable_refresh(&a->table))
		finish(a, c, AUTH_TEMPORARY, now);
	else
		step(a, c, sasl_begin(x->sasl, mechanism, begin->has_initial ? begin->initial : (struct bytes){ NULL, 0 }, begin->plus, begin->binding), now);
}

/* A line within an exchange. It began when he might try; many that began so must not end so. */
static void go_on(struct auth *a, struct service_client *c, struct bytes line, deadline_t now)
{
	const struct exchange *x = c->own;
	if (!may_try(a, x, now) && !bytes_equal(line, LIT("*")))
		finish(a, c, AUTH_LIMITED, now);
	else
		step(a, c, sasl_line(x->sasl, line), now);
}

/* ---- workers ---- */

static void verified(void *auth, void *asked, enum verify_result result, struct bytes login, deadline_t now)
{
	struct exchange *x = ((struct service_client *)asked)->own;
	static const enum auth_result results[] = { [VERIFY_YES] = AUTH_OK, [VERIFY_NO] = AUTH_WRONG, [VERIFY_LATER] = AUTH_TEMPORARY };
	bytes_to_cstring(login, x->login, sizeof x->login);
	finish(auth, asked, results[result], now);
}

static bool goes_before(const struct service_client *c, const struct service_client *other)
{
	const struct exchange *x = c->own, *y = other->own;
	return x->failures < y->failures || (x->failures == y->failures && x->turn < y->turn);
}

static struct service_client *next_waiting(const struct auth *a)
{
	struct service_client *c, *best = NULL;
	for (size_t i = 0; (c = service_next(&a->service, &i)) != NULL;)
		if (is_waiting(c) && (best == NULL || goes_before(c, best)))
			best = c;
	return best;
}

static bool ask(struct auth *a, struct service_client *c, deadline_t now)
{
	struct exchange *x = c->own;
	char ip[NETADDR_TEXT];
	struct bytes login = bytes_of(x->sasl->login);
	const struct password_entry *entry = passwords_find(&a->table.passwords, login);
	netaddr_format(&x->addr, ip);
	struct auth_check check = { .login = login, .client = bytes_of(ip), .password = { x->sasl->password, x->sasl->password_len } };
	if (entry != NULL) {
		check.scheme = (uint8_t)entry->scheme;
		check.hash = entry->hash;
		check.scram = entry->scram;
	}
	bool asked = authcrew_ask(&a->crew, &check, c, now);
	sodium_memzero(x->sasl->password, sizeof x->sasl->password);
	return asked;
}

/* What has failed while one waited counts, too: guesses that come at once are no more than guesses one after the other. */
static void dispatch(struct auth *a, deadline_t now)
{
	struct service_client *c;
	while (authcrew_has_room(&a->crew) && (c = next_waiting(a)) != NULL) {
		struct exchange *x = c->own;
		x->state = ASKED;
		if (!may_try(a, x, now))
			finish(a, c, AUTH_LIMITED, now);
		else if (!ask(a, c, now))
			finish(a, c, AUTH_TEMPORARY, now);
	}
}

/* ---- what it is to its service ---- */

static bool take_record(void *auth, struct service_client *c, const struct record *record, deadline_t now)
{
	const struct exchange *x = c->own;
	struct auth_begin first;
	struct auth_line line;
	if (x->state == IDLE && record->type == REC_auth_begin && auth_begin_decode(record->payload, &first)) {
		begin(auth, c, &first, now);
		return true;
	}
	if (x->state == TALKING && record->type == REC_auth_line && auth_line_decode(record->payload, &line)) {
		go_on(auth, c, line.text, now);
		return true;
	}
	return false;
}

static bool is_idle(const struct service_client *c)
{
	const struct exchange *x = c->own;
	return x->state == IDLE || x->state == TALKING;
}

static void client_due(void *auth, struct service_client *c, deadline_t now)
{
	const struct exchange *x = c->own;
	(void)auth;
	(void)now;
	if (x->state == DELAYED)
		send_done(c);
	else
		c->gone = true;   /* SILENCE_MS */
}

static void client_closing(void *auth, struct service_client *c)
{
	struct auth *a = auth;
	authcrew_forget(&a->crew, c);
	exchange_free(c);
}

static size_t crew_prepare(void *auth, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	struct auth *a = auth;
	dispatch(a, now);
	return authcrew_prepare(&a->crew, fds, next);
}

static void crew_run(void *auth, const struct pollfd *fds, size_t count, deadline_t now)
{
	struct auth *a = auth;
	authcrew_run(&a->crew, fds, count, now);
}

static void reload(void *auth)
{
	struct auth *a = auth;
	if (settings_reload(&a->settings, USED_AUTH))
		authcrew_renew(&a->crew, &a->settings);
}

static const struct service_kind auth_kind = {
	.slots = AUTH_PLACES, .own_size = sizeof(struct exchange), .answers_max = ANSWERS_MAX, .secret_room = INPUT_ROOM, .own_fds = AUTHCREW_MAX,
	.take = take_record, .idle = is_idle, .due = client_due, .closing = client_closing,
	.prepare = crew_prepare, .run = crew_run, .reload = reload,
};

/* ---- start ---- */

static const struct service_origin origin = {
	.program = "auth", .socket = SOCKET_AUTH, .account = ACCOUNT_KEY, .asker = ACCOUNT_SMTPD, .used_by = USED_AUTH, .files = FILES,
};

static void start(struct auth *a)
{
	service_enter(&a->service, &a->settings, &origin);
	service_start(&a->service, &auth_kind, a);
	errno = 0;
	if (sodium_init() < 0)
		die_system("cannot prepare libsodium");
	a->failures = failures_new();
	if (a->failures == NULL || !verify_init())
		die_system("no memory");
	authtable_init(&a->table);
	(void)authtable_refresh(&a->table);
	authcrew_init(&a->crew, &a->settings, verified, a);
}

int main(int argc, char **argv)
{
	struct auth *a = calloc(1, sizeof *a);
	(void)argv;
	die_on_arguments("auth", argc);
	if (a == NULL)
		die_system("no memory");
	start(a);
	log_info("ready: %zu logins", a->table.passwords.count);
	while (!a->service.stop)
		service_turn(&a->service);
	service_end(&a->service);
	authcrew_stop(&a->crew);
	authtable_free(&a->table);
	failures_free(a->failures);
	settings_free(&a->settings);
	free(a);
	return EXIT_OK;
}
