/* test_message - the scanner of message data: fed whole, octet by octet and split at every offset, with equal results; the end of
 * data is where the octets CRLF.CRLF are, and nowhere else. */
#include "unit.h"
#include "smtpd/session/message.h"

struct scanned {
	struct str kept;
	size_t end;        /* octets up to and with the final dot's line; 0: it did not come */
	unsigned faults;
	uint64_t size, hops;
	bool headless;
	char message_id[MESSAGE_ID_MAX + 1];
};

/* Feed one piece; false when the end came in it. */
static bool feed(struct message *m, struct bytes piece, struct scanned *out, size_t *total)
{
	enum scan_result result = SCAN_PART;
	struct bytes exact = unit_exact(piece), rest = exact;
	while (result == SCAN_PART) {
		struct bytes kept;
		size_t used;
		result = message_scan(m, rest, &kept, &used);
		assert_true(used <= rest.len && (used > 0 || rest.len == 0));
		assert_true(kept.len == 0 || (kept.at >= rest.at && kept.at + kept.len <= rest.at + used));
		str_add(&out->kept, kept);
		*total += used;
		if (result != SCAN_END && result != SCAN_PART)
			assert_int_equal(used, rest.len);
		rest = bytes_slice(rest, used, rest.len);
	}
	unit_free(exact);
	return result != SCAN_END;
}

/* Scan with cuts before the octets `first` and `second`, and after each of `step` octets (0: none). */
static struct scanned scan(struct bytes in, size_t first, size_t second, size_t step)
{
	struct message m;
	struct scanned out = { .kept = STR_INIT(1 << 20) };
	size_t from = 0, total = 0;
	message_begin(&m, 60, 3);
	while (from < in.len) {
		size_t to = in.len;
		if (from < first && first < to)
			to = first;
		else if (from < second && second < to)
			to = second;
		if (step > 0 && to - from > step)
			to = from + step;
		if (!feed(&m, bytes_slice(in, from, to), &out, &total)) {
			out.end = total;
			break;
		}
		from = to;
	}
	if (m.faults != 0)
		str_clear(&out.kept);   /* what came before a fault depends on the cuts and is thrown away */
	out.faults = m.faults;
	out.size = m.faults == 0 ? m.size : 0;
	out.hops = m.hops;
	out.headless = m.headless;
	memcpy(out.message_id, m.message_id, sizeof out.message_id);
	return out;
}

static void assert_same(const struct scanned *a, const struct scanned *b)
{
	assert_int_equal(a->end, b->end);
	assert_int_equal(a->faults, b->faults);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->hops, b->hops);
	assert_int_equal(a->headless, b->headless);
	assert_string_equal(a->message_id, b->message_id);
	assert_true(bytes_equal(str_bytes(&a->kept), str_bytes(&b->kept)));
}

static void compare(struct bytes in, const struct scanned *whole, size_t first, size_t second, size_t step)
{
	struct scanned cut = scan(in, first, second, step);
	assert_same(whole, &cut);
	str_free(&cut.kept);
}

static struct scanned scan_all_ways(struct bytes in)
{
	struct scanned whole = scan(in, 0, 0, 0);
	for (size_t step = 1; step <= 4; step++)
		compare(in, &whole, 0, 0, step);
	for (size_t i = 1; i < in.len; i++)
		compare(in, &whole, i, 0, 0);
	for (size_t i = 1; i < in.len && in.len < 40; i++)
		for (size_t j = i + 1; j < in.len; j++)
			compare(in, &whole, i, j, 0);
	return whole;
}

/* By definition: after the CRLF that ended the DATA command. */
static size_t end_by_definition(struct bytes in)
{
	for (size_t i = 0; i + 3 <= in.len; i++)
		if (memcmp(in.at + i, ".\r\n", 3) == 0 && (i == 0 || (i >= 2 && memcmp(in.at + i - 2, "\r\n", 2) == 0)))
			return i + 3;
	return 0;
}

static bool is_bare(struct bytes in, size_t end)
{
	for (size_t i = 0; i < end; i++) {
		if (in.at[i] == '\n' && (i == 0 || in.at[i - 1] != '\r'))
			return true;
		if (in.at[i] == '\r' && i + 1 < end && in.at[i + 1] != '\n')
			return true;
	}
	return false;
}

/* Every string of up to 8 of the octets that matter. */
static void test_all_combinations(void **state)
{
	static const char alphabet[] = { '\r', '\n', '.', 'x' };
	(void)state;
	for (size_t len = 0; len <= 8; len++) {
		for (unsigned n = 0; n < 1u << (2 * len); n++) {
			char text[8];
			for (size_t i = 0; i < len; i++)
				text[i] = alphabet[n >> (2 * i) & 3u];
			struct bytes in = { text, len };
			struct scanned whole = scan(in, 0, 0, 0);
			size_t end = end_by_definition(in);
			assert_int_equal(whole.end, end);
			assert_int_equal((whole.faults & MESSAGE_BARE) != 0, is_bare(in, end ? end : len));
			compare(in, &whole, 0, 0, 1);
			compare(in, &whole, len / 2, 0, 0);
			str_free(&whole.kept);
		}
	}
}

static void check(const char *in, size_t end, unsigned faults, const char *kept)
{
	struct scanned s = scan_all_ways(bytes_of(in));
	assert_int_equal(s.end, end);
	assert_int_equal(s.faults, faults);
	if (faults == 0)
		assert_bytes(str_bytes(&s.kept), kept);
	str_free(&s.kept);
}

static void test_dots(void **state)
{
	(void)state;
	check(".\r\n", 3, 0, "");
	check("a\r\n.\r\nQUIT\r\n", 6, 0, "a\r\n");
	check("..\r\n.\r\n", 7, 0, ".\r\n");
	check("..a\r\n...b\r\n.c\r\n.\r\n", 18, 0, ".a\r\n..b\r\nc\r\n");
	check("a.\r\n.\r\n", 7, 0, "a.\r\n");
	check("\r\n.\r\n", 5, 0, "\r\n");
	check("a\r\n.", 0, 0, "a\r\n");
	check("a\r\n.\r", 0, 0, "a\r\n");
	check("", 0, 0, "");
}

static void test_faults(void **state)
{
	(void)state;
	check("a\nb\r\n.\r\n", 8, MESSAGE_BARE, NULL);
	check("a\rb\r\n.\r\n", 8, MESSAGE_BARE, NULL);
	check("a\n.\r\n\r\n.\r\n", 10, MESSAGE_BARE, NULL);
	check("a\n.\n.\r\n", 0, MESSAGE_BARE, NULL);
	check("a\r\r\n.\r\n", 7, MESSAGE_BARE, NULL);
	check("a\r\n.\r.\r\n.\r\n", 11, MESSAGE_BARE, NULL);
	check("12345678901234567890123456789012345678901234567890123456789\r\n.\r\n", 64, MESSAGE_TOO_BIG, NULL);
	check("1234567890123456789012345678901234567890123456789012345678\r\n.\r\n", 63, 0, "1234567890123456789012345678901234567890123456789012345678\r\n");
}

static void test_nul(void **state)
{
	static const char text[] = "a\0b\r\n.\r\n";
	(void)state;
	struct scanned s = scan_all_ways((struct bytes){ text, sizeof text - 1 });
	assert_int_equal(s.end, 8);
	assert_int_equal(s.faults, MESSAGE_NUL);
	str_free(&s.kept);
}

static void test_header(void **state)
{
	(void)state;
	struct scanned s = scan_all_ways(LIT("Received: a\r\nreceived:b\r\n Received: c\r\nMessage-Id: <i@x>\r\n\r\nReceived: d\r\n.\r\n"));
	assert_int_equal(s.hops, 2);
	assert_string_equal(s.message_id, "<i@x>");
	str_free(&s.kept);
	s = scan_all_ways(LIT("Received:\r\nReceived:\r\nReceived:\r\n.\r\n"));
	assert_int_equal(s.faults, MESSAGE_LOOPS);
	str_free(&s.kept);
	s = scan_all_ways(LIT("Message-Id:\r\n\t<folded>\r\n.\r\n"));
	assert_string_equal(s.message_id, "<folded>");
	str_free(&s.kept);
	s = scan_all_ways(LIT("A : a\r\nReceived\t: b\r\nMessage-ID : <old@x>\r\n\r\n.\r\n"));
	assert_int_equal(s.hops, 1);
	assert_string_equal(s.message_id, "<old@x>");
	str_free(&s.kept);
	s = scan_all_ways(LIT("no header\r\nMessage-Id: <body>\r\n.\r\n"));
	assert_string_equal(s.message_id, "");
	str_free(&s.kept);
}

static void test_long_line(void **state)
{
	struct message m;
	static char line[65536];
	(void)state;
	memset(line, 'x', sizeof line);
	message_begin(&m, 0, 100);
	for (size_t total = 0; total <= MESSAGE_LINE_MAX; total += sizeof line) {
		struct bytes kept;
		size_t used;
		assert_int_equal(m.faults, 0);
		assert_int_equal(message_scan(&m, (struct bytes){ line, sizeof line }, &kept, &used), SCAN_MORE);
	}
	assert_int_equal(message_fault(&m), MESSAGE_LINE_LONG);
}

/* A chunk (BDAT) at once, and cut at every place: the same size, the same faults, the same octets. */
static void chunked(struct bytes in, bool binary, uint64_t size, unsigned faults)
{
	for (size_t cut = 0; cut <= in.len; cut++) {
		struct message m;
		struct bytes a, b, end;
		message_begin(&m, 0, 100);
		m.binary = binary;
		message_chunk(&m, bytes_slice(in, 0, cut), &a);
		message_chunk(&m, bytes_slice(in, cut, in.len), &b);
		message_chunk_end(&m, &end);
		assert_int_equal(m.size, size);
		assert_int_equal(m.faults, faults);
		if (faults == 0)
			assert_int_equal(a.len + b.len + end.len, size);
		else
			assert_int_equal(end.len, 0);   /* nothing is kept once the fault is known: a CR at the end is one only there */
	}
}

static void test_chunks(void **state)
{
	(void)state;
	chunked(LIT("a: b\r\n\r\n.\r\n..\r\n"), false, 15, 0);        /* a dot is a dot */
	chunked(LIT("a: b\r\n\r\nno end"), false, 16, 0);                /* the end of the line is added */
	chunked(LIT(""), false, 0, 0);
	chunked(LIT("a\nb\r\n"), false, 5, MESSAGE_BARE);
	chunked(LIT("a\r\rb\r\n"), false, 6, MESSAGE_BARE);
	chunked(LIT("a\r\n\n.\r\n"), false, 7, MESSAGE_BARE);
	chunked(LIT("a\r"), false, 2, MESSAGE_BARE);
	chunked(LIT("a\0b\r\n"), false, 5, MESSAGE_NUL);
}

/* BODY=BINARYMIME frees the body, and nothing before it. */
static void test_binary_chunks(void **state)
{
	(void)state;
	chunked(LIT("a: b\r\n\r\n\0\r\n.\r\n\n\r\r"), true, 17, 0);
	chunked(LIT("a: b\r\n\r\nno end"), true, 14, 0);
	chunked(LIT("\r\n\0"), true, 3, 0);
	chunked(LIT("a: b"), true, 6, 0);                         /* no body: the header's line ends */
	chunked(LIT("a: b\r\nno field\r\n\0\n"), true, 18, 0);
	chunked(LIT(" x\r\n\0\n"), true, 6, 0);
	chunked(LIT("a: \0\r\n\r\n\0"), true, 9, MESSAGE_NUL);
	chunked(LIT("a: b\nc: d\r\n\r\n\0"), true, 14, MESSAGE_BARE);
	chunked(LIT("a: b\rc: d\r\n\r\n\0"), true, 14, MESSAGE_BARE);
	chunked(LIT("a: b\r\n\n\0\r\n\n"), true, 11, MESSAGE_BARE | MESSAGE_NUL);
	chunked(LIT("a: b\r\n\rx\r\n\n"), true, 11, MESSAGE_BARE);
	chunked(LIT("no\0field\r\n\0"), true, 11, MESSAGE_NUL);
	chunked(LIT(" x\ny\r\n\0"), true, 7, MESSAGE_BARE);
	chunked(LIT("a: b\r"), true, 5, MESSAGE_BARE);
}

/* DATA knows no binary message. */
static void test_binary_is_not_for_data(void **state)
{
	struct message m;
	struct bytes in = LIT("a: b\r\n\r\n\0\n.\r\n.\r\n"), kept;
	size_t used;
	(void)state;
	message_begin(&m, 0, 100);
	m.binary = true;
	assert_int_equal(message_scan(&m, in, &kept, &used), SCAN_PART);
	assert_int_equal(message_scan(&m, bytes_slice(in, used, in.len), &kept, &used), SCAN_END);
	assert_int_equal(m.faults, MESSAGE_BARE | MESSAGE_NUL);
}

static void test_chunk_header(void **state)
{
	struct message m;
	struct bytes kept;
	(void)state;
	message_begin(&m, 10, 2);
	message_chunk(&m, LIT("Received: x\r\nMessage-"), &kept);
	assert_int_equal(kept.len, 0);
	assert_int_equal(m.faults, MESSAGE_TOO_BIG);
	message_chunk(&m, LIT("ID: <a@b>\r\nReceived: y\r\n\r\nReceived: z\r\n"), &kept);
	assert_string_equal(m.message_id, "<a@b>");
	assert_int_equal(m.hops, 2);
	assert_int_equal(m.faults, MESSAGE_TOO_BIG | MESSAGE_LOOPS);
}

static void a_first_line_that_continues_a_field(void **state)
{
	(void)state;
	static const struct { const char *in; bool headless; } rows[] = {
		{ " x\r\n.\r\n", true }, { "\tx\r\nReceived: a\r\n.\r\n", true }, { "x\r\n.\r\n", false }, { "\r\n x\r\n.\r\n", false }, { ".\r\n", false },
		{ "A: b\r\n c\r\n.\r\n", false }, { ".. x\r\n.\r\n", false }, { ". x\r\n.\r\n", true },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct scanned whole = scan(bytes_of(rows[i].in), 0, 0, 0), cut = scan(bytes_of(rows[i].in), 0, 0, 1);
		assert_int_equal(whole.headless, rows[i].headless);
		assert_int_equal(whole.hops, 0);
		assert_same(&whole, &cut);
		str_free(&whole.kept);
		str_free(&cut.kept);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_first_line_that_continues_a_field),
		cmocka_unit_test(test_chunks), cmocka_unit_test(test_binary_chunks), cmocka_unit_test(test_binary_is_not_for_data),
		cmocka_unit_test(test_chunk_header), cmocka_unit_test(test_dots),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_all_combinations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
