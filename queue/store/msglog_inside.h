/*
 * msglog_inside - what the two halves of msglog share: appending (msglog.c) and reading (msglog_scan.c). Room: queue, msglog alone.
 */
#ifndef QUEUE_MSGLOG_INSIDE_H
#define QUEUE_MSGLOG_INSIDE_H

#include "msglog.h"
#include "prepare.h"

struct msglog {
	int dirfd;
	size_t segment_size;
	struct prepare *prepare;       /* NULL until msglog_start */
	uint64_t *file;                /* segments there are, ascending */
	size_t files, file_room;
	uint64_t *spare;               /* found at open, handed to the preparer at start */
	size_t spares, spare_room;

	int fd;                        /* the segment that is appended to; -1 before msglog_start */
	uint64_t segment, run;
	size_t size;                   /* of the segment */
	bool small;
	uint64_t written;              /* offset at which the buffer begins: what is before it was handed to the kernel */
	uint64_t synced;               /* what is before it is on disk; the batch begins here */
	struct str buffer;
	size_t record;                 /* where in the buffer the record being built begins */
	msglog_first_fn *first;        /* before the buffer is handed over; may be NULL */
	void *first_context;
	wall_ms_t now;                 /* for log_start */
	char error[200];
};

/* Octets of a whole record with a payload of n. */
static inline uint64_t msglog_record_size(uint64_t n)
{
	return MSGLOG_HEAD + ((n + 7) & ~UINT64_C(7));
}

enum msglog_result msglog_broken(struct msglog *log, const char *what, uint64_t segment);   /* with errno; MSGLOG_FATAL */

#endif
