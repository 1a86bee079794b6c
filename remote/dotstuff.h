/*
 * dotstuff - a message's body in the form that DATA wants (RFC 5321 4.5.2), as a stream.
 *
 * A dot at the start of a line is doubled, the end adds CRLF when the body did not end with one, and the final dot line. RFC 5321 2.3.8
 * forbids to send a CR or LF on its own: each becomes a CRLF. The intake lets none in; should one come here all the same,
 * no lax server may take "LF . LF" for the end of the message and what follows for commands.
 */
#ifndef REMOTE_DOTSTUFF_H
#define REMOTE_DOTSTUFF_H

#include "common/bytes.h"

/* Octets that `n` octets of body can become at most, and those of the end. */
#define DOTSTUFF_ROOM(n) (2 * (n) + 2)
#define DOTSTUFF_END 5u

enum dotstuff_at { DOTSTUFF_LINE_START, DOTSTUFF_IN_LINE, DOTSTUFF_AFTER_CR };
struct dotstuff { enum dotstuff_at at; };    /* zero is the start of a body */

/* Write the next octets of the body to `out` (DOTSTUFF_ROOM(in.len) octets); returns how many were written. */
size_t dotstuff_add(struct dotstuff *d, struct bytes in, char *out);
/* What ends it, at most DOTSTUFF_END octets. */
size_t dotstuff_end(struct dotstuff *d, char *out);

#endif
