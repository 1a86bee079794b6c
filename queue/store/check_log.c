/*
 * check_log - every segment of the log, and what the index says of the messages in it. Room: queue (tappal).
 *
 * Each segment is read from its first octet to its end, in a snapshot of the index of its own: so no page of the index is kept from reuse for
 * longer than a segment takes. Records up to the place that this snapshot has applied are held against it:
 *   a message      its row points here, or to a copy further on; or the log says what ended it; or it is finished
 *   a result ...   its recipient's row knows of it
 * Then counts decide: as many messages stand where the index says as it says of the segment. Only where fewer do, and where a large body was not
 * found, the messages are looked up one by one (check_doubt.c), behind this pass, in a newer snapshot.
 *
 * A message that has no row, and whose end the log does not tell, is lost: but only if nothing is missing between it and the end. A segment
 * that was recycled may have told it.
 */
#include "check_doubt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_track.h"
#include "common/envelope.h"
#include "common/paths.h"
#include "common/verdict.h"
#include "prepare.h"
#include "queue/operation.h"

#define HELD_MAX 1000u           /* findings of one segment */

struct log_pass {
	struct check *c;
	struct index *ix;             /* NULL: without */
	struct msglog *log;
	int dir;
	struct track track;
	struct doubts doubts;
	/* of this segment */
	uint64_t segment;
	char file[64];
	struct place applied;
	bool has_row, gap;
	struct row_segment row;
	uint64_t confirmed;
	struct check_finding *held;   /* told when the segment is known to have been itself all the time */
	size_t held_count, held_more;
	/* of this record */
	const struct msglog_entry *entry;
	bool indexed;
};

static bool before(struct place a, struct place b)
{
	return a.segment != b.segment ? a.segment < b.segment : a.offset < b.offset;
}

/* ---- findings ---- */

static void tell(struct log_pass *p, enum check_kind kind, msgid_t id, uint64_t offset, uint64_t size, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
static void tell(struct log_pass *p, enum check_kind kind, msgid_t id, uint64_t offset, uint64_t size, const char *format, ...)
{
	if (p->held_count == HELD_MAX) {
		p->held_more++;
		return;
	}
	struct check_finding *f = &p->held[p->held_count++];
	*f = (struct check_finding){ .kind = kind, .id = id, .offset = offset, .size = size };
	snprintf(f->file, sizeof f->file, "%s", p->file);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(f->text, sizeof f->text, format, arguments);
	va_end(arguments);
}

static void tell_here(struct log_pass *p, enum check_kind kind, msgid_t id, const char *text)
{
	tell(p, kind, id, p->entry->place.offset, p->entry->size, "%s", text);
}

static void tell_held(struct log_pass *p)
{
	for (size_t i = 0; i < p->held_count; i++)
		check_tell(p->c, &p->held[i]);
	if (p->held_more > 0)
		check_say(p->c, CHECK_NOTE, p->file, "%zu more findings in this segment are not told one by one", p->held_more);
}

/* ---- messages ---- */

static enum index_result compare_rcpts(struct log_pass *p, msgid_t id, const struct envelope *env)
{
	struct envelope_cursor cursor = { 0 };
	struct envelope_rcpt rcpt;
	struct row_rcpt row;
	while (envelope_next(env, &cursor, &rcpt)) {
		enum index_result r = index_get_rcpt(p->ix, id, rcpt.index, &row);
		if (r == INDEX_FATAL)
			return r;
		if (r == INDEX_NONE || !bytes_equal(row.address, bytes_slice(rcpt.addr.text, 0, 320))) {
			tell(p, CHECK_INDEX_LOG, id, p->entry->place.offset, p->entry->size, "recipient %u of its envelope is not that of the index", rcpt.index);
			return INDEX_OK;
		}
	}
	return INDEX_OK;
}

/* The index says that it stands here: does it say the same of it? */
static enum index_result confirm(struct log_pass *p, const struct log_message *m, const struct envelope *env,
	const struct row_message *row, uint64_t body_at)
{
	p->confirmed++;
	if (row->record_size != p->entry->size || row->body_offset != (m->large ? m->body_offset : body_at) || row->body_size != m->body_size ||
		row->large != m->large || row->rcpt_count != env->rcpt_count || !bytes_equal(row->sender, bytes_slice(env->sender.text, 0, 320))) {
		tell_here(p, CHECK_INDEX_LOG, m->id, "its size, place, sender or number of recipients are others in the index");
		return INDEX_OK;
	}
	if (m->large && !check_body(p->c, m, env->raw) && !doubt(&p->doubts, m->id))
		return INDEX_FATAL;
	return compare_rcpts(p, m->id, env);
}

static enum index_result without_row(struct log_pass *p, const struct log_message *m, const struct envelope *env)
{
	struct row_finished row;
	enum index_result r = index_get_finished(p->ix, m->id, &row);
	if (r != INDEX_NONE)
		return r;
	/* Of a copy that was made later it is not known how many recipients were left. */
	if (m->moved_from == 0 && !track_add(&p->track, m->id, p->entry->place, (uint32_t)env->rcpt_count))
		p->c->sums.unproved++;
	return INDEX_OK;
}

static enum index_result check_message(struct log_pass *p, const struct log_message *m, struct bytes raw, size_t raw_at)
{
	struct envelope env;
	struct row_message row;
	struct place here = p->entry->place;
	if (m->id == 0 || m->envelope_size > raw.len || envelope_parse(bytes_slice(raw, 0, m->envelope_size), &env) != ENV_OK ||
		(!m->large && raw.len - m->envelope_size != m->body_size)) {
		tell_here(p, CHECK_LOG_RECORD, m->id, "the record of a message whose envelope or sizes are wrong");
		return INDEX_OK;
	}
	if (!p->indexed)
		return INDEX_OK;
	enum index_result r = index_get_message(p->ix, m->id, &row);
	if (r == INDEX_NONE)
		return without_row(p, m, &env);
	if (r == INDEX_FATAL)
		return r;
	struct place there = { row.segment, row.record_offset };
	if (there.segment == here.segment && there.offset == here.offset)
		return confirm(p, m, &env, &row, here.offset + MSGLOG_HEAD + raw_at + m->envelope_size);
	if (before(there, here) && m->moved_from != 0)
		tell_here(p, CHECK_INDEX_LOG, m->id, "it was copied to here, and the index looks for it where it was");
	return INDEX_OK;
}

/* ---- what happened to them ---- */

static bool knows_result(const struct row_rcpt *row, unsigned verdict)
{
	if (verdict == V_OK)
		return row->state == RCPT_DELIVERED || row->state == RCPT_REPORTING;
	if (verdict == V_PERM)
		return row->state == RCPT_FAILED || row->state == RCPT_BOUNCED || row->state == RCPT_DROPPED;
	return row->attempts > 0;
}

/* INDEX_OK: the message has a row, and stood where it stands when this record was written. INDEX_NONE: nothing can be said. */
static enum index_result message_before(struct log_pass *p, msgid_t id, struct row_message *row_r)
{
	enum index_result r = index_get_message(p->ix, id, row_r);
	if (r == INDEX_OK && before(p->entry->place, (struct place){ row_r->segment, row_r->record_offset }))
		return INDEX_NONE;
	return r;
}

static enum index_result check_result(struct log_pass *p, const struct log_result *res)
{
	struct row_message m;
	struct row_rcpt row;
	if (!p->indexed)
		return INDEX_OK;
	if (res->verdict != V_TEMP)
		track_end(&p->track, res->id, 1);
	enum index_result r = message_before(p, res->id, &m);
	if (r != INDEX_OK)
		return r;
	r = index_get_rcpt(p->ix, res->id, res->index, &row);
	if (r == INDEX_OK && !knows_result(&row, res->verdict))
		tell(p, CHECK_INDEX_LOG, res->id, p->entry->place.offset, p->entry->size,
			"a delivery to recipient %u ended here, and the index does not know it", res->index);
	return r;
}

static enum index_result check_operation(struct log_pass *p, const struct log_operation *op)
{
	struct row_message m;
	struct row_rcpt row = { .state = RCPT_DELETED };
	bool all = op->index == OPERATION_ALL_RCPTS;
	if (!p->indexed || (op->op != OP_DELETE && op->op != OP_BOUNCE && op->op != OP_EXPIRE))
		return INDEX_OK;
	track_end(&p->track, op->id, all ? UINT32_MAX : 1);
	enum index_result r = message_before(p, op->id, &m);
	if (r != INDEX_OK)
		return r;
	if (!all)
		r = index_get_rcpt(p->ix, op->id, op->index, &row);
	if (r == INDEX_OK && (all ? m.unfinished > 0 : row.state == RCPT_WAITING))
		tell(p, CHECK_INDEX_LOG, op->id, p->entry->place.offset, p->entry->size,
			"it was ended here (%s), and the index still has it waiting", operation_name(op->op));
	return r;
}

/* ---- records ---- */

static enum index_result check_start(struct log_pass *p, const struct log_start *start)
{
	if (p->entry->place.offset != 0 || start->run != p->entry->run)
		tell_here(p, CHECK_LOG_RECORD, 0, "a segment's header that is not its own");
	return INDEX_OK;
}

static enum index_result check_record(struct log_pass *p)
{
	struct record record;
	struct log_message message;
	struct log_result result;
	struct log_operation operation;
	struct log_destination destination;
	struct log_dropped dropped;
	struct log_start start;
	size_t used;
	struct bytes payload = p->entry->payload;
	if (record_take(payload, &record, &used) != RECORD_OK)
		record.type = REC_none;
	if (record.type == REC_log_message && log_message_decode(record.payload, &message))
		return check_message(p, &message, bytes_slice(payload, used, payload.len), used);
	if (record.type == REC_log_result && log_result_decode(record.payload, &result))
		return check_result(p, &result);
	if (record.type == REC_log_operation && log_operation_decode(record.payload, &operation))
		return check_operation(p, &operation);
	if (record.type == REC_log_start && log_start_decode(record.payload, &start))
		return check_start(p, &start);
	if ((record.type == REC_log_destination && log_destination_decode(record.payload, &destination)) ||
		(record.type == REC_log_dropped && log_dropped_decode(record.payload, &dropped)))
		return INDEX_OK;
	tell_here(p, CHECK_LOG_RECORD, 0, "a whole record that is none of this version");
	return INDEX_OK;
}

static enum index_result check_entry(struct log_pass *p, const struct msglog_entry *e)
{
	p->entry = e;
	p->indexed = p->ix && before(e->place, p->applied);
	/* What a running queued writes this instant is half there. */
	if (p->c->live && !p->indexed)
		return INDEX_OK;
	if (e->damaged) {
		p->gap = true;
		tell_here(p, CHECK_LOG_DAMAGED, 0, e->place.offset == 0 ? "damaged, and with it the segment's header" :
			"damaged: records had been synced here");
		return INDEX_OK;
	}
	p->c->sums.records++;
	p->c->sums.octets += e->size;
	p->c->sums.behind += p->ix && !p->indexed;
	return check_record(p);
}

/* ---- segments ---- */

static enum index_result load_segment_row(struct log_pass *p)
{
	struct row_status status;
	uint64_t found = 0;
	p->has_row = false;
	p->applied = (struct place){ 0, 0 };
	if (!p->ix)
		return INDEX_OK;
	if (!index_read_begin(p->ix))
		return INDEX_FATAL;
	enum index_result r = index_get_status(p->ix, &status);
	if (r == INDEX_OK)
		p->applied = (struct place){ status.applied_segment, status.applied_offset };
	if (r != INDEX_FATAL)
		r = index_next_segment(p->ix, p->segment, &found, &p->row);
	p->has_row = r == INDEX_OK && found == p->segment;
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static bool check_end(struct log_pass *p, struct place end)
{
	uint64_t known = p->has_row ? p->row.used_bytes : 0, reached = end.segment == p->segment ? end.offset : 0;
	if (p->applied.segment == p->segment && p->applied.offset > known)
		known = p->applied.offset;
	if (reached < known) {
		p->gap = true;
		tell(p, CHECK_LOG_DAMAGED, 0, reached, known - reached, "no record is here, and the index knows records up to %" PRIu64, known);
	}
	return !p->has_row || p->confirmed >= p->row.live_messages || numbers_add(&p->doubts.segments, p->segment);
}

/* 1 read, 0 an error of the disk, told; -1 no memory, or the index. */
static int scan_segment(struct log_pass *p)
{
	struct msglog_scan *scan = msglog_scan_open(p->log, (struct place){ p->segment, 0 }, p->segment);
	struct msglog_entry e;
	enum msglog_result r = MSGLOG_OK;
	enum index_result indexed = INDEX_OK;
	if (!scan)
		return -1;
	while (indexed != INDEX_FATAL && (r = msglog_scan_next(scan, &e)) == MSGLOG_OK)
		indexed = check_entry(p, &e);
	bool good = indexed != INDEX_FATAL && (r != MSGLOG_END || check_end(p, msglog_scan_place(scan)));
	msglog_scan_close(scan);
	if (!good)
		return -1;
	if (r == MSGLOG_FATAL) {
		p->gap = true;
		tell(p, CHECK_UNREADABLE, 0, 0, 0, "%s", msglog_error(p->log));
	}
	return r == MSGLOG_END;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static void check_file(struct log_pass *p, const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || st->st_nlink != 1)
		tell(p, CHECK_OWNER, 0, 0, 0, "it is no plain file with one name");
	else if (!p->c->backup && p->segment >= p->applied.segment && (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size / 2 && p->ix)
		tell(p, CHECK_NOTE, 0, 0, 0, "more than half of it has no blocks on the disk: on a full disk it cannot be written to its end");
}

static bool check_segment(struct log_pass *p)
{
	struct stat first, last;
	char name[PREPARE_NAME_MAX];
	prepare_name(p->segment, name);
	snprintf(p->file, sizeof p->file, SPOOL_LOG "/%s", name);
	p->confirmed = p->held_count = p->held_more = 0;
	if (fstatat(p->dir, name, &first, AT_SYMLINK_NOFOLLOW) != 0) {
		p->gap = true;
		return errno == ENOENT;
	}
	bool good = load_segment_row(p) != INDEX_FATAL;
	if (good)
		check_file(p, &first);
	good = good && scan_segment(p) >= 0;
	if (p->ix)
		index_read_end(p->ix);
	p->c->sums.segments++;
	/* Recycled meanwhile: what was read may have been its next life. */
	if (fstatat(p->dir, name, &last, AT_SYMLINK_NOFOLLOW) == 0 && same_file(&first, &last))
		tell_held(p);
	else
		p->gap = true;
	return good && (!p->gap || numbers_add(&p->doubts.hurt, p->segment));
}

static void tell_lost(struct log_pass *p)
{
	const struct tracked *t;
	for (size_t i = 0; p->ix && (t = track_next(&p->track, &i)) != NULL;) {
		struct check_finding f = { .kind = CHECK_INDEX_LOG, .id = t->id, .offset = t->place.offset };
		snprintf(f.file, sizeof f.file, SPOOL_LOG "/%016" PRIx64, t->place.segment);
		snprintf(f.text, sizeof f.text, "it was accepted, the index does not have it, and no record says what became of it");
		check_tell(p->c, &f);
	}
}

static bool check_segments(struct log_pass *p)
{
	uint64_t expected = 0;
	bool good = true;
	for (uint64_t s = 0; good && msglog_next_file(p->log, s, &s); s++) {
		p->gap = s != expected;
		expected = s + 1;
		p->segment = s;
		size_t known = p->gap ? track_clear(&p->track) : 0;
		p->gap = false;
		good = check_segment(p);
		if (p->gap)
			known += track_clear(&p->track);
		p->c->sums.unproved += known;
	}
	return good;
}

bool check_log(struct check *c, struct index *ix, const struct tail *tail)
{
	struct log_pass p = { .c = c, .ix = ix };
	struct str error = STR_INIT(500);
	p.held = calloc(HELD_MAX, sizeof *p.held);
	p.log = msglog_open(SPOOL_LOG, MSGLOG_SEGMENT_SIZE, &error);
	p.dir = open(SPOOL_LOG, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	bool good = p.held && p.log && p.dir >= 0 && check_segments(&p);
	if (good)
		tell_lost(&p);
	if (good && ix)
		good = doubts_judge(&p.doubts, c, ix, tail);
	if (!good)
		snprintf(c->error, sizeof c->error, "%s: %s", SPOOL_LOG, error.len > 0 ? str_c(&error) :
			ix && index_error(ix)[0] ? index_error(ix) : "out of memory");
	if (p.dir >= 0)
		close(p.dir);
	msglog_close(p.log);
	track_free(&p.track);
	doubts_free(&p.doubts);
	free(p.held);
	str_free(&error);
	return good;
}
