/*
 * apply - what a record of the log changes in the index: messages, results, bounces, the end. Room: queue, the store.
 *
 * Views in a row point into the map and end with the next put or delete. So in every function here: read, tell the event,
 * encode into the index's own buffer, put; and a row is read again after another row was put.
 */
#include "apply.h"

#include <string.h>

struct due apply_due(msgid_t id, uint32_t n, const struct row_rcpt *row)
{
	return (struct due){ row->next_try_ms, id, n };
}

static void tell(struct apply *a, const struct store_event *event)
{
	if (a->live && a->event)
		a->event(a->event_context, event);
}

/* UNSAFE: out is as large as the field's maximum in records.def. */
static struct bytes copied(struct bytes b, char *out, size_t room)
{
	size_t n = b.len < room ? b.len : room;
	if (n > 0)
		memcpy(out, b.at, n);
	return (struct bytes){ out, n };
}

/* ---- the end of a message ---- */

struct ending { char first[320], text[1000]; struct row_finished row; bool bounced, dropped, deleted; };

static void note_rcpt(struct ending *e, uint32_t n, const struct row_rcpt *r)
{
	if (n == 0)
		e->row.first_rcpt = copied(r->address, e->first, sizeof e->first);
	if (r->text.len > 0)
		e->row.last_text = copied(r->text, e->text, sizeof e->text);
	e->bounced |= r->state == RCPT_BOUNCED;
	e->dropped |= r->state == RCPT_DROPPED;
	e->deleted |= r->state == RCPT_DELETED;
}

static enum index_result delete_rcpts(struct apply *a, msgid_t id, struct ending *e)
{
	struct row_rcpt r;
	uint32_t n = 0;
	enum index_result rc;
	while ((rc = index_next_rcpt(a->ix, id, n, &n, &r)) == INDEX_OK) {
		note_rcpt(e, n, &r);
		if (index_delete_rcpt(a->ix, id, n) == INDEX_FATAL)
			return INDEX_FATAL;
		n++;
	}
	return rc == INDEX_FATAL ? rc : INDEX_OK;
}

enum index_result apply_trim_finished(struct apply *a)
{
	struct row_finished row;
	msgid_t oldest = 0;
	for (; a->finished_rows > a->settings->finishedkeep; a->finished_rows--) {
		enum index_result r = index_next_finished(a->ix, oldest, &oldest, &row);
		if (r == INDEX_OK)
			r = index_delete_finished(a->ix, oldest);
		if (r == INDEX_FATAL)
			return r;
	}
	return INDEX_OK;
}

static enum index_result keep_summary(struct apply *a, msgid_t id, struct ending *e, const struct row_message *m, wall_ms_t at)
{
	if (a->settings->finishedkeep == 0)
		return INDEX_OK;
	e->row.arrival_ms = m->arrival_ms;
	e->row.finished_ms = at;
	e->row.body_size = m->body_size;
	e->row.rcpt_count = m->rcpt_count;
	e->row.delivered = m->delivered;
	e->row.failed = m->rcpt_count - m->delivered;
	e->row.how = e->bounced ? FINISHED_BOUNCED : e->dropped ? FINISHED_DROPPED : e->deleted ? FINISHED_DELETED : FINISHED_DELIVERED;
	e->row.sender = m->sender;
	if (index_put_finished(a->ix, id, &e->row) == INDEX_FATAL)
		return INDEX_FATAL;
	a->finished_rows++;
	return apply_trim_finished(a);
}

enum index_result apply_finish_if_done(struct apply *a, msgid_t id, wall_ms_t at)
{
	struct row_message m;
	enum index_result r = index_get_message(a->ix, id, &m);
	if (r != INDEX_OK || m.unfinished > 0 || m.failed > 0)
		return r == INDEX_FATAL ? r : INDEX_OK;
	struct ending e = { .bounced = false };
	tell(a, &(struct store_event){ .kind = EVENT_FINISHED, .id = id, .message = &m });
	if (m.large && a->large_ended)
		a->large_ended(a->context, id);
	if (m.held_ms != 0)
		a->status.held--;
	a->status.messages--;
	if (!usage_live(a->usage, m.segment, -1, -(int64_t)m.record_size))
		return INDEX_FATAL;
	if (m.bounce_due_ms != 0 && index_delete_bounce(a->ix, m.bounce_due_ms, id) == INDEX_FATAL)
		return INDEX_FATAL;
	/* Recipients go first, and the message's row is read anew behind them: the summary needs both. */
	if (delete_rcpts(a, id, &e) == INDEX_FATAL || index_get_message(a->ix, id, &m) != INDEX_OK)
		return INDEX_FATAL;
	if (keep_summary(a, id, &e, &m, at) == INDEX_FATAL)
		return INDEX_FATAL;
	return index_delete_message(a->ix, id) == INDEX_FATAL ? INDEX_FATAL : INDEX_OK;
}

/* ---- failures and bounces ---- */

static void put_in_batch(struct row_message *m, struct row_rcpt *row, uint32_t batch)
{
	if (batch > m->batch) {
		m->batch = batch;
		m->batch_failed = 0;
	}
	if (m->batch_failed >= BATCH_RCPTS) {
		m->batch++;
		m->batch_failed = 0;
	}
	m->batch_failed++;
	m->failed++;
	row->batch = m->batch;
}

void apply_end_delay(struct row_message *m, struct row_rcpt *row)
{
	m->failed -= rcpt_delay_due(row);
	row->batch = 0;
}

void apply_fail(struct row_message *m, struct row_rcpt *row, uint32_t batch)
{
	apply_end_delay(m, row);
	put_in_batch(m, row, batch);
	m->unfinished--;
	row->state = RCPT_FAILED;
}

bool apply_reports_success(const struct row_message *m, const struct row_rcpt *row, unsigned stage)
{
	return m->sender.len > 0 && stage != STAGE_FINAL_DSN && envelope_notify_asks(row->notify, LIT("SUCCESS"));
}

enum index_result apply_bounce_due(struct apply *a, msgid_t id, struct row_message *m, wall_ms_t at)
{
	wall_ms_t due = m->bounce_due_ms;
	if (m->failed == 0)
		due = 0;
	else if (m->unfinished == 0)
		due = due == 0 || due > at ? at : due;      /* nobody is left to wait for */
	else if (due == 0)
		due = at + BOUNCE_WAIT_MS;
	if (due == m->bounce_due_ms)
		return INDEX_OK;
	wall_ms_t before = m->bounce_due_ms;
	m->bounce_due_ms = due;
	/* Put the message first: its views end with the next put. */
	if (index_put_message(a->ix, id, m) == INDEX_FATAL)
		return INDEX_FATAL;
	if (before != 0 && index_delete_bounce(a->ix, before, id) == INDEX_FATAL)
		return INDEX_FATAL;
	return due == 0 ? INDEX_OK : index_put_bounce(a->ix, due, id);
}

/* A report of him was accepted, or is let go: one that failed ends in `state`, one that waits goes on waiting. */
static void settle_rcpt(struct row_rcpt *row, enum rcpt_state state)
{
	if (row->state == RCPT_WAITING)
		row->batch = BATCH_TOLD;
	else
		row->state = row->state == RCPT_FAILED ? (uint8_t)state : (uint8_t)RCPT_DELIVERED;
}

enum index_result apply_counts(struct apply *a, msgid_t id, const struct row_message *counts, wall_ms_t at)
{
	struct row_message m;
	if (index_get_message(a->ix, id, &m) != INDEX_OK)
		return INDEX_FATAL;
	m.unfinished = counts->unfinished;
	m.delivered = counts->delivered;
	m.failed = counts->failed;
	m.batch = counts->batch;
	m.batch_failed = counts->batch_failed;
	if (index_put_message(a->ix, id, &m) == INDEX_FATAL || index_get_message(a->ix, id, &m) != INDEX_OK ||
		apply_bounce_due(a, id, &m, at) == INDEX_FATAL)
		return INDEX_FATAL;
	return apply_finish_if_done(a, id, at);
}

/* The recipients of a batch (0: of all) of whom a report was due: the failed ones end in `state`. */
static enum index_result settle_batch(struct apply *a, msgid_t id, uint32_t batch, enum rcpt_state state, wall_ms_t at)
{
	struct row_message m;
	struct row_rcpt r;
	uint32_t n = 0, settled = 0;
	enum index_result rc;
	while ((rc = index_next_rcpt(a->ix, id, n, &n, &r)) == INDEX_OK) {
		if (rcpt_reports(&r) && (batch == 0 || r.batch == batch)) {
			settle_rcpt(&r, state);
			settled++;
			if (index_put_rcpt(a->ix, id, n, &r) == INDEX_FATAL)
				return INDEX_FATAL;
		}
		n++;
	}
	if (rc == INDEX_FATAL || index_get_message(a->ix, id, &m) == INDEX_FATAL)
		return INDEX_FATAL;
	if (settled == 0)
		return INDEX_OK;
	m.failed = m.failed > settled ? m.failed - settled : 0;
	if (index_put_message(a->ix, id, &m) == INDEX_FATAL || index_get_message(a->ix, id, &m) != INDEX_OK ||
		apply_bounce_due(a, id, &m, at) == INDEX_FATAL)
		return INDEX_FATAL;
	return apply_finish_if_done(a, id, at);
}

/* The worst that the report of a batch tells of. */
static enum index_result batch_action(struct apply *a, msgid_t id, uint32_t batch, enum dsn_action *worst_r)
{
	struct row_rcpt row;
	uint32_t n = 0;
	enum index_result r = INDEX_OK;
	*worst_r = DSN_DELIVERED;
	while (*worst_r != DSN_FAILED && (r = index_next_rcpt(a->ix, id, n, &n, &row)) == INDEX_OK) {
		if (row.batch == batch && row.state == RCPT_FAILED)
			*worst_r = DSN_FAILED;
		else if (row.batch == batch && rcpt_delay_due(&row))
			*worst_r = DSN_DELAYED;
		n++;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result apply_bounced(struct apply *a, const struct log_message *lm)
{
	struct row_message m;
	enum dsn_action worst = DSN_FAILED;
	enum index_result r = index_get_message(a->ix, lm->bounce_of, &m);
	if (r == INDEX_OK && a->live)
		r = batch_action(a, lm->bounce_of, lm->bounce_batch, &worst);
	if (r != INDEX_OK)
		return r == INDEX_FATAL ? r : INDEX_OK;
	tell(a, &(struct store_event){ .kind = EVENT_BOUNCED, .id = lm->bounce_of, .message = &m, .bounce = lm->id, .action = worst });
	a->status.bounced++;
	if (a->batch_reported)
		a->batch_reported(a->context, lm->bounce_of);
	return settle_batch(a, lm->bounce_of, lm->bounce_batch, RCPT_BOUNCED, lm->at_ms);
}

static enum index_result apply_dropped(struct apply *a, const struct log_dropped *d)
{
	struct row_message m;
	enum index_result r = index_get_message(a->ix, d->id, &m);
	if (r != INDEX_OK)
		return r == INDEX_FATAL ? r : INDEX_OK;
	tell(a, &(struct store_event){ .kind = EVENT_DROPPED, .id = d->id, .message = &m });
	return settle_batch(a, d->id, d->batch, RCPT_DROPPED, d->at_ms);
}

/* ---- a message ---- */

/* `held`: it is not due before its release, which gives it a due row. */
static enum index_result add_rcpt(struct apply *a, msgid_t id, wall_ms_t at, const struct envelope_rcpt *rcpt, bool held)
{
	struct route route;
	route_find(a->settings, &rcpt->addr, &route);
	struct bytes destination = { route.destination, route.destination_len };
	struct row_rcpt row = {
		.state = RCPT_WAITING, .next_try_ms = at, .address = rcpt->addr.text, .destination = destination, .notify = bytes_slice(rcpt->notify, 0, 100),
		.orcpt = bytes_slice(rcpt->orcpt, 0, 1000),
	};
	struct due due = { at, id, rcpt->index };
	if (index_put_rcpt(a->ix, id, rcpt->index, &row) == INDEX_FATAL)
		return INDEX_FATAL;
	if (held)
		return INDEX_OK;
	return index_put_due(a->ix, destination, due) == INDEX_FATAL ? INDEX_FATAL : schedule_due_added(a->schedule, destination, due);
}

/* What is longer than its field is cut, never refused: a message that was accepted must not stop the queue. */
static struct row_message row_of(const struct log_message *lm, const struct envelope *env)
{
	return (struct row_message){
		.arrival_ms = lm->at_ms, .large = lm->large, .uid = lm->uid, .body_size = lm->body_size,
		.rcpt_count = (uint32_t)env->rcpt_count, .unfinished = (uint32_t)env->rcpt_count, .batch = 1,
		.held_ms = env->held_by.len > 0 ? lm->at_ms : 0, .held_by = env->held_by, .held_reason = env->held_reason,
		.body_type = (uint8_t)env->body_type, .smtputf8 = env->smtputf8, .bounce_of = lm->bounce_of, .bounce_batch = lm->bounce_batch,
		.sender = env->sender.text, .client = bytes_slice(env->client, 0, 400), .helo = bytes_slice(env->helo, 0, 255),
		.protocol = bytes_slice(env->protocol, 0, 16), .login = bytes_slice(env->login, 0, 320), .envid = bytes_slice(env->envid, 0, 1000),
		.ret = bytes_slice(env->ret, 0, 10), .message_id = bytes_slice(env->message_id, 0, 250),
	};
}

static void set_place(struct row_message *row, const struct log_message *lm, struct place place, uint32_t size, uint64_t body_at)
{
	row->segment = place.segment;
	row->record_offset = place.offset;
	row->record_size = size;
	row->body_offset = lm->large ? lm->body_offset : body_at;
}

/* A survivor was copied forward: only its place changes. */
static enum index_result apply_moved(struct apply *a, const struct log_message *lm, struct row_message *m, struct place place,
	uint32_t size, uint64_t body_at)
{
	if (!usage_live(a->usage, m->segment, -1, -(int64_t)m->record_size) || !usage_live(a->usage, place.segment, 1, size))
		return INDEX_FATAL;
	set_place(m, lm, place, size, body_at);
	return index_put_message(a->ix, lm->id, m);
}

static enum index_result apply_new(struct apply *a, const struct log_message *lm, const struct envelope *env, struct row_message *row)
{
	struct envelope_cursor cursor = { 0 };
	struct envelope_rcpt rcpt;
	tell(a, &(struct store_event){ .kind = EVENT_ACCEPTED, .id = lm->id, .message = row });
	if (index_put_message(a->ix, lm->id, row) == INDEX_FATAL || !usage_live(a->usage, row->segment, 1, row->record_size))
		return INDEX_FATAL;
	bool held = env->held_by.len > 0;
	while (envelope_next(env, &cursor, &rcpt)) {
		if (add_rcpt(a, lm->id, lm->at_ms, &rcpt, held) == INDEX_FATAL)
			return INDEX_FATAL;
	}
	a->status.messages++;
	a->status.held += held;
	a->status.accepted++;
	a->status.recipients += env->rcpt_count;
	a->changes += env->rcpt_count;
	return lm->bounce_of != 0 ? apply_bounced(a, lm) : INDEX_OK;
}

/* `raw`: the envelope and, unless large, the body; it begins raw_at octets into the record. */
static enum index_result apply_message(struct apply *a, const struct log_message *lm, struct place place, uint32_t size,
	struct bytes raw, size_t raw_at)
{
	struct envelope env;
	struct row_message m;
	if (lm->id == 0 || lm->envelope_size > raw.len || envelope_parse(bytes_slice(raw, 0, lm->envelope_size), &env) != ENV_OK)
		return INDEX_NONE;
	if (!lm->large && raw.len - lm->envelope_size != lm->body_size)
		return INDEX_NONE;
	if (lm->id > a->status.last_id)
		a->status.last_id = lm->id;
	uint64_t body_at = place.offset + MSGLOG_HEAD + raw_at + lm->envelope_size;
	enum index_result r = index_get_message(a->ix, lm->id, &m);
	if (r == INDEX_FATAL)
		return r;
	if (r == INDEX_OK)
		return lm->moved_from == 0 ? INDEX_OK : apply_moved(a, lm, &m, place, size, body_at);
	/* A copy whose original the index does not know: the index was lost, and this is all there is of the message. */
	m = row_of(lm, &env);
	set_place(&m, lm, place, size, body_at);
	return apply_new(a, lm, &env, &m);
}

/* ---- a result ---- */

static void take_result(struct row_rcpt *row, const struct log_result *res)
{
	row->attempts++;
	if (row->first_try_ms == 0)
		row->first_try_ms = res->at_ms;
	row->last_try_ms = res->at_ms;
	row->verdict = res->verdict;
	row->stage = res->stage;
	row->code = res->code;
	row->e_class = res->e_class;
	row->e_subject = res->e_subject;
	row->e_detail = res->e_detail;
	row->error = res->error;
	row->host = res->host;
	row->ip = res->ip;
	row->source_ip = res->source_ip;
	row->tls = res->tls;
	row->text = res->text;
}

/* A batch in the result of a failed attempt: that he is late is to be reported. */
static void count_put_off(struct apply *a, struct row_message *m, struct row_rcpt *row, const struct log_result *res)
{
	row->next_try_ms = res->next_ms;
	if (res->batch != 0 && row->batch == 0)
		put_in_batch(m, row, res->batch);
	a->status.deferred++;
}

static void count_verdict(struct apply *a, struct row_message *m, struct row_rcpt *row, const struct log_result *res)
{
	if (res->verdict == V_OK) {
		apply_end_delay(m, row);
		row->state = RCPT_DELIVERED;
		if (apply_reports_success(m, row, res->stage)) {
			row->state = RCPT_REPORTING;
			put_in_batch(m, row, res->batch);
		}
		m->unfinished--;
		m->delivered++;
		a->status.delivered++;
	} else if (res->verdict == V_PERM) {
		apply_fail(m, row, res->batch);
	} else {
		count_put_off(a, m, row, res);
	}
	if (res->verdict != V_TEMP)
		a->status.recipients--;
}

static enum index_result apply_result(struct apply *a, const struct log_result *res)
{
	char name[DESTINATION_MAX];
	struct row_message m;
	struct row_rcpt row;
	enum index_result r = index_get_message(a->ix, res->id, &m);
	if (r == INDEX_OK)
		r = index_get_rcpt(a->ix, res->id, res->index, &row);
	if (r != INDEX_OK || row.state != RCPT_WAITING)
		return r == INDEX_FATAL ? r : INDEX_OK;
	struct bytes destination = copied(row.destination, name, sizeof name);
	struct due before = apply_due(res->id, res->index, &row);
	bool held = m.held_ms != 0;
	take_result(&row, res);
	count_verdict(a, &m, &row, res);
	tell(a, &(struct store_event){ .kind = EVENT_RESULT, .id = res->id, .rcpt = res->index, .message = &m, .row = &row,
		.channel = schedule_channel(destination) });
	struct due after = apply_due(res->id, res->index, &row);
	bool waits = row.state == RCPT_WAITING, reports = rcpt_delay_due(&row);
	struct row_message counts = m;
	if (index_put_rcpt(a->ix, res->id, res->index, &row) == INDEX_FATAL || index_delete_due(a->ix, destination, before) == INDEX_FATAL)
		return INDEX_FATAL;
	if (waits && !held && (index_put_due(a->ix, destination, after) == INDEX_FATAL ||
		schedule_due_added(a->schedule, destination, after) == INDEX_FATAL))
		return INDEX_FATAL;
	return waits && !reports ? INDEX_OK : apply_counts(a, res->id, &counts, res->at_ms);
}

/* ---- dispatch ---- */

static enum index_result apply_decoded(struct apply *a, struct place place, uint32_t size, const struct record *record,
	struct bytes raw, size_t raw_at)
{
	struct log_message message;
	struct log_result result;
	struct log_operation operation;
	struct log_destination destination;
	struct log_dropped dropped;
	struct log_start start;
	switch (record->type) {
	case REC_log_message:
		return log_message_decode(record->payload, &message) ? apply_message(a, &message, place, size, raw, raw_at) : INDEX_NONE;
	case REC_log_result:
		return log_result_decode(record->payload, &result) ? apply_result(a, &result) : INDEX_NONE;
	case REC_log_operation:
		return log_operation_decode(record->payload, &operation) ? apply_operation(a, &operation) : INDEX_NONE;
	case REC_log_destination:
		return log_destination_decode(record->payload, &destination) ? schedule_changed(a->schedule, &destination) : INDEX_NONE;
	case REC_log_dropped:
		return log_dropped_decode(record->payload, &dropped) ? apply_dropped(a, &dropped) : INDEX_NONE;
	case REC_log_start:
		return log_start_decode(record->payload, &start) ? INDEX_OK : INDEX_NONE;
	default:
		return INDEX_NONE;
	}
}

enum index_result apply_record(struct apply *a, struct place place, uint32_t size, struct bytes payload)
{
	struct record record;
	size_t used;
	a->changes++;
	if (!usage_end(a->usage, place.segment, place.offset + size))
		return INDEX_FATAL;
	if (record_take(payload, &record, &used) != RECORD_OK)
		return INDEX_NONE;
	return apply_decoded(a, place, size, &record, bytes_slice(payload, used, payload.len), used);
}
