/*
 * tappal_status - `tappal status`: is the queue manager up, and how is the queue. Room: queue, the operator's own uid.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"
#include "common/route.h"
#include "arguments.h"
#include "show.h"
#include "tappal.h"

#define TURN_ROWS 1000u
#define BACKOFF_SHOWN 50u

enum up { UP_YES, UP_NO, UP_STARTING, UP_UNKNOWN };

struct state {
	struct index *ix;
	wall_ms_t now;
	enum up up;
	int owner;                    /* tool_queue_owner() */
	struct row_status status;
	bool has_status;
	bool has_oldest;
	msgid_t oldest;
	wall_ms_t oldest_ms;
	uint64_t disk_free;
	uint64_t backoff_count;
	bool json;
	json_t *destinations;
	struct str text;              /* one line for each destination in back-off */
};

/* queued reads the control fifo from the end of its replay on. */
static enum up is_up(int owner)
{
	int fd = io_open_fifo_write(AT_FDCWD, FIFO_CONTROL);

	if (fd >= 0) {
		close(fd);
		return UP_YES;
	}
	if (errno != ENXIO && errno != ENOENT)
		return UP_UNKNOWN;
	return owner != 0 ? UP_STARTING : UP_NO;
}

static void look_at_numbers(struct state *s)
{
	struct row_message row;
	enum index_result r;

	tool_read_begin(s->ix);
	r = index_get_status(s->ix, &s->status);
	s->has_status = r == INDEX_OK;
	if (r != INDEX_FATAL)
		r = index_next_message(s->ix, 1, &s->oldest, &row);
	if (r == INDEX_OK) {
		s->has_oldest = true;
		s->oldest_ms = row.arrival_ms;
	}
	index_read_end(s->ix);
	if (r == INDEX_FATAL)
		tool_index_failed(s->ix);
}

static void add_backoff(struct state *s, struct bytes destination, const struct row_destination *row)
{
	bool local;
	struct bytes name = tool_destination(destination, &local);

	s->backoff_count++;
	if (s->json) {
		json_t *o = json_object();

		json_object_set_new(o, "destination", show_json(destination));
		show_json_number(o, "failures", row->failures);
		json_object_set_new(o, "since", show_json_seconds(row->since_ms));
		json_object_set_new(o, "until", show_json_seconds(row->until_ms));
		json_object_set_new(o, "reason", show_json(row->text));
		json_array_append_new(s->destinations, o);
	} else if (s->backoff_count <= BACKOFF_SHOWN) {
		str_add_c(&s->text, "  ");
		show_clean(name, &s->text);
		str_addf(&s->text, ": %lu failure%s in a row since ", (unsigned long)row->failures, row->failures == 1 ? "" : "s");
		show_time(row->since_ms, &s->text);
		str_add_c(&s->text, ", next try ");
		show_time_from(row->until_ms, s->now, &s->text);
		str_add_c(&s->text, "\n    ");
		show_clean(row->text, &s->text);
		str_add_char(&s->text, '\n');
	}
}

/* One turn over the destinations behind `name`, which moves on. False: that was all. */
static bool destinations_turn(struct state *s, char name[DESTINATION_MAX + 2])
{
	enum index_result r = INDEX_OK;
	struct row_destination row;
	struct bytes found;

	tool_read_begin(s->ix);
	for (size_t i = 0; i < TURN_ROWS; i++) {
		r = index_next_destination(s->ix, bytes_of(name), &found, &row);
		if (r != INDEX_OK || !bytes_to_cstring(found, name, DESTINATION_MAX + 1))
			break;
		if (row.failures > 0 && row.until_ms > s->now)
			add_backoff(s, found, &row);
		name[found.len] = '\001';
		name[found.len + 1] = '\0';
	}
	index_read_end(s->ix);
	if (r == INDEX_FATAL)
		tool_index_failed(s->ix);
	return r == INDEX_OK;
}

static void look_at_disk(struct state *s)
{
	struct statvfs fs;

	if (statvfs(".", &fs) == 0)
		s->disk_free = (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* ---- for people ---- */

static void print_manager(const struct state *s)
{
	struct str text = STR_INIT(500);

	if (!s->has_status || s->status.pid == 0) {
		printf("queued        %s\n", s->up == UP_YES || s->up == UP_STARTING ? "starting: there are no numbers yet" : "NOT RUNNING, and has not run yet");
		return;
	}
	switch (s->up) {
	case UP_YES: str_addf(&text, "running, pid %llu, since ", (unsigned long long)s->status.pid); break;
	case UP_NO: str_add_c(&text, "NOT RUNNING: mail is taken, but not delivered; start queued. Last seen at "); break;
	case UP_STARTING: str_addf(&text, "starting, pid %d: it replays its log, and mail waits meanwhile. What follows is from ", s->owner); break;
	case UP_UNKNOWN: str_add_c(&text, "unknown (you may not write to the control fifo). Last seen at "); break;
	}
	show_time_from(s->up == UP_YES ? s->status.started_ms : s->status.commit_ms, s->now, &text);
	printf("queued        %s\n", str_c(&text));
	str_free(&text);
}

static void print_queue(const struct state *s)
{
	const struct row_status *t = &s->status;
	struct str text = STR_INIT(500);

	printf("messages      %llu, of them %llu held\n", (unsigned long long)t->messages, (unsigned long long)t->held);
	printf("recipients    %llu\n", (unsigned long long)t->recipients);
	printf("in flight     %lu local, %lu remote\n", (unsigned long)t->flying_local, (unsigned long)t->flying_remote);
	if (s->has_oldest) {
		char id[MSGID_TEXT + 1];

		msgid_format(s->oldest, id);
		show_time_from(s->oldest_ms, s->now, &text);
		printf("oldest        %s, %s\n", id, str_c(&text));
	}
	printf("so far        %llu accepted, %llu delivered, %llu deferred, %llu bounced\n", (unsigned long long)t->accepted, (unsigned long long)t->delivered,
		(unsigned long long)t->deferred, (unsigned long long)t->bounced);
	str_clear(&text);
	show_size(s->disk_free, &text);
	printf("disk free     %s\n", str_c(&text));
	str_free(&text);
}

static void print_backoff(const struct state *s)
{
	if (s->backoff_count == 0) {
		printf("back-off      no destination\n");
		return;
	}
	printf("back-off      %llu destination%s\n%s", (unsigned long long)s->backoff_count, s->backoff_count == 1 ? "" : "s", str_c(&s->text));
	if (s->backoff_count > BACKOFF_SHOWN)
		printf("  ... (--json has all)\n");
}

static void print_json(struct state *s)
{
	static const char *const up[] = { "running", "stopped", "starting", "unknown" };
	const struct row_status *t = &s->status;
	json_t *o = json_object();

	json_object_set_new(o, "queued", json_string(up[s->up]));
	show_json_number(o, "pid", s->up == UP_YES ? t->pid : s->up == UP_STARTING ? (uint64_t)s->owner : 0);
	json_object_set_new(o, "started", show_json_seconds(t->started_ms));
	json_object_set_new(o, "last_commit", show_json_seconds(t->commit_ms));
	show_json_number(o, "messages", t->messages);
	show_json_number(o, "recipients", t->recipients);
	show_json_number(o, "held", t->held);
	show_json_number(o, "flying_local", t->flying_local);
	show_json_number(o, "flying_remote", t->flying_remote);
	show_json_number(o, "accepted", t->accepted);
	show_json_number(o, "delivered", t->delivered);
	show_json_number(o, "deferred", t->deferred);
	show_json_number(o, "bounced", t->bounced);
	show_json_number(o, "syncs", t->syncs);
	show_json_number(o, "disk_free", s->disk_free);
	if (s->has_oldest) {
		char id[MSGID_TEXT + 1];

		msgid_format(s->oldest, id);
		json_object_set_new(o, "oldest", json_string(id));
		json_object_set_new(o, "oldest_time", show_json_seconds(s->oldest_ms));
	}
	json_object_set(o, "backoff", s->destinations);
	show_json_line(o);
}

int command_status(int argc, char **argv)
{
	struct state s = { .now = clock_wall_ms(), .destinations = json_array(), .text = STR_INIT(1u << 20) };
	char name[DESTINATION_MAX + 2] = "";
	struct arguments a;

	arguments_read(&a, argc, argv, 0);
	if (*a.ids != NULL)
		tool_usage("`tappal status` takes no arguments but --json");
	s.json = a.json;
	s.ix = tool_open_index();
	s.owner = tool_queue_owner();
	s.up = is_up(s.owner);
	look_at_numbers(&s);
	while (destinations_turn(&s, name))
		;
	look_at_disk(&s);
	if (s.json) {
		print_json(&s);
	} else {
		print_manager(&s);
		print_queue(&s);
		print_backoff(&s);
	}
	json_decref(s.destinations);
	str_free(&s.text);
	index_close(s.ix);
	arguments_free(&a);
	return s.up == UP_NO || s.up == UP_STARTING ? EXIT_SYSTEM : EXIT_OK;
}
