/*
 * tappal_why - `tappal queue why`: all that the queue knows of a message, in sentences. Room: queue, the operator's own uid.
 *
 * Recipients are read a few at a time, each time in a read turn of its own: a message of twenty thousand keeps no page from reuse.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/envelope.h"
#include "common/io.h"
#include "arguments.h"
#include "show.h"
#include "tappal.h"

#define TURN_RCPTS 100u
#define FRESH_MS 5000u            /* queued commits its index about once a second: a younger message may not be in it yet */

struct why {
	struct index *ix;
	struct settings settings;
	wall_ms_t now;
	bool json;
	struct str out;               /* of one turn */
	json_t *rcpts;                /* of the message */
};

static void put(struct why *w)
{
	fwrite(str_c(&w->out), 1, w->out.len, stdout);
	str_clear(&w->out);
}

/* A line "label text" when there is a text. */
static void add_text(struct str *out, const char *before, struct bytes text, const char *after)
{
	if (text.len == 0)
		return;
	str_add_c(out, before);
	show_clean(text, out);
	str_add_c(out, after);
}

/* ---- the message ---- */

static void say_origin(struct why *w, const struct row_message *row)
{
	struct str *out = &w->out;

	str_add_c(out, "It came in on ");
	show_time_from(row->arrival_ms, w->now, out);
	if (row->client.len > 0) {
		add_text(out, " from ", row->client, "");
		add_text(out, ", which called itself ", row->helo, "");
		add_text(out, ", by ", row->protocol, "");
		add_text(out, ", as user ", row->login, "");
	} else {
		add_text(out, " on this host, from user ", row->login, "");
		str_addf(out, " (uid %lu)", (unsigned long)row->uid);
	}
	str_add_c(out, ".\n");
	add_text(out, "Its Message-ID is ", row->message_id, ".\n");
	if (row->bounce_of != 0) {
		char id[MSGID_TEXT + 1];

		msgid_format(row->bounce_of, id);
		str_addf(out, "It is the bounce of message %s.\n", id);
	}
}

static void say_hold(struct why *w, msgid_t id, const struct row_message *row)
{
	char name[MSGID_TEXT + 1];

	msgid_format(id, name);
	str_add_c(&w->out, "It is held since ");
	show_time_from(row->held_ms, w->now, &w->out);
	add_text(&w->out, ", by ", row->held_by, "");
	add_text(&w->out, ": ", row->held_reason, "");
	str_addf(&w->out, ". It is not tried and does not expire until `tappal queue release %s`.\n", name);
}

static void say_message(struct why *w, msgid_t id, const struct row_message *row)
{
	char name[MSGID_TEXT + 1];
	struct str *out = &w->out;

	msgid_format(id, name);
	str_addf(out, "Message %s from ", name);
	show_sender(row->sender, out);
	str_addf(out, ", %llu octets, %lu recipient%s: %lu delivered, %lu waiting, %lu to be reported.\n", (unsigned long long)row->body_size, (unsigned long)row->rcpt_count,
		row->rcpt_count == 1 ? "" : "s", (unsigned long)row->delivered, (unsigned long)row->unfinished, (unsigned long)row->failed);
	say_origin(w, row);
	if (row->held_ms != 0) {
		say_hold(w, id, row);
	} else if (row->unfinished > 0) {
		str_add_c(out, "It is tried until ");
		show_time_from(tool_expiry(&w->settings, row), w->now, out);
		str_add_c(out, row->sender.len > 0 ? "; what is not delivered by then goes back to the sender.\n" : "; what is not delivered by then is dropped, as its sender is empty.\n");
	}
	if (row->failed > 0) {
		str_add_c(out, "The sender is sent a report ");
		str_add_c(out, row->bounce_due_ms > w->now ? "at the latest on " : "as soon as the bounce program takes it; that was due on ");
		show_time_from(row->bounce_due_ms, w->now, out);
		str_add_c(out, ".\n");
	}
}

/* ---- a recipient ---- */

static const char *stage_words(unsigned stage)
{
	static const char *const words[STAGE_COUNT] = {
		[STAGE_NONE] = "before anything was begun", [STAGE_DNS] = "looking up the destination in DNS", [STAGE_CONNECT] = "connecting",
		[STAGE_GREETING] = "waiting for the server's greeting", [STAGE_TLS] = "beginning TLS", [STAGE_HELO] = "EHLO", [STAGE_AUTH] = "logging in", [STAGE_MAIL] = "MAIL FROM",
		[STAGE_RCPT] = "RCPT TO", [STAGE_DATA] = "sending the message", [STAGE_FINAL] = "the server's answer to the whole message",
		[STAGE_LOCAL] = "writing the mailbox", [STAGE_QUEUE] = "a decision of the queue itself",
		[STAGE_FINAL_DSN] = "the server's answer to the whole message",
	};

	return stage < STAGE_COUNT ? words[stage] : "an unknown stage";
}

static void say_host(const struct row_rcpt *row, struct str *out)
{
	if (row->host.len > 0 || row->ip.len > 0) {
		add_text(out, " at ", row->host, "");
		add_text(out, " [", row->ip, "]");
		add_text(out, ", from our address ", row->source_ip, "");
		add_text(out, ", with ", row->tls, "");
	}
}

static void say_last_try(struct why *w, const struct row_rcpt *row)
{
	struct str *out = &w->out;

	if (row->attempts == 0) {
		str_add_c(out, "  Not tried yet.\n");
	} else {
		str_addf(out, "  Tried %lu time%s", (unsigned long)row->attempts, row->attempts == 1 ? "" : "s");
		if (row->attempts > 1) {
			str_add_c(out, ", first on ");
			show_time_from(row->first_try_ms, w->now, out);
		}
		str_add_c(out, row->attempts > 1 ? ", last on " : ", on ");
		show_time_from(row->last_try_ms, w->now, out);
		str_addf(out, "; it came as far as: %s", stage_words(row->stage));
		say_host(row, out);
		str_add_c(out, ".\n");
	}
	add_text(out, row->code != 0 ? "  The answer, word for word: " : "  What happened: ", row->text, "\n");
}

/* The destination's own state; names it holds point into the index and are used in this turn. */
static void say_destination(struct why *w, const struct row_rcpt *row)
{
	struct row_destination d;
	struct str *out = &w->out;
	bool local;
	struct bytes name = tool_destination(row->destination, &local);

	add_text(out, local ? "  It is delivered on this host, to " : "  It goes by SMTP to ", name, ".\n");
	if (row->state != RCPT_WAITING || index_get_destination(w->ix, row->destination, &d) != INDEX_OK || d.failures == 0)
		return;
	add_text(out, "  ", name, "");
	str_addf(out, " failed %lu time%s in a row since ", (unsigned long)d.failures, d.failures == 1 ? "" : "s");
	show_time_from(d.since_ms, w->now, out);
	if (d.until_ms > w->now) {
		str_add_c(out, "; nothing is sent there until ");
		show_time_from(d.until_ms, w->now, out);
	} else {
		str_add_c(out, "; the next delivery is a probe");
	}
	add_text(out, ", because: ", d.text, "");
	str_add_c(out, ".\n");
}

static const char *state_words(const struct row_rcpt *row)
{
	switch (row->state) {
	case RCPT_WAITING: return row->batch == 0 ? "is waiting" : rcpt_delay_due(row) ? "is waiting, and the sender will be told that it is late" :
		"is waiting, and the sender was told that it is late";
	case RCPT_DELIVERED: return "is delivered";
	case RCPT_FAILED: return "has failed, and the sender will be told";
	case RCPT_REPORTING: return "is delivered, and the sender, who asked for it, will be told";
	case RCPT_BOUNCED: return "has failed, and the sender was told";
	case RCPT_DROPPED: return "has failed and was dropped, as the sender is empty";
	case RCPT_DELETED: return "was deleted by an operator";
	default: return "is in an unknown state";
	}
}

static void say_rcpt(struct why *w, const struct row_message *message, const struct row_rcpt *row)
{
	struct str *out = &w->out;

	str_add_c(out, "\n<");
	show_clean(row->address, out);
	str_addf(out, "> %s.\n", state_words(row));
	say_destination(w, row);
	say_last_try(w, row);
	if (row->state != RCPT_WAITING || message->held_ms != 0)
		return;
	if (row->next_try_ms <= w->now) {
		str_add_c(out, row->attempts == 0 ? "  It is due now: being tried, or waiting for its turn.\n" : "  The next try is due now: under way, or waiting for its turn.\n");
		return;
	}
	str_add_c(out, "  Next try: ");
	show_time_from(row->next_try_ms, w->now, out);
	str_add_c(out, ".\n");
}

/* ---- JSON ---- */

static void set_text(json_t *o, const char *name, struct bytes text)
{
	if (text.len > 0)
		json_object_set_new(o, name, show_json(text));
}

static void json_destination(struct why *w, const struct row_rcpt *row, json_t *o)
{
	struct row_destination d;

	json_object_set_new(o, "destination", show_json(row->destination));
	if (row->state != RCPT_WAITING || index_get_destination(w->ix, row->destination, &d) != INDEX_OK || d.failures == 0)
		return;
	show_json_number(o, "destination_failures", d.failures);
	json_object_set_new(o, "destination_backoff_until", show_json_seconds(d.until_ms));
	set_text(o, "destination_reason", d.text);
}

static void json_rcpt(struct why *w, const struct row_rcpt *row)
{
	struct str dsn = STR_INIT(32);
	json_t *o = json_object();

	json_object_set_new(o, "address", show_json(row->address));
	set_text(o, "delay_reason", row->text);
	json_object_set_new(o, "state", json_string(rcpt_state_name(row->state)));
	json_destination(w, row, o);
	show_json_number(o, "attempts", row->attempts);
	if (row->attempts > 0) {
		json_object_set_new(o, "first_try", show_json_seconds(row->first_try_ms));
		json_object_set_new(o, "last_try", show_json_seconds(row->last_try_ms));
		json_object_set_new(o, "stage", json_string(stage_name(row->stage < STAGE_COUNT ? (enum stage)row->stage : STAGE_NONE)));
	}
	if (row->state == RCPT_WAITING)
		json_object_set_new(o, "next_try", show_json_seconds(row->next_try_ms));
	if (tool_delay_report(row))
		json_object_set_new(o, "delay_report", json_string(tool_delay_report(row)));
	if (row->code != 0)
		show_json_number(o, "code", row->code);
	enhanced_format((struct enhanced){ row->e_class, row->e_subject, row->e_detail }, &dsn);
	set_text(o, "dsn", str_bytes(&dsn));
	set_text(o, "host", row->host);
	set_text(o, "ip", row->ip);
	set_text(o, "source_ip", row->source_ip);
	set_text(o, "tls", row->tls);
	json_array_append_new(w->rcpts, o);
	str_free(&dsn);
}

static json_t *json_message(struct why *w, msgid_t id, const struct row_message *row)
{
	json_t *o = json_object();
	char name[MSGID_TEXT + 1];

	msgid_format(id, name);
	json_object_set_new(o, "queue_id", json_string(name));
	json_object_set_new(o, "finished", json_false());
	json_object_set_new(o, "arrival_time", show_json_seconds(row->arrival_ms));
	show_json_number(o, "message_size", row->body_size);
	json_object_set_new(o, "sender", row->sender.len > 0 ? show_json(row->sender) : json_string("MAILER-DAEMON"));
	json_object_set_new(o, "reverse_path", show_json(row->sender));
	show_json_number(o, "uid", row->uid);
	set_text(o, "client", row->client);
	set_text(o, "helo", row->helo);
	set_text(o, "protocol", row->protocol);
	set_text(o, "login", row->login);
	set_text(o, "message_id", row->message_id);
	set_text(o, "envid", row->envid);
	set_text(o, "body", body_type_name(row->body_type));
	if (row->held_ms != 0) {
		json_object_set_new(o, "held_time", show_json_seconds(row->held_ms));
		set_text(o, "held_by", row->held_by);
		set_text(o, "held_reason", row->held_reason);
	} else {
		json_object_set_new(o, "expires", show_json_seconds(tool_expiry(&w->settings, row)));
	}
	if (row->failed > 0)
		json_object_set_new(o, "bounce_due", show_json_seconds(row->bounce_due_ms));
	return o;
}

/* ---- finished ---- */

static const char *finished_words(unsigned how)
{
	switch (how) {
	case FINISHED_DELIVERED: return "delivered";
	case FINISHED_BOUNCED: return "returned to its sender";
	case FINISHED_DELETED: return "deleted by an operator";
	case FINISHED_DROPPED: return "dropped, as it could not be delivered and its sender is empty";
	default: return "finished";
	}
}

static const char *finished_name(unsigned how)
{
	static const char *const name[] = { "delivered", "bounced", "deleted", "dropped" };

	return how < 4 ? name[how] : "?";
}

static void say_finished(struct why *w, msgid_t id, const struct row_finished *row)
{
	struct str *out = &w->out;
	char name[MSGID_TEXT + 1];

	msgid_format(id, name);
	str_addf(out, "Message %s from ", name);
	show_sender(row->sender, out);
	add_text(out, " to <", row->first_rcpt, ">");
	if (row->rcpt_count > 1)
		str_addf(out, " and %lu more", (unsigned long)row->rcpt_count - 1);
	str_addf(out, ", %llu octets, is finished: it was %s.\n", (unsigned long long)row->body_size, finished_words(row->how));
	str_add_c(out, "It came in on ");
	show_time_from(row->arrival_ms, w->now, out);
	str_add_c(out, " and left the queue on ");
	show_time(row->finished_ms, out);
	str_add_c(out, ", after ");
	clock_span(row->finished_ms > row->arrival_ms ? row->finished_ms - row->arrival_ms : 0, out);
	str_addf(out, ": %lu of %lu recipient%s delivered.\n", (unsigned long)row->delivered, (unsigned long)row->rcpt_count, row->rcpt_count == 1 ? "" : "s");
	add_text(out, "The last answer, word for word: ", row->last_text, "\n");
	str_addf(out, "`tappal log %s` shows each delivery as long as the log is kept.\n", name);
}

static void json_finished(msgid_t id, const struct row_finished *row)
{
	json_t *o = json_object();
	char name[MSGID_TEXT + 1];

	msgid_format(id, name);
	json_object_set_new(o, "queue_id", json_string(name));
	json_object_set_new(o, "finished", json_true());
	json_object_set_new(o, "how", json_string(finished_name(row->how)));
	json_object_set_new(o, "arrival_time", show_json_seconds(row->arrival_ms));
	json_object_set_new(o, "finished_time", show_json_seconds(row->finished_ms));
	show_json_number(o, "message_size", row->body_size);
	json_object_set_new(o, "sender", row->sender.len > 0 ? show_json(row->sender) : json_string("MAILER-DAEMON"));
	json_object_set_new(o, "reverse_path", show_json(row->sender));
	show_json_number(o, "recipient_count", row->rcpt_count);
	show_json_number(o, "delivered", row->delivered);
	show_json_number(o, "failed", row->failed);
	set_text(o, "first_recipient", row->first_rcpt);
	set_text(o, "last_reply", row->last_text);
	show_json_line(o);
}

/* ---- turns ---- */

/* One turn over the recipients from *from_r on. False: that was all. */
static bool rcpts_turn(struct why *w, msgid_t id, uint32_t *from_r)
{
	enum index_result r = INDEX_NONE;
	struct row_message message;
	struct row_rcpt row;
	uint32_t n;

	tool_read_begin(w->ix);
	if (index_get_message(w->ix, id, &message) == INDEX_OK) {
		for (size_t i = 0; i < TURN_RCPTS && (r = index_next_rcpt(w->ix, id, *from_r, &n, &row)) == INDEX_OK; i++) {
			if (w->json)
				json_rcpt(w, &row);
			else
				say_rcpt(w, &message, &row);
			*from_r = n + 1;
		}
	}
	index_read_end(w->ix);
	if (r == INDEX_FATAL)
		tool_index_failed(w->ix);
	put(w);
	return r == INDEX_OK;
}

/* What the two tables know of the id. INDEX_NONE: nothing. */
static enum index_result look_up(struct why *w, msgid_t id, json_t **object_r, bool *finished_r)
{
	struct row_message message;
	struct row_finished ended;
	enum index_result r;

	*finished_r = false;
	tool_read_begin(w->ix);
	r = index_get_message(w->ix, id, &message);
	if (r == INDEX_OK) {
		if (w->json)
			*object_r = json_message(w, id, &message);
		else
			say_message(w, id, &message);
	} else if (r == INDEX_NONE && (r = index_get_finished(w->ix, id, &ended)) == INDEX_OK) {
		*finished_r = true;
		if (w->json)
			json_finished(id, &ended);
		else
			say_finished(w, id, &ended);
	}
	index_read_end(w->ix);
	if (r == INDEX_FATAL)
		tool_index_failed(w->ix);
	put(w);
	return r;
}

/* Look it up; a very young one again and again, until the index must have it. */
static bool look_up_patiently(struct why *w, msgid_t id, json_t **object_r, bool *finished_r)
{
	wall_ms_t given = msgid_time(id);

	while (look_up(w, id, object_r, finished_r) == INDEX_NONE) {
		wall_ms_t now = clock_wall_ms();

		if (now > given + FRESH_MS || given > now + FRESH_MS)
			return false;
		usleep(100000);
	}
	return true;
}

static bool explain(struct why *w, msgid_t id)
{
	json_t *object = NULL;
	uint32_t from = 0;
	bool finished;
	char name[MSGID_TEXT + 1];

	if (!look_up_patiently(w, id, &object, &finished)) {
		msgid_format(id, name);
		tool_say("message %s is neither in the queue nor among the finished ones that are remembered (setting finishedkeep); `tappal log %s` may know it", name, name);
		return false;
	}
	if (finished)
		return true;
	w->rcpts = json_array();
	while (rcpts_turn(w, id, &from))
		;
	if (w->json) {
		json_object_set(object, "recipients", w->rcpts);
		show_json_line(object);
	}
	json_decref(w->rcpts);
	return true;
}

/* A prefix may mean a message in the queue or a finished one; it must mean one. */
static msgid_t resolve(struct why *w, const char *text)
{
	struct id_range range = arguments_range(text);
	msgid_t ids[2] = { 0, 0 }, more[2];
	unsigned count, ended;

	if (range.first == range.last)
		return range.first;
	tool_read_begin(w->ix);
	if (select_resolve(w->ix, range, false, &count, ids) == INDEX_FATAL || select_resolve(w->ix, range, true, &ended, more) == INDEX_FATAL)
		tool_index_failed(w->ix);
	index_read_end(w->ix);
	if (count + ended > 1)
		tool_usage("more than one message has an id that begins with %s; give more of it", show_text(bytes_of(text)));
	if (count + ended == 0)
		tool_say("no message, waiting or finished, has an id that begins with %s", show_text(bytes_of(text)));
	return count > 0 ? ids[0] : ended > 0 ? more[0] : 0;
}

int command_why(int argc, char **argv)
{
	struct why w = { .now = clock_wall_ms(), .out = STR_INIT(1u << 24) };
	int code = EXIT_OK;
	struct arguments a;

	arguments_read(&a, argc, argv, 0);
	if (*a.ids == NULL)
		tool_usage("`tappal queue why` wants an id; `tappal queue list` shows them");
	w.json = a.json;
	tool_settings(&w.settings);
	w.ix = tool_open_index();
	for (char **id = a.ids; *id != NULL; id++) {
		msgid_t which = resolve(&w, *id);

		if (id != a.ids && !w.json)
			putchar('\n');
		if (which == 0 || !explain(&w, which))
			code = EXIT_NOTHING;
	}
	index_close(w.ix);
	settings_free(&w.settings);
	arguments_free(&a);
	str_free(&w.out);
	return code;
}
