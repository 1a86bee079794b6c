/*
 * check_index - the index against itself: each table walked once, in one snapshot. Room: queue (tappal).
 *
 * Messages and recipients are walked side by side, for both are in the order of ids. Rows that must point at each other are looked up in
 * one direction and counted in the other; only when the counts differ the other direction is looked up, too, to name the row.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/route.h"
#include "usage.h"

#define FILE_NAME "index/data.mdb"
#define LATE_MS 60000u            /* a wake row may be later than the work it wakes for by so much */

struct pass {
	struct check *c;
	struct index *ix;
	struct row_status status;
	bool has_status;
	struct usage *usage;
	struct index_walk *rcpts;
	struct index_row rcpt;        /* the next one */
	bool rcpts_left;
	uint64_t waiting, held, due, bounces;
	msgid_t highest;
	struct tally { uint32_t count, waiting, delivered, reported; } tally;   /* of this message */
};

static void say(struct pass *p, msgid_t id, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(struct pass *p, msgid_t id, const char *format, ...)
{
	struct check_finding f = { .kind = CHECK_INDEX_ROWS, .id = id, .file = FILE_NAME };
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(f.text, sizeof f.text, format, arguments);
	va_end(arguments);
	check_tell(p->c, &f);
}

/* For %.*s. */
#define SHOWN(b) (int)((b).len < 200 ? (b).len : 200), (b).at

/* ---- messages and recipients ---- */

static enum index_result next_rcpt(struct pass *p)
{
	enum index_result r = index_walk_next(p->rcpts, &p->rcpt);
	p->rcpts_left = r == INDEX_OK;
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result has_due(struct pass *p, msgid_t id, uint32_t n, const struct row_rcpt *r, bool *has_r)
{
	struct due wanted = { r->next_try_ms, id, n }, due;
	enum index_result rc = index_next_due(p->ix, r->destination, wanted, &due);
	*has_r = rc == INDEX_OK && due.at == wanted.at && due.id == id && due.n == n;
	return rc == INDEX_FATAL ? rc : INDEX_OK;
}

static enum index_result check_rcpt(struct pass *p, const struct row_message *m)
{
	struct row_rcpt r;
	msgid_t id = p->rcpt.number;
	uint32_t n = p->rcpt.n;
	bool is_due = false;
	if (!row_rcpt_decode(p->rcpt.value, &r))
		return index_damaged(p->ix, "a recipient's row does not decode");
	p->c->sums.recipients++;
	if (n != p->tally.count)
		say(p, id, "recipient %u stands where recipient %u is expected", n, p->tally.count);
	p->tally.count++;
	p->tally.waiting += r.state == RCPT_WAITING;
	p->tally.delivered += r.state == RCPT_DELIVERED || r.state == RCPT_REPORTING;
	p->tally.reported += rcpt_reports(&r);
	if (r.state > RCPT_REPORTING)
		say(p, id, "recipient %u has the state %u, which does not exist", n, r.state);
	if (r.state != RCPT_WAITING || m->held_ms != 0)
		return INDEX_OK;
	if (r.destination.len == 0 || r.destination.len > DESTINATION_MAX) {
		say(p, id, "recipient %u has no destination", n);
		return INDEX_OK;
	}
	if (has_due(p, id, n, &r, &is_due) == INDEX_FATAL)
		return INDEX_FATAL;
	p->due += is_due;
	if (!is_due)
		say(p, id, "recipient %u waits, and no row of `due` says when it is tried", n);
	return INDEX_OK;
}

static enum index_result check_rcpts(struct pass *p, msgid_t id, const struct row_message *m)
{
	p->tally = (struct tally){ 0, 0, 0, 0 };
	while (p->rcpts_left && p->rcpt.number <= id) {
		if (!m || p->rcpt.number < id)
			say(p, p->rcpt.number, "a row of recipient %u, and none of its message", p->rcpt.n);
		else if (check_rcpt(p, m) == INDEX_FATAL)
			return INDEX_FATAL;
		if (next_rcpt(p) == INDEX_FATAL)
			return INDEX_FATAL;
	}
	return INDEX_OK;
}

static void check_tally(struct pass *p, msgid_t id, const struct row_message *m)
{
	const struct tally *t = &p->tally;
	if (t->count != m->rcpt_count)
		say(p, id, "%u recipients, and its row says %u", t->count, m->rcpt_count);
	else if (t->waiting != m->unfinished || t->reported != m->failed || t->delivered != m->delivered)
		say(p, id, "recipients %u waiting, %u to be reported, %u delivered, and its row says %u, %u, %u", t->waiting, t->reported, t->delivered,
			m->unfinished, m->failed, m->delivered);
	else if (m->unfinished + m->failed == 0)
		say(p, id, "all its recipients are finished, and it is still there");
}

static enum index_result check_bounce(struct pass *p, msgid_t id, const struct row_message *m)
{
	wall_ms_t due;
	msgid_t found;
	if ((m->failed > 0) != (m->bounce_due_ms != 0))
		say(p, id, m->failed > 0 ? "it has something to report, and no time at which it is reported" :
			"it is to be reported, and has nothing to report");
	if (m->bounce_due_ms == 0)
		return INDEX_OK;
	enum index_result r = index_next_bounce(p->ix, m->bounce_due_ms, id, &due, &found);
	if (r == INDEX_OK && due == m->bounce_due_ms && found == id)
		p->bounces++;
	else if (r != INDEX_FATAL)
		say(p, id, "it has something to report, and no row of `bounces` says when");
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result check_message(struct pass *p, const struct index_row *row)
{
	struct row_message m;
	msgid_t id = row->number;
	if (!row_message_decode(row->value, &m))
		return index_damaged(p->ix, "a message's row does not decode");
	p->c->sums.messages++;
	p->highest = id > p->highest ? id : p->highest;
	p->held += m.held_ms != 0;
	if (!usage_live(p->usage, m.segment, 1, m.record_size))
		return INDEX_FATAL;
	if (check_rcpts(p, id, &m) == INDEX_FATAL)
		return INDEX_FATAL;
	p->waiting += p->tally.waiting;
	check_tally(p, id, &m);
	return check_bounce(p, id, &m);
}

static enum index_result check_messages(struct pass *p)
{
	struct index_row row;
	struct index_walk *walk = index_walk_open(p->ix, TABLE_MESSAGES);
	p->rcpts = index_walk_open(p->ix, TABLE_RCPTS);
	enum index_result r = walk && p->rcpts ? next_rcpt(p) : INDEX_FATAL;
	while (r == INDEX_OK && (r = index_walk_next(walk, &row)) == INDEX_OK)
		r = check_message(p, &row);
	if (r == INDEX_NONE)
		r = check_rcpts(p, UINT64_MAX, NULL);
	index_walk_close(p->rcpts);
	index_walk_close(walk);
	return r;
}

/* ---- what points back ---- */

static enum index_result judge_due(struct pass *p, const struct index_row *row)
{
	struct row_message m = { .held_ms = 0 };
	struct row_rcpt r;
	enum index_result rc = index_get_rcpt(p->ix, row->number, row->n, &r);
	if (rc == INDEX_OK)
		rc = index_get_message(p->ix, row->number, &m);
	if (rc == INDEX_OK && r.state == RCPT_WAITING && r.next_try_ms == row->at && m.held_ms == 0 && bytes_equal(r.destination, row->destination))
		return INDEX_OK;
	if (rc != INDEX_FATAL)
		say(p, row->number, "a row of `due` for recipient %u, which does not wait for it", row->n);
	return rc == INDEX_FATAL ? rc : INDEX_OK;
}

/* A destination with due rows is woken for the first of them, or when its back-off ends, or is being worked for. */
static enum index_result check_woken(struct pass *p, struct bytes destination, wall_ms_t first)
{
	struct row_destination d;
	enum index_result r = index_get_destination(p->ix, destination, &d);
	wall_ms_t latest = first > p->c->now ? first : p->c->now;
	if (r == INDEX_NONE)
		say(p, 0, "mail waits for %.*s, which has no row of `destinations`: nothing wakes it", SHOWN(destination));
	else if (r == INDEX_OK && d.wake_ms == 0)
		say(p, 0, "mail waits for %.*s, and nothing wakes it", SHOWN(destination));
	else if (r == INDEX_OK && d.wake_ms > (latest > d.until_ms ? latest : d.until_ms) + LATE_MS)
		say(p, 0, "mail waits for %.*s, and it is woken too late", SHOWN(destination));
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result walk_due(struct pass *p, bool judge, uint64_t *count_r)
{
	char name[DESTINATION_MAX] = "";
	size_t len = 0;
	struct index_row row;
	struct index_walk *walk = index_walk_open(p->ix, TABLE_DUE);
	enum index_result r = walk ? INDEX_OK : INDEX_FATAL;
	*count_r = 0;
	while (r == INDEX_OK && (r = index_walk_next(walk, &row)) == INDEX_OK) {
		bool same = row.destination.len == len && memcmp(row.destination.at, name, len) == 0;
		++*count_r;
		if (judge)
			r = judge_due(p, &row);
		else if (!same)
			r = check_woken(p, row.destination, row.at);
		len = row.destination.len;
		memcpy(name, row.destination.at, len);
	}
	index_walk_close(walk);
	return r == INDEX_NONE ? INDEX_OK : r;
}

static enum index_result check_due(struct pass *p)
{
	uint64_t count;
	enum index_result r = walk_due(p, false, &count);
	return r == INDEX_OK && count != p->due ? walk_due(p, true, &count) : r;
}

static enum index_result judge_bounce(struct pass *p, const struct index_row *row)
{
	struct row_message m;
	enum index_result r = index_get_message(p->ix, row->number, &m);
	if (r == INDEX_NONE || (r == INDEX_OK && m.bounce_due_ms != row->at))
		say(p, row->number, "a row of `bounces`, and its message has nothing to report then");
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result judge_wake(struct pass *p, const struct index_row *row)
{
	struct row_destination d;
	enum index_result r = index_get_destination(p->ix, row->destination, &d);
	if (r == INDEX_NONE || (r == INDEX_OK && d.wake_ms != row->at))
		say(p, 0, "a row of `wake` for %.*s, which is not to be woken then", SHOWN(row->destination));
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result judge_destination(struct pass *p, const struct index_row *row)
{
	struct row_destination d;
	struct bytes name;
	wall_ms_t at;
	if (!row_destination_decode(row->value, &d))
		return index_damaged(p->ix, "a destination's row does not decode");
	if (d.wake_ms == 0)
		return INDEX_OK;
	enum index_result r = index_next_wake(p->ix, d.wake_ms, row->destination, &at, &name);
	if (r == INDEX_NONE || (r == INDEX_OK && (at != d.wake_ms || !bytes_equal(name, row->destination))))
		say(p, 0, "destination %.*s is to be woken, and no row of `wake` says when", SHOWN(row->destination));
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result judge_finished(struct pass *p, const struct index_row *row)
{
	struct row_finished f;
	struct row_message m;
	if (!row_finished_decode(row->value, &f))
		return index_damaged(p->ix, "the summary of a finished message does not decode");
	p->highest = row->number > p->highest ? row->number : p->highest;
	enum index_result r = index_get_message(p->ix, row->number, &m);
	if (r == INDEX_OK)
		say(p, row->number, "it is both finished and not");
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result judge_segment(struct pass *p, const struct index_row *row)
{
	struct row_segment s;
	if (!row_segment_decode(row->value, &s))
		return index_damaged(p->ix, "a segment's row does not decode");
	struct segment_usage *u = usage_of(p->usage, row->number);
	if (!u)
		return INDEX_FATAL;
	if (u->live_messages != s.live_messages || u->live_bytes != s.live_bytes)
		say(p, 0, "segment %016llx is said to hold %llu messages of %llu octets, and they are %llu of %llu", (unsigned long long)row->number,
			(unsigned long long)s.live_messages, (unsigned long long)s.live_bytes, (unsigned long long)u->live_messages,
			(unsigned long long)u->live_bytes);
	u->live_messages = u->live_bytes = 0;      /* judged */
	return INDEX_OK;
}

static enum index_result walk_table(struct pass *p, enum index_table table, enum index_result judge(struct pass *, const struct index_row *),
	uint64_t *count_r)
{
	struct index_row row;
	struct index_walk *walk = index_walk_open(p->ix, table);
	enum index_result r = walk ? INDEX_OK : INDEX_FATAL;
	*count_r = 0;
	while (r == INDEX_OK && (r = index_walk_next(walk, &row)) == INDEX_OK) {
		++*count_r;
		r = judge(p, &row);
	}
	index_walk_close(walk);
	return r == INDEX_NONE ? INDEX_OK : r;
}

static enum index_result check_others(struct pass *p)
{
	uint64_t count;
	enum index_result r = walk_table(p, TABLE_BOUNCES, judge_bounce, &count);
	if (r == INDEX_OK)
		r = walk_table(p, TABLE_WAKE, judge_wake, &count);
	if (r == INDEX_OK)
		r = walk_table(p, TABLE_DESTINATIONS, judge_destination, &count);
	if (r == INDEX_OK)
		r = walk_table(p, TABLE_FINISHED, judge_finished, &count);
	if (r == INDEX_OK)
		r = walk_table(p, TABLE_SEGMENTS, judge_segment, &count);
	return r;
}

/* ---- sums ---- */

static void check_sums(struct pass *p)
{
	const struct row_status *s = &p->status;
	for (size_t i = 0; i < usage_count(p->usage); i++) {
		const struct segment_usage *u = usage_at(p->usage, i);
		if (u->live_messages > 0)
			say(p, 0, "segment %016llx holds %llu messages and has no row of `segments`", (unsigned long long)u->segment,
				(unsigned long long)u->live_messages);
	}
	if (!p->has_status) {
		if (p->c->sums.messages > 0)
			say(p, 0, "there are messages, and no status says up to where the log is applied");
		return;
	}
	if (s->messages != p->c->sums.messages || s->recipients != p->waiting || s->held != p->held)
		say(p, 0, "messages, waiting recipients and held messages are %llu, %llu, %llu, and the status says %llu, %llu, %llu",
			(unsigned long long)p->c->sums.messages, (unsigned long long)p->waiting, (unsigned long long)p->held, (unsigned long long)s->messages,
			(unsigned long long)s->recipients, (unsigned long long)s->held);
	if (p->highest > s->last_id)
		say(p, p->highest, "its id is higher than the last that was given");
}

bool check_index(struct check *c, struct index *ix)
{
	struct pass p = { .c = c, .ix = ix, .usage = usage_new() };
	enum index_result r = p.usage && index_read_begin(ix) ? index_get_status(ix, &p.status) : INDEX_FATAL;
	p.has_status = r == INDEX_OK;
	if (r != INDEX_FATAL)
		r = check_messages(&p);
	if (r == INDEX_OK)
		r = check_due(&p);
	if (r == INDEX_OK)
		r = check_others(&p);
	if (r == INDEX_OK)
		check_sums(&p);
	index_read_end(ix);
	usage_free(p.usage);
	return r == INDEX_OK;
}
