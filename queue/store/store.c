/*
 * store - the queue behind one interface: open and replay, sync, commit, close. Room: queue (queued).
 *
 * The orders that keep the promise "250 means on disk, then delivered or bounced", and why each:
 *   1. log synced, then acknowledged      the caller acknowledges after store_sync
 *   2. log synced, then index committed   an index that knows more than the log would skip, at the next replay, records that
 *                                         the log then gives to others
 *   3. index committed, then recycled     until the commit a replay starts at an older place, which may lie in that segment
 *   4. large/ synced, then the log        a record that names large/ID must not outlive the name
 *   5. log synced, then large/ID unlinked the record that ends the message must not be lost after its file
 *   6. replayed, then large/ swept        only then is it known which files have a message
 *   7. replay made durable before it is believed: a queued that was killed between write and sync left records that only the
 *                                         page cache has. An intake file that was found in them would be unlinked, an index that
 *                                         knows them committed, and a power failure would take them back
 * No commit at open: tokens that the replay found must stay known until the intake files that carry them are unlinked (tokens.h).
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/paths.h"
#include "store_inside.h"

#define COMMIT_BUSY_MS 1000u
#define COMMIT_QUIET_MS 250u       /* so soon when nothing has happened for as long */
#define COMMIT_CHANGES 20000u
#define REPLAY_CHANGES 50000u      /* a replay this long means that the index was lost: it is then committed in between */

/* ---- errors ---- */

enum store_result store_fail(struct store *st, const char *sentence)
{
	if (!st->fatal)
		snprintf(st->error, sizeof st->error, "%s", sentence);
	st->fatal = true;
	return STORE_FATAL;
}

const char *store_error(const struct store *st)
{
	return st->error;
}

enum store_result store_index_result(struct store *st, enum index_result r)
{
	if (r == INDEX_FATAL)
		return store_fail(st, index_error(st->ix)[0] ? index_error(st->ix) : "out of memory");
	return r == INDEX_OK ? STORE_OK : STORE_NONE;
}

bool ids_add(struct ids *ids, msgid_t id)
{
	msgid_t *at = array_room(ids->at, ids->count, &ids->room, sizeof *at);
	if (!at)
		return false;
	ids->at = at;
	ids->at[ids->count++] = id;
	return true;
}

/* ---- appending ---- */

enum store_result store_append_begin(struct store *st, size_t bound, bool optional, struct str **payload_r)
{
	if (st->fatal)
		return STORE_FATAL;
	enum msglog_result r = msglog_begin(st->log, bound, optional, payload_r);
	if (r == MSGLOG_OK)
		return STORE_OK;
	if (r == MSGLOG_FULL && optional)
		return STORE_FULL;
	return store_fail(st, r == MSGLOG_FULL ? "disk full: no room in the log for the result of a delivery" : msglog_error(st->log));
}

enum store_result store_append_end(struct store *st)
{
	struct place place;
	struct bytes payload;
	uint32_t size;
	if (msglog_finish(st->log, &place, &size, &payload) != MSGLOG_OK)
		return store_fail(st, msglog_error(st->log));
	enum index_result r = apply_record(&st->apply, place, size, payload);
	return r == INDEX_NONE ? store_fail(st, "a record of our own is not understood") : store_index_result(st, r);
}

enum store_result store_append_encoded(struct store *st, bool encoded, const char *sentence)
{
	if (encoded)
		return store_append_end(st);
	msglog_cancel(st->log);
	return store_fail(st, sentence);
}

/* ---- durable ---- */

bool store_dirty(const struct store *st)
{
	return msglog_dirty(st->log) || st->large_dirty;
}

/* A record is not written before the name that it speaks of is durable: also when a full segment is synced in the middle of a turn. */
static bool sync_large(void *context)
{
	struct store *st = context;
	if (st->large_dirty && fsync(st->large) != 0)
		return false;
	st->large_dirty = false;
	return true;
}

enum store_result store_sync(struct store *st)
{
	if (st->fatal)
		return STORE_FATAL;
	if (!store_dirty(st))
		return STORE_OK;
	if (!sync_large(st))
		return store_fail(st, "large/: sync failed");
	if (msglog_sync(st->log) != MSGLOG_OK)
		return store_fail(st, msglog_error(st->log));
	st->apply.status.syncs++;
	return store_settle_large(st);
}

static enum index_result put_status(struct store *st, struct place applied, wall_ms_t now)
{
	struct row_status *s = &st->apply.status;
	s->run = st->run;
	s->pid = (uint64_t)getpid();
	s->commit_ms = now;
	s->applied_segment = applied.segment;
	s->applied_offset = applied.offset;
	s->flying_local = jobs_rcpts(st->jobs, CHANNEL_LOCAL);
	s->flying_remote = jobs_rcpts(st->jobs, CHANNEL_REMOTE);
	return index_put_status(st->ix, s);
}

static enum index_result write_checkpoint(struct store *st, struct place applied, wall_ms_t now)
{
	if (usage_store(st->usage, st->ix) == INDEX_FATAL || put_status(st, applied, now) == INDEX_FATAL || index_commit(st->ix) == INDEX_FATAL)
		return INDEX_FATAL;
	st->apply.changes = 0;
	st->committed_ms = now;
	return INDEX_OK;
}

static enum store_result commit(struct store *st, wall_ms_t now)
{
	if (store_sync(st) != STORE_OK)
		return STORE_FATAL;
	enum index_result r = write_checkpoint(st, msglog_end(st->log), now);
	if (r == INDEX_OK) {
		tokens_checkpoint(&st->tokens);
		r = reclaim_dead(st);
	}
	return store_index_result(st, r);
}

/* ---- replay ---- */

static void quarantine(struct store *st, const struct msglog_entry *e)
{
	char name[64], text[160];
	snprintf(name, sizeof name, "quarantine-%016" PRIx64 "-%08" PRIx64, e->place.segment, e->place.offset);
	int rc = msglog_set_aside(st->log, e->place, e->size, name);
	snprintf(text, sizeof text, "%" PRIu32 " octets of the log are damaged; %s " SPOOL_LOG "/%s%s%s", e->size,
		rc == 0 ? "kept as" : "could not be kept as", name,
		rc == 0 ? "" : ": ", rc == 0 ? "" : strerror(errno));
	st->damaged = true;
	if (st->apply.event)
		st->apply.event(st->apply.event_context, &(struct store_event){ .kind = EVENT_QUARANTINED, .text = bytes_of(text) });
}

static bool note_token(struct store *st, struct bytes payload)
{
	struct record record;
	struct log_message m;
	size_t used;
	if (record_take(payload, &record, &used) != RECORD_OK || record.type != REC_log_message || !log_message_decode(record.payload, &m))
		return true;
	return tokens_add(&st->tokens, m.token_a, m.token_b);
}

static enum index_result replay_entry(struct store *st, const struct msglog_entry *e, struct place behind, wall_ms_t now)
{
	enum index_result r = INDEX_NONE;
	if (!e->damaged) {
		if (e->run > st->run)
			st->run = e->run;
		r = note_token(st, e->payload) ? apply_record(&st->apply, e->place, e->size, e->payload) : INDEX_FATAL;
	}
	if (r == INDEX_NONE) {
		quarantine(st, e);
		r = INDEX_OK;
	}
	if (r != INDEX_OK || st->apply.changes < REPLAY_CHANGES)
		return r;
	/* The same order as ever: the log first. */
	if (msglog_harden(st->log, st->hardened, behind) != MSGLOG_OK) {
		store_fail(st, msglog_error(st->log));
		return INDEX_FATAL;
	}
	st->hardened = behind;
	return write_checkpoint(st, behind, now);
}

static enum store_result replay(struct store *st, wall_ms_t now, struct place *end_r)
{
	struct place from = { st->apply.status.applied_segment, st->apply.status.applied_offset };
	struct msglog_scan *scan = msglog_scan_open(st->log, from, 0);
	struct msglog_entry e;
	enum msglog_result r = MSGLOG_OK;
	enum index_result applied = INDEX_OK;
	if (!scan)
		return store_fail(st, "log: no memory");
	st->hardened = from;
	while (applied == INDEX_OK && (r = msglog_scan_next(scan, &e)) == MSGLOG_OK)
		applied = replay_entry(st, &e, msglog_scan_place(scan), now);
	*end_r = msglog_scan_place(scan);
	msglog_scan_close(scan);
	if (applied != INDEX_OK)
		return store_index_result(st, applied);
	if (r != MSGLOG_END || msglog_harden(st->log, st->hardened, *end_r) != MSGLOG_OK)
		return store_fail(st, msglog_error(st->log));
	return fsync(st->large) == 0 ? STORE_OK : store_fail(st, "large/: sync failed");
}

/* ---- open ---- */

/* The next run: a count, so that it is higher than any before, and chance, so that nobody can write it into a mail. */
static uint64_t next_run(uint64_t last)
{
	uint32_t chance = 0;
	if (getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
		chance = (uint32_t)getpid();
	return ((last >> 32) + 1) << 32 | chance;
}

static void large_ended(void *context, msgid_t id)
{
	struct store *st = context;
	/* Without memory the file stays until the next start sweeps it. */
	ids_add(&st->ended, id);
}

static enum store_result load_index(struct store *st, wall_ms_t now)
{
	struct row_status *status = &st->apply.status;
	enum index_result r = index_get_status(st->ix, status);
	if (r == INDEX_NONE) {
		*status = (struct row_status){ 0 };
		r = INDEX_OK;
	}
	st->run = status->run;
	status->started_ms = now;
	if (r == INDEX_OK)
		r = usage_load(st->usage, st->ix);
	if (r == INDEX_OK)
		r = index_count_finished(st->ix, &st->apply.finished_rows);
	return store_index_result(st, r);
}

/* Every file of the log is known to usage: those without a row hold nothing alive and are recycled after the first commit. */
static enum store_result note_files(struct store *st)
{
	uint64_t segment = 0;
	for (; msglog_next_file(st->log, segment, &segment); segment++) {
		if (!usage_of(st->usage, segment))
			return store_fail(st, "out of memory");
	}
	return STORE_OK;
}

static enum store_result start_log(struct store *st, struct place end, wall_ms_t now)
{
	st->run = next_run(st->run);
	/* No job number of this queued was one of another's. */
	st->next_job = (st->run >> 32) << 32 | 1;
	if (msglog_start(st->log, end, st->run, now) != MSGLOG_OK)
		return store_fail(st, msglog_error(st->log));
	return note_files(st);
}

static enum store_result make_parts(struct store *st, const struct settings *settings, size_t segment_size, struct str *error)
{
	st->large = open(SPOOL_LARGE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (st->large < 0) {
		str_addf(error, SPOOL_LARGE ": %s", strerror(errno));
		return STORE_FATAL;
	}
	st->ix = index_open(SPOOL_INDEX, settings->indexsize, false, error);
	if (!st->ix)
		return STORE_FATAL;
	st->log = msglog_open(SPOOL_LOG, segment_size, error);
	if (!st->log)
		return STORE_FATAL;
	msglog_set_first(st->log, sync_large, st);
	st->jobs = jobs_new();
	st->usage = usage_new();
	st->schedule = st->jobs ? schedule_new(st->ix, st->jobs, settings) : NULL;
	if (st->usage && st->schedule)
		return STORE_OK;
	str_add_c(error, "out of memory");
	return STORE_FATAL;
}

static enum store_result open_parts(struct store *st, wall_ms_t now)
{
	struct place end;
	enum store_result r = load_index(st, now);
	if (r == STORE_OK)
		r = replay(st, now, &end);
	if (r == STORE_OK)
		r = start_log(st, end, now);
	if (r == STORE_OK)
		r = store_sweep_large(st);
	if (r == STORE_OK)
		r = store_index_result(st, apply_trim_finished(&st->apply));
	return r;
}

static void free_parts(struct store *st)
{
	reclaim_end(&st->reclaim);
	schedule_free(st->schedule);
	jobs_free(st->jobs);
	usage_free(st->usage);
	msglog_close(st->log);
	index_close(st->ix);
	if (st->large >= 0)
		close(st->large);
	tokens_free(&st->tokens);
	free(st->arrived);
	free(st->ended.at);
	free(st->bouncing);
	free(st);
}

struct store *store_open_sized(const struct settings *settings, wall_ms_t now, store_event_fn *event, void *context,
	size_t segment_size, struct str *error)
{
	struct store *st = calloc(1, sizeof *st);
	if (!st) {
		str_add_c(error, "out of memory");
		return NULL;
	}
	st->settings = settings;
	st->committed_ms = now;
	if (make_parts(st, settings, segment_size, error) != STORE_OK) {
		free_parts(st);
		return NULL;
	}
	st->apply = (struct apply){
		.ix = st->ix, .schedule = st->schedule, .usage = st->usage, .settings = settings, .event = event, .event_context = context,
		.large_ended = large_ended, .batch_reported = store_bounce_reported, .context = st,
	};
	if (open_parts(st, now) != STORE_OK) {
		str_add_c(error, st->error);
		free_parts(st);
		return NULL;
	}
	st->apply.live = true;
	st->apply.changes++;   /* this run's pid and start: the tools see them with the first commit, a tick's */
	return st;
}

struct store *store_open(const struct settings *settings, wall_ms_t now, store_event_fn *event, void *context, struct str *error)
{
	return store_open_sized(settings, now, event, context, MSGLOG_SEGMENT_SIZE, error);
}

void store_settings(struct store *st, const struct settings *settings)
{
	st->settings = settings;
	st->apply.settings = settings;
	schedule_settings(st->schedule, settings);
	/* Other lifetimes: everybody is looked at anew. */
	st->expiry[0] = st->expiry[1] = 0;
}

void store_close(struct store *st)
{
	if (!st)
		return;
	if (!st->fatal)
		commit(st, st->ticked_ms > st->committed_ms ? st->ticked_ms : st->committed_ms);
	free_parts(st);
}

/* ---- time ---- */

/* A clock that went back must not put anything off. */
static bool is_over(wall_ms_t since, uint64_t ms, wall_ms_t now)
{
	return now < since || now - since >= ms;
}

/* Who comes during a commit waits for it, so a trickle of mail has no more of them than a flood: what is between two of its messages is no quiet. */
static bool commit_is_due(const struct store *st, wall_ms_t now)
{
	if (st->apply.changes == 0)
		return false;
	return st->apply.changes >= COMMIT_CHANGES || is_over(st->committed_ms, COMMIT_BUSY_MS, now) ||
		(is_over(st->committed_ms, COMMIT_QUIET_MS, now) && is_over(st->stirred_ms, COMMIT_QUIET_MS, now));
}

enum store_result store_tick(struct store *st, wall_ms_t now, bool idle)
{
	bool busy = false;
	if (st->fatal)
		return STORE_FATAL;
	st->ticked_ms = now;
	struct place before = msglog_end(st->log), after;
	enum store_result r = store_expire_some(st, now);
	if (r == STORE_OK)
		r = store_flush_some(st, false);
	after = msglog_end(st->log);
	st->has_worked = after.segment != before.segment || after.offset != before.offset;
	if (r == STORE_OK)
		r = store_index_result(st, reclaim_some(st, &busy));
	if (!idle || busy)
		st->stirred_ms = now;
	if (r == STORE_OK && commit_is_due(st, now))
		r = commit(st, now);
	if (r == STORE_OK)
		msglog_tick(st->log);
	return r;
}

bool store_has_worked(const struct store *st)
{
	return st->has_worked;
}

static wall_ms_t earlier(wall_ms_t a, wall_ms_t b)
{
	return a < b ? a : b;
}

wall_ms_t store_next_wake(struct store *st, wall_ms_t now)
{
	if (st->fatal)
		return now;
	if (st->reclaim.scan || st->flush.active)
		return now;
	wall_ms_t next = earlier(schedule_next_wake(st->schedule, now), earlier(store_bounce_wake(st, now), store_expiry_wake(st, now)));
	if (st->apply.changes > 0) {
		wall_ms_t committed = earlier(st->committed_ms, now), stirred = earlier(st->stirred_ms, now);
		wall_ms_t quiet = (committed > stirred ? committed : stirred) + COMMIT_QUIET_MS;
		next = earlier(next, earlier(committed + COMMIT_BUSY_MS, quiet));
	}
	return next;
}
