/* linein - common room, used by smtpd and remote. See linein.h. */
#include "linein.h"

#include <stdlib.h>
#include <string.h>

bool linein_init(struct linein *in, size_t room)
{
	/* Two more for the CRLF of the longest line, so that it is whole in the buffer before it must be judged. */
	*in = (struct linein){ 0 };
	if (!size_add(room, 2, &room))
		return false;
	in->buffer = malloc(room);
	in->room = in->buffer ? room : 0;
	return in->buffer != NULL;
}

void linein_free(struct linein *in)
{
	free(in->buffer);
	*in = (struct linein){ 0 };
}

void linein_reset(struct linein *in)
{
	if (in->touched > 0)
		memset(in->buffer, 0, in->touched);
	*in = (struct linein){ .buffer = in->buffer, .room = in->room };
}

char *linein_space(struct linein *in, size_t *room_r)
{
	if (in->start == in->end)
		in->start = in->end = 0;
	/* Move only when the end is reached: with a buffer of many lines that is seldom. */
	if (in->end == in->room && in->start > 0) {
		memmove(in->buffer, in->buffer + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	*room_r = in->room - in->end;
	return in->buffer + in->end;
}

void linein_fed(struct linein *in, size_t n)
{
	size_t left = in->room - in->end;
	in->end += n < left ? n : left;
	if (in->end > in->touched)
		in->touched = in->end;
}

struct bytes linein_rest(const struct linein *in)
{
	return (struct bytes){ in->buffer + in->start, in->end - in->start };
}

void linein_take(struct linein *in, size_t n)
{
	size_t left = in->end - in->start;
	in->start += n < left ? n : left;
}

/* Take n octets and give the first `len` of them as the line. */
static struct bytes take_line(struct linein *in, size_t n, size_t len)
{
	struct bytes line = bytes_slice(linein_rest(in), 0, len);

	in->start += n;
	return line;
}

/* A line that is too long goes on to its end, in pieces. Strict: only CRLF is an end, so a CR that came last must stay. */
static enum line_result skip_long(struct linein *in, bool lenient)
{
	in->skipping = true;
	for (;;) {
		struct bytes rest = linein_rest(in);
		size_t lf = bytes_find(rest, '\n');
		if (lf == rest.len) {
			bool keep = rest.len && rest.at[rest.len - 1] == '\r';
			in->start = in->end - (keep ? 1 : 0);
			return LINE_MORE;
		}
		in->start += lf + 1;
		if (lenient || (lf > 0 && rest.at[lf - 1] == '\r')) {
			in->skipping = false;
			return LINE_LONG;
		}
	}
}

/*
 * Whether a line is too long depends on its octets alone, never on how they were fed: it is when none of the first max + 1 is
 * its LF, unless the last of these is a CR and the next an LF.
 */
static enum line_result find_end(struct linein *in, size_t max, bool lenient, size_t *lf_r)
{
	struct bytes rest = linein_rest(in);
	size_t lf = bytes_find(bytes_slice(rest, 0, max + 1), '\n');

	*lf_r = lf;
	if (in->skipping)
		return skip_long(in, lenient);
	if (lf <= max && lf < rest.len)
		return LINE_OK;
	if (rest.len <= max || (rest.len == max + 1 && rest.at[max] == '\r'))
		return LINE_MORE;
	*lf_r = max + 1;
	if (rest.at[max] == '\r' && rest.at[max + 1] == '\n')
		return LINE_OK;
	return skip_long(in, lenient);
}

enum line_result linein_next(struct linein *in, size_t max, struct bytes *line_r)
{
	size_t lf;
	enum line_result found = find_end(in, max, false, &lf);

	if (found != LINE_OK)
		return found;
	struct bytes line = bytes_slice(linein_rest(in), 0, lf);
	bool crlf = lf > 0 && line.at[lf - 1] == '\r';
	if (crlf)
		line.len--;
	size_t cr = bytes_find(line, '\r'), nul = bytes_find(line, 0);
	size_t bare = cr < nul ? cr : nul;
	*line_r = take_line(in, lf + 1, bare);
	return crlf && bare == line.len ? LINE_OK : LINE_BARE;
}

enum line_result linein_next_lenient(struct linein *in, size_t max, struct bytes *line_r)
{
	size_t lf;
	enum line_result found = find_end(in, max, true, &lf);

	if (found != LINE_OK)
		return found;
	struct bytes line = bytes_slice(linein_rest(in), 0, lf);
	if (lf > 0 && line.at[lf - 1] == '\r')
		line.len--;
	size_t nul = bytes_find(line, 0);
	*line_r = take_line(in, lf + 1, nul);
	return nul == line.len ? LINE_OK : LINE_BARE;
}
