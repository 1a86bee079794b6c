/* test_dotstuff - bodies on the wire; whole, byte by byte, split at every offset. */
#include "unit.h"
#include "remote/dotstuff.h"

static const struct { const char *in; size_t len; const char *want; } bodies[] = {
#define B(text, want) { text, sizeof(text) - 1, want }
	B("", ".\r\n"),
	B("a", "a\r\n.\r\n"),
	B("a\r\n", "a\r\n.\r\n"),
	B(".", "..\r\n.\r\n"),
	B(".\r\n", "..\r\n.\r\n"),
	B("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
	B("a.\r\n..b\r\n", "a.\r\n...b\r\n.\r\n"),
	B("a\r", "a\r\n.\r\n"),
	B("\r", "\r\n.\r\n"),
	B("\n", "\r\n.\r\n"),
	B("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
	B("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
	B("\r\r\n\n", "\r\n\r\n\r\n.\r\n"),
	B("a\n\r.b", "a\r\n\r\n..b\r\n.\r\n"),
#undef B
};

static void check(size_t n, size_t split, size_t step)
{
	struct bytes in = { bodies[n].in, bodies[n].len };
	char wire[DOTSTUFF_ROOM(64) + 64 * 2 + DOTSTUFF_END];
	struct dotstuff d = { 0 };
	size_t to = 0, at = 0, end = split;

	while (at < in.len) {
		struct bytes piece = bytes_slice(in, at, end);
		size_t n_out = dotstuff_add(&d, piece, wire + to);

		assert_true(n_out <= DOTSTUFF_ROOM(piece.len));
		to += n_out;
		at += piece.len;
		end = at + step;
	}
	to += dotstuff_end(&d, wire + to);
	assert_int_equal(to, strlen(bodies[n].want));
	assert_memory_equal(wire, bodies[n].want, to);
}

static void test_all(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof bodies / sizeof bodies[0]; n++) {
		check(n, bodies[n].len, 1);
		check(n, 1, 1);
		for (size_t split = 1; split < bodies[n].len; split++)
			check(n, split, bodies[n].len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all) };

	return cmocka_run_group_tests_name("dotstuff", tests, NULL, NULL);
}
