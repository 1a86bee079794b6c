/*
 * schedule - whose turn it is. Room: queue, the store.
 *
 * The due rows of the index say what waits until when. Of all destinations only the active ones are in memory: those that have
 * something due now, and those with a job in flight. The others sleep behind their one wake row. So memory and the cost of a
 * claim depend on what is being done, not on how much is queued.
 *
 * Rules that hold for a crash at any instant (memory is lost, the index is back at its last commit, the log is replayed):
 *   - a recipient's due row stays until its result is applied; in flight is memory only
 *   - a destination with due rows has a wake row, not later than the moment at which it should next be looked at; an active one
 *     keeps the row by which it woke, and gets a later one only when nothing of it is in flight
 *
 * Turn order: round robin over the active destinations of a channel, one job each. Within a destination, the oldest due and the newest
 * mail take turns, so that neither a backlog of retries nor a stream of new mail starves the other. A destination that fails is tried with one
 * job at a time, after a back-off that doubles; after a success it starts again from one. Everything takes `now` from the caller.
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "common/settings.h"
#include "queue/index.h"
#include "jobs.h"

struct schedule;
struct schedule *schedule_new(struct index *ix, const struct jobs *jobs, const struct settings *settings);   /* NULL: no memory */
void schedule_free(struct schedule *s);
void schedule_settings(struct schedule *s, const struct settings *settings);

enum channel schedule_channel(struct bytes destination);     /* by its prefix */

/* ---- told by apply, live and at replay ---- */
enum index_result schedule_due_added(struct schedule *s, struct bytes destination, struct due due);
/* Its back-off ends at `at`. */
enum index_result schedule_lift(struct schedule *s, struct bytes destination, wall_ms_t at);
/* Its back-off changed. */
enum index_result schedule_changed(struct schedule *s, const struct log_destination *change);

/* ---- claims ---- */
struct turn_taken {
	struct destination *destination;    /* valid until the next call, longer when schedule_took it */
	struct bytes name;
	msgid_t id;
	const struct due *due;              /* their rows */
	const uint32_t *n;                  /* recipients, ascending */
	uint32_t count;
};
/* The next job of the channel: INDEX_NONE when there is none now. The caller either flies it (jobs_add, schedule_took) or, when its
 * rows turn out to be stale, deletes these. */
enum index_result schedule_next(struct schedule *s, enum channel channel, wall_ms_t now, struct turn_taken *turn_r);
void schedule_took(struct schedule *s, struct destination *d);
/* Rows of this turn were stale and are deleted: look at the destination from its beginning. */
void schedule_again(struct schedule *s, struct destination *d);
/* A job of an earlier queued flies: its destination, made active. NULL: no memory or INDEX_FATAL. */
struct destination *schedule_adopt(struct schedule *s, struct bytes name);
/* The job is over and its rows are applied. `failed`: the host itself could not be used. True: its back-off changed, and *change_r
 * (valid until the next call) is to be logged and applied. */
bool schedule_job_over(struct schedule *s, struct destination *d, wall_ms_t started, bool failed, wall_ms_t now, struct log_destination *change_r);
/* Behind schedule_job_over and what it asked for: a destination without further work is put to sleep at once. d is not valid after it. */
enum index_result schedule_settle(struct schedule *s, struct destination *d, wall_ms_t now);
/* The job never was: its recipients are due again. */
void schedule_job_back(struct schedule *s, struct destination *d);

/* When schedule_next has something new to look at, seen from now: later than now, or UINT64_MAX. */
wall_ms_t schedule_next_wake(struct schedule *s, wall_ms_t now);
size_t schedule_active(const struct schedule *s);   /* destinations in memory */

/* ---- times of retries ---- */
/* The wait after this many attempts, capped and with up to a tenth of jitter either way that depends on id and attempts only: the
 * recipients of one delivery stay together. */
uint64_t schedule_retry_ms(const struct settings *settings, msgid_t id, uint32_t attempts);
/* The wait of a destination after this many failures in a row. */
uint64_t schedule_backoff_ms(struct bytes destination, uint32_t failures);

#endif
