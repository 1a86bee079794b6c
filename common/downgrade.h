/*
 * downgrade - a message with 8-bit data as one of 7 bits (RFC 6152 3, RFC 2045), or a binary one (RFC 3030) as one of lines, in one pass and bounded
 * memory.
 *
 *   leaf                        with an octet over 127 or a line over 998 octets: becomes quoted-printable, its header says so. Of others only a
 *                               label 8bit or binary becomes 7bit
 *   multipart, message/rfc822   the label 8bit or binary becomes 7bit; what is in them is looked at in turn
 *   between parts               before the first, after the last, where nobody reads: a line with an octet over 127 is written as quoted-printable
 *   said to be encoded          and message/partial, message/external-body: cannot be converted when an octet over 127 is in them
 *   headers                     stay as they are: 8-bit data in them is as wrong with 8BITMIME as without
 *
 * A leaf is held until it is clear what it becomes: at its first such octet or line, at its end, or after DOWNGRADE_HOLD octets. Of a longer one nobody
 * knows what is to come: DOWNGRADE_MUST says what then. A bare CR or LF counts as the end of a line and becomes CRLF. A header that
 * ends without an empty line gets one.
 *
 * In a binary message only CRLF ends a line. A NUL, or a CR or LF on its own, is refused in a header, and in a body it counts like an octet over 127. So
 * does all of a leaf that is labelled binary and is not text, for it has no lines. What is labelled binary, is not text, or has such an octet when
 * it is decided what it becomes, becomes base64: it decodes to the same octets. Nothing within a multipart/signed may need a change.
 *
 * Memory: DOWNGRADE_HOLD and a little, and in *out at most 4 * (DOWNGRADE_HOLD + octets given) in a call. Time is linear in the message, with
 * DOWNGRADE_DEPTH as factor for lines that look like boundaries.
 */
#ifndef COMMON_DOWNGRADE_H
#define COMMON_DOWNGRADE_H

#include "base64.h"
#include "mimehead.h"
#include "quoted.h"

#define DOWNGRADE_HOLD (512u << 10)   /* also the longest header */
#define DOWNGRADE_DEPTH 100u          /* multiparts within each other */
#define DOWNGRADE_LINE 998u           /* RFC 5321 4.5.3.1.6, without CRLF */

enum downgrade_place { IN_HEADER, IN_BETWEEN, IN_LEAF, IN_REST };
enum downgrade_form { FORM_OPEN, FORM_AS_IS, FORM_QUOTED, FORM_BASE64, FORM_FIXED };

struct downgrade_level { struct bytes boundary; char text[MIMEHEAD_BOUNDARY_MAX]; bool digest, is_signed; };

/* What is wished; bits. */
enum downgrade_wish {
	DOWNGRADE_MUST = 1,      /* nothing over 127 may leave a body; what cannot be converted is refused, and a long leaf is encoded. Without it the
	                          * message is one of which nobody said that it has 8-bit data: what cannot be converted stays as it is, a long leaf too */
	DOWNGRADE_BINARY = 2,    /* it was declared to be binary; DOWNGRADE_MUST goes with it */
	DOWNGRADE_TO_8BIT = 4,   /* octets over 127 may stay, and "8bit" is what labels become; of a binary message only */
};

struct downgrade {
	bool must, binary, to_8bit;
	const char *why;                     /* static: why it cannot be converted; NULL: so far it can */
	enum downgrade_place place;
	enum downgrade_form form;            /* IN_LEAF */
	struct mimehead head;                /* IN_LEAF: its header */
	bool in_digest, is_message;          /* IN_HEADER and IN_LEAF: its default type; whether it is a whole message's */
	struct str held;                     /* IN_HEADER: its fields; FORM_OPEN: header, empty line, body so far */
	size_t header_len;                   /* of the fields in `held` */
	char line[1000];                     /* a line, or the next piece of one that is longer */
	size_t line_len, line_total;
	bool line_begun, after_cr;           /* pieces of this line are gone; the last octet was a CR */
	struct quoted quoted;
	struct base64 base64;
	bool line_due;                       /* FORM_BASE64: a CRLF came that is the leaf's, or the next boundary's */
	size_t depth;
	struct downgrade_level levels[DOWNGRADE_DEPTH];
};

void downgrade_init(struct downgrade *d, unsigned wish);
void downgrade_free(struct downgrade *d);

/* Give the next octets of the message; what is ready of the result is appended to *out. False: it cannot be converted (d->why), or no memory (*out or
 * d->held failed); nothing may be given any more. */
bool downgrade_add(struct downgrade *d, struct bytes in, struct str *out);
/* The message is at its end. The same. */
bool downgrade_end(struct downgrade *d, struct str *out);

#endif
