/*
 * schedule - whose turn it is. Room: queue, the store. schedule.h says the rules.
 *
 * An active destination is in one of three places:
 *   READY     in its channel's ring: it may have something due now
 *   IDLE      in its channel's list: jobs in flight, nothing to start before next_ms
 *   BLOCKED   in no list: as many jobs in flight as its window lets; the end of one makes it READY
 * With no job in flight and nothing due it is written back (row and wake row) and forgotten.
 *
 * Wake rows are read through one cursor per channel. What stands before the cursor belongs to active destinations; a row
 * that is put before it sets it back. That makes waking cost one seek, however many are active.
 */
#include "schedule.h"

#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"

#define READY_MAX 1000u            /* destinations in the ring; with more that wait, one more is woken for each claim */
#define BUCKETS 4096u
#define NEVER UINT64_MAX
#define FRESH 16u
#define FRESH_MS 1000u             /* a recipient due so soon after its message came was never tried */
#define RCPT_MOST 1000u            /* of one job; rcptpertransaction's maximum */

enum where { READY, IDLE, BLOCKED };

struct destination {
	struct destination *bucket_next;
	struct destination *next, *previous;    /* in its ring or list */
	enum where where;
	enum channel channel;
	uint32_t window, failures, flights;
	wall_ms_t since_ms, until_ms, failed_ms;   /* failed_ms: when the last failure was counted */
	wall_ms_t wake_ms;                      /* its wake row, 0: none */
	wall_ms_t next_ms;                      /* IDLE: when to look again */
	struct due cursor;                      /* due rows before it are in flight */
	struct due fresh[FRESH];                /* new mail, oldest first; hints: the rows may be gone */
	uint8_t fresh_count;
	bool fresh_turn;                        /* the next job is new mail, if there is any */
	size_t len;
	char *name;                             /* behind the struct */
};

struct list { struct destination head; size_t count; };

struct lane {
	struct list ready, idle;
	wall_ms_t idle_min;                     /* no IDLE destination has anything to do before */
	wall_ms_t cursor_ms;                    /* of the wake rows */
	char cursor_name[DESTINATION_MAX + 1];
	size_t cursor_len;
	wall_ms_t wake_min;                     /* no wake row at or behind the cursor is earlier */
};

struct schedule {
	struct index *ix;
	const struct jobs *jobs;
	const struct settings *settings;
	struct lane lane[CHANNEL_COUNT];
	struct destination *bucket[BUCKETS];
	size_t active;
	uint32_t n[RCPT_MOST];
	struct due due[RCPT_MOST];
};

/* ---- lists ---- */

static void list_init(struct list *l)
{
	l->head.next = l->head.previous = &l->head;
	l->count = 0;
}

static void list_push(struct list *l, struct destination *d)
{
	d->previous = l->head.previous;
	d->next = &l->head;
	d->previous->next = d;
	l->head.previous = d;
	l->count++;
}

static void list_take(struct list *l, struct destination *d)
{
	d->previous->next = d->next;
	d->next->previous = d->previous;
	l->count--;
}

static void leave(struct schedule *s, struct destination *d)
{
	if (d->where == READY)
		list_take(&s->lane[d->channel].ready, d);
	else if (d->where == IDLE)
		list_take(&s->lane[d->channel].idle, d);
	d->where = BLOCKED;
}

static void make_ready(struct schedule *s, struct destination *d)
{
	if (d->where == READY)
		return;
	leave(s, d);
	d->where = READY;
	list_push(&s->lane[d->channel].ready, d);
}

static void make_idle(struct schedule *s, struct destination *d)
{
	struct lane *lane = &s->lane[d->channel];
	leave(s, d);
	d->where = IDLE;
	list_push(&lane->idle, d);
	if (d->next_ms < lane->idle_min)
		lane->idle_min = d->next_ms;
}

/* ---- active destinations ---- */

static struct bytes name_of(const struct destination *d)
{
	return (struct bytes){ d->name, d->len };
}

enum channel schedule_channel(struct bytes destination)
{
	return destination.len > 0 && destination.at[0] == 'l' ? CHANNEL_LOCAL : CHANNEL_REMOTE;
}

static struct destination **bucket_of(struct schedule *s, struct bytes name)
{
	return &s->bucket[crc32c(0, name.at, name.len) & (BUCKETS - 1)];
}

static struct destination *find(struct schedule *s, struct bytes name)
{
	struct destination *d = *bucket_of(s, name);
	while (d && !bytes_equal(name_of(d), name))
		d = d->bucket_next;
	return d;
}

static uint32_t u32_of(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static enum index_result get_row(struct schedule *s, struct bytes name, struct row_destination *row_r)
{
	enum index_result r = index_get_destination(s->ix, name, row_r);
	if (r == INDEX_NONE)
		*row_r = (struct row_destination){ .window = (uint16_t)s->settings->destinationstart };
	return r;
}

/* Make it active, BLOCKED for now. NULL: no memory, or INDEX_FATAL. */
static struct destination *load(struct schedule *s, struct bytes name)
{
	struct row_destination row;
	if (name.len > DESTINATION_MAX || get_row(s, name, &row) == INDEX_FATAL)
		return NULL;
	struct destination *d = calloc(1, sizeof *d + name.len);
	if (!d)
		return NULL;
	d->name = (char *)(d + 1);
	memcpy(d->name, name.at, name.len);
	d->len = name.len;
	d->channel = schedule_channel(name);
	d->where = BLOCKED;
	d->window = row.window ? row.window : 1;
	d->failures = row.failures;
	d->since_ms = row.since_ms;
	d->until_ms = row.until_ms;
	d->wake_ms = row.wake_ms;
	struct destination **bucket = bucket_of(s, name);
	d->bucket_next = *bucket;
	*bucket = d;
	s->active++;
	return d;
}

static void forget(struct schedule *s, struct destination *d)
{
	leave(s, d);
	struct destination **at = bucket_of(s, name_of(d));
	while (*at != d)
		at = &(*at)->bucket_next;
	*at = d->bucket_next;
	s->active--;
	free(d);
}

/* ---- wake rows ---- */

static bool before_cursor(const struct lane *lane, wall_ms_t at, struct bytes name)
{
	if (at != lane->cursor_ms)
		return at < lane->cursor_ms;
	return bytes_compare(name, (struct bytes){ lane->cursor_name, lane->cursor_len }) < 0;
}

/* UNSAFE: callers' names are at most DESTINATION_MAX octets. */
static void set_cursor(struct lane *lane, wall_ms_t at, struct bytes name)
{
	lane->cursor_ms = at;
	lane->cursor_len = name.len;
	if (name.len > 0)
		memcpy(lane->cursor_name, name.at, name.len);
}

/* Move the wake row and say so in *wake_ms. at 0: none. */
static enum index_result move_wake(struct schedule *s, struct bytes name, wall_ms_t *wake_ms, wall_ms_t at)
{
	struct lane *lane = &s->lane[schedule_channel(name)];
	if (*wake_ms != 0 && index_delete_wake(s->ix, *wake_ms, name) == INDEX_FATAL)
		return INDEX_FATAL;
	*wake_ms = at;
	if (at == 0)
		return INDEX_OK;
	if (before_cursor(lane, at, name))
		set_cursor(lane, at, name);
	if (at < lane->wake_min)
		lane->wake_min = at;
	return index_put_wake(s->ix, at, name);
}

/* Write an active destination's state over its row (whose text stays), with its wake row at `at`. */
static enum index_result write_back(struct schedule *s, struct destination *d, wall_ms_t at)
{
	struct row_destination row;
	if (move_wake(s, name_of(d), &d->wake_ms, at) == INDEX_FATAL || get_row(s, name_of(d), &row) == INDEX_FATAL)
		return INDEX_FATAL;
	row.failures = d->failures;
	row.since_ms = d->since_ms;
	row.until_ms = d->until_ms;
	row.window = (uint16_t)d->window;
	row.wake_ms = at;
	return index_put_destination(s->ix, name_of(d), &row);
}

/* The first due row that no job holds, from the beginning. A job that an earlier queued gave away under another destination's name
 * may hold rows of this one: the place is looked at again a second later. */
static enum index_result first_waiting(struct schedule *s, const struct destination *d, wall_ms_t now, wall_ms_t *at_r)
{
	struct due due = { 0, 0, 0 };
	wall_ms_t held = 0;
	enum index_result r;
	while ((r = index_next_due(s->ix, name_of(d), due, &due)) == INDEX_OK && jobs_flying(s->jobs, due.id, due.n)) {
		held = now + SECOND_MS;
		due.n++;
	}
	*at_r = r != INDEX_OK || (held != 0 && due.at > held) ? held : due.at;
	return r == INDEX_FATAL ? r : INDEX_OK;
}

/* Nothing of it is in flight and nothing can start now. */
static enum index_result put_to_sleep(struct schedule *s, struct destination *d, wall_ms_t now)
{
	wall_ms_t at;
	if (first_waiting(s, d, now, &at) == INDEX_FATAL)
		return INDEX_FATAL;
	if (d->until_ms > now && d->until_ms > at)
		at = d->until_ms;
	if (at != 0 && at <= now) {
		/* Rows before the cursor that no job holds: look again from the beginning. */
		d->cursor = (struct due){ 0, 0, 0 };
		make_ready(s, d);
		return INDEX_OK;
	}
	enum index_result r;
	if (at != 0) {
		r = write_back(s, d, at);
	} else {
		/* Nothing waits and nothing is held against it: its row would only say so. */
		r = move_wake(s, name_of(d), &d->wake_ms, 0);
		if (r == INDEX_OK)
			r = index_delete_destination(s->ix, name_of(d));
	}
	forget(s, d);
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result rest(struct schedule *s, struct destination *d, wall_ms_t now)
{
	if (d->flights == 0)
		return put_to_sleep(s, d, now);
	make_idle(s, d);
	return INDEX_OK;
}

static enum index_result wake_up(struct schedule *s, enum channel channel, wall_ms_t now)
{
	struct lane *lane = &s->lane[channel];
	for (size_t woken = 0; now >= lane->wake_min && (lane->ready.count < READY_MAX || woken == 0); woken++) {
		wall_ms_t at;
		struct bytes name;
		enum index_result r = index_next_wake(s->ix, lane->cursor_ms, (struct bytes){ lane->cursor_name, lane->cursor_len }, &at, &name);
		if (r == INDEX_FATAL)
			return r;
		lane->wake_min = r == INDEX_NONE ? NEVER : at;
		if (r == INDEX_NONE || at > now || name.len > DESTINATION_MAX)
			return INDEX_OK;
		if (schedule_channel(name) == channel) {
			struct destination *d = find(s, name);
			if (!d)
				d = load(s, name);
			if (!d)
				return INDEX_FATAL;
			if (d->where != BLOCKED || d->flights == 0)
				make_ready(s, d);
		}
		/* The place right behind this row: the name and one more octet, the smallest. */
		set_cursor(lane, at, name);
		lane->cursor_name[lane->cursor_len++] = 0;
	}
	return INDEX_OK;
}

static void stir_idle(struct schedule *s, enum channel channel, wall_ms_t now)
{
	struct lane *lane = &s->lane[channel];
	if (now < lane->idle_min)
		return;
	lane->idle_min = NEVER;
	for (struct destination *d = lane->idle.head.next, *next; d != &lane->idle.head; d = next) {
		next = d->next;
		if (d->next_ms <= now)
			make_ready(s, d);
		else if (d->next_ms < lane->idle_min)
			lane->idle_min = d->next_ms;
	}
}

/* ---- apply's side ---- */

static bool due_before(struct due a, struct due b)
{
	return a.at != b.at ? a.at < b.at : a.id != b.id ? a.id < b.id : a.n < b.n;
}

/* One place for a message: its other recipients' rows follow. */
static void note_fresh(struct destination *d, struct due due)
{
	bool is_new = due.at < msgid_time(due.id) + FRESH_MS;
	if (is_new && d->fresh_count < FRESH && (d->fresh_count == 0 || d->fresh[d->fresh_count - 1].id != due.id))
		d->fresh[d->fresh_count++] = due;
}

static enum index_result due_added_active(struct schedule *s, struct destination *d, struct due due)
{
	struct lane *lane = &s->lane[d->channel];
	if (due_before(due, d->cursor))
		d->cursor = due;
	note_fresh(d, due);
	if (due.at < d->next_ms)
		d->next_ms = due.at > d->until_ms ? due.at : d->until_ms;
	if (d->where == IDLE && d->next_ms < lane->idle_min)
		lane->idle_min = d->next_ms;
	if (d->wake_ms != 0 && d->wake_ms <= due.at)
		return INDEX_OK;
	return write_back(s, d, due.at);
}

enum index_result schedule_due_added(struct schedule *s, struct bytes destination, struct due due)
{
	struct row_destination row;
	struct destination *d = find(s, destination);
	if (d)
		return due_added_active(s, d, due);
	if (get_row(s, destination, &row) == INDEX_FATAL)
		return INDEX_FATAL;
	wall_ms_t at = due.at > row.until_ms ? due.at : row.until_ms;
	if (row.wake_ms != 0 && row.wake_ms <= at)
		return INDEX_OK;
	/* The row before its wake row moves: its text points into the index, which the next put may change. */
	wall_ms_t before = row.wake_ms;
	row.wake_ms = at;
	if (index_put_destination(s->ix, destination, &row) == INDEX_FATAL)
		return INDEX_FATAL;
	return move_wake(s, destination, &before, at);
}

enum index_result schedule_lift(struct schedule *s, struct bytes destination, wall_ms_t at)
{
	struct row_destination row;
	struct destination *d = find(s, destination);
	if (d) {
		if (d->until_ms > at)
			d->until_ms = at;
		if (d->next_ms > at)
			d->next_ms = at;
		if (d->where == IDLE && at < s->lane[d->channel].idle_min)
			s->lane[d->channel].idle_min = at;
	}
	enum index_result r = index_get_destination(s->ix, destination, &row);
	if (r != INDEX_OK || row.until_ms <= at)
		return r == INDEX_FATAL ? r : INDEX_OK;
	wall_ms_t before = row.wake_ms;
	row.until_ms = at;
	row.wake_ms = before > at ? at : before;
	wall_ms_t after = row.wake_ms;
	r = index_put_destination(s->ix, destination, &row);
	if (r == INDEX_OK && after != before)
		r = move_wake(s, destination, &before, after);
	if (d)
		d->wake_ms = after;
	return r;
}

enum index_result schedule_changed(struct schedule *s, const struct log_destination *change)
{
	struct row_destination row;
	if (change->destination.len == 0)
		return INDEX_NONE;
	if (get_row(s, change->destination, &row) == INDEX_FATAL)
		return INDEX_FATAL;
	wall_ms_t wake = row.wake_ms;
	row.since_ms = change->failures == 0 ? 0 : row.failures == 0 ? change->at_ms : row.since_ms;
	row.failures = change->failures;
	row.until_ms = change->until_ms;
	row.window = change->window;
	row.text = change->text;
	/* A row that nothing wakes would stay for ever: it is looked at when its back-off ends. */
	if (wake == 0 && row.until_ms != 0)
		row.wake_ms = row.until_ms;
	struct destination *d = find(s, change->destination);
	if (d) {
		d->since_ms = row.since_ms;
		d->failures = row.failures;
		d->until_ms = row.until_ms;
		d->window = row.window;
		d->wake_ms = row.wake_ms;
	}
	wall_ms_t after = row.wake_ms;
	if (index_put_destination(s->ix, change->destination, &row) == INDEX_FATAL)
		return INDEX_FATAL;
	return after == wake ? INDEX_OK : move_wake(s, change->destination, &wake, after);
}

/* ---- claims ---- */

static struct due behind(struct due due)
{
	due.n++;
	return due;
}

/* The first due row that is not in flight; INDEX_NONE and next_ms set when none is due now. */
static enum index_result first_due(struct schedule *s, struct destination *d, wall_ms_t now, struct due *due_r)
{
	for (;;) {
		enum index_result r = index_next_due(s->ix, name_of(d), d->cursor, due_r);
		if (r != INDEX_OK || due_r->at > now) {
			d->next_ms = r == INDEX_OK ? due_r->at : NEVER;
			return r == INDEX_OK ? INDEX_NONE : r;
		}
		d->cursor = behind(*due_r);
		if (!jobs_flying(s->jobs, due_r->id, due_r->n))
			return INDEX_OK;
	}
}

/* The oldest new mail whose row is still there, when it is its turn. INDEX_NONE: none. */
static enum index_result fresh_due(struct schedule *s, struct destination *d, wall_ms_t now, struct due *due_r)
{
	enum index_result r = INDEX_NONE;
	bool found = false;
	d->fresh_turn = !d->fresh_turn;
	while (d->fresh_turn && d->fresh_count > 0 && !found && r != INDEX_FATAL) {
		struct due due = d->fresh[0];
		d->fresh_count--;
		memmove(d->fresh, d->fresh + 1, d->fresh_count * sizeof d->fresh[0]);
		if (due.at > now || due_before(due, d->cursor) || jobs_flying(s->jobs, due.id, due.n))
			continue;
		r = index_next_due(s->ix, name_of(d), due, due_r);
		found = r == INDEX_OK && !due_before(due, *due_r);
	}
	return found || r == INDEX_FATAL ? r : INDEX_NONE;
}

/* More recipients of the same message whose rows follow. */
static enum index_result gather(struct schedule *s, struct destination *d, wall_ms_t now, struct due first, uint32_t *count_r)
{
	struct due next = behind(first);
	uint32_t limit = u32_of(s->settings->rcptpertransaction), count = 0;
	struct due due = first;
	s->due[count] = first;
	s->n[count++] = first.n;
	while (count < limit && count < RCPT_MOST) {
		enum index_result r = index_next_due(s->ix, name_of(d), next, &due);
		if (r == INDEX_FATAL)
			return r;
		if (r == INDEX_NONE || due.id != first.id || due.at > now || due.n <= s->n[count - 1] || jobs_flying(s->jobs, due.id, due.n))
			break;
		s->due[count] = due;
		s->n[count++] = due.n;
		next = behind(due);
	}
	/* What the cursor passes flies; new mail taken out of turn stands behind it and is met later, flying or gone. */
	if (!due_before(d->cursor, first))
		d->cursor = next;
	*count_r = count;
	return INDEX_OK;
}

/* A destination that fails is probed with one job at a time. */
static uint32_t window_of(const struct schedule *s, const struct destination *d)
{
	uint32_t most = u32_of(s->settings->destinationwindow);
	return d->failures > 0 ? 1 : d->window < most ? d->window : most;
}

static enum index_result try_destination(struct schedule *s, struct destination *d, wall_ms_t now, struct turn_taken *turn_r)
{
	struct due due;
	if (d->until_ms > now) {
		d->next_ms = d->until_ms;
		return rest(s, d, now) == INDEX_FATAL ? INDEX_FATAL : INDEX_NONE;
	}
	if (d->flights >= window_of(s, d)) {
		leave(s, d);
		return INDEX_NONE;
	}
	enum index_result r = fresh_due(s, d, now, &due);
	if (r == INDEX_NONE)
		r = first_due(s, d, now, &due);
	if (r == INDEX_NONE)
		return rest(s, d, now) == INDEX_FATAL ? INDEX_FATAL : INDEX_NONE;
	*turn_r = (struct turn_taken){ .destination = d, .name = name_of(d), .id = due.id, .due = s->due, .n = s->n };
	if (r == INDEX_OK)
		r = gather(s, d, now, due, &turn_r->count);
	if (r != INDEX_OK)
		return r;
	/* To the end of the ring: the others come first. */
	leave(s, d);
	make_ready(s, d);
	return INDEX_OK;
}

enum index_result schedule_next(struct schedule *s, enum channel channel, wall_ms_t now, struct turn_taken *turn_r)
{
	struct list *ready = &s->lane[channel].ready;
	stir_idle(s, channel, now);
	do {
		if (wake_up(s, channel, now) == INDEX_FATAL)
			return INDEX_FATAL;
		/* One round: whoever has nothing leaves the ring. */
		for (size_t left = ready->count; left > 0 && ready->count > 0; left--) {
			enum index_result r = try_destination(s, ready->head.next, now, turn_r);
			if (r != INDEX_NONE)
				return r;
		}
	} while (ready->count > 0 || now >= s->lane[channel].wake_min);
	return INDEX_NONE;
}

void schedule_took(struct schedule *s, struct destination *d)
{
	(void)s;
	d->flights++;
}

void schedule_again(struct schedule *s, struct destination *d)
{
	d->cursor = (struct due){ 0, 0, 0 };
	make_ready(s, d);
}

struct destination *schedule_adopt(struct schedule *s, struct bytes name)
{
	struct destination *d = find(s, name);
	if (!d) {
		d = load(s, name);
		if (d)
			make_ready(s, d);
	}
	if (d)
		d->flights++;
	return d;
}

static void count_success(struct schedule *s, struct destination *d)
{
	if (d->window < u32_of(s->settings->destinationwindow))
		d->window++;
}

bool schedule_job_over(struct schedule *s, struct destination *d, wall_ms_t started, bool failed, wall_ms_t now,
	struct log_destination *change_r)
{
	d->flights--;
	make_ready(s, d);
	*change_r = (struct log_destination){ .at_ms = now, .destination = name_of(d) };
	if (!failed && d->failures == 0) {
		count_success(s, d);
		return false;
	}
	if (!failed) {
		change_r->window = 1;
		return true;
	}
	/* Jobs that started together fail together: that is one failure. */
	if (d->failures > 0 && started <= d->failed_ms)
		return false;
	d->failed_ms = now;
	change_r->failures = d->failures + 1;
	change_r->window = 1;
	change_r->until_ms = now + schedule_backoff_ms(name_of(d), change_r->failures);
	return true;
}

enum index_result schedule_settle(struct schedule *s, struct destination *d, wall_ms_t now)
{
	struct due due;
	if (d->flights > 0)
		return INDEX_OK;
	enum index_result r = index_next_due(s->ix, name_of(d), d->cursor, &due);
	if (r == INDEX_FATAL || (r == INDEX_OK && due.at <= now && d->until_ms <= now))
		return r;
	return put_to_sleep(s, d, now);
}

void schedule_job_back(struct schedule *s, struct destination *d)
{
	d->flights--;
	schedule_again(s, d);
}

wall_ms_t schedule_next_wake(struct schedule *s, wall_ms_t now)
{
	wall_ms_t next = NEVER, at;
	struct bytes name;
	for (unsigned c = 0; c < CHANNEL_COUNT; c++) {
		if (s->lane[c].idle_min > now && s->lane[c].idle_min < next)
			next = s->lane[c].idle_min;
	}
	if (index_next_wake(s->ix, now + 1, LIT(""), &at, &name) == INDEX_OK && at < next)
		next = at;
	return next;
}

size_t schedule_active(const struct schedule *s)
{
	return s->active;
}

/* ---- life ---- */

struct schedule *schedule_new(struct index *ix, const struct jobs *jobs, const struct settings *settings)
{
	struct schedule *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->ix = ix;
	s->jobs = jobs;
	s->settings = settings;
	for (unsigned c = 0; c < CHANNEL_COUNT; c++) {
		list_init(&s->lane[c].ready);
		list_init(&s->lane[c].idle);
		s->lane[c].idle_min = NEVER;
	}
	return s;
}

void schedule_free(struct schedule *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct destination *d = s->bucket[i], *next; d; d = next) {
			next = d->bucket_next;
			free(d);
		}
	}
	free(s);
}

void schedule_settings(struct schedule *s, const struct settings *settings)
{
	s->settings = settings;
}
