/* clean - room: queue (bounce). See clean.h. */
#include "clean.h"

#include "common/xtext.h"

#define FOLD_COLUMN 76u
#define LINE_OCTETS 900u

static unsigned char octet(struct bytes b, size_t i) {
	return (unsigned char)b.at[i];
}

size_t clean_utf8_char(struct bytes text, uint32_t *point_r) {
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (text.len == 0)
		return 0;
	unsigned char first = octet(text, 0);
	size_t n = first < 0x80 ? 1 : (first & 0xe0) == 0xc0 ? 2 : (first & 0xf0) == 0xe0 ? 3 : (first & 0xf8) == 0xf0 ? 4 : 0;
	if (n == 0 || n > text.len)
		return 0;
	uint32_t point = n == 1 ? first : (uint32_t)first & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((octet(text, i) & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (octet(text, i) & 0x3fu);
	}
	if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
		return 0;
	*point_r = point;
	return n;
}

/* C1 controls, and the marks that turn the direction of a line, have no business in a report. */
static bool is_fit(uint32_t point) {
	return point >= 0xa0 && !(point >= 0x2028 && point <= 0x202e) && !(point >= 0x2066 && point <= 0x2069);
}

bool clean_text(struct str *out, struct bytes text, bool utf8) {
	size_t begin = out->len;
	bool gap = false;
	while (text.len > 0) {
		uint32_t point = 0;
		size_t n = clean_utf8_char(text, &point);
		struct bytes piece = bytes_slice(text, 0, n);
		text = bytes_slice(text, n > 0 ? n : 1, text.len);
		if (n == 1 && (point <= ' ' || point == 0x7f)) {
			gap = true;
			continue;
		}
		if (gap && out->len > begin)
			str_add_char(out, ' ');
		gap = false;
		if (n == 1 || (n > 1 && utf8 && is_fit(point)))
			str_add(out, piece);
		else
			str_add_char(out, '?');
	}
	return !out->failed;
}

bool clean_fold(struct str *out, struct bytes text, size_t column, const char *indent) {
	bool first = true;
	while (text.len > 0) {
		size_t n = bytes_find(text, ' ');
		size_t take = n < LINE_OCTETS ? n : LINE_OCTETS;
		if (!first && column + 1 + take > FOLD_COLUMN) {
			str_add_c(out, "\r\n");
			str_add_c(out, indent);
			column = bytes_of(indent).len;
		} else if (!first) {
			str_add_char(out, ' ');
			column++;
		}
		str_add(out, bytes_slice(text, 0, take));
		column += take;
		first = false;
		text = bytes_slice(text, take == n ? n + 1 : take, text.len);
	}
	return !out->failed;
}

bool clean_utf8_xtext(struct str *out, struct bytes address) {
	while (address.len > 0) {
		uint32_t point = 0;
		size_t n = clean_utf8_char(address, &point);
		if (n == 0)
			return false;
		/* RFC 6533 3: QUCHAR leaves out '+', '=', '\' and all that is not visible. */
		if (point > ' ' && point < 0x7f && point != '+' && point != '=' && point != '\\')
			str_add_char(out, (char)point);
		else
			str_addf(out, "\\x{%02X}", (unsigned)point);
		address = bytes_slice(address, n, address.len);
	}
	return !out->failed;
}

static bool is_valid_utf8(struct bytes text) {
	uint32_t point;
	while (text.len > 0) {
		size_t n = clean_utf8_char(text, &point);
		if (n == 0 || (n > 1 && !is_fit(point)))
			return false;
		text = bytes_slice(text, n, text.len);
	}
	return true;
}

bool clean_from_xtext(struct str *out, struct bytes xtext, bool utf8) {
	size_t begin = out->len;
	while (xtext.len > 0) {
		unsigned char c;
		size_t n = xtext_char(xtext, &c);
		if (n == 0 || c < ' ' || c == 0x7f || (c > 0x7f && !utf8)) {
			str_truncate(out, begin);
			return false;
		}
		str_add_char(out, (char)c);
		xtext = bytes_slice(xtext, n, xtext.len);
	}
	if (out->failed || !is_valid_utf8(bytes_slice(str_bytes(out), begin, out->len))) {
		str_truncate(out, begin);
		return false;
	}
	return true;
}
