/*
 * enqueuer - the session's own `enqueue -s`: a child that takes messages in records 10 to 18 of common/records.def.
 *
 * It is started at the first recipient that is taken (enqueuer_warm), while the client thinks, and kept for the life of the process, so
 * that a message costs no fork. One message is
 *     begin  body*  (commit | abort)
 * begin, envelope and small bodies stay in memory and leave with the commit in one write. If the child dies, what it had is
 * lost with it and nothing was promised: commit says temporary, and the next begin starts a fresh child. A child that had
 * died before it was told anything of this message is replaced at once.
 *
 * Who tells the answer. queued answers on the child's ack fifo. With its first answer the child lends us the read end, and from then on
 * we read queued's answers to small messages there ourselves (mail_offer): the child need not be woken to pass them on. It must not
 * do two things while the answer is with us: overwrite its file, which queued reads, and give the message to adoption, for after an answer
 * that could bring it a second time. So exactly one of us waits at any time, and the wait changes hands in the open:
 *     answered      its token_a, which nobody could guess, goes before the next message (mail_answered). Until then the child touches nothing.
 *     not in time   mail_unanswered: the fifo is the child's again, it waits, offers again or leaves the message for adoption, and says
 *                   what came of it. An answer that comes in between stays in the fifo for it. queued died: that is noticed here, a second late
 *     no offer      (queued is away, the message is refused): the child says so by itself, and may cross our mail_unanswered, which it then ignores
 *     child dies    an answer that stands in the fifo counts, for the message is on disk; else temporary
 *     we die        the child removes its file; the client was told nothing
 *     too late, or twice (an offer made again): known by token_b, which is a new number for each message, and passed over
 * A fifo is lent until the child may have made a new one: after each answer of its own, and after an abort. Who lies here harms his own mail.
 */
#ifndef SMTPD_ENQUEUER_H
#define SMTPD_ENQUEUER_H

#include "common/channel.h"
#include "common/msgid.h"
#include "common/verdict.h"

#include <sys/uio.h>

#define ENQUEUER_HELD 8192            /* octets of body that are gathered before they are written */
#define ENQUEUER_SPANS 32             /* most views in one enqueuer_body call */

struct enqueuer {
	pid_t pid;                    /* 0: no child */
	int to, from;                 /* a pipe to the child; a socket from it, which can carry a descriptor. -1: no child */
	int ack;                      /* read end of the fifo on which queued answers the child; -1: not lent */
	struct record_reader acks;
	uint64_t number;              /* token_b of the message offered last */
	uint64_t proof;               /* token_a of its answer, */
	bool owes_proof;              /* which the child must be told before the next message */
	struct str out;               /* records not written yet, whole */
	struct str held;              /* body octets not framed yet */
	uint64_t body_size;           /* octets given since begin */
	bool told;                    /* some of this message was written to the child */
	bool failed;                  /* this message is lost: `result` says why */
	int result;                   /* enum enqueue_exit */
};

void enqueuer_init(struct enqueuer *e);
/* Close the pipes: the child ends when it has finished what it does. Does not wait for it. */
void enqueuer_free(struct enqueuer *e);
/* Start the child now, while the client still talks, if there is none. A failure shows at commit. */
void enqueuer_warm(struct enqueuer *e);

/* `envelope` is whole (common/envelope.h); `trace` are the first octets of the body, with MSGID_PLACEHOLDER at id_offset. */
void enqueuer_begin(struct enqueuer *e, struct bytes envelope, struct bytes trace, size_t id_offset);
/* More octets of the body: copied or written before it returns. Blocks while the child is slower than the client. */
void enqueuer_body(struct enqueuer *e, const struct bytes *spans, size_t count);
/* The message is whole. Blocks until the child answers; ENQ_OK means on disk. *id_r may be 0 when the queue manager is away. */
int enqueuer_commit(struct enqueuer *e, msgid_t *id_r);
/* The message that was begun goes nowhere. After a commit, or without a begin, this does nothing. */
void enqueuer_abort(struct enqueuer *e);

#endif
