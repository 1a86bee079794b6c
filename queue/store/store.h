/*
 * store - the queue itself behind one narrow interface: accept, claim, report, operate, list. queued is its only user; another
 * engine may stand behind it one day. The list part is index.h, which tools open read-only.
 *
 * Everything that changes state is appended to the message log and applied to the index at once, but is durable only after
 * store_sync: acknowledge nothing before. STORE_FATAL means that the disk or the index failed: tell the waiting clients 451, log,
 * exit; the next queued replays. Working directory: the spool. Blocks on disk only.
 */
#ifndef QUEUE_STORE_H
#define QUEUE_STORE_H

#include "common/channel.h"
#include "common/envelope.h"
#include "common/route.h"
#include "common/settings.h"
#include "common/verdict.h"
#include "queue/index.h"

struct store;
enum store_result { STORE_OK, STORE_NONE /* nothing to do, or unknown */, STORE_FULL /* below freespace */, STORE_FATAL };

/* What happened, for log lines and counters; not called while replaying. Views are valid during the call. */
enum store_event_kind { EVENT_ACCEPTED, EVENT_RESULT, EVENT_EXPIRED, EVENT_BOUNCED /* a report of these was accepted */, EVENT_DROPPED, EVENT_OPERATED, EVENT_FINISHED,
	EVENT_QUARANTINED /* a damaged record was set aside */ };
struct store_event {
	enum store_event_kind kind;
	msgid_t id;
	uint32_t rcpt;                            /* EVENT_RESULT, EVENT_EXPIRED */
	const struct row_message *message;        /* NULL for EVENT_QUARANTINED */
	const struct row_rcpt *row;               /* EVENT_RESULT, EVENT_EXPIRED: after the change */
	enum channel channel;                     /* EVENT_RESULT */
	msgid_t bounce;                           /* EVENT_BOUNCED: the id of the report ... */
	enum dsn_action action;                   /* ... and the worst of what it tells: FAILED, DELAYED, or else DELIVERED */
	struct bytes text;
};
typedef void store_event_fn(void *context, const struct store_event *event);

/* Open log and index in the working directory, replay what the index has not seen. `settings` stays borrowed (store_settings
 * replaces it at a reload). NULL with a sentence in `error`. */
struct store *store_open(const struct settings *settings, wall_ms_t now, store_event_fn *event, void *context, struct str *error);
void store_settings(struct store *st, const struct settings *settings);
void store_close(struct store *st);               /* syncs and commits first, unless fatal */
const char *store_error(const struct store *st);  /* the sentence behind STORE_FATAL */

/* ---- accept ---- */
struct store_new {
	const struct envelope *envelope;
	struct bytes body;               /* inline body (its id placeholder is patched in the log's copy), or */
	const char *large_file;          /* name under intake/ of a synced file: renamed to large/ID; then body_offset and body_size count */
	uint64_t body_offset, body_size;
	uint32_t id_offset;              /* of MSGID_PLACEHOLDER in the body; honoured only where the placeholder really stands */
	uint64_t token_a, token_b;
	uint32_t uid;
	bool from_bounce;                /* uid is tappal-bounce: envelope->bounce_of is believed and that batch becomes RCPT_BOUNCED */
};
/* STORE_OK with id 0: the report of a batch that is not waiting for one any more (it was reported already, by a bounce program that was thought dead);
 * nothing is stored, and there is one bounce. */
enum store_result store_accept(struct store *st, const struct store_new *in, wall_ms_t now, msgid_t *id_r);
/* Why store_accept last said STORE_FULL, for the operator: static text. */
const char *store_full_reason(const struct store *st);
/* Is this token's message in the log since the last checkpoint? For the adoption of intake files. */
bool store_token_seen(const struct store *st, uint64_t token_a, uint64_t token_b);

/* ---- make durable ---- */
bool store_dirty(const struct store *st);         /* something was appended and not synced */
enum store_result store_sync(struct store *st);   /* ONE fdatasync of the log (and of large/ when a file was renamed into it) */

/* ---- claim and report ---- */
struct store_job {
	struct job job;                  /* session is left 0 for the caller to fill */
	const struct job_rcpt *rcpts;    /* job.rcpt_count of them; valid until the next store_ call */
};
/* The next piece of work of a channel that is due, fair across destinations, within their windows and back-off: STORE_NONE when
 * there is none now. Its recipients are in flight until store_job_done or store_give_back. */
enum store_result store_claim(struct store *st, enum channel channel, wall_ms_t now, struct store_job *job_r);
/* One recipient's result. STORE_NONE: no such job or recipient in flight (the sender is confused; ignore and log). */
enum store_result store_report(struct store *st, const struct result *result, wall_ms_t now);
/* What this job was to deliver is damaged: its message is held, unless it is already. STORE_NONE: no such job in flight. */
enum store_result store_damaged(struct store *st, const struct damaged *damaged, wall_ms_t now);
/* The job ended; recipients without a result count as temporary failures of the worker. */
enum store_result store_job_done(struct store *st, const struct job_done *done, wall_ms_t now);
/* A spawner still delivers a job of an earlier queued: its recipients are in flight. Before any claim of that channel. */
enum store_result store_still_flying(struct store *st, enum channel channel, const struct inflight *inflight);
/* A spawner died: its jobs are due again, without a mark against them. */
void store_give_back(struct store *st, enum channel channel, wall_ms_t now);
/* A job could not be handed over (fifo full or gone): due again, unmarked. */
void store_unclaim(struct store *st, uint64_t job, wall_ms_t now);

/* ---- bounces ---- */
struct store_bounce { struct bounce_begin begin; const struct bounce_rcpt *rcpts; };  /* valid until the next store_ call */
/* The next message whose failures, successes or delays (RFC 3461) are to be reported. It is not handed out again for 5 minutes, or until its batch is accepted. */
enum store_result store_claim_bounce(struct store *st, wall_ms_t now, struct store_bounce *bounce_r);
/* The bounce program was lost: what it had is handed out again. What fails meanwhile belongs to other batches, for a report may come all the same. */
void store_give_back_bounces(struct store *st, wall_ms_t now);

/* ---- operate ---- */
/* STORE_OK or STORE_NONE (no such message or nothing to do); `answer` gets one sentence. */
enum store_result store_operate(struct store *st, const struct operate *op, wall_ms_t now, struct str *answer);

/* Has a flush of a destination been begun, and goes on in slices? Another one now would first carry it to its end. */
bool store_flushing(const struct store *st);
/* The first destination known behind *name, which it replaces; an empty one begins. STORE_NONE: there is no further one. */
enum store_result store_next_destination(struct store *st, struct str *name);

/* ---- time ---- */
/* Expiry, commit of the index (once a second, or when all ticks of a quarter of one were `idle`: no event), recycling and copying of
 * segments, in small slices. */
enum store_result store_tick(struct store *st, wall_ms_t now, bool idle);
/* Has the last tick ended recipients or made some due? Then claim or bounce may have something to do that was due before it. */
bool store_has_worked(const struct store *st);
wall_ms_t store_next_wake(struct store *st, wall_ms_t now);   /* when claim, bounce or tick next has something to do; UINT64_MAX never */

#endif
