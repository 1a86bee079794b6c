/*
 * fuzz_downgrade - any octets as a message. The first says how it is cut, and whether 8-bit data or binary data was declared. The result is what it is
 * octet by octet; converted once more it stays as it is; and a reader that has the whole message at hand (below; the one parser shared is mimehead's)
 * finds in it the same leaves, with the same octets decoded. What was declared has no octet over 127 outside of headers, unless it may, and what was
 * declared to be binary is lines.
 */
#include <stdlib.h>
#include <string.h>

#include "common/downgrade.h"
#include "common/fieldname.h"

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
	bool is_signed;       /* a part of it may not be changed, be its lines as long as they are */
	bool too_deep;        /* not all was read */
};

static void require_room(const struct str *s)
{
	require(!s->failed);
}

static struct bytes line_take(struct bytes *rest)
{
	const char *end = rest->len > 0 ? memmem(rest->at, rest->len, "\r\n", 2) : NULL;
	struct bytes line = bytes_slice(*rest, 0, end != NULL ? (size_t)(end - rest->at) + 2 : rest->len);

	*rest = bytes_slice(*rest, line.len, rest->len);
	return line;
}

static struct bytes without_end(struct bytes line)
{
	return bytes_slice(line, 0, bytes_ends_nocase(line, LIT("\r\n")) ? line.len - 2 : line.len);
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
		bool field = fieldname(bytes_slice(text, 0, sizeof((struct downgrade *)0)->line)) > 0
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

static void decode_base64(struct bytes text, struct str *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t group = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < text.len; i++) {
		const char *digit = text.at[i] != '\0' ? strchr(digits, text.at[i]) : NULL;

		if (digit == NULL)
			continue;
		group = (group << 6 | (uint32_t)(digit - digits)) & 0xffffffu;
		bits += 6;
		if (bits >= 8)
			str_add_char(out, (char)(group >> (bits -= 8)));
	}
}

static bool is_labelled(struct bytes header, struct bytes label)
{
	while (header.len > 0)
		if (bytes_equal(line_take(&header), label))
			return true;
	return false;
}

/* A leaf: in the result those that became quoted-printable or base64 are decoded; others are compared as they stand. bounded: a boundary follows, to which
 * the last CRLF belongs. */
static void leaf(struct bytes header, const struct mimehead *head, struct bytes body, bool bounded, struct reading *r)
{
	struct str decoded = STR_INIT(1 << 24);

	look(body, head->kind != MIME_FIXED && head->label != LABEL_ENCODED, r);
	if (bounded)
		body = without_end(body);
	if (head->label == LABEL_ENCODED && is_labelled(header, LIT("Content-Transfer-Encoding: quoted-printable\r\n")))
		decode(body, &decoded);
	else if (head->label == LABEL_ENCODED && is_labelled(header, LIT("Content-Transfer-Encoding: base64\r\n")))
		decode_base64(body, &decoded);
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

static void entity(struct bytes text, bool in_digest, bool bounded, unsigned depth, struct reading *r);

/* bounded: as it is for the multipart itself, and for its last part if nothing closes that. */
static void parts(struct bytes text, const struct mimehead *head, bool bounded, unsigned depth, struct reading *r)
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
			entity(bytes_slice(part, 0, n), head->digest, true, depth + 1, r);
		else
			look(bytes_slice(part, 0, n), false, r);
		part = seen;
		n = 0;
		in_part = true;
		last = found == 2;
	}
	if (in_part && !last)
		entity(bytes_slice(part, 0, n), head->digest, bounded, depth + 1, r);
	else
		look(last ? seen : part, false, r);
	str_add_c(&r->leaves, ")");
}

static void entity(struct bytes text, bool in_digest, bool bounded, unsigned depth, struct reading *r)
{
	struct bytes header = header_take(&text);
	struct mimehead head;

	r->too_deep |= depth == DEPTH_MAX;
	if (r->too_deep)
		return;
	mimehead_read(header, in_digest, &head);
	if (head.kind == MIME_MULTIPART) {
		r->is_signed |= head.is_signed;
		parts(text, &head, bounded, depth, r);
	} else if (head.kind == MIME_MESSAGE && head.label != LABEL_ENCODED) {
		str_add_c(&r->leaves, "<");
		entity(text, false, bounded, depth + 1, r);
		str_add_c(&r->leaves, ">");
	} else {
		leaf(header, &head, text, bounded, r);
	}
}

static void read_all(struct bytes message, bool binary, struct reading *r)
{
	struct str normal = STR_INIT(1 << 24);

	*r = (struct reading){ .leaves = STR_INIT(1 << 24) };
	if (!binary)
		normalize(message, &normal);
	entity(binary ? message : str_bytes(&normal), false, false, 0, r);
	require_room(&r->leaves);
	str_free(&normal);
}

/* ---- the converter */

static bool run(struct bytes message, unsigned wish, size_t step, struct str *out)
{
	static struct downgrade d;
	bool good = true;

	downgrade_init(&d, wish);
	while (message.len > 0 && good) {
		struct bytes piece = bytes_slice(message, 0, step);

		good = downgrade_add(&d, piece, out);
		message = bytes_slice(message, piece.len, message.len);
	}
	good = good && downgrade_end(&d, out);
	require(good || ((wish & DOWNGRADE_MUST) != 0 && d.why != NULL));
	downgrade_free(&d);
	return good;
}

static unsigned wish_of(uint8_t first)
{
	static const unsigned wishes[] = { 0, DOWNGRADE_MUST, DOWNGRADE_MUST | DOWNGRADE_BINARY, DOWNGRADE_MUST | DOWNGRADE_BINARY | DOWNGRADE_TO_8BIT };

	return wishes[first & 3];
}

static void check_is_lines(struct bytes text)
{
	for (size_t i = 0; i < text.len; i++) {
		require(text.at[i] != '\0');
		require(text.at[i] != '\r' || (i + 1 < text.len && text.at[i + 1] == '\n'));
		require(text.at[i] != '\n' || (i > 0 && text.at[i - 1] == '\r'));
	}
}

static void check(struct bytes in, struct bytes out, unsigned wish)
{
	bool must = (wish & DOWNGRADE_MUST) != 0, binary = (wish & DOWNGRADE_BINARY) != 0;
	struct str again = STR_INIT(1 << 24);
	struct reading before, after;

	require(run(out, wish, 4096, &again) && bytes_equal(out, str_bytes(&again)));
	read_all(in, binary, &before);
	read_all(out, binary, &after);
	require(before.too_deep || bytes_equal(str_bytes(&before.leaves), str_bytes(&after.leaves)));
	require(!must || (wish & DOWNGRADE_TO_8BIT) != 0 || !after.high);
	require(!must || !after.long_line || (binary && after.is_signed));
	if (binary)
		check_is_lines(out);
	str_free(&before.leaves);
	str_free(&after.leaves);
	str_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str one = STR_INIT(1 << 24), other = STR_INIT(1 << 24);
	struct bytes in = { (const char *)data + 1, size - 1 };
	unsigned wish;
	bool good;

	if (size == 0 || size > 100000)
		return 0;
	wish = wish_of(data[0]);
	good = run(in, wish, 1, &one);
	require(run(in, wish, 2u + data[0] / 4u, &other) == good);
	if (good) {
		require(bytes_equal(str_bytes(&one), str_bytes(&other)));
		check(in, str_bytes(&one), wish);
	}
	str_free(&one);
	str_free(&other);
	return 0;
}
