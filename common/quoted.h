/*
 * quoted - text as quoted-printable (RFC 2045 6.7), as a stream.
 *
 * Lines come out with at most 76 octets, all of them printable ASCII, spaces and tabs. What relays and readers are known to touch is
 * encoded, too (RFC 2049 3): space at the end of a line, "From " at its start, a dot there. So is a '-' at the start of a line that has
 * another behind it: neither an encoded octet nor a soft break can make a MIME boundary of a line that was none.
 */
#ifndef COMMON_QUOTED_H
#define COMMON_QUOTED_H

#include "bytes.h"

struct quoted {          /* zero is the start of a line */
	size_t column;
	size_t matched;      /* octets of "From " or "--" that stand at the start of the line and are not written yet */
	char first;          /* the first of them */
	char blank;          /* a space or tab that may be the line's last octet and is not written yet; 0: none */
};

/* The next octets of a line, without its end, appended to *out (which fails as a str does). */
void quoted_add(struct quoted *q, struct bytes text, struct str *out);
/* The line ends: CRLF. */
void quoted_line_end(struct quoted *q, struct str *out);
/* The text ends, in the middle of a line or not. */
void quoted_end(struct quoted *q, struct str *out);

#endif
