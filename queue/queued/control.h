/*
 * control - fifo/control: what operators want done to the queue, answered on their reply fifos after the sync. Room: queue (queued).
 * Anybody in group tappal may write here, so a command is a claim by a colleague, not an order of the system: the store
 * decides what it can do.
 */
#ifndef QUEUE_CONTROL_H
#define QUEUE_CONTROL_H

#include "queue/store/store.h"
#include "turn.h"

#define CONTROL_TURN 64u     /* commands in one turn */

struct control_answer { char reply[65]; uint64_t token; bool done; struct str text; };

struct control {
	struct store *store;
	int fifo, keep, place;
	int dir;                  /* reply/ */
	struct record_reader in;
	bool more, lost;
	deadline_t complained;
	size_t answers;
	struct control_answer answer[CONTROL_TURN];
};

bool control_open(struct control *c, struct store *store);
void control_close(struct control *c);
void control_prepare(struct control *c, struct turn *turn);
/* Carry out what is asked. False: the store is lost. */
bool control_run(struct control *c, const struct turn *turn, wall_ms_t now);
/* After the sync (`lost`: it failed). An operator who does not read is not waited for. */
void control_answer_all(struct control *c, bool lost);

#endif
