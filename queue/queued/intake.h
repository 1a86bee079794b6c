/*
 * intake - fifo/intake: takes the messages that enqueue processes offer, and answers them after the sync. Room: queue (queued).
 * Whatever comes down the fifo: it names a file of tappal-intake's, or it is passed over.
 */
#ifndef QUEUE_INTAKE_H
#define QUEUE_INTAKE_H

#include "senders.h"
#include "turn.h"

#define INTAKE_TURN 1024u    /* most offers taken in one turn, hence acknowledged with one sync */
#define INTAKE_RECENT 4096u  /* messages taken last: an offer that is made again is answered, not taken again */

struct intake_answer { struct sender *sender; struct ack ack; bool last; };
struct intake_recent { uint64_t token_a, token_b; msgid_t id; };

struct intake {
	struct taking *taking;
	struct senders senders;
	int fifo, keep;                  /* read end; write end of our own, so that it never ends */
	int spare;                       /* given up for a moment to say no when no descriptor is left */
	int place;
	struct record_reader in;
	bool more;                       /* the turn ended before the fifo was empty */
	bool adopt;                      /* somebody left a file for adoption */
	deadline_t complained;           /* at most one line a second about garbage */
	size_t answers, recents;
	struct intake_answer answer[INTAKE_TURN];
	struct intake_recent recent[INTAKE_RECENT];
};

/* Opens the fifo: from now on enqueue waits for us. `dir`: intake/. False with errno. */
bool intake_open(struct intake *in, struct taking *taking, int dir);
void intake_close(struct intake *in);

void intake_prepare(struct intake *in, struct turn *turn);
/* Take what is offered. Nothing is answered yet. */
void intake_run(struct intake *in, const struct turn *turn, wall_ms_t now);
/* Behind intake_run: take what is about to be offered, so that one sync serves it, too. With many senders busy, naps for a millisecond at most until
 * their share is there; with few, gives way to who is ready to run and waits for nobody: alone on the machine it costs two system calls. */
void intake_gather(struct intake *in, const struct turn *turn, wall_ms_t now);
/* Answer what intake_run took: after a successful sync, or with `lost` that the queue failed. */
void intake_answer_all(struct intake *in, bool lost);

#endif
