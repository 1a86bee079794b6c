/*
 * tappal_queue - `tappal queue list` and `tappal queue show`. Room: queue, the operator's own uid.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/envelope.h"
#include "common/io.h"
#include "common/paths.h"
#include "arguments.h"
#include "queue/body.h"
#include "show.h"
#include "tappal.h"

#define FIRST_PAGE 40u            /* messages: shown before anything else is read */
#define PAGE 500u
#define PAGE_OCTETS (1u << 22)    /* JSON of one turn */

/* ---- list ---- */

static const struct show_column columns[] = {
	{ "ID", MSGID_TEXT, false, false }, { "AGE", 6, true, false }, { "SIZE", 6, true, false }, { "STATE", 8, false, false }, { "FROM", 0.2, false, true },
	{ "TO", 0.2, false, true }, { "LAST REPLY", 0.4, false, true },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct list {
	struct settings settings;
	wall_ms_t now;
	bool json, begun;
	struct show_table *table;     /* of this turn */
	struct str text;              /* JSON lines of this turn */
	uint64_t messages, octets;
};

static struct bytes reason_of(const struct found *f)
{
	return f->state == STATE_HELD && f->row->held_reason.len > 0 ? f->row->held_reason : f->rcpt.text;
}

/* Does the message wait for him? */
static bool is_open(const struct row_rcpt *row)
{
	return row->state == RCPT_WAITING || rcpt_reports(row);
}

/* Who waits may be reported as well, as late, and stands in both counts of the message: only then are they counted one by one. */
static uint32_t count_open(const struct found *f)
{
	struct row_rcpt row;
	uint32_t n, count = 0;

	if (f->row->failed == 0 || f->row->unfinished == 0)
		return f->row->failed + f->row->unfinished;
	for (uint32_t from = 0; index_next_rcpt(f->ix, f->id, from, &n, &row) == INDEX_OK; from = n + 1)
		count += is_open(&row);
	return count;
}

static bool list_row(void *context, const struct found *f)
{
	struct list *l = context;
	struct str age = STR_INIT(64), size = STR_INIT(64), to = STR_INIT(512);
	uint32_t open = count_open(f);
	char id[MSGID_TEXT + 1];

	msgid_format(f->id, id);
	clock_span(l->now > f->row->arrival_ms ? l->now - f->row->arrival_ms : 0, &age);
	show_size(f->row->body_size, &size);
	str_add(&to, f->rcpt.address);
	if (open > 1)
		str_addf(&to, " +%lu", (unsigned long)open - 1);
	show_table_row(l->table, (struct bytes[COLUMNS]){ bytes_of(id), str_bytes(&age), str_bytes(&size), bytes_of(message_state_name(f->state)),
		f->row->sender.len > 0 ? f->row->sender : LIT("<>"), str_bytes(&to), reason_of(f) });
	str_free(&age);
	str_free(&size);
	str_free(&to);
	l->messages++;
	l->octets += f->row->body_size;
	return true;
}

static json_t *json_rcpt(const struct row_rcpt *row)
{
	json_t *o = json_object();

	json_object_set_new(o, "address", show_json(row->address));
	if (row->text.len > 0)
		json_object_set_new(o, "delay_reason", show_json(row->text));
	json_object_set_new(o, "state", json_string(rcpt_state_name(row->state)));
	json_object_set_new(o, "destination", show_json(row->destination));
	show_json_number(o, "attempts", row->attempts);
	if (row->attempts > 0)
		json_object_set_new(o, "last_try", show_json_seconds(row->last_try_ms));
	if (row->state == RCPT_WAITING)
		json_object_set_new(o, "next_try", show_json_seconds(row->next_try_ms));
	if (tool_delay_report(row))
		json_object_set_new(o, "delay_report", json_string(tool_delay_report(row)));
	return o;
}

static json_t *json_rcpts(const struct found *f)
{
	json_t *list = json_array();
	struct row_rcpt row;
	uint32_t n;

	for (uint32_t from = 0; index_next_rcpt(f->ix, f->id, from, &n, &row) == INDEX_OK; from = n + 1)
		if (is_open(&row))
			json_array_append_new(list, json_rcpt(&row));
	return list;
}

static void json_hold(const struct row_message *row, json_t *o)
{
	if (row->held_ms == 0)
		return;
	json_object_set_new(o, "held_time", show_json_seconds(row->held_ms));
	json_object_set_new(o, "held_by", show_json(row->held_by));
	json_object_set_new(o, "held_reason", show_json(row->held_reason));
}

/* First Postfix's names (postqueue(1) -j), then ours. */
static bool list_json(void *context, const struct found *f)
{
	struct list *l = context;
	json_t *o = json_object();
	char id[MSGID_TEXT + 1], *text;

	msgid_format(f->id, id);
	json_object_set_new(o, "queue_name", json_string(message_state_postfix(f->state)));
	json_object_set_new(o, "queue_id", json_string(id));
	json_object_set_new(o, "arrival_time", show_json_seconds(f->row->arrival_ms));
	show_json_number(o, "message_size", f->row->body_size);
	json_object_set_new(o, "forced_expire", json_false());
	json_object_set_new(o, "sender", f->row->sender.len > 0 ? show_json(f->row->sender) : json_string("MAILER-DAEMON"));
	json_object_set_new(o, "recipients", json_rcpts(f));
	json_object_set_new(o, "state", json_string(message_state_name(f->state)));
	json_object_set_new(o, "reverse_path", show_json(f->row->sender));
	show_json_number(o, "recipient_count", f->row->rcpt_count);
	show_json_number(o, "delivered", f->row->delivered);
	json_object_set_new(o, "client", show_json(f->row->client));
	json_object_set_new(o, "message_id", show_json(f->row->message_id));
	json_hold(f->row, o);
	if (f->row->held_ms == 0)
		json_object_set_new(o, "expires", show_json_seconds(tool_expiry(&l->settings, f->row)));
	text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(o);
	if (text == NULL || !str_add_c(&l->text, text) || !str_add_char(&l->text, '\n'))
		tool_stop("out of memory");
	free(text);
	l->messages++;
	return l->text.len < PAGE_OCTETS;
}

/* One turn: read, and print when the index is closed again. */
static enum walk_result list_turn(struct list *l, struct walk *w, size_t most)
{
	enum walk_result result;

	if (l->json) {
		str_clear(&l->text);
		result = walk_turn(w, most, list_json, l);
		fwrite(str_c(&l->text), 1, l->text.len, stdout);
	} else {
		uint64_t before = l->messages;

		l->table = show_table_new(columns, COLUMNS, !l->begun);
		if (l->table == NULL)
			tool_stop("out of memory");
		result = walk_turn(w, most, list_row, l);
		l->begun = l->begun || l->messages > before;
		if (l->messages > before)
			show_table_print(l->table);
		else
			show_table_free(l->table);
	}
	if (!show_flush())
		exit(EXIT_OK);   /* the reader has seen enough */
	return result;
}

static void list_end(const struct list *l, bool whole_queue)
{
	struct str size = STR_INIT(64);

	if (l->json)
		return;
	show_size(l->octets, &size);
	if (l->messages > 0)
		printf("-- %llu message%s, %s octets\n", (unsigned long long)l->messages, l->messages == 1 ? "" : "s", str_c(&size));
	else if (whole_queue)
		printf("The queue is empty.\n");
	else
		tool_say("no message in the queue matches");
	str_free(&size);
}

/* The index is what was committed last. A queued that ended well left nothing behind it; one that runs is a second ahead of it at the most; but
 * behind what a crash left, a second may be missing until the next queued has replayed its log and committed. */
static void say_what_time(struct index *ix)
{
	struct row_status status = { 0 };
	struct str when = STR_INIT(100);
	int owner = tool_queue_owner();

	tool_read_begin(ix);
	if (index_get_status(ix, &status) == INDEX_OK && (uint64_t)owner != status.pid) {
		show_time(status.commit_ms, &when);
		tool_say("%s: this is the queue as it stood at %s", owner == 0 ? "queued does not run" : "queued is starting and replays its log", str_c(&when));
	}
	index_read_end(ix);
	str_free(&when);
}

int command_list(int argc, char **argv)
{
	struct list l = { .now = clock_wall_ms(), .text = STR_INIT(1u << 30) };
	enum walk_result result;
	struct arguments a;
	struct index *ix;
	struct walk w;
	bool whole;

	arguments_read(&a, argc, argv, ARGS_FILTERS);
	l.json = a.json;
	tool_settings(&l.settings);
	ix = tool_open_index();
	arguments_ids(&a, ix, false);
	whole = !selection_given(&a.sel) || a.sel.all;
	say_what_time(ix);
	walk_begin(&w, &a.sel, ix, l.now);
	result = list_turn(&l, &w, FIRST_PAGE);
	while (result == WALK_MORE)
		result = list_turn(&l, &w, PAGE);
	if (result == WALK_FATAL)
		tool_index_failed(ix);
	list_end(&l, whole);
	index_close(ix);
	arguments_free(&a);
	settings_free(&l.settings);
	str_free(&l.text);
	return l.messages > 0 || whole ? EXIT_OK : EXIT_NOTHING;
}

/* ---- show ---- */

static void line(const char *name, struct bytes value)
{
	if (value.len > 0)
		printf("%-14s%s\n", name, show_text(value));
}

static void show_hold(const struct row_message *row)
{
	struct str text = STR_INIT(2048);
	show_time_from(row->held_ms, clock_wall_ms(), &text);
	str_add_c(&text, ", by ");
	str_add(&text, row->held_by);
	if (row->held_reason.len > 0)
		str_add_c(&text, ": ");
	str_add(&text, row->held_reason);
	line("Held:", str_bytes(&text));
	str_free(&text);
}

static void show_envelope(msgid_t id, const struct row_message *row)
{
	struct str text = STR_INIT(2048);
	char name[MSGID_TEXT + 1];

	msgid_format(id, name);
	line("Queue id:", bytes_of(name));
	show_time_from(row->arrival_ms, clock_wall_ms(), &text);
	line("Arrived:", str_bytes(&text));
	if (row->held_ms != 0)
		show_hold(row);
	line("From:", row->sender.len > 0 ? row->sender : LIT("<>"));
	line("Client:", row->client);
	line("HELO:", row->helo);
	line("Protocol:", row->protocol);
	line("Login:", row->login);
	line("Envelope id:", row->envid);
	if (row->body_type != BODY_7BIT)
		line("Body:", body_type_name(row->body_type));
	printf("%-14s%llu octets, %lu recipient%s\n", "Size:", (unsigned long long)row->body_size, (unsigned long)row->rcpt_count, row->rcpt_count == 1 ? "" : "s");
	str_free(&text);
}

static void show_recipients(struct index *ix, msgid_t id)
{
	struct row_rcpt row;
	uint32_t n;

	for (uint32_t from = 0; index_next_rcpt(ix, id, from, &n, &row) == INDEX_OK; from = n + 1) {
		const char *report = tool_delay_report(&row);

		printf("%-14s%s (%s%s%s)\n", "To:", show_text(row.address), rcpt_state_name(row.state), report ? ", report of the delay " : "", report ? report : "");
	}
}

static bool ends_line(struct bytes b)
{
	return b.len >= 2 && memcmp(b.at + b.len - 2, "\r\n", 2) == 0;
}

/* How much of `data` can be shown before the rest is read: whole lines. Of a line that fills it, all but a CR whose LF may come. */
static size_t whole_lines(struct bytes data)
{
	size_t n = data.len;

	while (n > 0 && !ends_line(bytes_slice(data, 0, n)))
		n--;
	return n > 0 ? n : data.len - (data.len > 1 && data.at[data.len - 1] == '\r');
}

/* Octets of `data` that belong to the header: all of it, or up to the empty line. `begins`: it begins a line. *done_r: the empty line was there. */
static size_t header_part(struct bytes data, bool begins, bool *done_r)
{
	for (size_t i = 0; i + 2 <= data.len; i++) {
		if (memcmp(data.at + i, "\r\n", 2) == 0 && (i == 0 ? begins : ends_line(bytes_slice(data, 0, i)))) {
			*done_r = true;
			return i;
		}
	}
	return data.len;
}

static void print_piece(struct bytes piece, bool raw, struct str *text)
{
	str_clear(text);
	if (raw)
		str_add(text, piece);
	else
		show_clean_text(piece, text);
	fwrite(str_c(text), 1, text->len, stdout);
}

static void print_body(struct body *b, const struct arguments *a)
{
	struct str text = STR_INIT(1u << 20);
	static char data[65536];
	bool done = false, begins = true;
	size_t held = 0;   /* at the beginning of data: a line whose end is still to be read */

	for (ssize_t n = 1; !done && n > 0;) {
		n = body_read(b, data + held, sizeof(data) - held);
		if (n < 0)
			tool_stop("the message could not be read: %s", strerror(errno));
		struct bytes all = { data, held + (size_t)n };
		struct bytes piece = bytes_slice(all, 0, n > 0 ? whole_lines(all) : all.len);

		print_piece(bytes_slice(piece, 0, a->headers ? header_part(piece, begins, &done) : piece.len), a->raw, &text);
		begins = ends_line(piece);
		held = all.len - piece.len;
		memmove(data, data + piece.len, held);
	}
	str_free(&text);
}

/* What cannot be read is told when it is read. */
static bool is_damaged(struct body *b, const struct body_place *place)
{
	return (body_prove(b, place) < 0 || body_prove_rest(b) < 0) && errno == EBADMSG;
}

/* What there is of it is printed all the same: who looks may want to save it. */
static int show_body(const struct body_place *place, const struct arguments *a)
{
	struct body body = BODY_INIT;

	if (body_open(&body, place) != 0) {
		if (errno == EACCES)
			tool_stop("you may not read mail itself: that takes root. `tappal queue why` tells all but the text");
		if (errno != EBADMSG)
			tool_stop("the message's text cannot be opened: %s", strerror(errno));
		tool_say("the message's text is damaged: the file in which it stands is too short");
		return EXIT_FOUND;
	}
	bool damaged = is_damaged(&body, place);

	if (damaged)
		tool_say("the message's text is damaged: it is not what was accepted, its checksum is wrong");
	print_body(&body, a);
	body_close(&body);
	return damaged ? EXIT_FOUND : EXIT_OK;
}

static int show_message(struct index *ix, msgid_t id, const struct arguments *a)
{
	struct body_place place;
	struct row_message row;
	enum index_result r;

	tool_read_begin(ix);
	r = index_get_message(ix, id, &row);
	if (r == INDEX_OK) {
		place = (struct body_place){ .id = id, .segment = row.segment, .large = row.large != 0, .offset = row.body_offset, .size = row.body_size,
			.record = row.large ? 0 : row.record_offset };
		if (!a->raw) {
			show_envelope(id, &row);
			show_recipients(ix, id);
			putchar('\n');
		}
	}
	index_read_end(ix);
	if (r == INDEX_FATAL)
		tool_index_failed(ix);
	if (r == INDEX_NONE) {
		tool_say("there is no such message in the queue; `tappal queue why` knows finished ones");
		return EXIT_NOTHING;
	}
	fflush(stdout);   /* what is said of the text comes behind the envelope */
	return show_body(&place, a);
}

int command_show(int argc, char **argv)
{
	int code = EXIT_OK;
	struct arguments a;
	struct index *ix;

	arguments_read(&a, argc, argv, ARGS_SHOW);
	if (*a.ids == NULL)
		tool_usage("`tappal queue show` wants an id");
	if (a.json)
		tool_usage("`tappal queue show` has no --json; `tappal queue list --json ID` has the envelope");
	ix = tool_open_index();
	arguments_ids(&a, ix, true);
	code = a.missing ? EXIT_NOTHING : EXIT_OK;
	for (size_t i = 0; i < a.sel.id_count; i++) {
		int shown = show_message(ix, a.sel.ids[i].first, &a);

		code = shown > code ? shown : code;
	}
	index_close(ix);
	arguments_free(&a);
	return code;
}
