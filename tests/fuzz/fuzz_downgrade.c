/*
 * fuzz_downgrade - any octets as a message. The first says how it is cut, and whether 8-bit data was declared. The result is what it is octet by
 * octet; converted once more it stays as it is; and a reader that has the whole message at hand (below; the one parser shared is mimehead's)
 * finds in it the same leaves, with the same octets decoded. What was declared has no octet over 127 outside of headers.
 */
#include <stdlib.h>
#include <string.h>

#include "remote/downgrade.h"

#define DEPTH_MAX 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

/* ---- a reader */

struct reading {
	struct str leaves;    /* what was found: "(" ")" around what has parts, each leaf's octets after its length */
	bool high;            /* an octet over 127 where none may be */
	bool long_line;       /* a line over 998 octets in a leaf that is not encoded */
	bool too_deep;        /* not all was read */
};

static void require_room(const struct str *s)
{
	require(!s->failed);
}

static struct bytes line_take(struct bytes *rest)
{
	size_t n = bytes_find(*rest, '\n');
	struct bytes line = bytes_slice(*rest, 0, n < rest->len ? n + 1 : n);

	*rest = bytes_slice(*rest, line.len, rest->len);
	return line;
}

static struct bytes without_end(struct bytes line)
{
	if (line.len > 0 && line.at[line.len - 1] == '\n')
		line.len--;
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Every CR, LF and CRLF as CRLF. */
static void normalize(struct bytes in, struct str *out)
{
	for (size_t i = 0; i < in.len; i++) {
		if (in.at[i] == '\n' && i > 0 && in.at[i - 1] == '\r')
			continue;
		if (in.at[i] == '\n' || in.at[i] == '\r')
			str_add_c(out, "\r\n");
		else
			str_add_char(out, in.at[i]);
	}
	require_room(out);
}

static struct bytes header_take(struct bytes *rest)
{
	struct bytes header = *rest, seen = *rest;
	size_t n = 0;

	while (seen.len > 0) {
		struct bytes line = line_take(&seen), text = without_end(line);
		bool field = mimehead_is_field(bytes_slice(text, 0, sizeof((struct downgrade *)0)->line))
			|| (n == 0 && bytes_starts_nocase(text, LIT("From "))) || (n > 0 && text.len > 0 && is_blank(text.at[0]));

		if (!field) {
			if (text.len == 0)
				*rest = seen;
			return bytes_slice(header, 0, n);
		}
		n += line.len;
		*rest = seen;
	}
	return header;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode(struct bytes text, struct str *out)
{
	while (text.len > 0) {
		bool octet = text.len >= 3 && text.at[0] == '=' && hex(text.at[1]) >= 0 && hex(text.at[2]) >= 0;
		bool soft = bytes_starts_nocase(text, LIT("=\r\n"));

		if (octet)
			str_add_char(out, (char)(hex(text.at[1]) * 16 + hex(text.at[2])));
		else if (!soft)
			str_add_char(out, text.at[0]);
		text = bytes_slice(text, octet || soft ? 3 : 1, text.len);
	}
}

static void look(struct bytes text, bool identity, struct reading *r)
{
	while (text.len > 0) {
		struct bytes line = without_end(line_take(&text));

		r->long_line |= identity && line.len > DOWNGRADE_LINE;
		for (size_t i = 0; i < line.len; i++)
			r->high |= (unsigned char)line.at[i] > 127;
	}
}

static bool is_quoted(struct bytes header)
{
	static const char label[] = "Content-Transfer-Encoding: quoted-printable\r\n";

	return header.len > 0 && memmem(header.at, header.len, label, sizeof label - 1) != NULL;
}

/* A leaf: in the result those that became quoted-printable are decoded; others are compared as they stand. */
static void leaf(struct bytes header, const struct mimehead *head, struct bytes body, struct reading *r)
{
	struct str decoded = STR_INIT(1 << 24);

	look(body, head->kind != MIME_FIXED && head->label != LABEL_ENCODED, r);
	if (head->label == LABEL_ENCODED && is_quoted(header))
		decode(body, &decoded);
	else
		str_add(&decoded, body);
	require_room(&decoded);
	str_addf(&r->leaves, "%zu:", decoded.len);
	str_add(&r->leaves, str_bytes(&decoded));
	str_free(&decoded);
}

/* 0: no boundary line of it; 1: one; 2: the last. */
static int boundary(struct bytes line, const struct mimehead *head)
{
	struct bytes own = { head->boundary, head->boundary_len };

	line = without_end(line);
	/* Longer ones are no boundary: see `line` in downgrade.h. */
	if (line.len > sizeof((struct downgrade *)0)->line || !bytes_starts_nocase(line, LIT("--")))
		return 0;
	while (line.len > 0 && is_blank(line.at[line.len - 1]))
		line.len--;
	line = bytes_slice(line, 2, line.len);
	if (bytes_equal(line, own))
		return 1;
	return bytes_equal(bytes_slice(line, 0, own.len), own) && bytes_equal(bytes_slice(line, own.len, line.len), LIT("--")) ? 2 : 0;
}

static void entity(struct bytes text, bool in_digest, unsigned depth, struct reading *r);

/* The CRLF before a boundary belongs to it, but both sides of a comparison have it: it is left to the part. */
static void parts(struct bytes text, const struct mimehead *head, unsigned depth, struct reading *r)
{
	struct bytes seen = text, part = text;
	bool in_part = false, last = false;
	size_t n = 0;

	str_add_c(&r->leaves, "(");
	while (seen.len > 0 && !last) {
		struct bytes line = line_take(&seen);
		int found = boundary(line, head);

		if (found == 0) {
			n += line.len;
			continue;
		}
		if (in_part)
			entity(bytes_slice(part, 0, n), head->digest, depth + 1, r);
		else
			look(bytes_slice(part, 0, n), false, r);
		part = seen;
		n = 0;
		in_part = true;
		last = found == 2;
	}
	if (in_part && !last)
		entity(bytes_slice(part, 0, n), head->digest, depth + 1, r);
	else
		look(last ? seen : part, false, r);
	str_add_c(&r->leaves, ")");
}

static void entity(struct bytes text, bool in_digest, unsigned depth, struct reading *r)
{
	struct bytes header = header_take(&text);
	struct mimehead head;

	r->too_deep |= depth == DEPTH_MAX;
	if (r->too_deep)
		return;
	mimehead_read(header, in_digest, &head);
	if (head.kind == MIME_MULTIPART) {
		parts(text, &head, depth, r);
	} else if (head.kind == MIME_MESSAGE && head.label != LABEL_ENCODED) {
		str_add_c(&r->leaves, "<");
		entity(text, false, depth + 1, r);
		str_add_c(&r->leaves, ">");
	} else {
		leaf(header, &head, text, r);
	}
}

static void read_all(struct bytes message, struct reading *r)
{
	struct str normal = STR_INIT(1 << 24);

	*r = (struct reading){ .leaves = STR_INIT(1 << 24) };
	normalize(message, &normal);
	entity(str_bytes(&normal), false, 0, r);
	require_room(&r->leaves);
	str_free(&normal);
}

/* ---- the converter */

static bool run(struct bytes message, bool must, size_t step, struct str *out)
{
	static struct downgrade d;
	bool good = true;

	downgrade_init(&d, must);
	while (message.len > 0 && good) {
		struct bytes piece = bytes_slice(message, 0, step);

		good = downgrade_add(&d, piece, out);
		message = bytes_slice(message, piece.len, message.len);
	}
	good = good && downgrade_end(&d, out);
	require(good || (must && d.why != NULL));
	downgrade_free(&d);
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str one = STR_INIT(1 << 24), other = STR_INIT(1 << 24), again = STR_INIT(1 << 24);
	struct bytes in = { (const char *)data + 1, size - 1 };
	struct reading before, after;
	bool must, good;

	if (size == 0 || size > 100000)
		return 0;
	must = (data[0] & 1) != 0;
	good = run(in, must, 1, &one);
	require(run(in, must, 2u + data[0] / 2u, &other) == good);
	if (good) {
		require(bytes_equal(str_bytes(&one), str_bytes(&other)));
		require(run(str_bytes(&one), must, 4096, &again) && bytes_equal(str_bytes(&one), str_bytes(&again)));
		read_all(in, &before);
		read_all(str_bytes(&one), &after);
		require(before.too_deep || bytes_equal(str_bytes(&before.leaves), str_bytes(&after.leaves)));
		require(!must || (!after.high && !after.long_line));
		str_free(&before.leaves);
		str_free(&after.leaves);
	}
	str_free(&one);
	str_free(&other);
	str_free(&again);
	return 0;
}
