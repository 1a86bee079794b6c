/*
 * intakefile - the file in intake/ by which a message goes from enqueue to queued: a head, the envelope, the body.
 *
 * The head's state says whose the message is (docs/QUEUE.md):
 *   PENDING   enqueue waits for queued's answer. After a crash it is worth nothing: its client was told nothing.
 *   ADOPT     queued was away, enqueue synced file and directory and the client has its 250. queued takes it at start,
 *             once: the token in the head is also in the log record, and a token that the log holds is not taken again.
 * The name is 26 characters (base 32 of 128 random bits); NAME.ack is its sender's ack fifo. The owner holds a flock on the file
 * as long as it lives, so that queued can tell a forgotten PENDING file from one that is being written. A file is reused by
 * its owner for its next message, unless it was large (queued renamed it to large/ID) or was left as ADOPT.
 */
#ifndef QUEUE_INTAKEFILE_H
#define QUEUE_INTAKEFILE_H

#include "../common/bytes.h"
#include "../common/exits.h"

#define INTAKE_NAME 26
#define INTAKE_HEAD 64u               /* octets of the head; the envelope begins here */
#define INTAKE_LARGE (128u << 10)     /* bodies from this size on become files of their own */

enum intake_state { INTAKE_PENDING = 1, INTAKE_ADOPT = 2 };

struct intake_head {
	enum intake_state state;
	uint64_t token_a, token_b;        /* random; new for every message */
	uint32_t uid;                     /* who called enqueue */
	uint32_t envelope_size;
	uint64_t body_size;
	uint32_t id_offset;               /* MSGID_PLACEHOLDER in the body, 0: none */
	uint32_t checksum;                /* CRC-32C of envelope and body, set for ADOPT; 0 else */
};

void intake_head_encode(const struct intake_head *head, char out[INTAKE_HEAD]);   /* with magic, version, and a CRC of the head itself */
bool intake_head_decode(const char in[INTAKE_HEAD], struct intake_head *head_r);
bool intake_name_valid(struct bytes name);    /* exactly INTAKE_NAME characters of the alphabet: safe as a file name */

#endif
