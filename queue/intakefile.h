/*
 * intakefile - the file in intake/ by which a message goes from enqueue to queued: a head, the body, the envelope. (The envelope
 * is last because a caller with qmail-queue's contract gives it last, and a body is never held in memory.)
 *
 * The head's state says whose the message is (docs/QUEUE.md):
 *   PENDING   enqueue waits for queued's answer. After a crash it is worth nothing: its client was told nothing.
 *   ADOPT     queued was away, enqueue synced file and directory and the client has its 250. queued takes it at start,
 *             once: the token in the head is also in the log record, and a token that the log holds is not taken again.
 * The name is 26 characters (base 32 of 128 random bits); NAME.ack is its sender's ack fifo. The owner holds a flock on the file
 * as long as it lives, so that queued can tell a forgotten PENDING file from one that is being written. A file is reused by
 * its owner for its next message, unless it was large (queued renamed it to large/ID) or was left as ADOPT. While a message is
 * being written the head is no valid head, and what stands in a reused file behind head, body and envelope means nothing.
 */
#ifndef QUEUE_INTAKEFILE_H
#define QUEUE_INTAKEFILE_H

#include "common/bytes.h"
#include "common/envelope.h"
#include "common/exits.h"
#include "common/msgid.h"

#define INTAKE_NAME 26
#define INTAKE_ACK_NAME (INTAKE_NAME + 4)   /* NAME.ack */
#define INTAKE_HEAD 64u                     /* octets of the head; the body begins here */
#define INTAKE_LARGE (128u << 10)           /* bodies from this size on become files of their own */
#define INTAKE_BODY_MAX (UINT64_C(1) << 40) /* longer ones are refused */

/* Bits of offer.flags. */
enum { OFFER_ONCE = 1 /* the sender goes after the answer */, OFFER_AGAIN = 2 /* offered before: it may be in the log already */ };

enum intake_state { INTAKE_PENDING = 1, INTAKE_ADOPT = 2 };

struct intake_head {
	enum intake_state state;
	uint64_t token_a, token_b;        /* random; new for every message */
	uint32_t uid;                     /* who called enqueue */
	uint32_t envelope_size;
	uint64_t body_size;
	uint32_t id_offset;               /* MSGID_PLACEHOLDER in the body, 0: none */
	bool summed;                      /* checksum is one: always for ADOPT and for a large body, but for those of an older version */
	uint32_t checksum;                /* CRC-32C of body and envelope, the placeholder as dots; 0 without */
};

/* With magic, version, and a CRC of the head itself. */
void intake_head_encode(const struct intake_head *head, char out[INTAKE_HEAD]);
/* False: no whole head of this version, or sizes over INTAKE_BODY_MAX and ENVELOPE_MAX. */
bool intake_head_decode(const char in[INTAKE_HEAD], struct intake_head *head_r);
/* Octets of head, body and envelope together. Cannot overflow for a decoded head. */
uint64_t intake_size(const struct intake_head *head);

/* Exactly INTAKE_NAME characters of the alphabet: safe as a file name. */
bool intake_name_valid(struct bytes name);
/* The name of 128 bits. */
void intake_name_make(const uint8_t random[16], char out[INTAKE_NAME + 1]);
/* NAME.ack; `name` is valid. */
void intake_ack_name(const char *name, char out[INTAKE_ACK_NAME + 1]);

/* CRC-32C of what stands behind the head, read through a buffer: false with errno (ENODATA: the file is shorter). */
bool intake_checksum(int fd, const struct intake_head *head, uint32_t *checksum_r);

/* The same of a file that is in large/ by now, where queued has put the id in the place of the dots, or had no time to: piece by piece. */
struct intake_sum {
	uint64_t at;        /* offset in the file of the next octet: at first behind the head */
	uint64_t dots;      /* offset of the id, or of the dots still; 0: there is none */
	uint32_t crc;
};
struct intake_sum intake_sum_begin(int fd, const struct intake_head *head, msgid_t id);
/* The n octets from sum->at on; the id among them becomes dots. */
void intake_sum_add(struct intake_sum *sum, char *octets, size_t n);

#endif
