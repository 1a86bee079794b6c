/* quoted - quoted-printable text. Room: common. */
#include "quoted.h"

#define COLUMN_MAX 75u     /* a soft break's '=' goes behind it */
#define OCTET_ROOM 16u     /* what quoted_add writes for one octet at most: four held ones, a blank, the octet, three soft breaks */
#define END_ROOM 16u

static const char from_line[] = "From ", dashes[] = "--";

/* UNSAFE, and what follows up to quoted_add: every octet written here is counted in OCTET_ROOM or END_ROOM, which the callers reserve. */
static char *put_break(struct quoted *q, char *to)
{
	*to++ = '=';
	*to++ = '\r';
	*to++ = '\n';
	q->column = 0;
	return to;
}

static char *put_plain(struct quoted *q, char *to, char c)
{
	if (q->column + 1 > COLUMN_MAX)
		to = put_break(q, to);
	*to++ = c;
	q->column++;
	return to;
}

static char *put_hex(struct quoted *q, char *to, char c)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned char octet = (unsigned char)c;

	if (q->column + 3 > COLUMN_MAX)
		to = put_break(q, to);
	*to++ = '=';
	*to++ = digits[octet >> 4];
	*to++ = digits[octet & 15];
	q->column += 3;
	return to;
}

static const char *pattern_of(char first)
{
	return first == 'F' ? from_line : dashes;
}

/* Octets that were held as the beginning of a pattern and are none. They stand at the start of a line: no break comes between them. */
static char *put_matched(struct quoted *q, char *to)
{
	const char *pattern = pattern_of(q->first);

	for (size_t i = 0; i < q->matched; i++)
		to = put_plain(q, to, pattern[i]);
	q->matched = 0;
	return to;
}

/* The pattern is whole but for its last octet, which the caller writes. */
static char *put_pattern(struct quoted *q, char *to)
{
	const char *pattern = pattern_of(q->first);
	size_t n = q->matched;

	to = put_hex(q, to, pattern[0]);
	for (size_t i = 1; i < n; i++)
		to = put_plain(q, to, pattern[i]);
	q->matched = 0;
	return to;
}

/* `c` goes on with the pattern. True: it was taken. When it is the pattern's last octet, it is left to be written. */
static bool match(struct quoted *q, char **to, char c)
{
	const char *pattern = pattern_of(q->first);

	if (pattern[q->matched] != c) {
		*to = put_matched(q, *to);
		return false;
	}
	if (pattern[q->matched + 1] == '\0') {
		*to = put_pattern(q, *to);
		return false;
	}
	q->matched++;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_plain(char c)
{
	return c > ' ' && c < 127 && c != '=';
}

static char *put_octet(struct quoted *q, char *to, char c)
{
	if (q->matched > 0 && match(q, &to, c))
		return to;
	if (q->blank != 0)
		to = put_plain(q, to, q->blank);
	q->blank = '\0';
	if (is_blank(c)) {
		q->blank = c;
		return to;
	}
	if (q->column + (is_plain(c) ? 1 : 3) > COLUMN_MAX)
		to = put_break(q, to);
	if (q->column == 0 && (c == 'F' || c == '-')) {
		q->first = c;
		q->matched = 1;
		return to;
	}
	if (!is_plain(c) || (c == '.' && q->column == 0))
		return put_hex(q, to, c);
	return put_plain(q, to, c);
}

void quoted_add(struct quoted *q, struct bytes text, struct str *out)
{
	size_t need;
	char *start, *to;

	if (!size_mul(text.len, OCTET_ROOM, &need) || (start = str_reserve(out, need)) == NULL)
		return;
	to = start;
	for (size_t i = 0; i < text.len; i++)
		to = put_octet(q, to, text.at[i]);
	str_grew(out, (size_t)(to - start));
}

void quoted_end(struct quoted *q, struct str *out)
{
	char *start = str_reserve(out, END_ROOM), *to = start;

	if (start == NULL)
		return;
	to = put_matched(q, to);
	if (q->blank != 0)
		to = put_hex(q, to, q->blank);
	str_grew(out, (size_t)(to - start));
	*q = (struct quoted){ 0 };
}

void quoted_line_end(struct quoted *q, struct str *out)
{
	quoted_end(q, out);
	str_add(out, LIT("\r\n"));
}
