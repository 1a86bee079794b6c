/*
 * parcel - one message on its way from enqueue to queued: the intake file that holds it and the talk about it. Room: queue
 * (enqueue). Working directory: the spool. The process is tappal-intake and ignores SIGPIPE.
 *
 *   parcel_begin, parcel_body ..., parcel_send    one message; parcel_drop instead of parcel_send forgets it
 *     or parcel_offer, and parcel_wait            the same in two steps, when somebody else may read the answer
 *   parcel_close                                  at the end: no file, no fifo is left, but what was handed over
 *
 * A message costs one buffer of memory whatever its size, and the first fault is kept: the calls after it do nothing until
 * parcel_send gives its exit code. The file and its ack fifo are made at the first parcel_begin and used for all messages.
 */
#ifndef QUEUE_PARCEL_H
#define QUEUE_PARCEL_H

#include "common/clock.h"
#include "queue/intakefile.h"

#define PARCEL_BUFFER 65536u

struct parcel {
	uint32_t uid;                /* the caller, for the head */
	bool once;                   /* one message, then the process ends */
	int file, ack, fifo;         /* -1 when closed */
	char name[INTAKE_NAME + 1];
	enum enqueue_exit fault;
	uint64_t body_size;
	uint64_t written;            /* offset in the file of buffer[0] */
	uint32_t checksum;           /* CRC-32C of what was written behind the head */
	struct intake_head head;     /* of the message that was sent last */
	deadline_t offered, end;     /* when queued was told of it last; how long to try */
	size_t filled, random_left;
	uint64_t random[32];         /* tokens to come */
	char buffer[PARCEL_BUFFER];
};

void parcel_init(struct parcel *p, uint32_t uid, bool once);
void parcel_begin(struct parcel *p);
void parcel_body(struct parcel *p, struct bytes octets);
/* The body's first octets as long as they are in the buffer; else empty. Valid until the next call. */
struct bytes parcel_start(const struct parcel *p);

/* Hand the message over and wait for queued's answer, at most 20 minutes. `envelope`: octets of a checked envelope. ENQ_OK: the
 * message is in the queue and will survive anything; *id_r is its id, 0 when queued was away and will take it later. */
enum enqueue_exit parcel_send(struct parcel *p, struct bytes envelope, uint32_t id_offset, msgid_t *id_r);

/* Write the message and offer it. False: it came to an end here, `fault` says which (ENQ_OK: queued is away and will take it later). True: queued
 * has been told. Its answer is for parcel_wait, or for whoever holds parcel_lend_ack's descriptor; until somebody has it, no other message may
 * begin, for queued reads the file. `token_b` is half of the message's token, by which its answer is known. */
bool parcel_offer(struct parcel *p, struct bytes envelope, uint32_t id_offset, uint64_t token_b);
enum enqueue_exit parcel_wait(struct parcel *p, msgid_t *id_r);   /* as parcel_send, after a parcel_offer that nobody has an answer to */
/* Does he who says that the message offered last was answered know the half of its token that only the answer could tell him? */
bool parcel_was_answered(const struct parcel *p, uint64_t token_a);
/* A read end of the ack fifo (nonblocking), as long as the file is kept: the caller's to close. -1: there is none. */
int parcel_lend_ack(const struct parcel *p);

void parcel_drop(struct parcel *p);
void parcel_close(struct parcel *p);

#endif
