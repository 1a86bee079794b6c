/*
 * adoption - looks through intake/ for what nobody will offer: messages left as ADOPT while no queued was there, and files of
 * senders who are dead. Room: queue (queued). The orders of docs/QUEUE.md that keep it exactly once:
 *   accept, sync, unlink, sync intake/ - and the index is not committed in between (nobody else runs in between)
 */
#ifndef QUEUE_ADOPTION_H
#define QUEUE_ADOPTION_H

#include "taking.h"

#define ADOPTION_EVERY_MS MINUTE_MS
#define ADOPTION_SLICE 256u     /* messages between two syncs */
#define ADOPTION_SETTLED 1024u
#define ADOPTION_TURN 2048u     /* messages in one scan after the first */

struct adoption {
	struct taking *taking;
	int dir;                     /* intake/ */
	bool first;                  /* the scan at the start, before the fifo is open and before any commit of the index */
	bool full;                   /* the store refused for want of space: leave the rest */
	size_t adopted, removed, aside;
	size_t settled;
	uint64_t settled_token[ADOPTION_SETTLED][2];
	size_t waiting;              /* names to unlink after the sync */
	char name[ADOPTION_SLICE][INTAKE_NAME + 1];
};

enum adoption_result { ADOPTION_DONE, ADOPTION_MORE /* call again soon */, ADOPTION_LOST /* the store or the directory failed */ };

void adoption_init(struct adoption *a, struct taking *taking, int dir);
/* One scan. Syncs the store when it adopted something. */
enum adoption_result adoption_scan(struct adoption *a, wall_ms_t now);

#endif
