/*
 * msgid - the queue id of a message: 60 bits, given by queued alone, sorts by arrival, never reused.
 *   upper 44 bits   milliseconds since 1970 at which it was given
 *   lower 16 bits   a counter within that millisecond (an overflow borrows from the next one)
 * As text: 12 characters of base 32 (0-9 A-Z without I L O U), fixed width, read in either case.
 */
#ifndef COMMON_MSGID_H
#define COMMON_MSGID_H

#include "bytes.h"
#include "clock.h"

typedef uint64_t msgid_t;      /* 0 is no id */
#define MSGID_TEXT 12
#define MSGID_MAX ((UINT64_C(1) << 60) - 1)

/* The id after `last` at time now: greater than last even when the clock went back. */
msgid_t msgid_next(msgid_t last, wall_ms_t now);
wall_ms_t msgid_time(msgid_t id);
void msgid_format(msgid_t id, char out[MSGID_TEXT + 1]);
/* Whole id: true. */
bool msgid_parse(struct bytes text, msgid_t *id_r);
/* A prefix of 1 to 12 characters: the range of ids it stands for. */
bool msgid_parse_prefix(struct bytes text, msgid_t *first_r, msgid_t *last_r);

/* What smtpd writes where the id belongs in its Received: header; queued puts the id in its place
 * (same width) when it accepts the message. */
#define MSGID_PLACEHOLDER "............"

#endif
