/*
 * authres - takes out of a message's header the Authentication-Results: fields that claim to be ours (RFC 8601 5): who reads them believes them, so
 * nobody may bring them in. A field is ours when its authserv-id is `me`, however it is written: folded, quoted, behind comments.
 *
 * Octets come in any pieces, dot-unstuffed and with CRLF as the only line end (message.h refuses others). Never blocks; allocates only in `out`.
 */
#ifndef SMTPD_AUTHRES_H
#define SMTPD_AUTHRES_H

#include "common/bytes.h"

#define AUTHRES_HELD 2048u       /* octets of one such field that are kept until it is known whose it is; one that takes more to say so is taken out */

struct authres {
	struct bytes me;             /* borrowed */
	unsigned removed;            /* fields */
	bool over;                   /* the header has ended: the rest of the message is not looked at */
	/* private */
	int place;
	bool holding, dropping;      /* the lines that continue this field share its fate */
	size_t len;
	char held[AUTHRES_HELD];
};

void authres_begin(struct authres *a, struct bytes me);
/* Append to `out` what of `in` stays. Returns the octets used: fewer than in.len only when the header has ended, and then the rest stays as it is. */
size_t authres_feed(struct authres *a, struct bytes in, struct str *out);
/* The message has ended: append what was kept back and stays. */
void authres_end(struct authres *a, struct str *out);

#endif
