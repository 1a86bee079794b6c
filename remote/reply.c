/* reply - the parser of servers' replies. Room: remote, bytes from strangers. */
#include <string.h>

#include "reply.h"

void reply_start(struct reply *r)
{
	r->code = 0;
	r->enhanced = (struct enhanced){ 0 };
	r->text_len = 0;
	r->line = (struct bytes){ 0 };
	r->lines = 0;
	r->buffer_len = 0;
	r->octets = 0;
	r->line_cut = false;
}

struct bytes reply_text(const struct reply *r)
{
	return (struct bytes){ r->text, r->text_len };
}

/* As much as there is room for. True: all of it. */
static bool add_cut(char *to, size_t max, size_t *len, struct bytes b)
{
	size_t room = max - *len;
	size_t n = b.len < room ? b.len : room;

	if (n > 0)
		memcpy(to + *len, b.at, n);
	*len += n;
	return n == b.len;
}

static void text_add(struct reply *r, struct bytes b)
{
	(void)add_cut(r->text, REPLY_TEXT_MAX, &r->text_len, b);
}

static enum reply_result bad(struct reply *r, const char *why)
{
	r->code = 0;
	r->enhanced = (struct enhanced){ 0 };
	r->text_len = 0;
	text_add(r, bytes_of(why));
	return REPLY_BAD;
}

/* What a terminal or a log could be fooled with goes; octets from 128 on stay (RFC 6531 3.7.4.2 allows UTF-8). */
static void neuter(char *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)at[i];

		if (c == '\t')
			at[i] = ' ';
		else if (c < 32 || c == 127)
			at[i] = '?';
	}
}

static bool code_read(struct bytes line, uint16_t *code_r)
{
	unsigned code = 0;

	if (line.len < 3 || line.at[0] < '2' || line.at[0] > '5')
		return false;
	for (size_t i = 0; i < 3; i++) {
		if (line.at[i] < '0' || line.at[i] > '9')
			return false;
		code = code * 10 + (unsigned)(line.at[i] - '0');
	}
	*code_r = (uint16_t)code;
	return true;
}

/* The enhanced code is told once: on later lines it is left out (RFC 2034 4 repeats it on every line). */
static void text_add_line(struct reply *r, struct bytes text, uint16_t code)
{
	struct enhanced e = { 0 };
	size_t n = enhanced_parse(text, code, &e);

	if (n > 0 && r->enhanced.class == 0)
		r->enhanced = e;
	else if (n > 0)
		text = bytes_trim(bytes_slice(text, n, text.len));
	if (text.len == 0)
		return;
	text_add(r, LIT(" "));
	text_add(r, text);
}

static void text_begin(struct reply *r, uint16_t code)
{
	char digits[3] = { (char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10) };

	text_add(r, (struct bytes){ digits, 3 });
}

/* The last line's code counts, and the text begins with it. */
static void code_set(struct reply *r, uint16_t code)
{
	r->code = code;
	r->text[1] = (char)('0' + code / 10 % 10);
	r->text[2] = (char)('0' + code % 10);
}

static enum reply_result line_take(struct reply *r)
{
	struct bytes line = { r->buffer, r->buffer_len };
	uint16_t code;
	bool last;

	if (line.len > 0 && !r->line_cut && line.at[line.len - 1] == '\r')
		line.len--;
	if (!code_read(line, &code))
		return bad(r, "the server does not speak SMTP: its reply has no code");
	if (line.len > 3 && line.at[3] != ' ' && line.at[3] != '-')
		return bad(r, "the server does not speak SMTP: its reply's code is malformed");
	if (r->code != 0 && r->code / 100 != code / 100)
		return bad(r, "the server's reply contradicts itself: its lines have codes of different classes");
	last = line.len == 3 || line.at[3] == ' ';
	neuter(r->buffer, line.len);
	r->line = bytes_slice(line, 4, line.len);
	if (r->lines++ == 0)
		text_begin(r, code);
	code_set(r, code);
	text_add_line(r, bytes_trim(r->line), code);
	r->buffer_len = 0;
	r->line_cut = false;
	return last ? REPLY_DONE : REPLY_LINE;
}

static void line_keep(struct reply *r, struct bytes b)
{
	if (!add_cut(r->buffer, REPLY_LINE_KEEP, &r->buffer_len, b))
		r->line_cut = true;
}

enum reply_result reply_feed(struct reply *r, struct bytes in, size_t *used_r)
{
	size_t left = REPLY_OCTETS_MAX - r->octets;
	struct bytes now = bytes_slice(in, 0, left);
	size_t end = bytes_find(now, '\n');
	bool whole = end < now.len;

	*used_r = whole ? end + 1 : now.len;
	r->octets += *used_r;
	line_keep(r, bytes_slice(now, 0, end));
	if (whole)
		return line_take(r);
	if (r->octets == REPLY_OCTETS_MAX)
		return bad(r, "the server's reply has no end");
	return REPLY_MORE;
}

struct outcome reply_outcome(const struct reply *r, enum stage stage, char want)
{
	struct outcome o = { .stage = stage, .code = r->code, .enhanced = r->enhanced, .text = reply_text(r) };

	if (r->code / 100 == want - '0') {
		o.verdict = V_OK;
	} else if (r->code >= 400 && r->code < 600) {
		o.verdict = verdict_of_code(r->code);
	} else {
		o.verdict = V_TEMP;
		o.enhanced = (struct enhanced){ 4, 5, 0 };
	}
	return o;
}
