/*
 * worker - one bound worker of spawn: a process that delivers to one destination, one job at a time. Room: queue (spawn). One that has an account's
 * virtual mailboxes may go on to another of them, which is the same account's.
 *
 *   states   IDLE     its connection or mailbox is ready; after `connectionidle` it is retired
 *            BUSY     a job's records and body go into its stdin, results come out of its stdout
 *            CLOSING  its stdin is closed: it should end by itself
 *            DEAD     its stdout ended; waiting to learn how the process did
 *
 * Nothing here blocks. Nothing that a worker writes is believed: a record that does not fit its job ends it. The caller looks
 * at `job_over` and `ended` after every call that takes a worker and settles what they say.
 */
#ifndef QUEUE_WORKER_H
#define QUEUE_WORKER_H

#include "common/mailbox.h"
#include "flight.h"
#include "launch.h"
#include "queue/queued/turn.h"

enum worker_state { WORKER_IDLE, WORKER_BUSY, WORKER_CLOSING, WORKER_DEAD };

#define WORKER_LOCAL_LIMIT_MS (20u * MINUTE_MS)    /* without progress */
#define WORKER_REMOTE_LIMIT_MS (60u * MINUTE_MS)   /* remote keeps shorter ones itself */
#define WORKER_CLOSING_MS MINUTE_MS
#define WORKER_REAP_MS (5u * SECOND_MS)

struct worker {
	struct worker *next;
	pid_t pid;                    /* 0 once it was reaped */
	bool is_local;                /* we are root and may kill it */
	int to, from;                 /* -1 when closed */
	enum worker_state state;
	deadline_t deadline;          /* of this state */
	deadline_t idle_since;
	struct str head;              /* records for it that go before the body */
	size_t sent;                  /* octets of head that went */
	struct record_reader in;
	struct flight *flight;        /* its job; NULL when it has none */
	unsigned carried;             /* jobs it ended well */
	const char *fault;            /* why it was stopped, for the recipients it leaves; NULL: it ended by itself */
	int status;                   /* of waitpid, valid when pid is 0 */
	bool is_last;                 /* the job it has: it began with settings of before, or the end is near */
	bool job_over;                /* flight is finished: take it away */
	bool ended;                   /* free it; a flight it still has is unfinished */
	int place_to, place_from;     /* in the turn */
	char destination[DESTINATION_MAX + 1];
	size_t destination_len;
	struct mailbox box;           /* whose, of a local one */
};

/* Takes the descriptors of `launched`. box: NULL for remote. NULL: no memory (descriptors stay the caller's). */
struct worker *worker_new(const struct launched *launched, struct bytes destination, const struct mailbox *box);
void worker_free(struct worker *w);   /* closes; its flight is not freed */
/* May an idle worker deliver into this mailbox, too? Then worker_move() binds it to it. */
bool worker_serves(const struct worker *w, const struct mailbox *box);
void worker_move(struct worker *w, struct bytes destination, const struct mailbox *box);

/* Give an idle worker a flight whose body is open. */
void worker_give(struct worker *w, struct flight *f, deadline_t now);
/* Close its stdin: it ends when it has read that. */
void worker_retire(struct worker *w, deadline_t now);
/* Its process ended with this status: take what it still wrote. */
void worker_reaped(struct worker *w, int status, deadline_t now);

void worker_prepare(struct worker *w, struct turn *turn);
void worker_run(struct worker *w, const struct turn *turn, deadline_t now, uint64_t idle_ms);

/* How a worker that left recipients without a result ended, as their outcome; text is put into `text`. */
struct outcome worker_outcome(const struct worker *w, char *text, size_t size);

#endif
