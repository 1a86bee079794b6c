/*
 * job - one delivery as spawn hands it over on fd 0 (docs/CHANNELS.md: job, job_rcpt..., then body_size raw octets), and the results
 * that go back on fd 1. Results are held until job_finish, so that a starter that is still writing the body need not read.
 */
#ifndef REMOTE_JOB_H
#define REMOTE_JOB_H

#include "common/channel.h"
#include "common/verdict.h"

#define JOB_RCPT_MAX 1000u       /* setting rcptpertransaction goes no further */

struct delivery_rcpt {
	struct str raw;              /* the record that `rcpt` points into */
	struct job_rcpt rcpt;
	bool reported;               /* has its result */
	bool accepted;               /* for the client: the server took it, the data decides */
};

struct delivery {
	struct record_reader *in;
	struct str raw;              /* the job record that `job` points into */
	struct job job;
	struct delivery_rcpt *rcpts; /* job.rcpt_count of them */
	bool needs_utf8;             /* RFC 6531: the message says so, or one of its addresses is not ASCII ... */
	bool utf8_address;           /* ... the latter */
	uint64_t body_left;          /* octets of the body not taken yet */
	struct str ahead;            /* the beginning of the body, when it was read before its time ... */
	size_t ahead_taken;          /* ... of which so much was taken */
	struct str results;
};

enum job_read { JOB_OK, JOB_END /* end of file instead of a job */, JOB_BROKEN /* no sense in it: end the process */ };

/* Blocks until a whole job came; its body is not read. Every address has been parsed: none can end a command. Every delivery is released
 * with job_free. */
enum job_read job_read(struct delivery *d, struct record_reader *in);
void job_free(struct delivery *d);

/* Read the first JOB_AHEAD_MAX octets of the body, or all of a shorter one, into d->ahead; job_body will take them from there. Only before the first
 * job_body; again is harmless. False: the starter went away, or no memory. Blocks. */
#define JOB_AHEAD_MAX (512u << 10)
bool job_ahead(struct delivery *d);

/* Go back to the body's beginning, which is possible as long as all of it is in d->ahead. */
bool job_again(struct delivery *d);

/* The next octets of the body, at most n: > 0, 0 at its end, -1 when the starter went away before the end: the message is not whole and
 * must not be sent as if it were. Blocks. */
ssize_t job_body(struct delivery *d, char *out, size_t n);

/* Where the attempt was made; empty texts when it came to none. */
struct job_host { struct bytes name, ip, source_ip; };

/* The result of recipient `n` (0 .. rcpt_count-1); only the first one counts. */
void job_report(struct delivery *d, size_t n, const struct outcome *o, const struct job_host *host);
/* The same for every recipient that has none. */
void job_report_rest(struct delivery *d, const struct outcome *o, const struct job_host *host);

/* Read what is left of the body, write all results and job_done to fd. False: the starter is gone. */
bool job_finish(struct delivery *d, int fd, bool destination_failed);

#endif
