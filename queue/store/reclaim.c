/*
 * reclaim - the log's space. Room: queue, the store.
 */
#include "reclaim.h"

#include "store_inside.h"

/* ---- recycling ---- */

/* Called right behind a commit: what memory says of the segments is what the index on disk says. The segment that is appended to is
 * never dead. A job or a bounce that may begin to read from a segment pins it; who reads holds its file, which a restart of queued does not change. */
enum index_result reclaim_dead(struct store *st)
{
	uint64_t current = msglog_end(st->log).segment;
	st->reclaim.searched = false;
	for (size_t i = 0; i < usage_count(st->usage);) {
		const struct segment_usage *s = usage_at(st->usage, i);
		uint64_t segment = s->segment;
		bool kept = segment >= current || s->live_messages > 0 || s->pins > 0 || segment == st->reclaim.victim;
		enum msglog_result r = kept ? MSGLOG_BUSY : msglog_recycle(st->log, segment);
		if (r == MSGLOG_BUSY) {
			i++;
			continue;
		}
		if (r != MSGLOG_OK) {
			store_fail(st, msglog_error(st->log));
			return INDEX_FATAL;
		}
		if (usage_drop(st->usage, segment, st->ix) == INDEX_FATAL)
			return INDEX_FATAL;
	}
	return INDEX_OK;
}

/* ---- copying forward ---- */

void reclaim_end(struct reclaim *r)
{
	msglog_scan_close(r->scan);
	r->scan = NULL;
	r->victim = 0;
}

static bool is_victim(const struct store *st, const struct segment_usage *s, uint64_t current)
{
	return s->segment + RECLAIM_YOUNG < current && s->live_messages > 0 && !s->stuck &&
		s->live_bytes < msglog_segment_size(st->log) / RECLAIM_LIVE_PART;
}

/* The oldest one. */
static enum index_result choose(struct store *st)
{
	struct reclaim *r = &st->reclaim;
	uint64_t current = msglog_end(st->log).segment;
	r->searched = true;
	for (size_t i = 0; i < usage_count(st->usage) && !r->scan; i++) {
		const struct segment_usage *s = usage_at(st->usage, i);
		if (!is_victim(st, s, current))
			continue;
		r->scan = msglog_scan_open(st->log, (struct place){ s->segment, 0 }, s->segment);
		if (!r->scan)
			return INDEX_FATAL;
		r->victim = s->segment;
	}
	return INDEX_OK;
}

/* Copy this entry if it is a live message's record, and says so in *copied_r. */
static enum store_result copy_entry(struct store *st, const struct msglog_entry *e, bool *copied_r)
{
	struct record record;
	struct log_message lm;
	struct row_message row;
	struct str *out;
	size_t used;
	*copied_r = false;
	if (record_take(e->payload, &record, &used) != RECORD_OK || record.type != REC_log_message || !log_message_decode(record.payload, &lm))
		return STORE_OK;
	enum index_result r = index_get_message(st->ix, lm.id, &row);
	if (r != INDEX_OK)
		return r == INDEX_FATAL ? store_index_result(st, r) : STORE_OK;
	if (row.segment != e->place.segment || row.record_offset != e->place.offset)
		return STORE_OK;
	/* It is no new message: nobody's intake file carries this token any more, and the failures it reports are settled. */
	lm.moved_from = e->place.segment;
	lm.token_a = lm.token_b = 0;
	enum store_result done = store_append_begin(st, e->payload.len, true, &out);
	if (done != STORE_OK)
		return done;
	if (!log_message_encode(&lm, out) || !str_add(out, bytes_slice(e->payload, used, e->payload.len))) {
		msglog_cancel(st->log);
		return store_fail(st, "a record could not be copied");
	}
	*copied_r = true;
	return store_append_end(st);
}

/* All of the victim was seen. What is still alive in it stands in a damaged record: it is left alone. */
static void finish_victim(struct store *st)
{
	struct segment_usage *s = usage_find(st->usage, st->reclaim.victim);
	if (s && s->live_messages > 0)
		s->stuck = true;
	reclaim_end(&st->reclaim);
	st->reclaim.searched = false;
}

static enum store_result slice(struct store *st)
{
	struct msglog_entry e;
	bool copied;
	for (size_t done = 0; done < RECLAIM_SLICE; done += e.size) {
		enum msglog_result r = msglog_scan_next(st->reclaim.scan, &e);
		if (r == MSGLOG_FATAL)
			return store_fail(st, msglog_error(st->log));
		if (r == MSGLOG_END) {
			finish_victim(st);
			return STORE_OK;
		}
		enum store_result result = e.damaged ? STORE_OK : copy_entry(st, &e, &copied);
		/* A full disk: the copying begins anew when there is room. */
		if (result == STORE_FULL) {
			reclaim_end(&st->reclaim);
			return STORE_OK;
		}
		if (result != STORE_OK)
			return result;
	}
	return STORE_OK;
}

enum index_result reclaim_some(struct store *st, bool *busy_r)
{
	struct reclaim *r = &st->reclaim;
	if (!r->scan && !r->searched && choose(st) == INDEX_FATAL)
		return INDEX_FATAL;
	if (r->scan && slice(st) != STORE_OK)
		return INDEX_FATAL;
	*busy_r = r->scan != NULL;
	return INDEX_OK;
}
