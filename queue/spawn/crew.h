/*
 * crew - all workers of a spawn, and the jobs that wait for one. Room: queue (spawn).
 *
 * A job goes to an idle worker of its destination; else, into a virtual mailbox, to an idle one of the same account; else to a new worker while there are slots; else it waits for its destination's
 * worker that is busy; if there is none, the worker that has been idle longest is retired and a new one started. Every job ends in `done`, with
 * results or with temporary failures in their place.
 */
#ifndef QUEUE_CREW_H
#define QUEUE_CREW_H

#include "common/route.h"
#include "worker.h"

#define CREW_SLOTS_MAX 1000u

struct crew {
	enum channel channel;
	struct settings *settings;         /* borrowed; the caller's, replaced in place at a reload */
	struct worker *workers;
	size_t count;                      /* all of them, those that are closing included */
	struct flights waiting;            /* taken and not yet with a worker */
	struct flights done;               /* finished: for queued */
};

void crew_init(struct crew *crew, enum channel channel, struct settings *settings);
uint32_t crew_slots(const struct crew *crew);
size_t crew_busy(const struct crew *crew);            /* jobs waiting or with a worker */

void crew_take(struct crew *crew, struct flight *f);  /* a whole flight becomes the crew's */
void crew_drop_waiting(struct crew *crew);            /* the queued that gave them is gone: the next one gives them anew */
/* Settings changed, or the end is near: no worker of now gets another job. */
void crew_retire(struct crew *crew, deadline_t now);

/* Every job that a worker has, for inflight records. */
void crew_each(const struct crew *crew, void (*see)(void *context, const struct flight *f), void *context);

void crew_reap(struct crew *crew, deadline_t now);    /* after SIGCHLD */
void crew_prepare(struct crew *crew, struct turn *turn);
void crew_run(struct crew *crew, const struct turn *turn, deadline_t now);

#endif
