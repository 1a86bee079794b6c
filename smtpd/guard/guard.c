/*
 * guard - what all sessions of smtpd share: limits, bans, greylisting; and what of it outlives a restart.
 *   runs as   tappal-guard (started as root it binds its socket, then becomes that account), cwd path_spool/guard
 *   reads     the control files marked for guard; questions on its socket, from root and tappal-smtpd only (SO_PEERCRED)
 *   writes    answers on the socket; the socket itself, path_run/guard; its rows in path_spool/guard (LMDB), once a second
 *   starts    at its start a child that reads the rows of before; a thread that writes them
 *   never     mail, the queue, the network, exec
 *   signals   TERM ends it, HUP reads the settings again
 *   exit      0 TERM | 100 an argument, settings, another guard runs | 111 the system
 *   killed    sessions go on without it; what was counted in the last second is forgotten
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/exits.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/service.h"
#include "common/settings.h"
#include "common/sibling.h"
#include "counts.h"
#include "grey.h"
#include "present.h"
#include "state.h"

#define FILES (GUARD_PLACES + 64u)
#define ANSWERS_MAX 65536u        /* octets that wait for one client */
#define LIST_PLACES 4096u         /* looked at for one question of tappal, */
#define LIST_ROWS 256u            /* and rows told */
#define PATIENCE_MS 10000u        /* for the guard before this one to end */
#define SWEEP_MS 10000u
#define SWEEP_PLACES 8192u

/* A socket of smtpd's serves one session at a time. */
struct guest {
	bool begun;
	bool here;                    /* it is one of the connections at a time: those of this host's programs are none */
	struct netaddr client;
	uint64_t domain[DOMAINS_COUNTED];
};

struct guard {
	struct settings settings;
	struct rules rules;
	struct keys keys;
	struct table *table[TABLE_TABLES];
	struct present *present;
	struct state *state;
	struct service service;
	deadline_t sweep;
};

/* ---- questions of smtpd ---- */

static void leave(struct guard *g, struct guest *guest)
{
	if (guest->here)
		present_leave(g->present, &guest->client);
	guest->begun = guest->here = false;
}

static void arrive(struct guard *g, struct guest *guest, const struct netaddr *client)
{
	if (guest->begun && netaddr_equal(&guest->client, client))
		return;
	leave(g, guest);
	guest->begun = true;
	guest->client = *client;
	guest->here = client->family != 0 && present_enter(g->present, client);
	memset(guest->domain, 0, sizeof guest->domain);
}

static struct guard_answer judge_rcpt(struct guard *g, const struct counts *counts, const struct visitor *v, const struct guard_ask *ask, wall_ms_t now)
{
	const struct grey grey = { g->table[TABLE_GREY], &g->keys, &g->settings };
	struct bytes domain = bytes_slice(ask->recipient, bytes_find_last(ask->recipient, '@') + 1, ask->recipient.len);
	struct guard_answer answer = counts_event(counts, v, GUARD_RCPT, domain, now);
	bool greylisted = !bytes_equal(g->settings.greylist, LIT("off")) && !v->spared && v->login.len == 0;
	if (answer.verdict != GUARD_GO || !greylisted || clientlist_has(&g->settings.greylistexempt, &v->client, ask->name))
		return answer;
	return (counts->peek ? grey_peek : grey_check)(&grey, &v->client, ask->sender, ask->recipient, now);
}

static struct guard_answer judge(struct guard *g, const struct counts *counts, const struct visitor *v, const struct guard_ask *ask, wall_ms_t now)
{
	struct guard_answer banned;
	switch ((enum guard_event)ask->event) {
	case GUARD_CONNECT:
	case GUARD_MAIL:
		banned = v->login.len == 0 ? counts_ban(counts, v, now) : (struct guard_answer){ .verdict = GUARD_GO };
		return banned.verdict == GUARD_GO ? counts_event(counts, v, (enum guard_event)ask->event, (struct bytes){ NULL, 0 }, now) : banned;
	case GUARD_RCPT:
		return judge_rcpt(g, counts, v, ask, now);
	case GUARD_UNKNOWN:
		return counts_unknown(counts, v, now);
	default:
		return (struct guard_answer){ .verdict = GUARD_GO };
	}
}

static struct visitor visitor_of(const struct guard *g, const struct netaddr *client, const struct guard_ask *ask, uint64_t domain[DOMAINS_COUNTED])
{
	return (struct visitor){ .client = *client, .login = ask->login, .domain = domain, .here_address = present_count(g->present, client),
		.here_network = present_count_network(g->present, client),
		.spared = client->family == 0 || ask->relay != 0 || clientlist_has(&g->settings.guardexempt, client, ask->name) };
}

static bool take_ask(struct guard *g, struct service_client *c, const struct guard_ask *ask)
{
	const struct counts counts = { g->table[TABLE_COUNTS], &g->keys, &g->rules, &g->settings, .peek = false };
	struct guest *guest = c->own;
	struct netaddr client = { 0 };
	wall_ms_t now = clock_wall_ms();
	if (ask->event >= GUARD_EVENTS)
		return false;
	if (!netaddr_parse(ask->client, &client))
		client = (struct netaddr){ 0 };   /* a program of this host */
	arrive(g, guest, &client);
	if (ask->event == GUARD_CONNECT || ask->event == GUARD_MAIL)
		memset(guest->domain, 0, sizeof guest->domain);
	struct visitor v = visitor_of(g, &client, ask, guest->domain);
	counts_charge(&counts, &v, ask->errors, ask->octets, now);
	if (ask->event == GUARD_END) {
		leave(g, guest);
		return true;
	}
	struct guard_answer answer = judge(g, &counts, &v, ask, now);
	service_send(c, guard_answer_encode(&answer, &c->out.buffer));
	return true;
}

/* ---- questions of tappal ---- */

static bool is_root(const struct service_client *c)
{
	uid_t uid;
	return sibling_uid(c->fd, &uid) && uid == 0;
}

/* As if this client came now, one more among those that are there. */
static bool take_peek(struct guard *g, struct service_client *c, const struct guard_peek *peek)
{
	const struct counts counts = { g->table[TABLE_COUNTS], &g->keys, &g->rules, &g->settings, .peek = true };
	const struct guard_ask ask = { .event = peek->event, .relay = peek->relay, .client = peek->client, .name = peek->name, .login = peek->login,
		.sender = peek->sender, .recipient = peek->recipient };
	uint64_t domain[DOMAINS_COUNTED] = { 0 };
	struct netaddr client;
	if (peek->event >= GUARD_END || !netaddr_parse(peek->client, &client) || !is_root(c))
		return false;
	struct visitor v = visitor_of(g, &client, &ask, domain);
	v.here_address++;
	v.here_network++;
	struct guard_answer answer = judge(g, &counts, &v, &ask, clock_wall_ms());
	service_send(c, guard_answer_encode(&answer, &c->out.buffer));
	return true;
}

static bool take_list(struct guard *g, struct service_client *c, const struct guard_list *list)
{
	struct guard_row record;
	wall_ms_t now = clock_wall_ms();
	if (list->table >= TABLE_TABLES || !is_root(c))
		return false;
	size_t places = table_places(g->table[list->table]), place = list->place, looked = 0, told = 0;
	bool good = true;
	for (; place < places && looked < LIST_PLACES && told < LIST_ROWS; place++, looked++) {
		const struct row *row = table_at(g->table[list->table], place);
		if (row->until <= now)
			continue;
		row_to(row, list->table, &record);
		good = good && guard_row_encode(&record, &c->out.buffer);
		told++;
	}
	struct guard_listed listed = { .more = place < places, .place = (uint32_t)place, .here = (uint32_t)present_all(g->present) };
	service_send(c, good && guard_listed_encode(&listed, &c->out.buffer));
	return true;
}

static bool take_drop(struct guard *g, struct service_client *c, const struct guard_drop *drop)
{
	if (drop->table >= TABLE_TABLES || !is_root(c))
		return false;
	struct row *row = table_find(g->table[drop->table], drop->key, clock_wall_ms());
	struct guard_dropped dropped = { .done = row != NULL };
	if (row != NULL) {
		log_info("forgotten: %.*s", (int)row->name_len, row->name);
		table_forget(g->table[drop->table], row);
	}
	service_send(c, guard_dropped_encode(&dropped, &c->out.buffer));
	return true;
}

/* ---- what it is to its service ---- */

static bool question_take(void *owner, struct service_client *c, const struct record *record, deadline_t now)
{
	struct guard_ask ask;
	struct guard_list list;
	struct guard_drop drop;
	struct guard_peek peek;
	(void)now;
	if (record->type == REC_guard_ask && guard_ask_decode(record->payload, &ask))
		return take_ask(owner, c, &ask);
	if (record->type == REC_guard_list && guard_list_decode(record->payload, &list))
		return take_list(owner, c, &list);
	if (record->type == REC_guard_peek && guard_peek_decode(record->payload, &peek))
		return take_peek(owner, c, &peek);
	return record->type == REC_guard_drop && guard_drop_decode(record->payload, &drop) && take_drop(owner, c, &drop);
}

/* Who asks without reading the answers is not answered further. */
static bool wants_question(const struct service_client *c)
{
	return !record_writer_pending(&c->out);
}

static bool is_idle(const struct service_client *c)
{
	const struct guest *guest = c->own;
	return !guest->here;
}

static void client_closing(void *owner, struct service_client *c)
{
	leave(owner, c->own);
}

static size_t guard_prepare(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	struct guard *g = owner;
	(void)fds;
	if (g->sweep == 0 || deadline_passed(g->sweep, now)) {
		for (unsigned t = 0; t < TABLE_TABLES; t++)
			table_sweep(g->table[t], SWEEP_PLACES, clock_wall_ms());
		g->sweep = deadline_in(now, SWEEP_MS);
	}
	*next = deadline_earlier(*next, deadline_earlier(g->sweep, state_turn(g->state, now)));
	return 0;
}

static void reload(void *owner)
{
	struct guard *g = owner;
	struct rules rules;
	if (!settings_reload(&g->settings, USED_GUARD))
		return;
	rules_free(&g->rules);   /* they were views into the settings of before */
	if (!rules_init(&rules, &g->settings.limits))
		die_system("no memory");
	g->rules = rules;
	log_info("settings read again: %zu limits", g->rules.count);
}

static const struct service_kind guard_kind = {
	.slots = GUARD_PLACES, .own_size = sizeof(struct guest), .answers_max = ANSWERS_MAX,
	.take = question_take, .wants = wants_question, .idle = is_idle, .closing = client_closing, .prepare = guard_prepare, .reload = reload,
};

/* ---- start ---- */

static const struct service_origin origin = {
	.program = "guard", .socket = SOCKET_GUARD, .account = ACCOUNT_GUARD, .asker = ACCOUNT_SMTPD, .used_by = USED_GUARD, .files = FILES,
	.patience_ms = PATIENCE_MS,
};

static void enter_directory(void)
{
	if (chdir(path_spool) < 0 || chdir(SPOOL_GUARD) < 0)
		die_system("cannot enter %s/%s (run spool-tree)", path_spool, SPOOL_GUARD);
}

static void start(struct guard *g)
{
	service_enter(&g->service, &g->settings, &origin);
	enter_directory();
	if (sodium_init() < 0)
		die_system("cannot prepare libsodium");
	g->present = present_new(GUARD_PLACES);
	for (unsigned t = 0; t < TABLE_TABLES; t++)
		g->table[t] = table_new(g->settings.guardrows);
	if (g->present == NULL || g->table[TABLE_COUNTS] == NULL || g->table[TABLE_GREY] == NULL || !rules_init(&g->rules, &g->settings.limits))
		die_system("no memory");
	g->state = state_open(g->table, &g->keys, clock_wall_ms());
	if (g->state == NULL)
		die_system("no memory");
	service_start(&g->service, &guard_kind, g);
}

int main(int argc, char **argv)
{
	struct guard *g = calloc(1, sizeof *g);
	(void)argv;
	die_on_arguments("guard", argc);
	if (g == NULL)
		die_system("no memory");
	start(g);
	log_info("ready: %zu limits", g->rules.count);
	while (!g->service.stop)
		service_turn(&g->service);
	service_end(&g->service);
	state_close(g->state);
	present_free(g->present);
	for (unsigned t = 0; t < TABLE_TABLES; t++)
		table_free(g->table[t]);
	rules_free(&g->rules);
	settings_free(&g->settings);
	free(g);
	return EXIT_OK;
}
