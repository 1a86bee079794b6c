/*
 * waiting - how long queued may sleep as far as its store is concerned. Room: queue (queued).
 */
#ifndef QUEUE_WAITING_H
#define QUEUE_WAITING_H

#include "queue/store/store.h"
#include "turn.h"

/* Everything due by `handed`, the time of the last turn, was handed out by it or waits for an event that begins a turn itself: a result, a spawn or a
 * bounce that comes. What became due since, up to the clock of `now`, or was made due by the turn's tick, which comes behind the handing out, nobody
 * has looked for: the next turn comes at once. `claimed`: the turn handed something out. */
void wait_for_store(struct store *store, wall_ms_t handed, wall_ms_t now, bool claimed, struct turn *turn);

#endif
