/*
 * manager - spawn's two fifos to queued: jobs come in, results go out. Room: queue (spawn).
 *
 * Every connection has a new random session: `hello`, an `inflight` for each job that is still being delivered and for each that
 * ended while no queued was there, their results, then `ready`. Only jobs of that session are taken. The end of file on
 * the jobs fifo, a bad record, half of one and no more, or EPIPE mean that this queued is gone: workers go on, results wait for the next
 * one.
 *
 * A job's results leave together with its job_done, when it ended: so after a change of queued the new one gets them whole.
 * Results that lie in the fifo, unread, when queued goes are told to the next one, too, and so are those of which spawn had not seen yet that they were
 * read; others that it had read and not synced when it died are lost with it, and their recipients are tried again (docs/QUEUE.md, Q4).
 */
#ifndef QUEUE_MANAGER_H
#define QUEUE_MANAGER_H

#include "crew.h"

struct manager {
	struct crew *crew;
	const char *jobs_name, *report_name;
	int jobs;                    /* fifo, read end; -1 when closed */
	struct record_reader in;
	struct record_writer out;    /* fd -1: no queued */
	uint64_t session;
	uint32_t told_slots;
	struct flight *assembling;   /* a job whose recipients are still coming */
	struct flights leaving;      /* their results are in out.buffer, or in the fifo and not read */
	uint64_t sent;               /* octets of this session that went into the fifo */
	deadline_t retry;            /* when to look for a queued again; 0 while there is one */
	deadline_t parting;          /* since when queued gives no jobs any more, but may hear results still; 0: it does */
	deadline_t partial;          /* since when half a job waits for its rest; 0: none */
	bool stopping;               /* no new jobs */
	int place_jobs, place_report;
};

void manager_init(struct manager *m, struct crew *crew);
void manager_stop(struct manager *m);          /* take no more jobs */
/* Nothing is left that no queued has read. */
bool manager_has_told_all(const struct manager *m);

void manager_prepare(struct manager *m, struct turn *turn);
void manager_run(struct manager *m, const struct turn *turn, deadline_t now);

#endif
