/* test_domain - what is a domain, and qmail's way to match one. */
#include "unit.h"
#include "common/domain.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct { const char *name; bool ascii, utf8; } names[] = {
	{ "example.org", true, true },
	{ "EXAMPLE", true, true },
	{ "a", true, true },
	{ "1.2", true, true },
	{ "xn--bcher-kva.example", true, true },
	{ "_dmarc.example.org", true, true },
	{ "a-b.c--d", true, true },
	{ L63 ".org", true, true },
	{ L63 "." L63 "." L63 "." L63, true, true },             /* 255 octets */
	{ L63 "." L63 "." L63 "." L63 ".a", false, false },
	{ L63 "a.org", false, false },
	{ "", false, false },
	{ ".", false, false },
	{ ".a", false, false },
	{ "a.", false, false },
	{ "a..b", false, false },
	{ "-a.b", false, false },
	{ "a-.b", false, false },
	{ "a b", false, false },
	{ "a@b", false, false },
	{ "a/b", false, false },
	{ "[192.0.2.1]", false, false },
	{ "a\r\n", false, false },
	{ "b\xc3\xbc" "cher.example", false, true },
	{ "\xe4\xbe\x8b.\xe4\xbe\x8b", false, true },
	{ "b\xfc" "cher.example", false, false },
	{ "b\xc2\x85.example", false, false },
};

static void valid(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		struct bytes name = unit_exact(bytes_of(names[i].name));
		if (domain_valid(name, false) != names[i].ascii || domain_valid(name, true) != names[i].utf8)
			fail_msg("case %zu: %s", i, names[i].name);
		unit_free(name);
	}
	assert_false(domain_valid(LIT("a\0b"), true));
}

static void lower(void **state)
{
	char out[DOMAIN_MAX + 1];
	(void)state;
	domain_lower(LIT("MX-1.Example.ORG"), out);
	assert_string_equal(out, "mx-1.example.org");
	domain_lower(LIT("B\xc3\x9c" "CHER"), out);
	assert_string_equal(out, "b\xc3\x9c" "cher");
	domain_lower(LIT(""), out);
	assert_string_equal(out, "");
}

static void matching(void **state)
{
	(void)state;
	assert_true(domain_matches(LIT("Example.org"), LIT("example.ORG")));
	assert_false(domain_matches(LIT("a.example.org"), LIT("example.org")));
	assert_true(domain_matches(LIT("a.EXAMPLE.org"), LIT(".example.org")));
	assert_true(domain_matches(LIT("b.a.example.org"), LIT(".example.org")));
	assert_false(domain_matches(LIT("example.org"), LIT(".example.org")));
	assert_false(domain_matches(LIT("badexample.org"), LIT(".example.org")));
	assert_false(domain_matches(LIT("example.org"), LIT("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(valid), cmocka_unit_test(lower), cmocka_unit_test(matching) };
	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
