/*
 * report - the text of a bounce, or of a report that a sender asked for (NOTIFY=SUCCESS, NOTIFY=DELAY): multipart/report (RFC 6522) of a text that a
 * person understands, a message/delivery-status part (RFC 3464, with the fields of RFC 3461 6.3) and the original message or its header. Room: queue (bounce).
 *
 * What other people wrote (addresses, replies, ORCPT, ENVID) is cleaned before it is put anywhere: no octet of it can end a line
 * or a part. The original is copied as it is, and no line of it can be the boundary: survey looks at every octet of it first.
 * In a report to a sender of SMTPUTF8 mail the parts are those of RFC 6533; otherwise everything of ours is ASCII, and addresses
 * with UTF-8 are written in utf-8-addr-xtext.
 */
#ifndef QUEUE_REPORT_H
#define QUEUE_REPORT_H

#include "common/channel.h"
#include "common/mailaddr.h"
#include "common/msgid.h"
#include "common/verdict.h"

#define REPORT_MAX (48u << 20)           /* ours, without the original; 20,000 recipients fit */
#define REPORT_BOUNDARY 40               /* with NUL */
#define REPORT_HEADER_MAX (256u << 10)   /* of the original, when only its header is returned */

/* ---- a look at the original before it is put into the report ---- */

struct survey {
	const char *boundary;
	size_t matched;           /* octets of the boundary that the end of what was fed matches */
	uint64_t size;            /* octets fed */
	uint64_t header_size;     /* of the whole header lines fed, the empty line not counted */
	bool header_ended, line_is_empty;
	bool eight_bit_header, eight_bit;
	bool has_boundary;        /* another one is needed */
};

/* boundary: "=_" and then no '=' */
void survey_init(struct survey *s, const char *boundary);
void survey_feed(struct survey *s, struct bytes octets);

/* ---- the report ---- */

enum report_original { ORIGINAL_WHOLE, ORIGINAL_HEADER, ORIGINAL_NONE /* it could not be read */ };

struct report {
	const struct bounce_begin *begin;
	const struct bounce_rcpt *rcpts;   /* begin->rcpt_count of them */
	struct mailaddr to;                /* the sender, or doublebounceto */
	bool is_double;                    /* the message that failed had no sender */
	struct bytes me, from_local, from_host;
	wall_ms_t now;
	wall_ms_t retry_until;             /* of those that are delayed */
	enum report_original original;
	bool eight_bit;                    /* what is copied of the original has octets above 127 */
	const char *boundary;
};

/* It tells of at least one failure. */
bool report_has_failure(const struct report *r);
/* What is to be returned of the original: RET (RFC 3461 4.3), of which FULL counts only for failures, and bouncemaxbytes. */
enum report_original report_choice(const struct report *r, uint64_t max_bytes);
bool report_is_utf8(const struct report *r);             /* it needs SMTPUTF8 */
bool report_is_8bit(const struct report *r);             /* it needs 8BITMIME */
/* Everything before the octets of the original, and after them. False: no memory or over `out`'s ceiling. */
bool report_begin(const struct report *r, struct str *out);
bool report_end(const struct report *r, struct str *out);

/* The envelope: <> to r->to, with B, U, M and X. */
bool report_envelope(const struct report *r, struct str *out);

#endif
