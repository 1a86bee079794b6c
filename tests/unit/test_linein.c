/* test_linein - lines of both readers; whole, byte by byte, split at every offset, with every buffer size that is allowed. */
#include "unit.h"
#include "common/linein.h"

#define MAX 8

typedef enum line_result next_fn(struct linein *in, size_t max, struct bytes *line_r);

/* Results as text: "ok(line) bare(before) long", then "+rest" when an unfinished line is left. */
static const struct { const char *in; size_t len; const char *strict, *lenient; } streams[] = {
#define S(text, strict, lenient) { text, sizeof(text) - 1, strict, lenient }
	S("", "", ""),
	S("\r\n", "ok()", "ok()"),
	S("a\r\nbc\r\n", "ok(a) ok(bc)", "ok(a) ok(bc)"),
	S("a\r\nbc", "ok(a) +2", "ok(a) +2"),
	S("a\nb\r\n", "bare(a) ok(b)", "ok(a) ok(b)"),
	S("\n\n", "bare() bare()", "ok() ok()"),
	S("a\rb\r\nc\r\n", "bare(a) ok(c)", "ok(a\rb) ok(c)"),
	S("a\r\r\nc\r\n", "bare(a) ok(c)", "ok(a\r) ok(c)"),
	S("\r\r\n", "bare()", "ok(\r)"),
	S("a\rb\nc\r\n", "bare(a) ok(c)", "ok(a\rb) ok(c)"),
	S("a\0b\r\nc\r\n", "bare(a) ok(c)", "bare(a) ok(c)"),
	S("a\0\rb\r\nc\r\n", "bare(a) ok(c)", "bare(a) ok(c)"),
	S("a\r\0\r\nc\r\n", "bare(a) ok(c)", "bare(a\r) ok(c)"),
	S("\n\r\n", "bare() ok()", "ok() ok()"),
	S("12345678\r\nx\r\n", "ok(12345678) ok(x)", "ok(12345678) ok(x)"),
	S("123456789\r\nx\r\n", "long ok(x)", "long ok(x)"),
	S("12345678\nx\r\n", "bare(12345678) ok(x)", "ok(12345678) ok(x)"),
	S("123456789\nx\r\ny\r\n", "long ok(y)", "long ok(x) ok(y)"),
	S("12345678\rx\r\ny\r\n", "long ok(y)", "long ok(y)"),
	S("12345678\r\rx\r\ny\r\n", "long ok(y)", "long ok(y)"),
	S("123456789012345678901234567890\r\nx\r\n", "long ok(x)", "long ok(x)"),
	S("12345678901234567890\r12345678901234567890\r\nx\r\n", "long ok(x)", "long ok(x)"),
	S("12345678901234567890\n12345678901234567890\r\nx\r\n", "long ok(x)", "long long ok(x)"),
	S("1234567890123\r\r\nx\r\n", "long ok(x)", "long ok(x)"),
	S("12\0\0\0\0\0\0\0\0\0\0\r\nx\r\n", "long ok(x)", "long ok(x)"),
	S("12345678\r", "+9", "+9"),
	S("x\r", "+2", "+2"),
#undef S
};

static void add_result(struct str *out, enum line_result r, struct bytes line)
{
	if (out->len)
		str_add_char(out, ' ');
	str_add_c(out, r == LINE_OK ? "ok" : r == LINE_BARE ? "bare" : "long");
	if (r != LINE_LONG) {
		str_add_char(out, '(');
		str_add(out, line);
		str_add_char(out, ')');
	}
}

static void drain(struct linein *in, next_fn *next, struct str *out)
{
	enum line_result r;
	struct bytes line;

	while ((r = next(in, MAX, &line)) != LINE_MORE)
		add_result(out, r, line);
}

/* A piece larger than the space is fed in turns, as read(2) would. */
static void feed(struct linein *in, next_fn *next, struct bytes piece, struct str *out)
{
	while (piece.len) {
		size_t room;
		char *at = linein_space(in, &room);
		assert_true(room > 0);
		size_t n = piece.len < room ? piece.len : room;
		memcpy(at, piece.at, n);
		linein_fed(in, n);
		piece = bytes_slice(piece, n, piece.len);
		drain(in, next, out);
	}
}

static void check(size_t i, next_fn *next, const char *expected, size_t room, size_t first, size_t step)
{
	struct linein in;
	struct str out = STR_INIT(1000);
	struct bytes rest = { streams[i].in, streams[i].len };

	assert_true(linein_init(&in, room));
	drain(&in, next, &out);
	feed(&in, next, bytes_slice(rest, 0, first), &out);
	for (rest = bytes_slice(rest, first, rest.len); rest.len; rest = bytes_slice(rest, step, rest.len))
		feed(&in, next, bytes_slice(rest, 0, step), &out);
	if (linein_rest(&in).len && !in.skipping)
		str_addf(&out, "%s+%zu", out.len ? " " : "", linein_rest(&in).len);
	if (strcmp(str_c(&out), expected) != 0)
		fail_msg("case %zu room %zu first %zu step %zu: %s, expected %s", i, room, first, step, str_c(&out), expected);
	str_free(&out);
	linein_free(&in);
}

static void every_split(next_fn *next, bool lenient)
{
	for (size_t i = 0; i < COUNT(streams); i++) {
		const char *expected = lenient ? streams[i].lenient : streams[i].strict;
		for (size_t room = MAX + 1; room <= MAX + 40; room += room < MAX + 5 ? 1 : 7) {
			check(i, next, expected, room, 0, 1);
			for (size_t first = 0; first <= streams[i].len; first++)
				check(i, next, expected, room, first, streams[i].len);
			for (size_t step = 2; step < streams[i].len; step++)
				check(i, next, expected, room, 0, step);
		}
	}
}

static void strict(void **state)
{
	(void)state;
	every_split(linein_next, false);
}

static void lenient(void **state)
{
	(void)state;
	every_split(linein_next_lenient, true);
}

static void put(struct linein *in, struct bytes piece)
{
	size_t room;
	char *at = linein_space(in, &room);

	assert_true(room >= piece.len);
	memcpy(at, piece.at, piece.len);
	linein_fed(in, piece.len);
}

static void results_of(next_fn *next, struct bytes all, size_t room, size_t step, struct str *out)
{
	struct linein in;
	struct bytes line;

	assert_true(linein_init(&in, room));
	for (size_t at = 0; at < all.len; at += step) {
		put(&in, bytes_slice(all, at, at + step));
		for (enum line_result r; (r = next(&in, 3, &line)) != LINE_MORE; )
			add_result(out, r, line);
	}
	linein_free(&in);
}

/* All streams of seven octets over those that matter: at once in a large buffer, and one by one in the smallest. */
static void all_small_streams(next_fn *next)
{
	static const char alphabet[] = { 'a', '\r', '\n', '\0' };
	char text[7];

	for (unsigned code = 0; code < 1u << 14; code++) {
		struct str whole = STR_INIT(1000), split = STR_INIT(1000);
		for (unsigned k = 0; k < sizeof text; k++)
			text[k] = alphabet[code >> 2 * k & 3];
		results_of(next, (struct bytes){ text, sizeof text }, 50, sizeof text, &whole);
		results_of(next, (struct bytes){ text, sizeof text }, 4, 1, &split);
		if (!bytes_equal(str_bytes(&whole), str_bytes(&split)))
			fail_msg("stream %u", code);
		str_free(&whole);
		str_free(&split);
	}
}

static void small_streams(void **state)
{
	(void)state;
	all_small_streams(linein_next);
	all_small_streams(linein_next_lenient);
}

static void rest_and_take(void **state)
{
	struct linein in;
	struct bytes line;
	(void)state;
	assert_true(linein_init(&in, 100));
	put(&in, LIT("DATA\r\nbody\r\n.\r\nQUIT\r\n"));
	assert_int_equal(linein_next(&in, 50, &line), LINE_OK);
	assert_bytes(line, "DATA");
	assert_bytes(linein_rest(&in), "body\r\n.\r\nQUIT\r\n");
	linein_take(&in, 9);
	assert_int_equal(linein_next(&in, 50, &line), LINE_OK);
	assert_bytes(line, "QUIT");
	linein_take(&in, 5);
	assert_int_equal(linein_rest(&in).len, 0);
	assert_int_equal(linein_next(&in, 50, &line), LINE_MORE);
	linein_free(&in);
	assert_false(linein_init(&in, SIZE_MAX));
}

static void reset(void **state)
{
	struct linein in;
	struct bytes line;
	(void)state;
	assert_true(linein_init(&in, 100));
	linein_reset(&in);
	put(&in, LIT("one\r\ntwo two two two two two two two two two"));
	assert_int_equal(linein_next(&in, 20, &line), LINE_OK);
	assert_int_equal(linein_next(&in, 20, &line), LINE_MORE);
	put(&in, LIT("x"));
	assert_true(in.skipping);
	linein_reset(&in);
	for (size_t i = 0; i < in.room; i++)
		assert_true(in.buffer[i] == 0 || i >= 44);
	assert_int_equal(linein_rest(&in).len, 0);
	put(&in, LIT("three\r\n"));
	assert_int_equal(linein_next(&in, 20, &line), LINE_OK);
	assert_bytes(line, "three");
	linein_free(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strict), cmocka_unit_test(lenient), cmocka_unit_test(small_streams), cmocka_unit_test(rest_and_take), cmocka_unit_test(reset),
	};
	return cmocka_run_group_tests_name("linein", tests, NULL, NULL);
}
