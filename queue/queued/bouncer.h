/*
 * bouncer - fifo/bounce: which failures are to be reported goes to the program bounce. Room: queue (queued). bounce answers only by
 * queueing the report; a message it never reports is handed to it again after a while (the store's part).
 */
#ifndef QUEUE_BOUNCER_H
#define QUEUE_BOUNCER_H

#include "queue/store/store.h"
#include "turn.h"

struct bouncer {
	struct store *store;
	struct record_writer out;    /* fd -1: nobody reads */
	deadline_t retry;            /* when to look for a reader again */
	bool owing;                  /* something is due and could not be handed out: the store does not wake us for it again */
	bool missed;                 /* it was said that nobody reads */
	int place;
};

void bouncer_init(struct bouncer *b, struct store *store);
void bouncer_close(struct bouncer *b);
void bouncer_prepare(struct bouncer *b, struct turn *turn);
void bouncer_run(struct bouncer *b, const struct turn *turn, wall_ms_t now);
/* After the sync: hand out what is due. False: the store is lost. *claimed_r grows by the messages handed out. */
bool bouncer_claim(struct bouncer *b, const struct turn *turn, wall_ms_t now, size_t *claimed_r);

#endif
