/*
 * tappal_operate - `tappal queue retry, hold, release, delete, bounce, flush`: find what is meant, tell queued, print each answer.
 * Room: queue, the operator's own uid.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/route.h"
#include "arguments.h"
#include "queue/operation.h"
#include "operator.h"
#include "show.h"
#include "tappal.h"

#define BATCH 256u

struct target { msgid_t id; uint32_t index; };

struct operation_run {
	uint8_t op;
	const char *name;
	struct arguments a;
	struct index *ix;
	wall_ms_t now;
	struct operator_line line;
	struct target *batch;
	size_t count, room;
	uint64_t done, refused;
};

/* ---- answers ---- */

static void print_answer(void *context, const struct operation_sent *sent, bool done, struct bytes text)
{
	struct operation_run *run = context;
	char name[MSGID_TEXT + 1];

	msgid_format(sent->id, name);
	run->done += done;
	run->refused += !done;
	if (run->a.json) {
		json_t *o = json_object();

		json_object_set_new(o, "queue_id", json_string(name));
		json_object_set_new(o, "operation", json_string(run->name));
		json_object_set_new(o, "done", json_boolean(done));
		json_object_set_new(o, "text", show_json(text));
		if (sent->index != OPERATION_ALL_RCPTS)
			show_json_number(o, "recipient_index", sent->index);
		show_json_line(o);
		return;
	}
	printf("%s: %s\n", name, text.len > 0 ? show_text(text) : done ? "done" : "nothing to do");
}

/* ---- targets ---- */

static void add_target(struct operation_run *run, msgid_t id, uint32_t index)
{
	struct target *batch = array_room(run->batch, run->count, &run->room, sizeof *batch);

	if (batch == NULL)
		tool_stop("out of memory");
	run->batch = batch;
	run->batch[run->count++] = (struct target){ id, index };
}

static bool collect(void *context, const struct found *f)
{
	struct operation_run *run = context;
	struct row_rcpt row;
	uint32_t n;

	if (!run->a.recipients_only) {
		add_target(run, f->id, OPERATION_ALL_RCPTS);
		return true;
	}
	for (uint32_t from = f->rcpt_index; index_next_rcpt(f->ix, f->id, from, &n, &row) == INDEX_OK; from = n + 1)
		if (select_rcpt(&run->a.sel, f->row, &row))
			add_target(run, f->id, n);
	return run->count < 20 * BATCH;
}

/* For --dry-run: the message in a line, and for a recipient its address. */
static void describe(struct operation_run *run, struct target target)
{
	struct str text = STR_INIT(2000);
	struct row_message row;
	struct row_rcpt rcpt;
	char name[MSGID_TEXT + 1];

	msgid_format(target.id, name);
	tool_read_begin(run->ix);
	if (index_get_message(run->ix, target.id, &row) == INDEX_OK) {
		show_sender(row.sender, &text);
		if (index_get_rcpt(run->ix, target.id, target.index == OPERATION_ALL_RCPTS ? 0 : target.index, &rcpt) == INDEX_OK) {
			str_add_c(&text, " to <");
			show_clean(rcpt.address, &text);
			str_add_char(&text, '>');
		}
		if (target.index == OPERATION_ALL_RCPTS && row.rcpt_count > 1)
			str_addf(&text, " and %lu more", (unsigned long)row.rcpt_count - 1);
	} else {
		str_add_c(&text, "not in the queue's index");
	}
	index_read_end(run->ix);
	if (run->a.json)
		print_answer(run, &(struct operation_sent){ .id = target.id, .index = target.index }, true, LIT("would be done"));
	else
		printf("%s: would %s: %s\n", name, run->name, str_c(&text));
	str_free(&text);
}

static void act_on_batch(struct operation_run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		if (run->a.dry_run)
			describe(run, run->batch[i]);
		else
			operator_send(&run->line, run->op, run->batch[i].id, run->batch[i].index, bytes_of(run->a.because));
	}
	if (run->a.dry_run && !run->a.json)
		run->done += run->count;
	run->count = 0;
}

/* Ids alone need no index: queued itself knows best. */
static bool ids_alone(const struct selection *sel)
{
	struct selection filters = *sel;

	filters.id_count = 0;
	return sel->id_count > 0 && !selection_given(&filters);
}

static void act_on_all(struct operation_run *run)
{
	enum walk_result result;
	struct walk w;

	if (ids_alone(&run->a.sel) && !run->a.recipients_only) {
		for (size_t i = 0; i < run->a.sel.id_count && (run->a.sel.limit == 0 || i < run->a.sel.limit); i++)
			add_target(run, run->a.sel.ids[i].first, OPERATION_ALL_RCPTS);
		act_on_batch(run);
		return;
	}
	walk_begin(&w, &run->a.sel, run->ix, run->now);
	do {
		result = walk_turn(&w, BATCH, collect, run);
		act_on_batch(run);
	} while (result == WALK_MORE);
	if (result == WALK_FATAL)
		tool_index_failed(run->ix);
}

static uint8_t operation_of(const char *name)
{
	for (uint8_t op = OP_RETRY; op <= OP_BOUNCE; op++)
		if (strcmp(operation_name(op), name) == 0)
			return op;
	tool_usage("there is no operation %s", name);
}

static void check_selection(const struct operation_run *run)
{
	const struct selection *sel = &run->a.sel;

	if (!selection_given(sel) && !run->a.missing)
		tool_usage("`tappal queue %s` wants ids, filters, or --all for every message. Nothing was done", run->name);
	if (run->a.recipients_only && sel->to.at == NULL && sel->domain.at == NULL && sel->reason.at == NULL)
		tool_usage("--recipients-only goes with --to, --domain or --reason. Nothing was done");
	if (run->a.recipients_only && (run->op == OP_HOLD || run->op == OP_RELEASE))
		tool_usage("a hold is of a whole message; leave out --recipients-only. Nothing was done");
}

static int finish(const struct operation_run *run)
{
	if (run->done == 0 && run->refused == 0 && !run->a.missing)
		tool_say("no message in the queue matches; nothing was done");
	return run->done > 0 && !run->a.missing ? EXIT_OK : EXIT_NOTHING;
}

int command_operate(int argc, char **argv)
{
	struct operation_run run = { .name = argv[0], .op = operation_of(argv[0]), .now = clock_wall_ms() };
	int code;

	arguments_read(&run.a, argc, argv, ARGS_FILTERS | ARGS_OPERATION);
	if (*run.a.ids == NULL)
		check_selection(&run);   /* a wrong call is said before anything else goes wrong */
	run.ix = tool_open_index();
	arguments_ids(&run.a, run.ix, true);
	check_selection(&run);
	if (selection_given(&run.a.sel)) {
		if (!run.a.dry_run)
			operator_open(&run.line, print_answer, &run);
		act_on_all(&run);
		if (!run.a.dry_run) {
			operator_wait_all(&run.line);
			operator_close(&run.line);
		}
	}
	code = finish(&run);
	index_close(run.ix);
	free(run.batch);
	arguments_free(&run.a);
	return code;
}

/* ---- flush ---- */

static void print_flush(void *context, const struct operation_sent *sent, bool done, struct bytes text)
{
	struct operation_run *run = context;
	bool local;

	run->done += done;
	run->refused += !done;
	if (run->a.json) {
		json_t *o = json_object();

		json_object_set_new(o, "destination", show_json(sent->name));
		json_object_set_new(o, "operation", json_string("flush"));
		json_object_set_new(o, "done", json_boolean(done));
		json_object_set_new(o, "text", show_json(text));
		show_json_line(o);
	} else {
		printf("%s: %s\n", show_text(tool_destination(sent->name, &local)), text.len > 0 ? show_text(text) : done ? "done" : "nothing to do");
	}
}

/* One turn over the destinations that have work, from (at, name) on, which moves behind the last one. False: that was all. */
static bool wake_turn(struct index *ix, wall_ms_t *at, char name[DESTINATION_MAX + 2], struct str *names)
{
	enum index_result r = INDEX_OK;

	tool_read_begin(ix);
	for (size_t got = 0; got < BATCH; got++) {
		struct bytes found;

		r = index_next_wake(ix, *at, bytes_of(name), at, &found);
		if (r != INDEX_OK || !bytes_to_cstring(found, name, DESTINATION_MAX + 1))
			break;
		str_add(names, found);
		str_add_char(names, '\0');
		memcpy(name + found.len, "\001", 2);   /* behind this one: no name holds a control character */
	}
	index_read_end(ix);
	if (r == INDEX_FATAL)
		tool_index_failed(ix);
	return r == INDEX_OK;
}

/* All names first: a flush moves rows of the table that is walked here. */
static void find_all(struct index *ix, struct str *names)
{
	char name[DESTINATION_MAX + 2] = "";
	wall_ms_t at = 0;

	while (wake_turn(ix, &at, name, names))
		;
}

/* What a person writes, "example.org" or "joe@example.org", to the destination's name, appended with a NUL. */
static void add_destination(const char *text, struct str *names)
{
	if (strncmp(text, "r:", 2) != 0 && strncmp(text, "l:", 2) != 0)
		str_add_c(names, strchr(text, '@') != NULL ? "l:" : "r:");
	if (strlen(text) > DESTINATION_MAX - 2)
		tool_usage("a destination has at most %d octets", DESTINATION_MAX - 2);
	for (; *text != '\0'; text++)
		str_add_char(names, *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text);
	str_add_char(names, '\0');
}

int command_flush(int argc, char **argv)
{
	struct operation_run run = { .name = "flush", .op = OP_FLUSH_DESTINATION };
	struct str names = STR_INIT(1u << 30);

	arguments_read(&run.a, argc, argv, 0);
	run.ix = tool_open_index();
	operator_open(&run.line, print_flush, &run);
	for (char **name = run.a.ids; *name != NULL; name++)
		add_destination(*name, &names);
	if (*run.a.ids == NULL)
		find_all(run.ix, &names);
	if (names.failed)
		tool_stop("out of memory");
	for (struct bytes rest = str_bytes(&names); rest.len > 0;)
		operator_send(&run.line, OP_FLUSH_DESTINATION, 0, OPERATION_ALL_RCPTS, bytes_cut(&rest, '\0'));
	operator_wait_all(&run.line);
	operator_close(&run.line);
	index_close(run.ix);
	str_free(&names);
	if (run.done == 0 && run.refused == 0)
		tool_say("there is nothing to flush");
	return run.done > 0 ? EXIT_OK : EXIT_NOTHING;
}
