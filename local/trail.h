/*
 * trail - the Delivered-To: lines that a message already bears, found while it streams by. Room: local.
 *
 * Lines end with LF. Only the header counts, that is all before the first empty line (RFC 5322 2.2); folded lines are joined. Memory is fixed:
 * a line longer than any address can be is passed over. The result does not depend on how the octets are cut into pieces.
 */
#ifndef LOCAL_TRAIL_H
#define LOCAL_TRAIL_H

#include "common/bytes.h"

#define TRAIL_LINE 1024

struct trail {
	char line[TRAIL_LINE];
	size_t len;          /* of the (unfolded) line so far; TRAIL_LINE when it is too long */
	bool at_line_start;
	bool is_over;        /* the header ended */
	void (*found)(void *context, struct bytes value);   /* value: trimmed, valid during the call */
	void *context;
};

void trail_init(struct trail *t, void (*found)(void *context, struct bytes value), void *context);
void trail_feed(struct trail *t, struct bytes octets);
void trail_end(struct trail *t);     /* the message ended, perhaps within its header */

#endif
