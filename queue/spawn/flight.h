/*
 * flight - one job of queued on its way through spawn: its recipients, where its body is, and the results it has so far. Room: queue
 * (spawn only). A flight outlives the worker that carries it and the queued that gave it: results are kept until a queued has them.
 */
#ifndef QUEUE_FLIGHT_H
#define QUEUE_FLIGHT_H

#include "common/channel.h"
#include "common/mailbox.h"
#include "common/verdict.h"
#include "queue/body.h"

#define FLIGHT_RCPT_MAX 1000u         /* rcptpertransaction's maximum */
#define FLIGHT_DAMAGED "the message is damaged in the queue: it is not delivered, but held there"
#define FLIGHT_INDEX_MAX 20000u       /* ENVELOPE_RCPT_MAX: an inflight record's bit map holds more */

struct flight {
	struct flight *next;          /* of the list that owns it */
	struct job job;               /* its views are valid once the flight is whole */
	struct str orders;            /* job and job_rcpt as they go to the worker */
	struct flight_rcpt { uint32_t index; bool answered; } *rcpts;
	uint32_t have, answered;      /* rcpts that came; rcpts with a result */
	struct str results;           /* result records, then job_done: as they go to queued */
	struct body body;
	struct mailbox *box;          /* whose it is, of a local one, once that was looked up */
	uint64_t told;                /* octets of this session up to the end of its results */
	unsigned restarts;            /* times it was taken from a worker that ended before it began */
};

/* A singly linked queue of flights. */
struct flights { struct flight *first, **end; size_t count; };
void flights_init(struct flights *list);
void flights_push(struct flights *list, struct flight *f);
void flights_push_front(struct flights *list, struct flight *f);
struct flight *flights_pop(struct flights *list);             /* NULL when empty */
void flights_append(struct flights *list, struct flights *tail); /* tail becomes empty */
void flights_free(struct flights *list);

/* NULL: senseless numbers (errno EPROTO) or no memory. */
struct flight *flight_begin(const struct job *job);
void flight_free(struct flight *f);
/* False: not of this job, twice, or one too many. */
bool flight_add_rcpt(struct flight *f, const struct job_rcpt *rcpt);
/* All recipients are here. The first time, makes the views of f->job. */
bool flight_is_whole(struct flight *f);
int flight_open_body(struct flight *f);   /* 0, or -1 errno (EBADMSG: damaged) */
/* Its body is not what was accepted: queued is told to hold it, and the log says so. */
void flight_damaged(struct flight *f);

/* Take a worker's result. NULL, or what is wrong with it: the worker lies. */
const char *flight_take_result(struct flight *f, const struct result *result);
/* Every recipient without a result gets this one. */
void flight_answer_rest(struct flight *f, const struct outcome *outcome);
/* Close it with job_done; the job number is filled in. */
void flight_finish(struct flight *f, bool destination_failed, bool reusable);
bool flight_encode_inflight(const struct flight *f, struct str *out);

#endif
