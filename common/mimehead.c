/* mimehead - the header fields by which MIME is built. Room: common, bytes from strangers. */
#include <string.h>

#include "fieldname.h"
#include "mimehead.h"

#define TYPE_MAX 64u

static const struct bytes encoding_field = { "Content-Transfer-Encoding", sizeof "Content-Transfer-Encoding" - 1 };

/* ---- fields */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The next field with its continuation lines. */
static bool field_next(struct bytes *rest, struct bytes *field_r)
{
	size_t end = 0;

	if (rest->len == 0)
		return false;
	do {
		size_t line = bytes_find(bytes_slice(*rest, end, rest->len), '\n');

		end = end + line < rest->len ? end + line + 1 : rest->len;
	} while (end < rest->len && is_blank(rest->at[end]));
	*field_r = bytes_slice(*rest, 0, end);
	*rest = bytes_slice(*rest, end, rest->len);
	return true;
}

/* *value_r: what stands behind the colon. */
static bool field_is(struct bytes field, struct bytes name, struct bytes *value_r)
{
	if (!bytes_equal_nocase(bytes_slice(field, 0, fieldname(field)), name))
		return false;
	*value_r = bytes_slice(field, bytes_find(field, ':') + 1, field.len);
	return true;
}

/* ---- values: words, quoted strings, comments (RFC 5322 3.2) */

static bool is_space(char c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

static void step(struct bytes *b)
{
	*b = bytes_slice(*b, 1, b->len);
}

static bool at(const struct bytes *b, char c)
{
	return b->len > 0 && b->at[0] == c;
}

static void skip_comment(struct bytes *b)
{
	size_t depth = 0;

	while (b->len > 0) {
		char c = b->at[0];

		step(b);
		if (c == '\\' && b->len > 0)
			step(b);
		else if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			return;
	}
}

static void skip_space(struct bytes *b)
{
	while (b->len > 0 && (is_space(b->at[0]) || b->at[0] == '('))
		if (b->at[0] == '(')
			skip_comment(b);
		else
			step(b);
}

/* What is put together from a value: its first octets, and how many there were. */
struct word { char *at; size_t room, len; };

static void word_add(struct word *w, char c)
{
	if (w->len < w->room)
		w->at[w->len] = c;
	w->len++;
}

static void take_quoted(struct bytes *b, struct word *w)
{
	step(b);
	while (b->len > 0 && b->at[0] != '"') {
		if (b->at[0] == '\\' && b->len > 1)
			step(b);
		if (b->at[0] != '\r' && b->at[0] != '\n')
			word_add(w, b->at[0]);
		step(b);
	}
	step(b);
}

static void take_plain(struct bytes *b, const char *ends, struct word *w)
{
	while (b->len > 0 && !is_space(b->at[0]) && (b->at[0] == '\0' || strchr(ends, b->at[0]) == NULL)) {
		word_add(w, b->at[0]);
		step(b);
	}
}

/* The first word of a value. */
static bool word_is(struct bytes value, struct bytes word)
{
	char room[TYPE_MAX];
	struct word w = { room, sizeof room, 0 };

	skip_space(&value);
	take_plain(&value, ";(", &w);
	return w.len <= sizeof room && bytes_equal_nocase((struct bytes){ room, w.len }, word);
}

/* ---- Content-Transfer-Encoding */

static enum mimehead_label label_of(struct bytes value)
{
	static const struct { struct bytes word; enum mimehead_label label; } known[] = {
		{ { "", 0 }, LABEL_7BIT }, { { "7bit", 4 }, LABEL_7BIT }, { { "7-bit", 5 }, LABEL_7BIT },
		{ { "8bit", 4 }, LABEL_8BIT }, { { "8-bit", 5 }, LABEL_8BIT }, { { "binary", 6 }, LABEL_BINARY },
	};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (word_is(value, known[i].word))
			return known[i].label;
	return LABEL_ENCODED;
}

/* ---- Content-Type */

/* type "/" subtype; too long or malformed: false, and RFC 2045 5.2 makes text of it. */
static bool type_take(struct bytes *value, char out[TYPE_MAX], struct bytes *major_r, struct bytes *minor_r)
{
	struct word w = { out, TYPE_MAX, 0 };
	size_t slash;

	skip_space(value);
	take_plain(value, "/;(", &w);
	skip_space(value);
	slash = w.len;
	if (!at(value, '/'))
		return false;
	step(value);
	skip_space(value);
	take_plain(value, "/;(", &w);
	*major_r = bytes_slice((struct bytes){ out, w.len }, 0, slash);
	*minor_r = bytes_slice((struct bytes){ out, w.len }, slash, w.len);
	return w.len <= TYPE_MAX && major_r->len > 0 && minor_r->len > 0 && !at(value, '/');
}

/* Up to the next ';' that stands in no quotes and no comment. */
static bool parameter_begin(struct bytes *b)
{
	struct word waste = { NULL, 0, 0 };

	for (skip_space(b); b->len > 0 && !at(b, ';'); skip_space(b))
		if (at(b, '"'))
			take_quoted(b, &waste);
		else
			step(b);
	if (b->len == 0)
		return false;
	step(b);
	skip_space(b);
	return true;
}

/* name "=" value. */
static bool parameter_take(struct bytes *b, struct word *name, struct word *value)
{
	name->len = value->len = 0;
	take_plain(b, "=;(\"", name);
	skip_space(b);
	if (!at(b, '='))
		return false;
	step(b);
	skip_space(b);
	if (at(b, '"'))
		take_quoted(b, value);
	else
		take_plain(b, ";", value);
	return true;
}

static size_t without_space(const char *text, size_t len)
{
	while (len > 0 && is_blank(text[len - 1]))
		len--;
	return len;
}

/* Without a boundary a multipart is only text to whoever reads it. A boundary in pieces or with a character set (RFC 2231) is understood by some. */
static void boundary_read(struct bytes value, struct mimehead *head)
{
	char room[TYPE_MAX];
	struct word name = { room, sizeof room, 0 }, boundary = { head->boundary, sizeof head->boundary, 0 };

	while (parameter_begin(&value)) {
		struct bytes text;

		if (!parameter_take(&value, &name, &boundary))
			continue;
		text = (struct bytes){ room, name.len < sizeof room ? name.len : sizeof room };
		if (bytes_starts_nocase(text, LIT("boundary*")))
			head->kind = MIME_FIXED;
		if (!bytes_equal_nocase(text, LIT("boundary")))
			continue;
		head->kind = boundary.len > sizeof head->boundary ? MIME_FIXED : MIME_MULTIPART;
		head->boundary_len = head->kind == MIME_FIXED ? 0 : without_space(head->boundary, boundary.len);
		if (head->kind == MIME_MULTIPART && head->boundary_len == 0)
			head->kind = MIME_LEAF;
		return;
	}
}

static void type_read(struct bytes value, struct mimehead *head)
{
	char text[TYPE_MAX];
	struct bytes major, minor;

	head->kind = MIME_LEAF;
	if (!type_take(&value, text, &major, &minor))
		return;
	head->is_text = bytes_equal_nocase(major, LIT("text"));
	if (bytes_equal_nocase(major, LIT("multipart"))) {
		head->is_signed = bytes_equal_nocase(minor, LIT("signed"));
		head->digest = bytes_equal_nocase(minor, LIT("digest"));
		boundary_read(value, head);
	} else if (bytes_equal_nocase(major, LIT("message"))) {
		if (bytes_equal_nocase(minor, LIT("rfc822")) || bytes_equal_nocase(minor, LIT("news")))
			head->kind = MIME_MESSAGE;
		else if (bytes_equal_nocase(minor, LIT("partial")) || bytes_equal_nocase(minor, LIT("external-body")))
			head->kind = MIME_FIXED;
	}
}

/* ---- all of it */

void mimehead_read(struct bytes header, bool in_digest, struct mimehead *head_r)
{
	struct bytes field, value;

	*head_r = (struct mimehead){ .kind = in_digest ? MIME_MESSAGE : MIME_LEAF, .is_text = true };
	while (field_next(&header, &field)) {
		if (field_is(field, encoding_field, &value)) {
			enum mimehead_label label = label_of(value);

			head_r->label = label > head_r->label ? label : head_r->label;
		} else if (field_is(field, LIT("MIME-Version"), &value)) {
			head_r->has_version = true;
		} else if (!head_r->has_type && field_is(field, LIT("Content-Type"), &value)) {
			head_r->has_type = true;
			type_read(value, head_r);
		}
	}
}

static void label_write(struct bytes label, struct str *out)
{
	str_add(out, encoding_field);
	str_add(out, LIT(": "));
	str_add(out, label);
	str_add(out, LIT("\r\n"));
}

void mimehead_write(struct bytes header, struct bytes label, bool version, bool type, struct str *out)
{
	struct bytes field, value;
	bool written = false;

	while (field_next(&header, &field)) {
		if (!field_is(field, encoding_field, &value)) {
			str_add(out, field);
			continue;
		}
		if (!written)
			label_write(label, out);
		written = true;
	}
	if (version)
		str_add(out, LIT("MIME-Version: 1.0\r\n"));
	if (type)
		str_add(out, LIT("Content-Type: text/plain; charset=unknown-8bit\r\n"));
	if (!written)
		label_write(label, out);
}
