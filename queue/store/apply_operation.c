/*
 * apply_operation - what an operator's command (or the queue's own: expiry) changes in the index. Room: queue, the store.
 *
 * The live queue never writes a command for recipients in flight, except for hold and release, which bear them: a result
 * that comes later finds the message held and puts no due row.
 */
#include <string.h>

#include "apply.h"
#include "queue/operation.h"

struct change {
	struct apply *a;
	const struct log_operation *op;
	struct row_message counts;        /* only numbers: its views are not used */
	char destination[DESTINATION_MAX];
};

static bool is_ending(unsigned op)
{
	return op == OP_DELETE || op == OP_BOUNCE || op == OP_EXPIRE;
}

static void end_rcpt(struct change *c, struct row_rcpt *row)
{
	const struct log_operation *op = c->op;
	c->a->status.recipients--;
	if (op->op == OP_DELETE) {
		apply_end_delay(&c->counts, row);
		row->state = RCPT_DELETED;
		c->counts.unfinished--;
		return;
	}
	apply_fail(&c->counts, row, op->batch);
	row->verdict = V_PERM;
	row->stage = STAGE_QUEUE;
	if (op->op == OP_EXPIRE) {
		/* RFC 3463 X.4.7, delivery time expired; what the last attempt met stays to be reported. */
		row->e_class = 4;
		row->e_subject = 4;
		row->e_detail = 7;
		if (row->text.len == 0)
			row->text = LIT("delivery time expired");
		return;
	}
	row->code = 0;
	row->e_class = 5;
	row->e_subject = row->e_detail = 0;
	row->text = op->reason.len > 0 ? op->reason : LIT("returned by the operator");
}

static enum index_result put_waiting(struct change *c, uint32_t n, const struct row_rcpt *row, struct bytes destination)
{
	struct due due = apply_due(c->op->id, n, row);
	if (index_put_due(c->a->ix, destination, due) == INDEX_FATAL || schedule_due_added(c->a->schedule, destination, due) == INDEX_FATAL)
		return INDEX_FATAL;
	return c->op->op == OP_RETRY ? schedule_lift(c->a->schedule, destination, c->op->at_ms) : INDEX_OK;
}

static void tell_expired(struct change *c, uint32_t n, const struct row_rcpt *row, const struct row_message *m)
{
	if (c->op->op != OP_EXPIRE || !c->a->live || !c->a->event)
		return;
	c->a->event(c->a->event_context, &(struct store_event){ .kind = EVENT_EXPIRED, .id = c->op->id, .rcpt = n, .message = m, .row = row,
		.channel = schedule_channel(row->destination) });
}

static enum index_result change_rcpt(struct change *c, uint32_t n, struct row_rcpt *row)
{
	struct apply *a = c->a;
	const struct log_operation *op = c->op;
	struct row_message m;
	struct due before = apply_due(op->id, n, row);
	struct bytes destination = { c->destination, row->destination.len < DESTINATION_MAX ? row->destination.len : DESTINATION_MAX };
	if (destination.len > 0)
		memcpy(c->destination, row->destination.at, destination.len);
	if (is_ending(op->op))
		end_rcpt(c, row);
	else if (op->op != OP_HOLD)
		row->next_try_ms = op->at_ms;
	if (op->op == OP_EXPIRE && index_get_message(a->ix, op->id, &m) == INDEX_OK)
		tell_expired(c, n, row, &m);
	bool waits = row->state == RCPT_WAITING && op->op != OP_HOLD && c->counts.held_ms == 0;
	struct row_rcpt after = { .next_try_ms = row->next_try_ms };
	if (index_put_rcpt(a->ix, op->id, n, row) == INDEX_FATAL || index_delete_due(a->ix, destination, before) == INDEX_FATAL)
		return INDEX_FATAL;
	return waits ? put_waiting(c, n, &after, destination) : INDEX_OK;
}

static enum index_result change_rcpts(struct change *c)
{
	struct row_rcpt row;
	bool all = c->op->index == OPERATION_ALL_RCPTS;
	uint32_t n = all ? 0 : c->op->index;
	enum index_result r;
	while ((r = index_next_rcpt(c->a->ix, c->op->id, n, &n, &row)) == INDEX_OK) {
		if (!all && n != c->op->index)
			return INDEX_OK;
		if (row.state == RCPT_WAITING && change_rcpt(c, n, &row) == INDEX_FATAL)
			return INDEX_FATAL;
		if (!all)
			return INDEX_OK;
		n++;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

/* Whole messages are held, so that expiry and the sums need to look at one row. */
static void change_hold(struct apply *a, const struct log_operation *op, struct row_message *m)
{
	bool was = m->held_ms != 0;
	if (op->op == OP_HOLD) {
		m->held_ms = op->at_ms;
		m->held_by = op->who;
		m->held_reason = op->reason;
	} else if (op->op == OP_RELEASE) {
		m->held_ms = 0;
		m->held_by = m->held_reason = LIT("");
	}
	a->status.held += (uint64_t)(m->held_ms != 0) - (uint64_t)was;
}

static void tell_operated(struct apply *a, const struct log_operation *op, const struct row_message *m)
{
	struct str text = STR_INIT(2048);
	if (!a->live || !a->event || op->op == OP_EXPIRE)
		return;
	str_addf(&text, "%s by ", operation_name(op->op));
	str_add(&text, op->who);
	if (op->reason.len > 0) {
		str_add_c(&text, ": ");
		str_add(&text, op->reason);
	}
	a->event(a->event_context, &(struct store_event){ .kind = EVENT_OPERATED, .id = op->id, .rcpt = op->index, .message = m,
		.text = str_bytes(&text) });
	str_free(&text);
}

static enum index_result flush_destination(struct apply *a, const struct log_operation *op)
{
	struct due due = { op->at_ms + 1, 0, 0 };
	struct row_rcpt row;
	enum index_result r;
	if (op->reason.len == 0 || op->reason.len > DESTINATION_MAX)
		return INDEX_OK;
	for (uint32_t i = 0; i < FLUSH_ROWS; i++) {
		r = index_next_due(a->ix, op->reason, due, &due);
		if (r != INDEX_OK)
			break;
		struct due now = { op->at_ms, due.id, due.n };
		if (index_get_rcpt(a->ix, due.id, due.n, &row) == INDEX_OK) {
			row.next_try_ms = op->at_ms;
			if (index_put_rcpt(a->ix, due.id, due.n, &row) == INDEX_FATAL || index_put_due(a->ix, op->reason, now) == INDEX_FATAL ||
				schedule_due_added(a->schedule, op->reason, now) == INDEX_FATAL)
				return INDEX_FATAL;
		}
		if (index_delete_due(a->ix, op->reason, due) == INDEX_FATAL)
			return INDEX_FATAL;
	}
	return schedule_lift(a->schedule, op->reason, op->at_ms);
}

enum index_result apply_operation(struct apply *a, const struct log_operation *op)
{
	struct row_message m;
	struct change c = { .a = a, .op = op };
	if (op->op == OP_FLUSH_DESTINATION)
		return flush_destination(a, op);
	if (op->op < OP_RETRY || op->op > OP_EXPIRE)
		return INDEX_NONE;
	enum index_result r = index_get_message(a->ix, op->id, &m);
	if (r != INDEX_OK)
		return r == INDEX_FATAL ? r : INDEX_OK;
	tell_operated(a, op, &m);
	change_hold(a, op, &m);
	c.counts = m;
	if (index_put_message(a->ix, op->id, &m) == INDEX_FATAL || change_rcpts(&c) == INDEX_FATAL)
		return INDEX_FATAL;
	return is_ending(op->op) ? apply_counts(a, op->id, &c.counts, op->at_ms) : INDEX_OK;
}
