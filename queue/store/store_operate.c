/*
 * store_operate - operators' commands, and the queue's own: a message whose lifetime is over. Room: queue, the store.
 *
 * Commands that end recipients leave those in flight alone: they may be delivered this instant, and a bounce or a silence
 * about them would lie. The log then gets one record for each of the others, so that a replay, which knows nothing of flights,
 * changes the same ones.
 */
#include <string.h>

#include "queue/operation.h"
#include "store_inside.h"

#define EXPIRE_MESSAGES 200u       /* looked at in one tick */

/* ---- appending ---- */

static enum store_result append_operation(struct store *st, const struct log_operation *op)
{
	struct str *record;
	enum store_result r = store_append_begin(st, SMALL_RECORD, false, &record);
	return r == STORE_OK ? store_append_encoded(st, log_operation_encode(op, record), "an operation could not be encoded") : r;
}

struct tally { uint32_t waiting, flying; };

static enum index_result tally_rcpts(struct store *st, msgid_t id, uint32_t index, struct tally *t)
{
	struct row_rcpt row;
	bool all = index == OPERATION_ALL_RCPTS;
	uint32_t n = all ? 0 : index;
	enum index_result r;
	*t = (struct tally){ 0, 0 };
	while ((r = index_next_rcpt(st->ix, id, n, &n, &row)) == INDEX_OK && (all || n == index)) {
		bool flies = jobs_flying(st->jobs, id, n);
		t->waiting += row.state == RCPT_WAITING && !flies;
		t->flying += row.state == RCPT_WAITING && flies;
		n++;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

/* One record for each recipient that waits and does not fly. */
static enum store_result append_each(struct store *st, struct log_operation *op)
{
	struct row_message m;
	struct row_rcpt row;
	uint32_t n = 0;
	enum index_result r;
	while ((r = index_next_rcpt(st->ix, op->id, n, &n, &row)) == INDEX_OK) {
		if (row.state == RCPT_WAITING && !jobs_flying(st->jobs, op->id, n)) {
			if (index_get_message(st->ix, op->id, &m) != INDEX_OK)
				return store_index_result(st, INDEX_FATAL);
			op->index = n;
			op->batch = store_batch(st, op->id, &m);
			enum store_result done = append_operation(st, op);
			if (done != STORE_OK)
				return done;
		}
		n++;
	}
	return r == INDEX_FATAL ? store_index_result(st, r) : STORE_OK;
}

/* End recipients: all that wait, or one. */
static enum store_result append_ending(struct store *st, struct log_operation *op, const struct tally *t)
{
	struct row_message m;
	if (t->flying > 0)
		return append_each(st, op);
	if (index_get_message(st->ix, op->id, &m) != INDEX_OK)
		return store_index_result(st, INDEX_FATAL);
	op->batch = store_batch(st, op->id, &m);
	return append_operation(st, op);
}

/* ---- commands ---- */

static bool is_ending(unsigned op)
{
	return op == OP_DELETE || op == OP_BOUNCE;
}

static const char *past_of(unsigned op)
{
	switch (op) {
	case OP_RETRY: return "due now";
	case OP_HOLD: return "held";
	case OP_RELEASE: return "released";
	case OP_DELETE: return "deleted";
	default: return "returned to the sender";
	}
}

static void answer_count(struct str *answer, const struct operate *op, const struct tally *t)
{
	uint32_t count = is_ending(op->op) ? t->waiting : t->waiting + t->flying;
	str_addf(answer, "%u recipient%s %s", count, count == 1 ? "" : "s", past_of(op->op));
	if (is_ending(op->op) && t->flying > 0)
		str_addf(answer, "; %u being delivered right now and left alone", t->flying);
}

static enum store_result refuse(struct str *answer, const char *why)
{
	str_add_c(answer, why);
	return STORE_NONE;
}

/* NULL, or why there is nothing to do. */
static const char *objection(const struct operate *op, const struct row_message *m, const struct tally *t)
{
	bool held = m->held_ms != 0;
	if (t->waiting + t->flying == 0)
		return "no recipient is waiting";
	if (is_ending(op->op) && t->waiting == 0)
		return "being delivered right now; try again";
	if ((op->op == OP_HOLD || op->op == OP_RELEASE) && op->index != OPERATION_ALL_RCPTS)
		return "only whole messages are held and released";
	if (op->op == OP_HOLD && held)
		return "it is held already";
	if (op->op == OP_RELEASE && !held)
		return "it is not held";
	if (op->op == OP_RETRY && held)
		return "it is held: release it first";
	return NULL;
}

static enum store_result operate_message(struct store *st, const struct operate *op, wall_ms_t now, struct str *answer)
{
	struct row_message m;
	struct tally t;
	enum index_result r = index_get_message(st->ix, op->id, &m);
	if (r == INDEX_NONE)
		return refuse(answer, "no such message");
	if (r == INDEX_OK)
		r = tally_rcpts(st, op->id, op->index, &t);
	if (r != INDEX_OK)
		return store_index_result(st, r);
	const char *no = objection(op, &m, &t);
	if (no)
		return refuse(answer, no);
	struct log_operation record = { .id = op->id, .index = op->index, .at_ms = now, .op = op->op, .who = op->who, .reason = op->reason };
	/* What was released may have outlived its time meanwhile. */
	for (unsigned i = 0; op->op == OP_RELEASE && i < 2; i++)
		st->expiry[i] = op->id < st->expiry[i] ? op->id : st->expiry[i];
	enum store_result done = is_ending(op->op) ? append_ending(st, &record, &t) : append_operation(st, &record);
	if (done == STORE_OK)
		answer_count(answer, op, &t);
	return done;
}

/* ---- flush of a destination, in slices ---- */

static struct bytes kept(char *out, size_t room, struct bytes b)
{
	size_t n = b.len < room ? b.len : room;
	if (n > 0)
		memcpy(out, b.at, n);
	return (struct bytes){ out, n };
}

static enum store_result operate_flush(struct store *st, const struct operate *op, wall_ms_t now, struct str *answer)
{
	struct row_destination row;
	struct due due;
	if (op->reason.len == 0 || op->reason.len > DESTINATION_MAX)
		return refuse(answer, "no destination is named");
	if (st->flush.active && store_flush_some(st, true) != STORE_OK)
		return STORE_FATAL;
	enum index_result r = index_next_due(st->ix, op->reason, (struct due){ 0, 0, 0 }, &due);
	if (r == INDEX_NONE)
		r = index_get_destination(st->ix, op->reason, &row);
	if (r == INDEX_NONE)
		return refuse(answer, "nothing waits for this destination");
	if (r == INDEX_FATAL)
		return store_index_result(st, r);
	st->flush.op = (struct log_operation){ .index = OPERATION_ALL_RCPTS, .at_ms = now, .op = OP_FLUSH_DESTINATION,
		.who = kept(st->flush.who, sizeof st->flush.who, op->who), .reason = kept(st->flush.destination,
		sizeof st->flush.destination, op->reason) };
	st->flush.active = true;
	enum store_result done = store_flush_some(st, false);
	if (done == STORE_OK)
		str_add_c(answer, "all that waits for it is due now");
	return done;
}

enum store_result store_flush_some(struct store *st, bool whole)
{
	struct due due;
	while (st->flush.active) {
		enum store_result r = append_operation(st, &st->flush.op);
		if (r != STORE_OK)
			return r;
		/* A row that failed again meanwhile comes once more: few do, in the turns that this takes. */
		enum index_result more = index_next_due(st->ix, st->flush.op.reason, (struct due){ st->flush.op.at_ms + 1, 0, 0 }, &due);
		if (more == INDEX_FATAL)
			return store_index_result(st, more);
		st->flush.active = more == INDEX_OK;
		if (!whole)
			break;
	}
	return STORE_OK;
}

bool store_flushing(const struct store *st)
{
	return st->flush.active;
}

enum store_result store_next_destination(struct store *st, struct str *name)
{
	struct row_destination row;
	struct bytes found;
	if (st->fatal)
		return STORE_FATAL;
	if (name->len > 0)
		str_add_char(name, '\0');   /* the least that is greater */
	enum index_result r = index_next_destination(st->ix, str_bytes(name), &found, &row);
	if (r != INDEX_OK)
		return r == INDEX_NONE ? STORE_NONE : store_index_result(st, r);
	str_clear(name);
	return str_add(name, found) ? STORE_OK : store_fail(st, "out of memory");
}

enum store_result store_operate(struct store *st, const struct operate *op, wall_ms_t now, struct str *answer)
{
	if (st->fatal)
		return STORE_FATAL;
	switch (op->op) {
	case OP_RETRY:
	case OP_HOLD:
	case OP_RELEASE:
	case OP_DELETE:
	case OP_BOUNCE:
		return operate_message(st, op, now, answer);
	case OP_FLUSH_DESTINATION:
		return operate_flush(st, op, now, answer);
	default:
		return refuse(answer, "unknown operation");
	}
}

/* ---- expiry ---- */

static uint64_t lifetime_ms(const struct store *st, bool empty_sender)
{
	return (empty_sender ? st->settings->bouncelifetime : st->settings->queuelifetime) * SECOND_MS;
}

bool store_is_expired(const struct store *st, msgid_t id, const struct row_message *m, wall_ms_t now)
{
	return m->held_ms == 0 && now >= msgid_time(id) + lifetime_ms(st, m->sender.len == 0);
}

enum store_result store_expire_rcpt(struct store *st, msgid_t id, uint32_t n, wall_ms_t now)
{
	struct row_message m;
	if (index_get_message(st->ix, id, &m) != INDEX_OK)
		return store_index_result(st, INDEX_FATAL);
	struct log_operation op = { .id = id, .index = n, .at_ms = now, .op = OP_EXPIRE, .batch = store_batch(st, id, &m) };
	return append_operation(st, &op);
}

static enum store_result expire_message(struct store *st, msgid_t id, wall_ms_t now)
{
	struct tally t;
	struct log_operation op = { .id = id, .index = OPERATION_ALL_RCPTS, .at_ms = now, .op = OP_EXPIRE };
	if (tally_rcpts(st, id, OPERATION_ALL_RCPTS, &t) == INDEX_FATAL)
		return store_index_result(st, INDEX_FATAL);
	return t.waiting > 0 ? append_ending(st, &op, &t) : STORE_OK;
}

/* Ids sort by time and lifetimes are the same for all, so one cursor per lifetime passes each message once: when it is as old as that.
 * Those in flight then are ended by their result (store_claim.c), those held by their release. */
static enum store_result walk(struct store *st, bool empty_only, wall_ms_t now)
{
	struct row_message m;
	msgid_t id, *cursor = &st->expiry[empty_only];
	for (unsigned i = 0; i < EXPIRE_MESSAGES; i++) {
		enum index_result r = index_next_message(st->ix, *cursor, &id, &m);
		if (r != INDEX_OK || now < msgid_time(id) + lifetime_ms(st, empty_only))
			return r == INDEX_FATAL ? store_index_result(st, r) : STORE_OK;
		*cursor = id + 1;
		if ((m.sender.len == 0) != empty_only || m.held_ms != 0 || m.unfinished == 0)
			continue;
		enum store_result done = expire_message(st, id, now);
		if (done != STORE_OK)
			return done;
	}
	return STORE_OK;
}

enum store_result store_expire_some(struct store *st, wall_ms_t now)
{
	enum store_result r = walk(st, false, now);
	return r == STORE_OK ? walk(st, true, now) : r;
}

wall_ms_t store_expiry_wake(struct store *st, wall_ms_t now)
{
	struct row_message m;
	wall_ms_t next = UINT64_MAX;
	msgid_t id;
	for (unsigned i = 0; i < 2; i++) {
		if (index_next_message(st->ix, st->expiry[i], &id, &m) != INDEX_OK)
			continue;
		wall_ms_t at = msgid_time(id) + lifetime_ms(st, i == 1);
		next = at < next ? at : next;
	}
	return next > now ? next : now;
}
