/*
 * downgrade - messages of 8 bits made into 7 bits, binary ones into lines, line by line. Room: common, bytes from strangers.
 *
 * Where a line stands decides what is done with it:
 *
 *   IN_HEADER    held; an empty line, or one that is no field, ends it, and the header says what comes next
 *   IN_LEAF      held (FORM_OPEN), copied, encoded, or copied as long as it has no octet over 127 (FORM_FIXED)
 *   IN_BETWEEN   a multipart's octets before its first part and after its last one
 *   IN_REST      copied: nothing more is understood of this message, and it need not be
 *
 * A boundary of any multipart around ends all of that, the outermost first. It is the whole line but for space at its end (RFC 2046 5.1.1):
 * one that only begins like it may be another's, because boundaries may begin alike.
 */
#include <string.h>

#include "downgrade.h"
#include "fieldname.h"

enum piece { PIECE_GOES_ON, PIECE_ENDS, PIECE_LAST /* the message ends here, without CRLF */ };

/* Why it cannot be converted: with 8-bit data, and in a binary message. */
enum why { SAYS_ENCODED, NOT_TO_ENCODE, IS_SIGNED, IN_A_HEADER, HEADER_LONG, TOO_DEEP };
static const char *const why_words[][2] = {
	[SAYS_ENCODED] = { "a part that says it is encoded has 8-bit data", "a part that says it is encoded has binary data" },
	[NOT_TO_ENCODE] = { "a part that must not be encoded has 8-bit data", "a part that must not be encoded is binary" },
	[IS_SIGNED] = { "", "a part that is signed is binary" },
	[IN_A_HEADER] = { "", "a header has a NUL, or a CR or LF on its own" },
	[HEADER_LONG] = { "a header is too long", "a header is too long" },
	[TOO_DEEP] = { "its parts are nested too deeply", "its parts are nested too deeply" },
};

static void line_take(struct downgrade *d, struct bytes text, enum piece how, struct str *out);

void downgrade_init(struct downgrade *d, unsigned wish)
{
	memset(d, 0, sizeof *d);
	d->must = (wish & DOWNGRADE_MUST) != 0;
	d->binary = (wish & DOWNGRADE_BINARY) != 0;
	d->to_8bit = (wish & DOWNGRADE_TO_8BIT) != 0;
	d->is_message = true;
	str_init(&d->held, DOWNGRADE_HOLD + 4 * sizeof d->line);
}

void downgrade_free(struct downgrade *d)
{
	str_free(&d->held);
}

static bool has_8bit(struct bytes b)
{
	unsigned char all = 0;

	for (size_t i = 0; i < b.len; i++)
		all |= (unsigned char)b.at[i];
	return all > 127;
}

/* In a piece of a line, whose CRLF is gone, CR and LF stand on their own. */
static bool has_raw(const struct downgrade *d, struct bytes text)
{
	bool raw = false;

	if (!d->binary)
		return false;
	for (size_t i = 0; i < text.len; i++)
		raw |= text.at[i] == '\r' || text.at[i] == '\n' || text.at[i] == '\0';
	return raw;
}

/* It cannot stay as it is. */
static bool is_wrong(const struct downgrade *d, struct bytes text)
{
	return (!d->to_8bit && has_8bit(text)) || has_raw(d, text);
}

static bool label_is_wrong(const struct downgrade *d)
{
	return d->head.label == LABEL_BINARY || (d->head.label == LABEL_8BIT && !d->to_8bit);
}

/* The header with the label that is right where the body needs no encoding. */
static void header_write(const struct downgrade *d, struct bytes header, struct str *out)
{
	if (label_is_wrong(d))
		mimehead_write(header, d->to_8bit ? LIT("8bit") : LIT("7bit"), false, false, out);
	else
		str_add(out, header);
}

static void copy(struct bytes text, enum piece how, struct str *out)
{
	str_add(out, text);
	if (how == PIECE_ENDS)
		str_add(out, LIT("\r\n"));
}

static void held_let_go(struct downgrade *d, struct str *out)
{
	str_add(out, str_bytes(&d->held));
	str_clear(&d->held);
}

static void cannot(struct downgrade *d, enum why why, struct str *out)
{
	if (d->must)
		d->why = why_words[why][d->binary];
	held_let_go(d, out);
	d->place = IN_REST;
	d->depth = 0;
}

/* ---- leaves */

static void quote(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	quoted_add(&d->quoted, text, out);
	if (how == PIECE_ENDS)
		quoted_line_end(&d->quoted, out);
}

/* A CRLF before a boundary is the boundary's. */
static void to_base64(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	if (d->line_due)
		base64_add(&d->base64, LIT("\r\n"), out);
	base64_add(&d->base64, text, out);
	d->line_due = how == PIECE_ENDS;
}

/* A message of which nobody said that it is MIME, or what it is, gets both said (RFC 2045 4, RFC 1428). */
static void encoded_header(const struct downgrade *d, struct bytes label, struct str *out)
{
	bool version = d->is_message && !d->head.has_version, type = d->is_message && !d->head.has_type;

	mimehead_write(bytes_slice(str_bytes(&d->held), 0, d->header_len), label, version, type, out);
	str_add(out, LIT("\r\n"));
}

static struct bytes held_body(const struct downgrade *d)
{
	return bytes_slice(str_bytes(&d->held), d->header_len + 2, d->held.len);
}

static void base64_begin(struct downgrade *d, struct str *out)
{
	struct bytes body = held_body(d);
	bool line = bytes_ends_nocase(body, LIT("\r\n"));

	d->form = FORM_BASE64;
	d->base64 = (struct base64){ .line = BASE64_LINE };
	d->line_due = false;
	encoded_header(d, LIT("base64"), out);
	to_base64(d, bytes_slice(body, 0, line ? body.len - 2 : body.len), line ? PIECE_ENDS : PIECE_GOES_ON, out);
	str_clear(&d->held);
}

static void quote_begin(struct downgrade *d, struct str *out)
{
	struct bytes body = held_body(d);

	d->form = FORM_QUOTED;
	d->quoted = (struct quoted){ 0 };
	encoded_header(d, LIT("quoted-printable"), out);
	while (body.len > 0) {
		size_t n = bytes_find(body, '\r');

		quote(d, bytes_slice(body, 0, n), n < body.len ? PIECE_ENDS : PIECE_GOES_ON, out);
		body = bytes_slice(body, n + 2, body.len);
	}
	str_clear(&d->held);
}

static bool needs_base64(const struct downgrade *d, struct bytes text)
{
	return d->binary && (d->head.label == LABEL_BINARY || !d->head.is_text || has_raw(d, text));
}

/* Servers and DATA may end a last line that has no end; what is binary must not grow. */
static bool lacks_its_end(const struct downgrade *d, enum piece how)
{
	return d->binary && d->head.label == LABEL_BINARY && how == PIECE_LAST;
}

/* Whether it has to be encoded is not known yet. */
static void leaf_open(struct downgrade *d, bool wrong, struct bytes text, enum piece how, struct str *out)
{
	wrong = wrong || d->line_total > DOWNGRADE_LINE || (d->must && d->held.len > DOWNGRADE_HOLD) || lacks_its_end(d, how);
	if (wrong && needs_base64(d, text)) {
		base64_begin(d, out);
		to_base64(d, text, how, out);
		return;
	}
	if (wrong) {
		quote_begin(d, out);
		quote(d, text, how, out);
		return;
	}
	copy(text, how, &d->held);
	if (d->held.len <= DOWNGRADE_HOLD || d->must)
		return;
	d->form = FORM_AS_IS;
	held_let_go(d, out);
}

static bool is_signed(const struct downgrade *d)
{
	for (size_t i = 0; i < d->depth; i++)
		if (d->levels[i].is_signed)
			return true;
	return false;
}

static enum why fixed_why(const struct downgrade *d)
{
	if (d->binary && is_signed(d))
		return IS_SIGNED;
	return d->head.label == LABEL_ENCODED ? SAYS_ENCODED : NOT_TO_ENCODE;
}

static void leaf_line(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	switch (d->form) {
	case FORM_OPEN:
		leaf_open(d, is_wrong(d, text), text, how, out);
		return;
	case FORM_BASE64:
		to_base64(d, text, how, out);
		return;
	case FORM_QUOTED:
		quote(d, text, how, out);
		return;
	case FORM_FIXED:
		if (d->must && is_wrong(d, text))
			cannot(d, fixed_why(d), out);
		break;
	case FORM_AS_IS:
		break;
	}
	copy(text, how, out);
}

/* ---- headers */

static void header_begin(struct downgrade *d, bool is_message, bool in_digest)
{
	d->place = IN_HEADER;
	d->is_message = is_message;
	d->in_digest = in_digest;
}

/* The header of something that has parts, or a message, in it. */
static void header_let_go(struct downgrade *d, struct str *out)
{
	header_write(d, str_bytes(&d->held), out);
	str_add(out, LIT("\r\n"));
	str_clear(&d->held);
}

static void level_open(struct downgrade *d, struct str *out)
{
	struct downgrade_level *level;

	if (d->depth == DOWNGRADE_DEPTH) {
		cannot(d, TOO_DEEP, out);
		str_add(out, LIT("\r\n"));
		return;
	}
	header_let_go(d, out);
	level = &d->levels[d->depth++];
	memcpy(level->text, d->head.boundary, d->head.boundary_len);
	level->boundary = (struct bytes){ level->text, d->head.boundary_len };
	level->digest = d->head.digest;
	level->is_signed = d->head.is_signed;
	d->place = IN_BETWEEN;
}

static void leaf_begin(struct downgrade *d, bool fixed, struct str *out)
{
	d->place = IN_LEAF;
	d->form = fixed ? FORM_FIXED : FORM_OPEN;
	d->header_len = d->held.len;
	str_add(&d->held, LIT("\r\n"));
	if (fixed)
		held_let_go(d, out);
	else if (d->binary && d->head.label == LABEL_BINARY && !d->head.is_text)
		base64_begin(d, out);
}

static void header_end(struct downgrade *d, struct str *out)
{
	bool fixed, sealed = d->binary && is_signed(d);

	mimehead_read(str_bytes(&d->held), d->in_digest, &d->head);
	fixed = d->head.kind == MIME_FIXED || d->head.label == LABEL_ENCODED || sealed;
	if (d->binary && fixed && label_is_wrong(d)) {
		cannot(d, fixed_why(d), out);
	} else if (d->head.kind == MIME_MULTIPART) {
		level_open(d, out);
	} else if (d->head.kind == MIME_MESSAGE && d->head.label != LABEL_ENCODED) {
		header_let_go(d, out);
		header_begin(d, true, false);
	} else {
		leaf_begin(d, fixed, out);
	}
}

/* A field, more of one, or the line that mbox files have before the first. */
static bool is_of_header(const struct downgrade *d, struct bytes text)
{
	if (d->held.len == 0 && bytes_starts_nocase(text, LIT("From ")))
		return true;
	if (d->held.len > 0 && text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
		return true;
	return fieldname(text) > 0;
}

static void header_line(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	if (!d->line_begun && !is_of_header(d, text)) {
		bool empty = text.len == 0 && how == PIECE_ENDS;

		header_end(d, out);
		if (!empty)
			line_take(d, text, how, out);
		return;
	}
	copy(text, how, &d->held);
	if (has_raw(d, text))
		cannot(d, IN_A_HEADER, out);
	else if (d->held.len > DOWNGRADE_HOLD)
		cannot(d, HEADER_LONG, out);
}

/* ---- between parts */

static void between_line(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	if (is_wrong(d, text)) {
		quoted_add(&d->quoted, text, out);
		quoted_end(&d->quoted, out);
		text.len = 0;
	}
	copy(text, how, out);
}

/* Of a line that begins with "--": the level whose boundary it is. *closes_r: the multipart ends there. */
static bool boundary_find(const struct downgrade *d, struct bytes text, size_t *level_r, bool *closes_r)
{
	struct bytes rest;

	if (!bytes_starts_nocase(text, LIT("--")))
		return false;
	while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
		text.len--;
	rest = bytes_slice(text, 2, text.len);
	for (size_t i = 0; i < d->depth; i++) {
		size_t len = d->levels[i].boundary.len;

		*closes_r = rest.len == len + 2 && rest.at[len] == '-' && rest.at[len + 1] == '-';
		*level_r = i;
		if ((*closes_r || rest.len == len) && memcmp(rest.at, d->levels[i].boundary.at, len) == 0)
			return true;
	}
	return false;
}

/* A leaf that needs no encoding: what is around it says the other label now. */
static void label_correct(struct downgrade *d, struct str *out)
{
	header_write(d, bytes_slice(str_bytes(&d->held), 0, d->header_len), out);
	str_remove_front(&d->held, d->header_len);
}

/* `last`: the message ends, not only the part. */
static void part_end(struct downgrade *d, bool last, struct str *out)
{
	if (d->place == IN_LEAF && d->form == FORM_OPEN && label_is_wrong(d))
		label_correct(d, out);
	held_let_go(d, out);
	if (d->place != IN_LEAF)
		return;
	if (d->form == FORM_QUOTED)
		quoted_end(&d->quoted, out);
	if (d->form == FORM_BASE64 && last)
		to_base64(d, LIT(""), PIECE_LAST, out);
	if (d->form == FORM_BASE64)
		base64_end(&d->base64, out);
}

static void boundary_line(struct downgrade *d, size_t level, bool closes, struct str *out)
{
	part_end(d, false, out);
	d->depth = closes ? level : level + 1;
	if (closes)
		d->place = IN_BETWEEN;
	else
		header_begin(d, false, d->levels[level].digest);
}

/* ---- lines */

static void line_in_place(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	switch (d->place) {
	case IN_HEADER: header_line(d, text, how, out); return;
	case IN_BETWEEN: between_line(d, text, how, out); return;
	case IN_LEAF: leaf_line(d, text, how, out); return;
	case IN_REST: copy(text, how, out); return;
	}
}

/* A line that ends a header by being no field comes here again: for the multipart that begins with it, it may be a boundary. */
static void line_take(struct downgrade *d, struct bytes text, enum piece how, struct str *out)
{
	size_t level;
	bool closes;

	if (!d->line_begun && how != PIECE_GOES_ON && boundary_find(d, text, &level, &closes)) {
		boundary_line(d, level, closes, out);
		copy(text, how, out);
	} else {
		line_in_place(d, text, how, out);
	}
}

/* What is in d->line: a line, or a piece of one. */
static void line_do(struct downgrade *d, enum piece how, struct str *out)
{
	struct bytes text = { d->line, d->line_len };

	d->line_total += text.len;
	line_take(d, text, how, out);
	d->line_len = 0;
	d->line_begun = how == PIECE_GOES_ON;
	if (how == PIECE_ENDS)
		d->line_total = 0;
}

/* Octets without CR or LF. */
static void text_add(struct downgrade *d, struct bytes text, struct str *out)
{
	while (text.len > 0) {
		size_t n = sizeof d->line - d->line_len;

		if (n == 0) {
			line_do(d, PIECE_GOES_ON, out);
			continue;
		}
		n = n < text.len ? n : text.len;
		memcpy(d->line + d->line_len, text.at, n);
		d->line_len += n;
		text = bytes_slice(text, n, text.len);
	}
}

static size_t plain_run(struct bytes in)
{
	size_t n = 0;

	while (n < in.len && in.at[n] != '\r' && in.at[n] != '\n')
		n++;
	return n;
}

static bool is_well(const struct downgrade *d, const struct str *out)
{
	return d->why == NULL && !d->held.failed && !out->failed;
}

/* Lines of text: every CR, LF and CRLF ends one. */
static void line_octet(struct downgrade *d, char c, struct str *out)
{
	/* The CR was the end of the line already. */
	if (!(d->after_cr && c == '\n'))
		line_do(d, PIECE_ENDS, out);
	d->after_cr = c == '\r';
}

/* A CR that no LF followed was an octet of its line. */
static void cr_let_go(struct downgrade *d, struct str *out)
{
	if (d->binary && d->after_cr)
		text_add(d, LIT("\r"), out);
	d->after_cr = false;
}

static void binary_octet(struct downgrade *d, char c, struct str *out)
{
	if (d->after_cr && c == '\n') {
		line_do(d, PIECE_ENDS, out);
		d->after_cr = false;
		return;
	}
	cr_let_go(d, out);
	d->after_cr = c == '\r';
	if (c == '\n')
		text_add(d, LIT("\n"), out);
}

bool downgrade_add(struct downgrade *d, struct bytes in, struct str *out)
{
	while (in.len > 0 && is_well(d, out)) {
		size_t run = plain_run(in);

		if (run > 0) {
			cr_let_go(d, out);
			text_add(d, bytes_slice(in, 0, run), out);
			in = bytes_slice(in, run, in.len);
			continue;
		}
		if (d->binary)
			binary_octet(d, in.at[0], out);
		else
			line_octet(d, in.at[0], out);
		in = bytes_slice(in, 1, in.len);
	}
	return is_well(d, out);
}

bool downgrade_end(struct downgrade *d, struct str *out)
{
	cr_let_go(d, out);
	if (d->line_len > 0)
		line_do(d, PIECE_LAST, out);
	part_end(d, true, out);
	return is_well(d, out);
}
