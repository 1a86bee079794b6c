/*
 * spawner - one channel's spawn as queued sees it: jobs go down one fifo, reports come up the other. Room: queue (queued).
 *
 * spawn speaks first: hello with a new session, the jobs it still has of an earlier queued, their results, ready. Only then, and at most
 * `slots` at a time, jobs go out. It is away when its report fifo ends or its jobs fifo has no reader: what it told before is taken, then its
 * jobs are given back. What it says is checked (frame, record, order, and by the store: is that recipient in flight?); a bad record ends the
 * session, and spawn, whose jobs fifo ends with it, begins a new one.
 */
#ifndef QUEUE_SPAWNER_H
#define QUEUE_SPAWNER_H

#include "events.h"
#include "turn.h"

#define SPAWNER_FLYING 4096u    /* jobs at a time, whatever slots says */

enum spawner_state { SPAWNER_AWAY, SPAWNER_GREETING, SPAWNER_READY };

struct spawner_job { uint64_t job; wall_ms_t handed; };

struct spawner {
	enum channel channel;
	struct store *store;
	struct events *events;
	const char *name, *jobs_name, *report_name;
	enum spawner_state state;
	uint64_t session;
	uint32_t slots;
	int report;                  /* read end; its only writer is spawn, so its end is spawn's end */
	struct record_reader in;
	struct record_writer out;    /* the jobs fifo; fd -1 while there is no session */
	size_t flying;
	struct spawner_job job[SPAWNER_FLYING];
	bool more, lost;             /* lost: the store failed */
	bool parting;                /* no jobs any more; what spawn wrote is read to its end */
	deadline_t complained;
	bool deaf;                   /* it said hello, and there was no descriptor to answer with */
	deadline_t reopen;           /* report ended and could not be opened anew: when to try again; 0: it is open */
	deadline_t partial;          /* since when half a record waits for its rest; 0: none */
	int place_jobs, place_report;
};

bool spawner_open(struct spawner *sp, enum channel channel, struct store *store, struct events *events);
void spawner_close(struct spawner *sp);

void spawner_prepare(struct spawner *sp, struct turn *turn);
/* Take results. False: the store is lost. */
bool spawner_run(struct spawner *sp, const struct turn *turn, wall_ms_t now);
/* queued stops: spawn sees the end of its jobs and lets go of its report fifo. What it wrote before is still taken (prepare, run), because a result
 * that stays in a fifo without a reader is gone, and its delivery would be made again. */
void spawner_part(struct spawner *sp, deadline_t now);
bool spawner_has_parted(const struct spawner *sp);
/* After the sync: hand out what is due. False: the store is lost. *claimed_r grows by the jobs handed out. */
bool spawner_claim(struct spawner *sp, wall_ms_t now, size_t *claimed_r);

#endif
