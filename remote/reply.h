/*
 * reply - one SMTP reply (RFC 5321 4.2) out of what a server sends, whatever it sends.
 *
 * Own one per connection; reply_start before each reply, then feed octets until the result is no longer REPLY_MORE or REPLY_LINE.
 * Memory is the struct and nothing else; a reply of more than REPLY_OCTETS_MAX octets is REPLY_BAD, so an endless line and a
 * million continuation lines end, too. The result does not depend on how the octets were cut.
 *
 * Lenient: a lone LF ends a line, octets that are no text become "?" (tab: space), a missing text is empty, long lines are cut,
 * lines of one reply may have different codes of the same class (the last one counts). Not lenient, because no verdict can be
 * read from it: no three digits, a first digit outside 2-5, something else than space, "-" or the line's end after the digits,
 * and a class that changes between the lines of one reply.
 */
#ifndef REMOTE_REPLY_H
#define REMOTE_REPLY_H

#include "common/bytes.h"
#include "common/verdict.h"

#define REPLY_TEXT_MAX 1000u             /* octets of the joined text that are kept */
#define REPLY_LINE_KEEP 1024u            /* octets of one line that are looked at */
#define REPLY_OCTETS_MAX (256u << 10)    /* of one reply on the wire */

enum reply_result {
	REPLY_MORE,   /* all octets used, the reply is not whole */
	REPLY_LINE,   /* a line that is not the last: `line` holds its text until the next feed; feed the rest */
	REPLY_DONE,   /* whole; `line` holds the last line's text */
	REPLY_BAD,    /* no SMTP: nothing more can be understood on this connection; `text` says why */
};

struct reply {
	uint16_t code;                    /* 200-599 after REPLY_DONE, 0 after REPLY_BAD */
	struct enhanced enhanced;         /* of the first line that has one; class 0: none */
	char text[REPLY_TEXT_MAX];        /* "550 5.1.1 first second third": code and enhanced code once, lines joined by a space */
	size_t text_len;
	struct bytes line;                /* text of the line just taken, without code and separator; for the keywords of EHLO */
	size_t lines;                     /* lines taken */
	/* private */
	char buffer[REPLY_LINE_KEEP];
	size_t buffer_len;                /* octets of the current line so far, not more than fit */
	size_t octets;                    /* of the whole reply so far */
	bool line_cut;
};

void reply_start(struct reply *r);

/* Take octets of `in` up to the end of the next line. *used_r: octets taken. Never blocks, never allocates. */
enum reply_result reply_feed(struct reply *r, struct bytes in, size_t *used_r);

/* The reply as bytes, valid until the next reply_start. */
struct bytes reply_text(const struct reply *r);

/* What a whole reply means at `stage`, when its first digit must be `want` ('2' or '3'): V_OK, the verdict of 4xx and 5xx, and V_TEMP
 * with 4.5.0 for a digit that makes no sense here. The outcome's text is reply_text. */
struct outcome reply_outcome(const struct reply *r, enum stage stage, char want);

#endif
