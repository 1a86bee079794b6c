/*
 * base64 - octets as base64 (RFC 4648 4), as a stream, in lines or not.
 *
 * Never blocks; `out` fails as a str does.
 */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include "bytes.h"

#define BASE64_LINE 76u     /* RFC 2045 6.8: of a message's body */

struct base64 {             /* zero is a start, in one line */
	size_t line;            /* longest line, a multiple of 4; each but the last then ends with CRLF, and so does that one. 0: no lines */
	size_t column;
	uint32_t group;         /* `held` octets that do not make three yet */
	size_t held;
};

/* The next octets, appended to *out. */
void base64_add(struct base64 *b, struct bytes in, struct str *out);
/* They are at their end: the last group, and the line's. *b is a start again. */
void base64_end(struct base64 *b, struct str *out);

#endif
