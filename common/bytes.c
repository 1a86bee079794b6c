/* bytes - common room, used by every program. See bytes.h. */
#include "bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes bytes_of(const char *cstring)
{
	if (!cstring)
		return (struct bytes){ 0 };
	return (struct bytes){ cstring, strlen(cstring) };
}

struct bytes bytes_slice(struct bytes b, size_t from, size_t to)
{
	if (to > b.len)
		to = b.len;
	if (from > to)
		from = to;
	/* An empty view may have no pointer at all, and NULL + 0 is not ours to compute. */
	return (struct bytes){ b.at ? b.at + from : NULL, to - from };
}

bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;
	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

void bytes_lower(char *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		at[i] = (char)lower(at[i]);
}

bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.at[i]) != lower(b.at[i]))
			return false;
	return true;
}

bool bytes_starts_nocase(struct bytes b, struct bytes prefix)
{
	return b.len >= prefix.len && bytes_equal_nocase(bytes_slice(b, 0, prefix.len), prefix);
}

bool bytes_ends_nocase(struct bytes b, struct bytes suffix)
{
	return b.len >= suffix.len && bytes_equal_nocase(bytes_slice(b, b.len - suffix.len, b.len), suffix);
}

int bytes_compare(struct bytes a, struct bytes b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.at, b.at, common) : 0;

	if (order)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

size_t bytes_find(struct bytes b, char c)
{
	const char *found = b.len ? memchr(b.at, c, b.len) : NULL;
	return found ? (size_t)(found - b.at) : b.len;
}

size_t bytes_find_last(struct bytes b, char c)
{
	const char *found = b.len ? memrchr(b.at, c, b.len) : NULL;
	return found ? (size_t)(found - b.at) : b.len;
}

struct bytes bytes_cut(struct bytes *rest, char sep)
{
	struct bytes whole = *rest;
	size_t at = bytes_find(whole, sep);

	if (at == whole.len)
		*rest = (struct bytes){ 0 };
	else
		*rest = bytes_slice(whole, at + 1, whole.len);
	return bytes_slice(whole, 0, at);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct bytes bytes_trim(struct bytes b)
{
	size_t from = 0, to = b.len;

	while (from < to && is_blank(b.at[from]))
		from++;
	while (to > from && is_blank(b.at[to - 1]))
		to--;
	return bytes_slice(b, from, to);
}

/* RFC 3629 4, and without the C1 controls U+0080-U+009F: the lead octets, how many follow, the range of the first that does. */
static const struct utf8_lead { unsigned char first, last, more, low, high; } utf8_leads[] = {
	{ 0x20, 0x7e, 0, 0x00, 0x00 },
	{ 0xc2, 0xc2, 1, 0xa0, 0xbf },
	{ 0xc3, 0xdf, 1, 0x80, 0xbf },
	{ 0xe0, 0xe0, 2, 0xa0, 0xbf },
	{ 0xe1, 0xec, 2, 0x80, 0xbf },
	{ 0xed, 0xed, 2, 0x80, 0x9f },
	{ 0xee, 0xef, 2, 0x80, 0xbf },
	{ 0xf0, 0xf0, 3, 0x90, 0xbf },
	{ 0xf1, 0xf3, 3, 0x80, 0xbf },
	{ 0xf4, 0xf4, 3, 0x80, 0x8f },
};

static const struct utf8_lead *utf8_lead_of(unsigned char octet)
{
	for (size_t i = 0; i < sizeof utf8_leads / sizeof utf8_leads[0]; i++)
		if (octet >= utf8_leads[i].first && octet <= utf8_leads[i].last)
			return &utf8_leads[i];
	return NULL;
}

bool bytes_is_utf8_text(struct bytes b)
{
	size_t i = 0;

	while (i < b.len) {
		const struct utf8_lead *lead = utf8_lead_of((unsigned char)b.at[i++]);
		if (!lead || lead->more > b.len - i)
			return false;
		for (unsigned char k = 0; k < lead->more; k++, i++) {
			unsigned char octet = (unsigned char)b.at[i];
			if (octet < (k ? 0x80 : lead->low) || octet > (k ? 0xbf : lead->high))
				return false;
		}
	}
	return true;
}

bool bytes_to_u64(struct bytes b, uint64_t max, uint64_t *value_r)
{
	uint64_t value = 0;

	if (b.len == 0)
		return false;
	for (size_t i = 0; i < b.len; i++) {
		unsigned digit = (unsigned char)b.at[i] - (unsigned)'0';
		if (digit > 9 || __builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, digit, &value) || value > max)
			return false;
	}
	*value_r = value;
	return true;
}

bool bytes_to_cstring(struct bytes b, char *out, size_t size)
{
	if (size == 0)
		return false;
	out[0] = 0;
	if (b.len >= size || bytes_find(b, 0) != b.len)
		return false;
	if (b.len)
		memcpy(out, b.at, b.len);
	out[b.len] = 0;
	return true;
}

/* ---- owned ---- */

#define STR_FIRST_ROOM 64u
#define ARRAY_FIRST 64u         /* elements */

void str_init(struct str *s, size_t max)
{
	*s = STR_INIT(max);
}

void str_free(struct str *s)
{
	free(s->at);
	str_init(s, s->max);
}

void str_clear(struct str *s)
{
	s->len = 0;
	s->failed = false;
	if (s->at)
		s->at[0] = 0;
}

void str_truncate(struct str *s, size_t len)
{
	if (len >= s->len)
		return;
	s->len = len;
	s->at[len] = 0;
}

void str_remove_front(struct str *s, size_t n)
{
	if (n > s->len)
		n = s->len;
	if (n == 0)
		return;
	memmove(s->at, s->at + n, s->len - n + 1);
	s->len -= n;
}

/* The one place where a str grows: room for n more octets and the NUL, at least doubled, never much over the ceiling. */
static bool str_grow(struct str *s, size_t n)
{
	size_t need, with_nul, room = s->room;

	if (s->failed)
		return false;
	if (!size_add(s->len, n, &need) || need > s->max || !size_add(need, 1, &with_nul)) {
		s->failed = true;
		return false;
	}
	if (with_nul <= room)
		return true;
	if (!size_mul(room, 2, &room) || room < STR_FIRST_ROOM)
		room = STR_FIRST_ROOM;
	if (room > s->max)
		room = s->max == SIZE_MAX ? s->max : s->max + 1;
	if (room < with_nul)
		room = with_nul;
	char *at = realloc(s->at, room);
	if (!at) {
		s->failed = true;
		return false;
	}
	s->at = at;
	s->room = room;
	s->at[s->len] = 0;
	return true;
}

bool str_add(struct str *s, struct bytes b)
{
	if (!str_grow(s, b.len))
		return false;
	if (b.len)
		memcpy(s->at + s->len, b.at, b.len);
	str_grew(s, b.len);
	return true;
}

bool str_add_c(struct str *s, const char *cstring)
{
	return str_add(s, bytes_of(cstring));
}

bool str_add_char(struct str *s, char c)
{
	return str_add(s, (struct bytes){ &c, 1 });
}

bool str_add_u64(struct str *s, uint64_t n)
{
	char digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return str_add(s, (struct bytes){ digits + at, sizeof digits - at });
}

bool str_addf(struct str *s, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0) {
		s->failed = true;
		return false;
	}
	if (!str_grow(s, (size_t)length))
		return false;
	va_start(args, format);
	vsnprintf(s->at + s->len, (size_t)length + 1, format, args);
	va_end(args);
	str_grew(s, (size_t)length);
	return true;
}

char *str_reserve(struct str *s, size_t n)
{
	return str_grow(s, n) ? s->at + s->len : NULL;
}

void str_grew(struct str *s, size_t n)
{
	s->len += n;
	s->at[s->len] = 0;
}

struct bytes str_bytes(const struct str *s)
{
	return (struct bytes){ s->at, s->len };
}

const char *str_c(const struct str *s)
{
	return s->at ? s->at : "";
}

/* ---- checked arithmetic ---- */

bool size_add(size_t a, size_t b, size_t *sum_r)
{
	size_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*sum_r = sum;
	return true;
}

bool size_mul(size_t a, size_t b, size_t *product_r)
{
	size_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*product_r = product;
	return true;
}

/* ---- an array that grows as it is filled ---- */

void *array_room(void *array, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room > 0 ? *room : ARRAY_FIRST / 2, octets;
	if (count < *room)
		return array;
	if (!size_mul(wanted, 2, &wanted) || !size_mul(wanted, size, &octets))
		return NULL;
	void *grown = realloc(array, octets);
	if (grown != NULL)
		*room = wanted;
	return grown;
}
