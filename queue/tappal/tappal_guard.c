/*
 * tappal_guard - `tappal guard`: what guard counts, whom it has banned, and forgetting it. Room: queue, root.
 *
 * guard answers one question with a bounded part of its tables, so a list is asked for in steps; rows that change meanwhile may be missed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/paths.h"
#include "common/sibling.h"
#include "show.h"
#include "smtpd/guard/wire.h"
#include "tappal.h"

#define WAIT_MS 30000u

enum { COLUMN_WHAT, COLUMN_WHO, COLUMN_COUNT, COLUMN_LIMIT, COLUMN_WINDOW, COLUMN_UNTIL, COLUMNS };
static const struct show_column columns[COLUMNS] = {
	{ "WHAT", 0.2, false, false }, { "WHO", 0.3, false, true }, { "COUNT", 7, true, false }, { "LIMIT", 7, true, false }, { "WINDOW", 7, true, false }, { "UNTIL", 0.3, false, false },
};

struct talk {
	int fd;
	struct record_reader in;
	bool all, json;
	const char *name;             /* forget: whom */
	struct bytes client;          /* its network, where it is an IPv6 address: that is who is banned. Else empty */
	struct show_table *table;
	wall_ms_t now;
	uint64_t rows;
	uint32_t here;
};

/* ---- talking ---- */

static void talk_begin(struct talk *t)
{
	if (geteuid() != 0)
		tool_stop("what guard counts is root's to see");
	t->fd = sibling_connect(SOCKET_GUARD, ACCOUNT_GUARD, WAIT_MS);
	if (t->fd < 0)
		tool_stop("guard cannot be asked: %s; is it running?", strerror(errno));
	record_reader_init(&t->in, t->fd);
}

static void say(const struct talk *t, const struct str *text, bool encoded)
{
	if (!encoded || write(t->fd, text->at, text->len) != (ssize_t)text->len)
		tool_stop("guard takes no question: %s", strerror(errno));
}

static struct record hear(struct talk *t)
{
	struct record record;
	int got = record_reader_wait(&t->in, &record, deadline_in(clock_monotonic_ms(), WAIT_MS));
	if (got != 1)
		tool_stop("guard does not answer: %s", got == 0 ? "it has hung up; who may ask is root alone" : strerror(errno));
	return record;
}

static _Noreturn void nonsense(void)
{
	tool_stop("guard answers nonsense: are tappal and guard of one version?");
}

/* ---- one row ---- */

static bool is_over(const struct guard_row *row)
{
	bool afterwards = row->what == LIMIT_ERRORS || row->what == LIMIT_OCTETS;
	if (row->what >= LIMIT_WHATS || row->limit == 0)
		return row->what == ROW_BAN;
	return afterwards ? row->count >= row->limit : row->count > row->limit;
}

static void name_what(const struct guard_row *row, struct str *out)
{
	static const char *const own[ROW_WHATS] = { [ROW_UNKNOWN] = "unknown recipients", [ROW_BAN] = "ban", [ROW_TRIPLET] = "greylist sender", [ROW_NETWORK] = "greylist network" };
	if (row->what < LIMIT_WHATS)
		str_addf(out, "%s %s", limit_subject_name[row->subject], limit_what_name[row->what]);
	else
		str_add_c(out, own[row->what]);
}

static void list_json(const struct guard_row *row, const char *what)
{
	json_t *o = json_object();
	json_object_set_new(o, "what", json_string(what));
	json_object_set_new(o, "who", show_json(row->name));
	json_object_set_new(o, "count", json_integer((json_int_t)row->count));
	if (row->what == ROW_TRIPLET)
		json_object_set_new(o, "passes_from", show_json_seconds(row->limit));
	else if (row->limit > 0)
		json_object_set_new(o, "limit", json_integer((json_int_t)row->limit));
	if (row->window_s > 0)
		json_object_set_new(o, "window", json_integer(row->window_s));
	json_object_set_new(o, "until", show_json_seconds(row->until_ms));
	json_object_set_new(o, "over", json_boolean(is_over(row)));
	show_json_line(o);
}

static void list_row(struct talk *t, const struct guard_row *row)
{
	struct str what = STR_INIT(100), count = STR_INIT(30), limit = STR_INIT(30), window = STR_INIT(30), until = STR_INIT(100);
	if (!t->all && !is_over(row))
		return;
	t->rows++;
	name_what(row, &what);
	if (t->json) {
		list_json(row, str_c(&what));
	} else {
		str_add_u64(&count, row->count);
		if (row->limit > 0 && row->what != ROW_TRIPLET)
			str_add_u64(&limit, row->limit);
		if (row->window_s > 0)
			clock_span((uint64_t)row->window_s * SECOND_MS, &window);
		show_time_from(row->until_ms, t->now, &until);
		show_table_row(t->table, (struct bytes[COLUMNS]){ str_bytes(&what), row->name, str_bytes(&count), str_bytes(&limit), str_bytes(&window), str_bytes(&until) });
	}
	str_free(&what);
	str_free(&count);
	str_free(&limit);
	str_free(&window);
	str_free(&until);
}

/* ---- all rows ---- */

/* What is to be done with each row of `table`: answers to one question are kept by the caller, for forgetting asks in between. */
struct found { unsigned table; uint64_t key; };
struct finds { struct found *at; size_t count, room; };

static void find_add(struct finds *f, const struct guard_row *row)
{
	if (f->count == f->room) {
		f->room = f->room * 2 + 64;
		f->at = reallocarray(f->at, f->room, sizeof *f->at);
		if (f->at == NULL)
			tool_stop("out of memory");
	}
	f->at[f->count++] = (struct found){ row->table, row->key };
}

static bool is_named(const struct talk *t, const struct guard_row *row)
{
	struct bytes name = bytes_slice(bytes_of(t->name), 0, row->name.len == 40 ? 40 : strlen(t->name));   /* guard keeps so much of a long one */
	return bytes_equal_nocase(row->name, name) || (t->client.len > 0 && bytes_equal(row->name, t->client));
}

static bool take_answer(struct talk *t, uint32_t *place, struct finds *finds, bool *more)
{
	struct record record = hear(t);
	struct guard_listed listed;
	struct guard_row row;
	if (record.type == REC_guard_listed && guard_listed_decode(record.payload, &listed)) {
		*more = listed.more != 0;
		*place = listed.place;
		t->here = listed.here;
		return false;
	}
	if (record.type != REC_guard_row || !guard_row_decode(record.payload, &row) || row.what >= ROW_WHATS || row.subject >= LIMIT_SUBJECTS)
		nonsense();
	if (finds == NULL)
		list_row(t, &row);
	else if (is_named(t, &row))
		find_add(finds, &row);
	return true;
}

static void walk(struct talk *t, struct finds *finds)
{
	struct str text = STR_INIT(100);
	for (unsigned table = 0; table < TABLE_TABLES; table++) {
		uint32_t place = 0;
		for (bool more = true; more;) {
			str_clear(&text);
			say(t, &text, guard_list_encode(&(struct guard_list){ .table = (uint8_t)table, .place = place }, &text));
			while (take_answer(t, &place, finds, &more))
				;
		}
	}
	str_free(&text);
}

/* ---- the commands ---- */

static int list(struct talk *t)
{
	if (!t->json && (t->table = show_table_new(columns, COLUMNS, true)) == NULL)
		tool_stop("out of memory");
	walk(t, NULL);
	if (t->json)
		return t->rows > 0 ? EXIT_OK : EXIT_NOTHING;
	if (t->rows > 0)
		show_table_print(t->table);
	else
		show_table_free(t->table);
	printf("%s%lu connections now\n", t->rows > 0 ? "" : t->all ? "no rows; " : "nobody is banned or over a limit; ", (unsigned long)t->here);
	return t->rows > 0 ? EXIT_OK : EXIT_NOTHING;
}

static int forget(struct talk *t)
{
	struct str text = STR_INIT(100);
	struct finds finds = { NULL, 0, 0 };
	struct guard_dropped dropped;
	struct netaddr address, base;
	char client[NETADDR_TEXT + 4] = "", base_text[NETADDR_TEXT];
	uint64_t done = 0;
	if (netaddr_parse(bytes_of(t->name), &address) && address.family == AF_INET6) {
		base = limits_network(&address);
		netaddr_format(&base, base_text);
		snprintf(client, sizeof client, "%s/64", base_text);   /* who is banned is all of it */
	}
	t->client = bytes_of(client);
	walk(t, &finds);
	for (size_t i = 0; i < finds.count; i++) {
		str_clear(&text);
		say(t, &text, guard_drop_encode(&(struct guard_drop){ .table = (uint8_t)finds.at[i].table, .key = finds.at[i].key }, &text));
		struct record record = hear(t);
		if (record.type != REC_guard_dropped || !guard_dropped_decode(record.payload, &dropped))
			nonsense();
		done += dropped.done != 0;
	}
	printf("%llu forgotten\n", (unsigned long long)done);
	free(finds.at);
	str_free(&text);
	return done > 0 ? EXIT_OK : EXIT_NOTHING;
}

static const char usage[] = "write `tappal guard list [--all] [--json]` or `tappal guard forget WHO`, an address, network, login or domain as the list shows it";

int command_guard(int argc, char **argv)
{
	struct talk t = { .now = clock_wall_ms() };
	bool is_list = argc >= 2 && strcmp(argv[1], "list") == 0, is_forget = argc == 3 && strcmp(argv[1], "forget") == 0;
	for (int i = 2; is_list && i < argc; i++) {
		if (strcmp(argv[i], "--all") == 0)
			t.all = true;
		else if (strcmp(argv[i], "--json") == 0)
			t.json = true;
		else
			tool_usage("%s", usage);
	}
	if (!is_list && !is_forget)
		tool_usage("%s", usage);
	t.name = is_forget ? argv[2] : NULL;
	talk_begin(&t);
	int code = is_list ? list(&t) : forget(&t);
	record_reader_free(&t.in);
	close(t.fd);
	return code;
}
