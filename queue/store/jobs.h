/*
 * jobs - what is in flight: every job handed out and not done, and every recipient in one. Memory only: a crash forgets it, and the
 * recipients are due again because their rows never left the index. Room: queue, the store.
 */
#ifndef QUEUE_JOBS_H
#define QUEUE_JOBS_H

#include "common/msgid.h"
#include "common/route.h"

struct destination;

struct flying_job {
	uint64_t job;
	msgid_t id;
	uint64_t segment;                /* pinned while the job flies */
	struct destination *destination;
	enum channel channel;
	wall_ms_t started_ms;
	struct flying_job *next;         /* private */
	bool report_due;                 /* a recipient failed for good, or its success is to be reported */
	char why[200];                   /* the last temporary failure */
	size_t why_len;
	uint32_t count, open;            /* recipients; those without a result */
	struct flying_rcpt { uint32_t n; bool reported; } rcpt[];
};

struct jobs;
struct jobs *jobs_new(void);             /* NULL: no memory */
void jobs_free(struct jobs *jobs);

/* Recipients are given in ascending order. NULL: no memory, or one of them or the job number flies already. */
struct flying_job *jobs_add(struct jobs *jobs, uint64_t job, msgid_t id, const uint32_t *n, uint32_t count);
struct flying_job *jobs_find(const struct jobs *jobs, uint64_t job);
/* NULL: not of this job. */
struct flying_rcpt *jobs_rcpt(struct flying_job *job, uint32_t n);
/* The recipient got its result: it flies no more, though its job does. */
void jobs_landed(struct jobs *jobs, struct flying_job *job, struct flying_rcpt *rcpt);
void jobs_remove(struct jobs *jobs, struct flying_job *job);
bool jobs_flying(const struct jobs *jobs, msgid_t id, uint32_t n);
/* Any job of the channel; NULL when there is none. */
struct flying_job *jobs_any(const struct jobs *jobs, enum channel channel);
uint32_t jobs_rcpts(const struct jobs *jobs, enum channel channel);   /* recipients without a result */

#endif
