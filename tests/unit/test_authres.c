/* test_authres - Authentication-Results: fields that claim to be ours go, everything else stays as it came; however the header is cut. */
#include "unit.h"
#include "smtpd/session/authres.h"

static void filter(struct bytes in, size_t first, size_t step, struct str *out, unsigned *removed)
{
	struct authres a;
	authres_begin(&a, LIT("mx.test"));
	for (size_t from = 0, to; from < in.len; from = to) {
		to = from < first && first < in.len ? first : in.len;
		if (step > 0 && to - from > step)
			to = from + step;
		struct bytes piece = unit_exact(bytes_slice(in, from, to));
		size_t used = a.over ? 0 : authres_feed(&a, piece, out);
		assert_true(used == piece.len || a.over);
		str_add(out, bytes_slice(piece, used, piece.len));
		unit_free(piece);
	}
	authres_end(&a, out);
	*removed = a.removed;
}

static void check(const char *text, const char *expected, unsigned count)
{
	struct bytes in = bytes_of(text);
	for (size_t first = 0; first <= in.len; first++) {
		struct str out = STR_INIT(1 << 20);
		unsigned removed;
		filter(in, first, first == 0 ? 1 : 0, &out, &removed);   /* the first time octet by octet */
		assert_bytes(str_bytes(&out), expected);
		assert_int_equal(removed, count);
		str_free(&out);
	}
}

#define BODY "\r\nAuthentication-Results: mx.test; none\r\nbody\r\n"

static void test_ours(void **state)
{
	(void)state;
	static const char *const ours[] = {
		"Authentication-Results: mx.test; spf=pass\r\n", "authentication-RESULTS:MX.Test\r\n", "Authentication-Results : \t mx.test 1; dkim=pass\r\n",
		"Authentication-Results:\r\n mx.test;\r\n\tspf=pass\r\n", "Authentication-Results: (a (nested\\) )comment) mx.test; x=y\r\n", "Authentication-Results: \"mx.test\"; x\r\n",
		"Authentication-Results: \"m\\x.test\"; x\r\n", "Authentication-Results: mx.test.; x\r\n", "Authentication-Results: mx.test(comment); x\r\n",
		"Authentication-Results: (\r\n )\r\n mx.test; x\r\n one\r\n two\r\n",
	};
	for (size_t i = 0; i < COUNT(ours); i++) {
		char text[400], expected[400];
		snprintf(text, sizeof text, "From: a\r\n%sTo: b\r\n%s" BODY, ours[i], ours[i]);
		snprintf(expected, sizeof expected, "From: a\r\nTo: b\r\n" BODY);
		check(text, expected, 2);
		check(ours[i], "", 1);
	}
}

static void test_others(void **state)
{
	(void)state;
	static const char *const others[] = {
		"Authentication-Results: other.test; spf=pass\r\n", "Authentication-Results: mx.test.example; x\r\n", "Authentication-Results: sub.mx.test; x\r\n",
		"Authentication-Results-Original: mx.test; x\r\n", "X-Authentication-Results: mx.test; x\r\n", "Authentication-Result: mx.test\r\n", "Authentication-Results mx.test\r\n",
		"Authentication-Results: (mx.test) other.test; x\r\n", "Authentication-Results:\r\n", "A: x\r\n Authentication-Results: mx.test\r\n", "a\r\n", "Auth",
		"Authentication-Results: other.test;\r\n mx.test; x\r\n", "Authentication-Results", "Authentication-Results: \"other", "", "\r\n", "Received: x\r\n\tAuthentication-Results: mx.test\r\n",
	};
	for (size_t i = 0; i < COUNT(others); i++)
		check(others[i], others[i], 0);
	check(BODY, BODY, 0);
	check("From: a\r\nAuthentication-Results: other.test; x\r\n" BODY, "From: a\r\nAuthentication-Results: other.test; x\r\n" BODY, 0);
}

static void test_long(void **state)
{
	struct str in = STR_INIT(1 << 16), expected = STR_INIT(1 << 16), out = STR_INIT(1 << 16);
	unsigned removed;
	(void)state;
	/* One that is long, and another's: it stays whole. */
	str_add_c(&in, "Authentication-Results: other.test;");
	for (int i = 0; i < 500; i++)
		str_add_c(&in, "\r\n\tdkim=pass");
	str_add_c(&in, "\r\nTo: b\r\n");
	filter(str_bytes(&in), 0, 7, &out, &removed);
	assert_true(bytes_equal(str_bytes(&in), str_bytes(&out)));
	assert_int_equal(removed, 0);
	/* One that hides whose it is behind a comment longer than anybody reads. */
	str_clear(&in);
	str_clear(&out);
	str_add_c(&in, "Authentication-Results: (");
	for (int i = 0; i < 500; i++)
		str_add_c(&in, "\r\n\tcomment");
	str_add_c(&in, ")\r\n mx.test; spf=pass\r\nTo: b\r\n");
	filter(str_bytes(&in), 0, 7, &out, &removed);
	assert_bytes(str_bytes(&out), "To: b\r\n");
	assert_int_equal(removed, 1);
	/* Blanks before the colon without end. */
	str_clear(&in);
	str_clear(&out);
	str_add_c(&in, "Authentication-Results");
	for (int i = 0; i < 3000; i++)
		str_add_char(&in, ' ');
	str_add_c(&in, ": mx.test\r\n");
	filter(str_bytes(&in), 0, 0, &out, &removed);
	assert_int_equal(removed, 1);
	str_free(&in);
	str_free(&expected);
	str_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ours), cmocka_unit_test(test_others), cmocka_unit_test(test_long) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
