/*
 * store_inside - what the parts of the store share. Room: queue, the store alone (and its tests).
 *
 *   store.c           open, replay, sync, commit, close; how a record is appended
 *   store_accept.c    new messages, large files, space
 *   store_claim.c     jobs and their results
 *   store_bounce.c    failures to report
 *   store_operate.c   operators' commands, expiry
 *   reclaim.c         segments: recycling and copying forward
 */
#ifndef QUEUE_STORE_INSIDE_H
#define QUEUE_STORE_INSIDE_H

#include "apply.h"
#include "jobs.h"
#include "msglog.h"
#include "reclaim.h"
#include "tokens.h"

#define STORE_RCPTS 1000u             /* recipients of one job: rcptpertransaction's maximum */
#define SMALL_RECORD 2048u            /* no record without a body is longer */

/* A list of ids. */
struct ids { msgid_t *at; size_t count, room; };

/* A large file that was renamed; its placeholder is patched after the sync. id_offset: in the file; 0 none. */
struct arrived { msgid_t id; uint64_t id_offset; };

/* A message of which the bounce program has a batch, or had it, or may have had it before this start: until_ms is over then. */
struct bouncing { msgid_t id; uint64_t segment; wall_ms_t until_ms; uint32_t batch; };

/* A destination of which more rows are to be made due. */
struct flush { struct log_operation op; char who[64], destination[DESTINATION_MAX]; bool active; };

struct store {
	const struct settings *settings;
	struct msglog *log;
	struct index *ix;
	struct jobs *jobs;
	struct usage *usage;
	struct schedule *schedule;
	struct apply apply;
	struct tokens tokens;
	bool fatal;
	char error[256];
	uint64_t run, next_job;
	wall_ms_t committed_ms, ticked_ms;
	wall_ms_t stirred_ms;             /* the last tick that was not idle */
	bool has_worked;                  /* the last tick ended recipients or made some due */
	struct place hardened;            /* the replay up to here is durable */
	bool damaged;                     /* this replay met damage: what is not understood is left alone */

	wall_ms_t space_ms;               /* when free space was last looked at */
	bool space_low;
	const char *full_reason;          /* of the last STORE_FULL */
	uint64_t index_room;              /* for rows, as of then less what was taken since */
	int large;                        /* the directory: held, so that its sync needs no descriptor */
	bool large_dirty;                 /* names in it that are not synced */
	struct arrived *arrived;
	size_t arrived_count, arrived_room;
	struct ids ended;                 /* large files to unlink after the next sync */

	struct job_rcpt job_rcpt[STORE_RCPTS];
	struct bounce_rcpt bounce_rcpt[BATCH_RCPTS];
	struct bouncing *bouncing;
	size_t bouncing_count, bouncing_room;

	msgid_t expiry[2];                /* messages before it were looked at: any sender, empty sender */
	struct flush flush;
	struct reclaim reclaim;
};

/* store_open with segments of another size, for tests. */
struct store *store_open_sized(const struct settings *settings, wall_ms_t now, store_event_fn *event, void *context, size_t segment_size, struct str *error);

/* STORE_FATAL, with a sentence kept for store_error. */
enum store_result store_fail(struct store *st, const char *sentence);
enum store_result store_index_result(struct store *st, enum index_result r);   /* INDEX_NONE is STORE_NONE */

/* Append a record to the log: begin, encode into *payload_r, then store_append_end, which also applies it. STORE_FULL only when
 * `optional`; a result that finds no room is STORE_FATAL. */
enum store_result store_append_begin(struct store *st, size_t bound, bool optional, struct str **payload_r);
enum store_result store_append_end(struct store *st);
/* The same, with what the encoder said: false is STORE_FATAL with that sentence, and nothing is appended. */
enum store_result store_append_encoded(struct store *st, bool encoded, const char *sentence);

bool ids_add(struct ids *ids, msgid_t id);

/* store_accept.c */
enum store_result store_settle_large(struct store *st);              /* after a sync: patch what arrived, unlink what ended */
enum store_result store_sweep_large(struct store *st);               /* at start: files without a message */

/* store_bounce.c */
uint32_t store_batch(struct store *st, msgid_t id, const struct row_message *m);   /* in which a failure now belongs */
/* Does a recipient of this batch wait for its report? */
enum index_result store_batch_waits(struct store *st, msgid_t id, uint32_t batch, bool *waits_r);
void store_bounce_reported(void *store, msgid_t id);
void store_bounce_let_go(struct store *st, msgid_t id, uint32_t batch);   /* a report of this batch came and was not taken */
wall_ms_t store_bounce_wake(struct store *st, wall_ms_t now);

/* store_operate.c */
enum store_result store_expire_rcpt(struct store *st, msgid_t id, uint32_t n, wall_ms_t now);
bool store_is_expired(const struct store *st, msgid_t id, const struct row_message *m, wall_ms_t now);
enum store_result store_expire_some(struct store *st, wall_ms_t now);
enum store_result store_flush_some(struct store *st, bool whole);    /* a slice, or all, of a flush that goes on */
wall_ms_t store_expiry_wake(struct store *st, wall_ms_t now);

#endif
