/*
 * apply - what a record of the log changes in the index. The same function for live work and for replay: what the live queue decided
 * (times, batches) stands in the record, so that a replay decides nothing. Room: queue, the store.
 *
 * A record that finds nothing to change (its message is gone, its recipient has ended) changes nothing.
 */
#ifndef QUEUE_APPLY_H
#define QUEUE_APPLY_H

#include "msglog.h"
#include "schedule.h"
#include "store.h"
#include "usage.h"

#define BATCH_RCPTS 100u          /* most recipients that one bounce reports */
#define BOUNCE_WAIT_MS 60000u     /* after the first failure, for others to join its bounce */
#define FLUSH_ROWS 2000u          /* most due rows that one flush record moves */

struct apply {
	struct index *ix;
	struct schedule *schedule;
	struct usage *usage;
	const struct settings *settings;
	struct row_status status;     /* counters and last_id are kept here; the store writes it at each commit */
	uint64_t finished_rows;       /* in the ring */
	uint64_t changes;             /* records applied since the last commit */

	bool live;                    /* events are told */
	store_event_fn *event;
	/* A large message ended: its file may go after the next sync. */
	void (*large_ended)(void *context, msgid_t id);
	/* The bounce of a batch was taken. */
	void (*batch_reported)(void *context, msgid_t id);
	void *context;                /* of large_ended and batch_reported */
	void *event_context;
};

/* INDEX_OK; INDEX_NONE: not a record of this version, set it aside; INDEX_FATAL. `size`: octets it takes in the log. */
enum index_result apply_record(struct apply *a, struct place place, uint32_t size, struct bytes payload);

/* Oldest finished rows go until the ring is as small as its setting says. */
enum index_result apply_trim_finished(struct apply *a);

/* ---- shared by its two halves, apply.c and apply_operation.c ---- */

/* All recipients ended and none is left to report: rows go, a summary stays. */
enum index_result apply_finish_if_done(struct apply *a, msgid_t id, wall_ms_t at);
enum index_result apply_operation(struct apply *a, const struct log_operation *op);
/* Change a recipient into FAILED, in this batch at least, in *row and *message; the caller stores both. */
void apply_fail(struct row_message *message, struct row_rcpt *row, uint32_t batch);
/* A recipient ends: of his delay nothing is to be reported any more. In *row and *message; the caller stores both. */
void apply_end_delay(struct row_message *message, struct row_rcpt *row);
/* Its success is to be reported: NOTIFY asks for it, there is a sender to tell, and no other server took that over. */
bool apply_reports_success(const struct row_message *message, const struct row_rcpt *row, unsigned stage);
/* The numbers of *counts go into the message's row, and what follows from them is done: its bounce row, its end. */
enum index_result apply_counts(struct apply *a, msgid_t id, const struct row_message *counts, wall_ms_t at);
/* Bring the bounce row in line with message->failed; the caller stores the message. */
enum index_result apply_bounce_due(struct apply *a, msgid_t id, struct row_message *message, wall_ms_t at);
struct due apply_due(msgid_t id, uint32_t n, const struct row_rcpt *row);

#endif
