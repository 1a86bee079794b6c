/*
 * store_claim - jobs: handed out, reported, given back. Room: queue, the store.
 */
#include <string.h>

#include "queue/operation.h"
#include "store_inside.h"

#define HURRY_RCPTS 1000u

/* ---- claim ---- */

/* Rows that promise work there is not: the index was repaired by hand, or lost and rebuilt. They go. */
static enum store_result drop_stale(struct store *st, const struct turn_taken *turn)
{
	for (uint32_t i = 0; i < turn->count; i++) {
		if (index_delete_due(st->ix, turn->name, turn->due[i]) == INDEX_FATAL)
			return store_index_result(st, INDEX_FATAL);
	}
	schedule_again(st->schedule, turn->destination);
	return STORE_NONE;
}

static void fill_job_rcpt(struct job_rcpt *to, uint64_t job, uint32_t n, const struct row_rcpt *row)
{
	*to = (struct job_rcpt){ .job = job, .index = n, .address = row->address, .notify = row->notify, .orcpt = row->orcpt };
}

static void fill_job(struct job *job, const struct turn_taken *turn, uint64_t number, const struct row_message *m)
{
	*job = (struct job){
		.job = number, .id = turn->id, .arrival_ms = m->arrival_ms, .segment = m->segment, .body_offset = m->body_offset,
		.body_size = m->body_size, .record_offset = m->large ? 0 : m->record_offset,
		.large = m->large, .body_type = m->body_type, .smtputf8 = m->smtputf8, .rcpt_count = turn->count, .destination = turn->name,
		.sender = m->sender, .envid = m->envid, .ret = m->ret,
	};
}

/* From here on only reads until the job is handed out: its views point into the index. STORE_NONE: stale rows, try again. */
static enum store_result fly(struct store *st, enum channel channel, const struct turn_taken *turn, wall_ms_t now, struct store_job *job_r)
{
	struct row_message m;
	struct row_rcpt row;
	enum index_result r = index_get_message(st->ix, turn->id, &m);
	bool stale = r == INDEX_NONE || (r == INDEX_OK && m.held_ms != 0);
	for (uint32_t i = 0; i < turn->count && r == INDEX_OK && !stale; i++) {
		r = index_get_rcpt(st->ix, turn->id, turn->n[i], &row);
		stale = r == INDEX_NONE || (r == INDEX_OK && row.state != RCPT_WAITING);
		if (r == INDEX_OK)
			fill_job_rcpt(&st->job_rcpt[i], st->next_job, turn->n[i], &row);
	}
	if (r == INDEX_FATAL)
		return store_index_result(st, r);
	if (stale)
		return drop_stale(st, turn);
	struct flying_job *j = jobs_add(st->jobs, st->next_job, turn->id, turn->n, turn->count);
	if (!j)
		return store_fail(st, "out of memory");
	j->segment = m.segment;
	j->destination = turn->destination;
	j->channel = channel;
	j->started_ms = now;
	usage_pin(st->usage, m.segment);
	schedule_took(st->schedule, turn->destination);
	fill_job(&job_r->job, turn, st->next_job++, &m);
	job_r->rcpts = st->job_rcpt;
	return STORE_OK;
}

enum store_result store_claim(struct store *st, enum channel channel, wall_ms_t now, struct store_job *job_r)
{
	struct turn_taken turn;
	/* A body can be read from its segment only after the sync that wrote it. */
	if (store_dirty(st) && store_sync(st) != STORE_OK)
		return STORE_FATAL;
	if (st->fatal)
		return STORE_FATAL;
	for (;;) {
		enum index_result r = schedule_next(st->schedule, channel, now, &turn);
		if (r != INDEX_OK)
			return store_index_result(st, r);
		enum store_result flown = fly(st, channel, &turn, now, job_r);
		if (flown != STORE_NONE)
			return flown;
	}
}

/* ---- results ---- */

static void note_why(struct flying_job *j, struct bytes text)
{
	j->why_len = text.len < sizeof j->why ? text.len : sizeof j->why;
	if (j->why_len > 0)
		memcpy(j->why, text.at, j->why_len);
}

static struct log_result record_of(const struct flying_job *j, const struct result *res, wall_ms_t now)
{
	return (struct log_result){
		.id = j->id, .index = res->index, .at_ms = now, .verdict = res->verdict <= V_PERM ? res->verdict : (uint8_t)V_TEMP,
		.stage = res->stage < STAGE_COUNT ? res->stage : (uint8_t)STAGE_NONE, .code = res->code, .e_class = res->e_class,
		.e_subject = res->e_subject,
		.e_detail = res->e_detail, .error = res->error, .host = res->host, .ip = res->ip, .source_ip = res->source_ip,
		.tls = res->tls, .text = res->text,
	};
}

static enum store_result append_result(struct store *st, const struct log_result *res)
{
	struct str *record;
	enum store_result r = store_append_begin(st, SMALL_RECORD, false, &record);
	return r == STORE_OK ? store_append_encoded(st, log_result_encode(res, record), "a result could not be encoded") : r;
}

static void report_later(struct store *st, struct flying_job *j, const struct row_message *m, struct log_result *res)
{
	res->batch = store_batch(st, j->id, m);
	j->report_due = true;
}

/* RFC 3461 4.1: he whose NOTIFY has DELAY is told, and without a NOTIFY that is ours to decide. Once for each recipient; of held mail the time stands
 * still, and a report has no sender to tell. */
static bool is_delay_told(const struct store *st, msgid_t id, const struct row_message *m, const struct row_rcpt *row, wall_ms_t now)
{
	const struct settings *s = st->settings;
	bool wanted = row->notify.len > 0 ? envelope_notify_asks(row->notify, LIT("DELAY")) : s->delaywarnall;
	if (!wanted || s->delaywarn == 0 || row->batch != 0 || m->sender.len == 0 || m->held_ms != 0)
		return false;
	return now >= msgid_time(id) + s->delaywarn * SECOND_MS;
}

/* An adopted job (it has no start here) whose failure the queued before has counted: what is handed out is due, and this was put off since. Passed
 * over, it is tried at the time that it has. Of one whose time has come again meanwhile (no queued was there for so long) that is not known: its
 * failure is counted twice. */
static bool was_put_off(const struct flying_job *j, const struct row_rcpt *row, wall_ms_t now)
{
	return j->started_ms == 0 && row->state == RCPT_WAITING && row->next_try_ms > now;
}

static enum store_result report(struct store *st, struct flying_job *j, struct flying_rcpt *rcpt, const struct result *result, wall_ms_t now)
{
	struct row_message m;
	struct row_rcpt row;
	struct log_result res = record_of(j, result, now);
	jobs_landed(st->jobs, j, rcpt);
	enum index_result r = index_get_message(st->ix, j->id, &m);
	if (r == INDEX_OK)
		r = index_get_rcpt(st->ix, j->id, rcpt->n, &row);
	if (r != INDEX_OK)     /* gone meanwhile: an operator deleted it */
		return r == INDEX_FATAL ? store_index_result(st, r) : STORE_OK;
	if (res.verdict == V_TEMP && was_put_off(j, &row, now))
		return STORE_OK;
	bool expired = res.verdict == V_TEMP && store_is_expired(st, j->id, &m, now);
	if (res.verdict == V_TEMP) {
		res.next_ms = now + schedule_retry_ms(st->settings, j->id, row.attempts + 1);
		note_why(j, res.text);
		if (!expired && is_delay_told(st, j->id, &m, &row, now))
			report_later(st, j, &m, &res);
		j->report_due |= rcpt_delay_due(&row);
	} else if (res.verdict == V_PERM) {
		report_later(st, j, &m, &res);
	} else if (apply_reports_success(&m, &row, res.stage)) {
		report_later(st, j, &m, &res);
	}
	enum store_result done = append_result(st, &res);
	return done == STORE_OK && expired ? store_expire_rcpt(st, j->id, rcpt->n, now) : done;
}

enum store_result store_report(struct store *st, const struct result *result, wall_ms_t now)
{
	if (st->fatal)
		return STORE_FATAL;
	struct flying_job *j = jobs_find(st->jobs, result->job);
	struct flying_rcpt *rcpt = j ? jobs_rcpt(j, result->index) : NULL;
	if (!rcpt || rcpt->reported)
		return STORE_NONE;
	return report(st, j, rcpt, result, now);
}

enum store_result store_damaged(struct store *st, const struct damaged *damaged, wall_ms_t now)
{
	struct str answer = STR_INIT(500);
	const struct flying_job *j = st->fatal ? NULL : jobs_find(st->jobs, damaged->job);
	if (!j)
		return st->fatal ? STORE_FATAL : STORE_NONE;
	struct operate hold = { .op = OP_HOLD, .id = j->id, .index = OPERATION_ALL_RCPTS, .who = LIT("spawn"), .reason = damaged->text };
	enum store_result r = store_operate(st, &hold, now, &answer);
	str_free(&answer);
	return r == STORE_NONE ? STORE_OK : r;      /* it is held, or it has gone */
}

/* ---- the end of a job ---- */

static enum store_result append_destination(struct store *st, const struct log_destination *change)
{
	struct str *record;
	enum store_result r = store_append_begin(st, SMALL_RECORD, false, &record);
	return r == STORE_OK ? store_append_encoded(st, log_destination_encode(change, record), "a destination could not be encoded") : r;
}

/* Reports need not wait for others of their message when none of the others is being tried or about to be. */
static enum store_result hurry_bounce(struct store *st, msgid_t id, wall_ms_t now)
{
	struct row_message m;
	struct row_rcpt row;
	uint32_t n = 0;
	enum index_result r = index_get_message(st->ix, id, &m);
	/* Of a long list, one recipient or another is always being tried: it waits the minute. */
	if (r != INDEX_OK || m.failed == 0 || m.bounce_due_ms <= now || m.rcpt_count > HURRY_RCPTS)
		return r == INDEX_FATAL ? store_index_result(st, r) : STORE_OK;
	while ((r = index_next_rcpt(st->ix, id, n, &n, &row)) == INDEX_OK) {
		if (row.state == RCPT_WAITING && (row.next_try_ms <= now || jobs_flying(st->jobs, id, n)))
			return STORE_OK;
		n++;
	}
	if (r == INDEX_FATAL)
		return store_index_result(st, r);
	wall_ms_t before = m.bounce_due_ms;
	m.bounce_due_ms = now;
	if (index_put_message(st->ix, id, &m) == INDEX_FATAL || index_delete_bounce(st->ix, before, id) == INDEX_FATAL ||
		index_put_bounce(st->ix, now, id) == INDEX_FATAL)
		return store_index_result(st, INDEX_FATAL);
	return STORE_OK;
}

static enum store_result report_silent(struct store *st, struct flying_job *j, wall_ms_t now)
{
	struct result lost = { .job = j->job, .verdict = V_TEMP, .e_class = 4, .e_subject = 3,
		.text = LIT("the delivery program ended without a result") };
	for (uint32_t i = 0; i < j->count; i++) {
		if (j->rcpt[i].reported)
			continue;
		lost.index = j->rcpt[i].n;
		if (report(st, j, &j->rcpt[i], &lost, now) != STORE_OK)
			return STORE_FATAL;
	}
	return STORE_OK;
}

enum store_result store_job_done(struct store *st, const struct job_done *done, wall_ms_t now)
{
	struct log_destination change;
	char why[sizeof ((struct flying_job *)0)->why];
	if (st->fatal)
		return STORE_FATAL;
	struct flying_job *j = jobs_find(st->jobs, done->job);
	if (!j)
		return STORE_NONE;
	enum store_result r = report_silent(st, j, now);
	if (r != STORE_OK)
		return r;
	msgid_t id = j->id;
	struct destination *d = j->destination;
	bool report_due = j->report_due;
	bool changed = schedule_job_over(st->schedule, d, j->started_ms, done->destination_failed, now, &change);
	size_t why_len = j->why_len;
	memcpy(why, j->why, why_len);
	usage_unpin(st->usage, j->segment);
	jobs_remove(st->jobs, j);
	if (changed && change.failures > 0)
		change.text = (struct bytes){ why, why_len };
	if (changed)
		r = append_destination(st, &change);
	if (r == STORE_OK)
		r = store_index_result(st, schedule_settle(st->schedule, d, now));
	return r == STORE_OK && report_due ? hurry_bounce(st, id, now) : r;
}

/* ---- spawners that come and go ---- */

static size_t read_bits(const struct inflight *f, uint32_t n[STORE_RCPTS])
{
	size_t count = 0;
	for (size_t i = 0; i < 8 * f->indexes.len && count < STORE_RCPTS; i++) {
		if ((unsigned char)f->indexes.at[i / 8] >> (i % 8) & 1)
			n[count++] = f->first_index + (uint32_t)i;
	}
	return count;
}

enum store_result store_still_flying(struct store *st, enum channel channel, const struct inflight *inflight)
{
	uint32_t n[STORE_RCPTS];
	if (st->fatal)
		return STORE_FATAL;
	size_t count = read_bits(inflight, n);
	if (count == 0 || count != inflight->rcpt_count || inflight->destination.len == 0 || schedule_channel(inflight->destination) != channel)
		return STORE_NONE;
	struct flying_job *j = jobs_add(st->jobs, inflight->job, inflight->id, n, (uint32_t)count);
	if (!j)
		return STORE_NONE;
	j->segment = inflight->segment;
	j->channel = channel;
	j->destination = schedule_adopt(st->schedule, inflight->destination);
	if (!j->destination)
		return store_index_result(st, INDEX_FATAL);
	usage_pin(st->usage, j->segment);
	return STORE_OK;
}

static void unclaim(struct store *st, struct flying_job *j)
{
	schedule_job_back(st->schedule, j->destination);
	usage_unpin(st->usage, j->segment);
	jobs_remove(st->jobs, j);
}

void store_give_back(struct store *st, enum channel channel, wall_ms_t now)
{
	struct flying_job *j;
	(void)now;
	while ((j = jobs_any(st->jobs, channel)) != NULL)
		unclaim(st, j);
}

void store_unclaim(struct store *st, uint64_t job, wall_ms_t now)
{
	(void)now;
	struct flying_job *j = jobs_find(st->jobs, job);
	if (j)
		unclaim(st, j);
}
