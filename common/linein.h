/*
 * linein - CRLF lines out of a stream of octets, for the server's commands and the client's replies.
 *
 * Own one per connection. Feed it what read(2) gave; take lines until LINE_MORE. Memory is one buffer of
 * `room` octets, allocated at linein_init and never grown. Nothing here blocks or reads by itself.
 */
#ifndef COMMON_LINEIN_H
#define COMMON_LINEIN_H

#include "bytes.h"

enum line_result {
	LINE_OK,    /* *line_r is a whole line without its CRLF */
	LINE_MORE,  /* no whole line yet: feed more */
	LINE_LONG,  /* a line longer than max ended; it was skipped whole */
	LINE_BARE,  /* the line held a CR or an LF on its own (RFC 5321 2.3.8) or a NUL; *line_r is what stood before it */
};

struct linein {
	char *buffer;
	size_t room, start, end;  /* unread octets are buffer[start..end) */
	size_t touched;           /* nothing was ever fed behind it */
	bool skipping;            /* in the middle of a line that is too long */
};

bool linein_init(struct linein *in, size_t room);  /* false: no memory. room must exceed every max used later */
void linein_free(struct linein *in);
void linein_reset(struct linein *in);              /* as it was after linein_init, for another connection: what was fed is zeroed */

/* Where and how much read(2) may put next; never 0 octets while the caller drains lines before feeding. */
char *linein_space(struct linein *in, size_t *room_r);
void linein_fed(struct linein *in, size_t n);

/* Take the next line. A line ends only with CRLF. A LINE_BARE line is taken up to its CRLF or, when the
 * bare octet is an LF, up to that LF. A line whose text without CRLF is over `max` is LINE_LONG, is handed out in no part, and
 * ends only with its CRLF. *line_r belongs to `in`, valid until the next linein_ call. */
enum line_result linein_next(struct linein *in, size_t max, struct bytes *line_r);

/* Like linein_next, but a lone LF also ends a line and a lone CR is data: for replies of other servers. */
enum line_result linein_next_lenient(struct linein *in, size_t max, struct bytes *line_r);

/* What is fed and not taken, for the reader of message data; valid until the next linein_ call. */
struct bytes linein_rest(const struct linein *in);
void linein_take(struct linein *in, size_t n);  /* n <= linein_rest().len */

#endif
