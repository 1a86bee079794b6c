/* test_reply - replies of servers; whole, byte by byte, split at every offset: the same result, and always one. */
#include "unit.h"
#include "remote/reply.h"

/* What came of a stream: "DONE code enhanced [text] lines=n", "BAD", or "MORE"; then "+n" octets not taken. */
static const struct { const char *in; size_t len; const char *want; } streams[] = {
#define S(text, want) { text, sizeof(text) - 1, want }
	S("", "MORE"),
	S("2", "MORE"),
	S("250 ok", "MORE"),
	S("250 ok\r", "MORE"),
	S("250 ok\r\n", "DONE 250 - [250 ok] 1"),
	S("250 ok\n", "DONE 250 - [250 ok] 1"),
	S("250\r\n", "DONE 250 - [250] 1"),
	S("250 \r\n", "DONE 250 - [250] 1"),
	S("250\n", "DONE 250 - [250] 1"),
	S("250 2.1.0 sender ok\r\n", "DONE 250 2.1.0 [250 2.1.0 sender ok] 1"),
	S("250-2.1.0 sender\r\n250 2.1.0 ok\r\n", "DONE 250 2.1.0 [250 2.1.0 sender ok] 2"),
	S("550-5.1.1 no\r\n550-such\r\n550 5.1.1 user\r\n", "DONE 550 5.1.1 [550 5.1.1 no such user] 3"),
	S("550-sorry\r\n550 5.7.1 no\r\n", "DONE 550 5.7.1 [550 sorry 5.7.1 no] 2"),
	S("550 5.1.1\r\n", "DONE 550 5.1.1 [550 5.1.1] 1"),
	S("550 4.1.1 class disagrees\r\n", "DONE 550 - [550 4.1.1 class disagrees] 1"),
	S("250-\r\n250-\r\n250 \r\n", "DONE 250 - [250] 3"),
	S("250-a\r\n250 b\r\n250 next\r\n", "DONE 250 - [250 a b] 2 +10"),
	S("250-a\r\n251 b\r\n", "DONE 251 - [251 a b] 2"),
	S("421-a\r\n450 b\r\n", "DONE 450 - [450 a b] 2"),
	S("250-a\r\n550 b\r\n", "BAD"),
	S("550-a\r\n250 b\r\n", "BAD"),
	S("450-a\r\n550 b\r\n", "BAD"),
	S("\r\n", "BAD"),
	S("\n", "BAD"),
	S("25\r\n", "BAD"),
	S("hello\r\n", "BAD"),
	S("150 x\r\n", "BAD"),
	S("600 x\r\n", "BAD"),
	S("000 x\r\n", "BAD"),
	S("2 0 x\r\n", "BAD"),
	S(" 250 x\r\n", "BAD"),
	S("2500 x\r\n", "BAD"),
	S("250\tx\r\n", "BAD"),
	S("250_x\r\n", "BAD"),
	S("250-a\r\n\r\n", "BAD"),
	S("250-a\r\n250_\r\n", "BAD"),
	S("\xff\xfe\r\n", "BAD"),
	S("2\0005\r\n", "BAD"),
	S("250 a\0b\r\n", "DONE 250 - [250 a?b] 1"),
	S("250 a\rb\r\n", "DONE 250 - [250 a?b] 1"),
	S("250 a\x1b[1m\x7f\tb\r\n", "DONE 250 - [250 a?[1m? b] 1"),
	S("250 gr\xc3\xbc\xc3\x9f\r\n", "DONE 250 - [250 gr\xc3\xbc\xc3\x9f] 1"),
	S("354 go\r\n", "DONE 354 - [354 go] 1"),
	S("599 x\r\n", "DONE 599 - [599 x] 1"),
#undef S
};

static enum reply_result run(struct reply *r, struct bytes in, size_t first, size_t step, size_t *left_r)
{
	enum reply_result result = REPLY_MORE;
	size_t at = 0, end = first, used;

	reply_start(r);
	while (at < in.len && result != REPLY_DONE && result != REPLY_BAD) {
		if (end > in.len)
			end = in.len;
		result = reply_feed(r, bytes_slice(in, at, end), &used);
		at += used;
		assert_true(at <= end && (used > 0 || at == end));
		if (at == end)
			end += step;
	}
	*left_r = in.len - at;
	return result;
}

static void describe(const struct reply *r, enum reply_result result, size_t left, struct str *out)
{
	if (result == REPLY_DONE) {
		(void)str_addf(out, "DONE %u ", r->code);
		if (r->enhanced.class == 0)
			(void)str_add_char(out, '-');
		else
			enhanced_format(r->enhanced, out);
		(void)str_addf(out, " [%.*s] %zu", (int)r->text_len, r->text, r->lines);
	} else {
		(void)str_add_c(out, result == REPLY_BAD ? "BAD" : "MORE");
		left = 0;
	}
	if (left > 0)
		(void)str_addf(out, " +%zu", left);
}

static void check(size_t n, size_t first, size_t step)
{
	struct str out = STR_INIT(4096);
	struct reply r;
	size_t left;
	enum reply_result result = run(&r, (struct bytes){ streams[n].in, streams[n].len }, first, step, &left);

	describe(&r, result, left, &out);
	assert_string_equal(str_c(&out), streams[n].want);
	if (result == REPLY_BAD) {
		assert_true(r.text_len > 0);
		assert_int_equal(r.code, 0);
	}
	str_free(&out);
}

static void test_whole(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof streams / sizeof streams[0]; n++)
		check(n, streams[n].len, 1);
}

static void test_byte_by_byte(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof streams / sizeof streams[0]; n++)
		check(n, 1, 1);
}

static void test_every_split(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof streams / sizeof streams[0]; n++)
		for (size_t split = 0; split <= streams[n].len; split++)
			check(n, split, streams[n].len);
}

/* ---- bounds ---- */

/* Feed `line` over and over, in pieces, until the parser has had enough. */
static enum reply_result feed_forever(struct reply *r, const char *line, size_t step, size_t *total_r)
{
	enum reply_result result = REPLY_MORE;
	size_t len = strlen(line), at = 0, used;

	reply_start(r);
	*total_r = 0;
	while (result == REPLY_MORE || result == REPLY_LINE) {
		result = reply_feed(r, bytes_slice((struct bytes){ line, len }, at, at + step), &used);
		at = (at + used) % len;
		*total_r += used;
		assert_true(*total_r <= REPLY_OCTETS_MAX);
		assert_true(r->text_len <= REPLY_TEXT_MAX && r->buffer_len <= REPLY_LINE_KEEP);
	}
	return result;
}

static void test_endless(void **state)
{
	struct reply r;
	size_t total;

	(void)state;
	for (size_t step = 1; step < 20; step += 6) {
		assert_int_equal(feed_forever(&r, "xxxxxxxxxxxx", step, &total), REPLY_BAD);
		assert_int_equal(feed_forever(&r, "250-x\r\n", step, &total), REPLY_BAD);
		assert_int_equal(total, REPLY_OCTETS_MAX);
		assert_int_equal(feed_forever(&r, "250-2.0.0\n", step, &total), REPLY_BAD);
	}
}

/* A line longer than what is kept is cut; the code before and the lines after it count. */
static void test_long_line(void **state)
{
	struct str in = STR_INIT(1 << 20);
	struct reply r;
	size_t left;

	(void)state;
	(void)str_add_c(&in, "550-5.1.1 ");
	for (size_t i = 0; i < 5000; i++)
		(void)str_add_char(&in, 'x');
	(void)str_add_c(&in, "\r\n550 5.1.1 end\r\n");
	assert_int_equal(run(&r, str_bytes(&in), in.len, 1, &left), REPLY_DONE);
	assert_int_equal(r.code, 550);
	assert_int_equal(r.enhanced.detail, 1);
	assert_int_equal(r.text_len, REPLY_TEXT_MAX);
	assert_int_equal(r.lines, 2);
	str_free(&in);
}

/* The limit is of one reply: the next one begins anew. */
static void test_start_begins_anew(void **state)
{
	struct reply r;
	size_t total, used;

	(void)state;
	(void)feed_forever(&r, "250-x\r\n", 7, &total);
	reply_start(&r);
	assert_int_equal(reply_feed(&r, LIT("220 hello\r\n"), &used), REPLY_DONE);
	assert_int_equal(r.code, 220);
}

/* ---- meaning ---- */

static void test_outcome(void **state)
{
	static const struct { const char *in; char want; enum verdict verdict; unsigned class; } rows[] = {
		{ "250 ok\r\n", '2', V_OK, 0 }, { "354 go\r\n", '3', V_OK, 0 }, { "250 2.0.0 ok\r\n", '2', V_OK, 2 },
		{ "250 ok\r\n", '3', V_TEMP, 4 }, { "354 go\r\n", '2', V_TEMP, 4 },
		{ "450 x\r\n", '2', V_TEMP, 0 }, { "450 x\r\n", '3', V_TEMP, 0 }, { "550 x\r\n", '2', V_PERM, 0 }, { "554 5.1.1 x\r\n", '3', V_PERM, 5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct reply r;
		struct outcome o;
		size_t used;

		reply_start(&r);
		assert_int_equal(reply_feed(&r, bytes_of(rows[i].in), &used), REPLY_DONE);
		o = reply_outcome(&r, STAGE_RCPT, rows[i].want);
		assert_int_equal(o.verdict, rows[i].verdict);
		assert_int_equal(o.enhanced.class, rows[i].class);
		assert_int_equal(o.stage, STAGE_RCPT);
		assert_int_equal(o.code, r.code);
	}
}

static void test_lines_for_keywords(void **state)
{
	struct bytes in = LIT("250-mx\r\n250-SIZE 10\r\n250 8BITMIME\r\n");
	struct reply r;
	size_t used;

	(void)state;
	reply_start(&r);
	assert_int_equal(reply_feed(&r, in, &used), REPLY_LINE);
	assert_true(bytes_equal(r.line, LIT("mx")));
	in = bytes_slice(in, used, in.len);
	assert_int_equal(reply_feed(&r, in, &used), REPLY_LINE);
	assert_true(bytes_equal(r.line, LIT("SIZE 10")));
	in = bytes_slice(in, used, in.len);
	assert_int_equal(reply_feed(&r, in, &used), REPLY_DONE);
	assert_true(bytes_equal(r.line, LIT("8BITMIME")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole), cmocka_unit_test(test_byte_by_byte), cmocka_unit_test(test_every_split), cmocka_unit_test(test_endless),
		cmocka_unit_test(test_long_line), cmocka_unit_test(test_start_begins_anew), cmocka_unit_test(test_outcome),
		cmocka_unit_test(test_lines_for_keywords),
	};

	return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
