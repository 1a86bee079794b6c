/*
 * operator - the operator's line to queued: `operate` records down fifo/control, answers on a fifo of our own in reply/.
 *
 * Up to OPERATOR_WINDOW operations are under way at a time, so that queued can sync once for all of them and our reply fifo cannot
 * overflow. An operation without an answer may have been carried out or not; that is said.
 */
#ifndef QUEUE_OPERATOR_H
#define QUEUE_OPERATOR_H

#include "common/channel.h"
#include "common/msgid.h"

#define OPERATOR_WINDOW 32u

/* An operation under way; name: whatever the sender calls it, borrowed until the answer. */
struct operation_sent { uint64_t token; msgid_t id; uint32_t index; struct bytes name; bool open; };

/* One answer. `text` is valid during the call; done is queued's: something was changed. */
typedef void operator_fn(void *context, const struct operation_sent *sent, bool done, struct bytes text);

struct operator_line {
	int control, reply, keep;     /* keep: our own writing end of the reply fifo, so that it never reads as ended */
	int directory;                /* reply/ */
	char name[27];
	struct record_reader reader;
	uint64_t first_token, next_token;
	struct operation_sent sent[OPERATOR_WINDOW];
	unsigned under_way;
	char who[64];
	operator_fn *answer;
	void *context;
};

/* Working directory: the spool. Ends the program with a sentence when queued is not running (nothing was done) or may not be told. */
void operator_open(struct operator_line *o, operator_fn *answer, void *context);
/* Send one; waits for answers first when the window is full. Ends the program with a sentence when queued goes away. `reason` is also
 * the operation's name. */
void operator_send(struct operator_line *o, uint8_t op, msgid_t id, uint32_t index, struct bytes reason);
void operator_wait_all(struct operator_line *o);
void operator_close(struct operator_line *o);
/* Remove the fifos in reply/ whose tappal was killed, as far as the caller may. */
void operator_sweep(int directory);

#endif
