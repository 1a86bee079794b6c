/*
 * body - the octets of one message, read-only, out of the segment of the log or the file in large/ that holds them. Used by spawn
 * (which moves them into a worker's pipe without looking at them), by bounce and by tappal (which read them). Room: queue.
 *
 * The range comes from queued, which keeps the segment from being recycled meanwhile. What is opened must be a regular
 * file with one name; nothing outside of [offset, offset + size) is ever read. Working directory: the spool.
 */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include <sys/types.h>

#include "common/msgid.h"

struct body {
	int fd;             /* -1 when closed; close-on-exec */
	uint64_t offset;    /* of the next octet in the file */
	uint64_t left;      /* octets still to come */
};
#define BODY_INIT { .fd = -1 }

/* What job and bounce_begin say about where a body is. */
struct body_place { msgid_t id; uint64_t segment; bool large; uint64_t offset, size; };

/* 0, or -1 with errno: ENOENT; EINVAL not a plain file; ERANGE the range is not within the file. Blocks on disk only. */
int body_open(struct body *b, const struct body_place *place);
void body_close(struct body *b);

enum body_result {
	BODY_DONE,     /* every octet is in the pipe */
	BODY_MORE,     /* the pipe is full: wait for POLLOUT */
	BODY_GONE,     /* nobody reads the pipe any more */
	BODY_BROKEN,   /* the file could not be read; errno says why */
};

/* Move as much as `out`, the nonblocking write end of a pipe, takes. Never blocks on the pipe. The caller ignores SIGPIPE.
 * *moved_r: octets that went this time. */
enum body_result body_send(struct body *b, int out, size_t *moved_r);

/* Read the next at most n octets: how many, 0 at the end, -1 errno (EIO: the file ended before the body). */
ssize_t body_read(struct body *b, void *data, size_t n);

#endif
