/*
 * body - the octets of one message, read-only, out of the segment of the log or the file in large/ that holds them. Used by spawn
 * (which moves them into a worker's pipe and looks only at their checksum), by bounce and by tappal (which read them). Room: queue.
 *
 * The range comes from queued. An open body of the log holds its segment (a shared flock) until body_close, or until its process ends: as long it is
 * not recycled, whatever becomes of queued. What is opened must be a regular file with one name; nothing outside of [offset, offset + size) is
 * ever read. Working directory: the spool.
 */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include <sys/types.h>

#include "queue/intakefile.h"

struct body {
	int fd;             /* -1 when closed; close-on-exec */
	uint64_t offset;    /* of the next octet in the file */
	uint64_t left;      /* octets still to come */
	bool is_copied;     /* never spliced: its file may be written again when this is closed */
	/* what is still to be proved, once body_prove was called */
	struct intake_sum sum;
	uint64_t sum_end;   /* offset in the file behind the last octet of it; 0: nothing */
	uint32_t expected;
};
#define BODY_INIT { .fd = -1 }

/* What job and bounce_begin say about where a body is. `record`: of a small one, where its record begins; 0: not known, and nothing to prove. */
struct body_place { msgid_t id; uint64_t segment; bool large; uint64_t offset, size, record; };

/* 0, or -1 with errno: ENOENT; EINVAL not a plain file; EBADMSG the range is not within the file. Blocks on disk only. */
int body_open(struct body *b, const struct body_place *place);
void body_close(struct body *b);

/* Hold an open body against its checksum: that of its record, or the one in the head of its file (which an older version did not always write).
 * What is short is read at once, the rest by body_send, which keeps the last octets back until all were right.
 * 0; -1 with errno: EBADMSG it is not what was accepted, or it cannot be read. */
int body_prove(struct body *b, const struct body_place *place);
/* Read what body_prove has left to body_send, for those who read: the same results. Where body_read goes on is not changed. */
int body_prove_rest(struct body *b);

enum body_result {
	BODY_DONE,     /* every octet is in the pipe */
	BODY_MORE,     /* the pipe is full: wait for POLLOUT */
	BODY_GONE,     /* nobody reads the pipe any more */
	BODY_BROKEN,   /* the file could not be read; errno says why. EBADMSG: its checksum is wrong, and its end was not sent */
};

/* Move as much as `out`, the nonblocking write end of a pipe, takes. Never blocks on the pipe. The caller ignores SIGPIPE.
 * *moved_r: octets that went this time. */
enum body_result body_send(struct body *b, int out, size_t *moved_r);

/* Read the next at most n octets: how many, 0 at the end, -1 errno (EIO: the file ended before the body). */
ssize_t body_read(struct body *b, void *data, size_t n);

#endif
