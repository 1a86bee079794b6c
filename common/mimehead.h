/*
 * mimehead - what the header of a message or of a part of one says about its body (RFC 2045, 2046), and the header with another label.
 *
 * A header here is whole: its fields, each line with CRLF, without the empty line. It comes from strangers; both functions take time linear in its
 * length and allocate nothing of their own. Of several Content-Type fields the first counts, of several boundaries the first. Of several
 * Content-Transfer-Encoding fields the one counts that forbids most.
 */
#ifndef COMMON_MIMEHEAD_H
#define COMMON_MIMEHEAD_H

#include "bytes.h"

#define MIMEHEAD_BOUNDARY_MAX 255u    /* RFC 2046 5.1.1 allows 70; longer ones exist */

enum mimehead_kind {
	MIME_LEAF,        /* may be encoded */
	MIME_MULTIPART,   /* has parts, `boundary` between them */
	MIME_MESSAGE,     /* message/rfc822, message/news: a header and a body, which must not be encoded as a whole (RFC 2046 5.2.1) */
	MIME_FIXED,       /* must not be encoded (message/partial, message/external-body: RFC 2046 5.2.2, 5.2.3), or a multipart of which the boundary
	                   * cannot be told */
};
enum mimehead_label {
	LABEL_7BIT,       /* or none */
	LABEL_8BIT,
	LABEL_BINARY,
	LABEL_ENCODED,    /* quoted-printable, base64, or something that nobody here knows */
};
struct mimehead {
	enum mimehead_kind kind;
	enum mimehead_label label;
	bool has_type, has_version;          /* Content-Type, MIME-Version */
	bool is_text;                        /* text/..., or no type */
	bool is_signed;                      /* multipart/signed: its first part is not to be changed (RFC 1847) */
	bool digest;                         /* parts without a Content-Type are messages (RFC 2046 5.1.5) */
	char boundary[MIMEHEAD_BOUNDARY_MAX];
	size_t boundary_len;
};

/* in_digest: what it is without a Content-Type. */
void mimehead_read(struct bytes header, bool in_digest, struct mimehead *head_r);

/* Append the header to *out, its Content-Transfer-Encoding (all of them) replaced by one that says `label`, where the first stood, or at the
 * end. version: a MIME-Version before that. type: a Content-Type that says what is known about text of which nobody said anything:
 * RFC 1428's unknown-8bit. */
void mimehead_write(struct bytes header, struct bytes label, bool version, bool type, struct str *out);

#endif
