/* test_checklines - lines of dnslists and checkexempt, good and bad; what an answer means. */
#include "unit.h"
#include "common/checklines.h"

static void test_list(void **state)
{
	static const struct { const char *line, *zone; int weight; unsigned of; uint8_t low3, high3; } good[] = {
		{ "zen.example.org 1", "zen.example.org", 1, LIST_CLIENT, 0, 255 },
		{ "zen.example.org\t=127.0.0.2-11   3", "zen.example.org", 3, LIST_CLIENT, 2, 11 },
		{ "wl.example.org =127.0.*.3 -1000 client", "wl.example.org", -1000, LIST_CLIENT, 3, 3 },
		{ "d.example.org 2 helo reverse sender", "d.example.org", 2, LIST_HELO | LIST_REVERSE | LIST_SENDER, 0, 255 },
		{ "d.example.org =127.0-255.0.* 2 sender sender", "d.example.org", 2, LIST_SENDER, 0, 255 },
	};
	static const char *const bad[] = {
		"", "zone", "zone =127.0.0.1", "zone 0", "zone -0", "zone 1001", "zone -1001", "zone 1.5", "zone +1", "zone - 1", "zone 1 everybody", "zone =127.0.0 1", "zone =127.0.0.1.2 1",
		"zone =127.0.0.1. 1", "zone =10.0.0.1 1", "zone =*.0.0.1 1", "zone =127.0.0.256 1", "zone =127.0.0.5-2 1", "zone =127.0.0.-2 1", "zone =127.0.0.2- 1", "zone = 1", "zo..ne 1", "zone. 1", "-zone 1",
		"1", "=127.0.0.1 zone 1", "zone 1 =127.0.0.2",
	};
	struct dnslist l;
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		if (!dnslist_parse(bytes_of(good[i].line), &l))
			fail_msg("refused: %s", good[i].line);
		assert_bytes(l.zone, good[i].zone);
		assert_int_equal(l.weight, good[i].weight);
		assert_int_equal(l.of, good[i].of);
		assert_int_equal(l.low[3], good[i].low3);
		assert_int_equal(l.high[3], good[i].high3);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		if (dnslist_parse(bytes_of(bad[i]), &l))
			fail_msg("taken: %s", bad[i]);
}

static void test_meaning(void **state)
{
	static const struct { const char *line, *answer; enum dnslist_meaning meaning; } cases[] = {
		{ "z 1", "127.0.0.2", LISTED }, { "z 1", "127.255.0.2", LISTED }, { "z 1", "127.255.255.254", LIST_REFUSES }, { "z 1", "127.255.255.1", LIST_REFUSES },
		{ "z 1", "192.0.2.1", LIST_DEAD }, { "z 1", "128.0.0.2", LIST_DEAD }, { "z 1", "::1", LIST_DEAD }, { "z =127.0.0.2 1", "192.0.2.1", LIST_DEAD },
		{ "z =127.0.0.2-4 1", "127.0.0.2", LISTED }, { "z =127.0.0.2-4 1", "127.0.0.4", LISTED }, { "z =127.0.0.2-4 1", "127.0.0.5", LISTED_OTHERWISE },
		{ "z =127.0.0.2-4 1", "127.0.0.1", LISTED_OTHERWISE }, { "z =127.0.*.2 1", "127.0.9.2", LISTED }, { "z =127.0.*.2 1", "127.1.9.2", LISTED_OTHERWISE },
		{ "z =127.255.255.* 1", "127.255.255.7", LIST_REFUSES },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct dnslist l;
		struct netaddr a;
		assert_true(dnslist_parse(bytes_of(cases[i].line), &l));
		assert_true(netaddr_parse(bytes_of(cases[i].answer), &a));
		if (dnslist_meaning(&l, &a) != cases[i].meaning)
			fail_msg("%s answers %s", cases[i].line, cases[i].answer);
	}
}

static void test_exemption(void **state)
{
	static const struct { const char *line; bool network; const char *domain, *of, *not_of; } good[] = {
		{ "192.0.2.0/24", true, "192.0.2.0/24", "checkhelo", NULL },
		{ "192.0.2.1 checkhelo\tchecklists", true, "192.0.2.1", "checklists", "checkhelodns" },
		{ "2001:db8::/32 checkhelo", true, "2001:db8::/32", "checkhelo", "check" },
		{ ".example.org  checkforward", false, ".example.org", "checkforward", "checkhelo" },
		{ "example.org", false, "example.org", "checkbounce", NULL },
	};
	static const char *const bad[] = { "", "192.0.2.1/24", ".", "..org", "a..c", "exa/24", "/24" };
	struct exemption e;
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(exemption_parse(bytes_of(good[i].line), &e));
		assert_int_equal(e.of_network, good[i].network);
		assert_bytes(e.domain, good[i].domain);
		assert_true(exemption_is_of(&e, bytes_of(good[i].of)));
		assert_true(good[i].not_of == NULL || !exemption_is_of(&e, bytes_of(good[i].not_of)));
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		if (exemption_parse(bytes_of(bad[i]), &e))
			fail_msg("taken: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_list), cmocka_unit_test(test_meaning), cmocka_unit_test(test_exemption) };
	return cmocka_run_group_tests_name("checklines", tests, NULL, NULL);
}
