/* test_failures - counts by address and login, the window, and a flood of addresses and names that stays within its memory. */
#include "unit.h"
#include "smtpd/auth/failures.h"

#include <sodium.h>

static const struct failures_limits limits = { .window_ms = 1000, .per_address = 3, .per_login = 5 };

static struct netaddr address(const char *text)
{
	struct netaddr a;
	assert_true(netaddr_parse(bytes_of(text), &a));
	return a;
}

static void note_failure(struct failures *f, const char *ip, const char *login, deadline_t now)
{
	struct netaddr a = address(ip);
	failures_note(f, &limits, &a, bytes_of(login), false, now);
}

static bool allow(struct failures *f, const char *ip, const char *login, deadline_t now)
{
	struct netaddr a = address(ip);
	return failures_allow(f, &limits, &a, bytes_of(login), now);
}

static void test_address(void **state)
{
	struct failures *f = failures_new();
	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(allow(f, "192.0.2.1", "", 100));
		note_failure(f, "192.0.2.1", "", 100);
	}
	assert_false(allow(f, "192.0.2.1", "", 1099));
	assert_false(allow(f, "192.0.2.1", "joe", 1099));
	assert_true(allow(f, "192.0.2.2", "joe", 1099));
	assert_true(allow(f, "192.0.2.1", "joe", 1101));
	for (int i = 0; i < 3; i++)   /* one /64 is one client */
		note_failure(f, i == 0 ? "2001:db8::1" : "2001:db8::ffff:1", "", 100);
	assert_false(allow(f, "2001:db8:0:0:1::", "", 100));
	assert_true(allow(f, "2001:db8:0:1::", "", 100));
	failures_free(f);
}

static void test_login(void **state)
{
	struct failures *f = failures_new();
	struct netaddr home = address("198.51.100.7");
	char ip[32];
	(void)state;
	failures_note(f, &limits, &home, LIT("joe"), true, 100);
	for (int i = 0; i < 5; i++) {
		assert_true(allow(f, "203.0.113.9", "joe", 100));
		snprintf(ip, sizeof ip, "192.0.2.%d", i);
		note_failure(f, ip, "joe", 100);
	}
	assert_false(allow(f, "203.0.113.9", "joe", 100));
	assert_false(allow(f, "203.0.113.9", "jOE", 100));
	assert_true(allow(f, "203.0.113.9", "joanna", 100));
	assert_true(allow(f, "198.51.100.7", "joe", 100));   /* where he has been before */
	assert_true(allow(f, "203.0.113.9", "joe", 1200));
	failures_free(f);
}

static void test_flood(void **state)
{
	struct failures *f = failures_new();
	char ip[32], login[32];
	(void)state;
	for (int i = 0; i < 3; i++)
		note_failure(f, "192.0.2.1", "", 100);
	for (unsigned i = 0; i < 400000; i++) {
		snprintf(ip, sizeof ip, "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255);
		snprintf(login, sizeof login, "name%u", i);
		note_failure(f, ip, login, 200);
	}
	assert_false(allow(f, "192.0.2.1", "", 200));   /* who failed often is not pushed out by who failed once */
	failures_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_address), cmocka_unit_test(test_login), cmocka_unit_test(test_flood) };
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
