/* test_dnswire - names out of records, good and bad. */
#include "unit.h"
#include "remote/dnswire.h"

static const struct { const char *wire; size_t len; const char *want; } names[] = {   /* want NULL: refused */
#define N(wire, want) { wire, sizeof(wire) - 1, want }
	N("\0", ""),
	N("\1a\0", "a"),
	N("\3Mx1\7Example\3ORG\0", "mx1.example.org"),
	N("\4a-_9\0", "a-_9"),
	N("", NULL),
	N("\1", NULL),
	N("\1a", NULL),
	N("\2a\0", NULL),
	N("\0\0", NULL),
	N("\1a\0\0", NULL),
	N("\1a\0x", NULL),
	N("\3a.b\0", NULL),
	N("\1 \0", NULL),
	N("\1\xe4\0", NULL),
	N("\300\2", NULL),
	N("\1a\300\0", NULL),
	N("\100aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0", NULL),
#undef N
};

static void test_names(void **state)
{
	char out[DNSWIRE_NAME];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		bool good = dnswire_name((struct bytes){ names[i].wire, names[i].len }, out);

		assert_int_equal(good, names[i].want != NULL);
		assert_string_equal(out, good ? names[i].want : "");
	}
}

/* 255 octets are the most (RFC 1035 3.1): three labels of 63 and one of 61. */
static void test_longest(void **state)
{
	char wire[257], out[DNSWIRE_NAME];

	(void)state;
	memset(wire, 'x', sizeof wire);
	wire[0] = wire[64] = wire[128] = 63;
	wire[192] = 61;
	wire[254] = 0;
	assert_true(dnswire_name((struct bytes){ wire, 255 }, out));
	assert_int_equal(strlen(out), 253);
	wire[192] = 62;
	wire[254] = 'x';
	wire[255] = 0;
	assert_false(dnswire_name((struct bytes){ wire, 256 }, out));
}

static void test_mx(void **state)
{
	char out[DNSWIRE_NAME];
	uint16_t preference = 1;

	(void)state;
	assert_true(dnswire_mx((struct bytes){ "\x01\x02\1a\0", 5 }, &preference, out));
	assert_int_equal(preference, 258);
	assert_string_equal(out, "a");
	assert_true(dnswire_mx((struct bytes){ "\0\0\0", 3 }, &preference, out));
	assert_string_equal(out, "");
	for (size_t len = 0; len < 3; len++)
		assert_false(dnswire_mx((struct bytes){ "\0\0\0", len }, &preference, out));
}

static void test_text(void **state)
{
	static const struct { const char *data; size_t len; const char *want; } cases[] = {
#define T(data, want) { data, sizeof(data) - 1, want }
		T("", ""), T("\0", ""), T("\2ab", "ab"), T("\2ab\1c", "abc"), T("\2ab\0", "ab"), T("\2a", ""), T("\1a\2b", ""), T("\4a\r\nb", "a??b"), T("\2\303\251", "??"),
		T("\14too long now", "too long "),
#undef T
	};
	char out[10];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		dnswire_text((struct bytes){ cases[i].data, cases[i].len }, out, sizeof out);
		assert_string_equal(out, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names), cmocka_unit_test(test_longest), cmocka_unit_test(test_mx), cmocka_unit_test(test_text) };

	return cmocka_run_group_tests_name("dnswire", tests, NULL, NULL);
}
