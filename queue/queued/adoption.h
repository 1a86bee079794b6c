/*
 * adoption - looks through intake/ for what nobody will offer: messages left as ADOPT while no queued was there, and files of
 * senders who are dead. Room: queue (queued). The orders of docs/QUEUE.md that keep it exactly once:
 *   at the start, before any commit of the index: settle what the log knows already (adoption_settle)
 *   accept, sync, unlink, sync intake/ - and the index is not committed in between (nobody else runs in between)
 */
#ifndef QUEUE_ADOPTION_H
#define QUEUE_ADOPTION_H

#include "taking.h"

#define ADOPTION_EVERY_MS MINUTE_MS
#define ADOPTION_SLICE 256u     /* messages between two syncs, and in one turn */
#define ADOPTION_LOOK 4096u     /* names looked at in one turn */
#define ADOPTION_SETTLED 1024u

struct adoption {
	struct taking *taking;
	int dir;                     /* intake/ */
	bool settling;               /* the scan at the start, before the fifo is open and before any commit of the index */
	struct str names;            /* of this scan, a NUL behind each */
	size_t next;                 /* the name to look at next; names.len: no scan is under way */
	bool blind;                  /* a file could not be looked at when it mattered */
	bool full;                   /* the store refused for want of space: leave the rest */
	size_t adopted, removed;
	size_t settled;
	uint64_t settled_token[ADOPTION_SETTLED][2];
	size_t waiting;              /* names to unlink after the sync */
	char name[ADOPTION_SLICE][INTAKE_NAME + 1];
};

enum adoption_result { ADOPTION_DONE, ADOPTION_MORE /* call again soon */, ADOPTION_LOST /* the store or the directory failed */ };

void adoption_init(struct adoption *a, struct taking *taking, int dir);
void adoption_free(struct adoption *a);
/* Remove, and answer, whatever the replay found in the log. Adopts nothing, so it is quick and its end is in sight. */
enum adoption_result adoption_settle(struct adoption *a, wall_ms_t now);
/* A piece of a scan, or of a new one. Syncs the store when it adopted something. */
enum adoption_result adoption_scan(struct adoption *a, wall_ms_t now);
bool adoption_under_way(const struct adoption *a);

#endif
