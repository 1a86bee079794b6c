/*
 * parcel - one message on its way from enqueue to queued: the intake file that holds it and the talk about it. Room: queue
 * (enqueue). Working directory: the spool. The process is tappal-intake and ignores SIGPIPE.
 *
 *   parcel_begin, parcel_body ..., parcel_send    one message; parcel_drop instead of parcel_send forgets it
 *   parcel_close                                  at the end: no file, no fifo is left, but what was handed over
 *
 * A message costs one buffer of memory whatever its size, and the first fault is kept: the calls after it do nothing until
 * parcel_send gives its exit code. The file and its ack fifo are made at the first parcel_begin and used for all messages.
 */
#ifndef QUEUE_PARCEL_H
#define QUEUE_PARCEL_H

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
	size_t filled;
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

void parcel_drop(struct parcel *p);
void parcel_close(struct parcel *p);

#endif
