/*
 * store_bounce - what is to be reported to senders: failures, and successes and delays that were to be reported (RFC 3461). Room: queue, the store.
 *
 * All of a message are grouped in batches of at most BATCH_RCPTS; one bounce reports one batch. While the bounce program has a
 * batch, later failures of the message belong to the next one: the bounce that is being written does not speak of them. So do those behind
 * a batch that is over: its number is that of its bounce, in the Message-ID and in what a second bounce of it would settle. One
 * batch of a message is out at a time. That a batch is out is memory only: after a crash, or when the bounce program is lost, it is handed out
 * again, and a bounce that was accepted settles its batch in the same log record that holds it, so there is exactly one. A second one, of a bounce
 * program that was thought dead, finds its batch settled and is let go. So nothing may join a batch that has been out once, whatever has died since: its
 * bounce may be on its way and does not speak of it.
 */
#include <stdlib.h>
#include <string.h>

#include "store_inside.h"

#define CLAIM_MS UINT64_C(300000)

/* ---- what is out ---- */

static struct bouncing *find_out(const struct store *st, msgid_t id)
{
	for (size_t i = 0; i < st->bouncing_count; i++) {
		if (st->bouncing[i].id == id)
			return &st->bouncing[i];
	}
	return NULL;
}

static void take_back(struct store *st, struct bouncing *b)
{
	usage_unpin(st->usage, b->segment);
	*b = st->bouncing[--st->bouncing_count];
}

static bool put_out(struct store *st, const struct bouncing *out)
{
	struct bouncing *b = find_out(st, out->id);
	if (b)
		take_back(st, b);
	struct bouncing *all = array_room(st->bouncing, st->bouncing_count, &st->bouncing_room, sizeof *all);
	if (!all)
		return false;
	st->bouncing = all;
	st->bouncing[st->bouncing_count++] = *out;
	usage_pin(st->usage, out->segment);
	return true;
}

void store_bounce_reported(void *store, msgid_t id)
{
	struct store *st = store;
	struct bouncing *b = find_out(st, id);
	if (b)
		take_back(st, b);
}

void store_bounce_let_go(struct store *st, msgid_t id, uint32_t batch)
{
	struct bouncing *b = find_out(st, id);
	if (b && b->batch == batch)
		take_back(st, b);
}

/* All delays of a batch may have ended while it was out, and its message with them: no report of it comes then, or none that is taken. */
static enum index_result forget_ended(struct store *st, wall_ms_t now)
{
	enum index_result r = INDEX_OK;
	bool waits;
	for (size_t i = st->bouncing_count; i-- > 0 && r == INDEX_OK;) {
		struct bouncing *b = &st->bouncing[i];
		if (b->until_ms > now)
			continue;
		r = store_batch_waits(st, b->id, b->batch, &waits);
		if (r == INDEX_OK && !waits)
			take_back(st, b);
	}
	return r;
}

void store_give_back_bounces(struct store *st, wall_ms_t now)
{
	(void)now;
	for (size_t i = 0; i < st->bouncing_count; i++)
		st->bouncing[i].until_ms = 0;
}

/* What was begun before this start may have been handed out then. It was due a minute after its first failure at the latest; sooner only in an index that
 * was committed after that. */
static bool is_from_before(const struct store *st, const struct row_message *m)
{
	return m->bounce_due_ms != 0 && m->bounce_due_ms < st->apply.status.started_ms + BOUNCE_WAIT_MS;
}

/* The lowest batch goes out first: those above the one that is out have not been. */
uint32_t store_batch(struct store *st, msgid_t id, const struct row_message *m)
{
	const struct bouncing *b = find_out(st, id);
	bool was_out = b ? b->batch >= m->batch : is_from_before(st, m);
	bool is_over = m->failed == 0 && m->batch_failed > 0;
	/* Kept, or each further failure would begin a batch of its own. Without memory each does. */
	if (!b && was_out)
		put_out(st, &(struct bouncing){ .id = id, .segment = m->segment, .until_ms = 0, .batch = m->batch });
	return m->batch + (is_over || was_out || m->batch_failed >= BATCH_RCPTS);
}

enum index_result store_batch_waits(struct store *st, msgid_t id, uint32_t batch, bool *waits_r)
{
	struct row_rcpt row;
	uint32_t n = 0;
	enum index_result r;
	*waits_r = false;
	while (!*waits_r && (r = index_next_rcpt(st->ix, id, n, &n, &row)) == INDEX_OK) {
		*waits_r = rcpt_reports(&row) && row.batch == batch;
		n++;
	}
	return !*waits_r && r == INDEX_FATAL ? r : INDEX_OK;
}

/* ---- what is reported to whom ---- */

/* RFC 3461 4.1: without NOTIFY, failures are reported; NEVER, and a list without FAILURE, forbid it. The others would not be here. */
static bool is_wanted(const struct row_rcpt *row)
{
	return row->state != RCPT_FAILED || envelope_notify_asks(row->notify, LIT("FAILURE"));
}

static enum dsn_action action_of(const struct row_rcpt *row)
{
	if (row->state == RCPT_FAILED)
		return DSN_FAILED;
	if (row->state == RCPT_WAITING)
		return DSN_DELAYED;
	return schedule_channel(row->destination) == CHANNEL_LOCAL ? DSN_DELIVERED : DSN_RELAYED;
}

static void fill_rcpt(struct bounce_rcpt *to, msgid_t id, uint32_t n, const struct row_rcpt *row)
{
	*to = (struct bounce_rcpt){
		.id = id, .index = n, .stage = row->stage, .code = row->code, .e_class = row->e_class, .e_subject = row->e_subject,
		.e_detail = row->e_detail,
		.last_try_ms = row->last_try_ms, .attempts = row->attempts, .address = row->address, .orcpt = row->orcpt, .host = row->host,
		.text = row->text, .action = (uint8_t)action_of(row),
	};
}

struct batch { uint32_t number, wanted; bool to_postmaster; };

/* The lowest batch that is due; those of its recipients that are to be reported go to st->bounce_rcpt. */
static enum index_result gather(struct store *st, msgid_t id, struct batch *b)
{
	struct row_rcpt row;
	uint32_t n = 0;
	enum index_result r;
	*b = (struct batch){ .number = 0 };
	while ((r = index_next_rcpt(st->ix, id, n, &n, &row)) == INDEX_OK) {
		if (rcpt_reports(&row) && (b->number == 0 || row.batch < b->number))
			*b = (struct batch){ .number = row.batch };
		if (rcpt_reports(&row) && row.batch == b->number && b->wanted < BATCH_RCPTS) {
			b->to_postmaster |= bytes_equal_nocase(row.address, st->settings->doublebounceto);
			if (is_wanted(&row))
				fill_rcpt(&st->bounce_rcpt[b->wanted++], id, n, &row);
		}
		n++;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

/* A message without a sender is a bounce itself: its failure goes to doublebounceto, unless it is that which failed. */
static bool is_dropped(const struct store *st, const struct row_message *m, const struct batch *b)
{
	if (b->wanted == 0)
		return true;
	return m->sender.len == 0 && (st->settings->doublebounceto.len == 0 || b->to_postmaster);
}

static enum store_result append_dropped(struct store *st, msgid_t id, uint32_t batch, wall_ms_t now)
{
	struct str *record;
	struct log_dropped dropped = { .id = id, .at_ms = now, .batch = batch };
	enum store_result r = store_append_begin(st, SMALL_RECORD, false, &record);
	return r == STORE_OK ? store_append_encoded(st, log_dropped_encode(&dropped, record), "a record could not be encoded") : r;
}

/* A row without failures behind it is stale. */
static enum store_result drop_row(struct store *st, wall_ms_t due, msgid_t id)
{
	return index_delete_bounce(st->ix, due, id) == INDEX_FATAL ? store_index_result(st, INDEX_FATAL) : STORE_NONE;
}

/* STORE_NONE: this one came to nothing; look on. */
static enum store_result claim_one(struct store *st, wall_ms_t due, msgid_t id, wall_ms_t now, struct store_bounce *bounce_r)
{
	struct row_message m;
	struct batch b = { .number = 0 };
	enum index_result r = index_get_message(st->ix, id, &m);
	if (r == INDEX_OK)
		r = gather(st, id, &b);
	if (r == INDEX_FATAL)
		return store_index_result(st, r);
	if (r == INDEX_NONE || b.number == 0 || m.bounce_due_ms != due)
		return drop_row(st, due, id);
	if (is_dropped(st, &m, &b)) {
		enum store_result dropped = append_dropped(st, id, b.number, now);
		return dropped == STORE_OK ? STORE_NONE : dropped;
	}
	if (!put_out(st, &(struct bouncing){ .id = id, .segment = m.segment, .until_ms = now + CLAIM_MS, .batch = b.number }))
		return store_fail(st, "out of memory");
	/* A report is text: of a binary message it has the header, which is. */
	struct bytes ret = m.body_type == BODY_BINARYMIME ? LIT("HDRS") : m.ret;
	bounce_r->begin = (struct bounce_begin){
		.id = id, .batch = b.number, .arrival_ms = m.arrival_ms, .segment = m.segment, .body_offset = m.body_offset, .body_size = m.body_size,
		.record_offset = m.large ? 0 : m.record_offset,
		.large = m.large, .smtputf8 = m.smtputf8, .rcpt_count = b.wanted, .sender = m.sender, .envid = m.envid, .ret = ret,
	};
	bounce_r->rcpts = st->bounce_rcpt;
	return STORE_OK;
}

enum store_result store_claim_bounce(struct store *st, wall_ms_t now, struct store_bounce *bounce_r)
{
	wall_ms_t due = 0;
	msgid_t id = 0;
	/* The bounce program reads the body: it must be written. */
	if (store_dirty(st) && store_sync(st) != STORE_OK)
		return STORE_FATAL;
	if (st->fatal)
		return STORE_FATAL;
	if (forget_ended(st, now) != INDEX_OK)
		return store_index_result(st, INDEX_FATAL);
	for (;;) {
		enum index_result r = index_next_bounce(st->ix, due, id, &due, &id);
		if (r != INDEX_OK || due > now)
			return r == INDEX_FATAL ? store_index_result(st, r) : STORE_NONE;
		const struct bouncing *b = find_out(st, id);
		if (!b || b->until_ms <= now) {
			enum store_result claimed = claim_one(st, due, id, now, bounce_r);
			if (claimed != STORE_NONE)
				return claimed;
		}
		id++;
	}
}

wall_ms_t store_bounce_wake(struct store *st, wall_ms_t now)
{
	wall_ms_t due, next = UINT64_MAX;
	msgid_t id;
	if (index_next_bounce(st->ix, now + 1, 0, &due, &id) == INDEX_OK)
		next = due;
	for (size_t i = 0; i < st->bouncing_count; i++) {
		if (st->bouncing[i].until_ms > now && st->bouncing[i].until_ms < next)
			next = st->bouncing[i].until_ms;
	}
	return next;
}
