/* test_hosts - the order of exchangers: preference, equals shuffled, this host and what is not better left out. */
#include "unit.h"
#include "remote/hosts.h"

static struct dns_reply reply;
static struct hosts hosts;

static void start(void)
{
	memset(&reply, 0, sizeof reply);
	reply.status = DNS_OK;
}

/* NULL: its address could not be looked up. */
static void add(unsigned preference, const char *name, const char *address)
{
	struct dns_address *a = &reply.host[reply.count++];

	assert_true(reply.count <= DNS_HOSTS_MAX);
	a->preference = (uint16_t)preference;
	assert_true(bytes_to_cstring(bytes_of(name), a->name, sizeof a->name));
	if (address != NULL)
		assert_true(netaddr_parse(bytes_of(address), &a->addr));
}

static struct hosts_own own_of(const char *address)
{
	struct hosts_own own = { 0 };

	if (address != NULL)
		assert_true(netaddr_parse(bytes_of(address), &own.at[own.count++]));
	return own;
}

static enum hosts_result order(const char *own_address, uint64_t seed)
{
	struct hosts_own own = own_of(own_address);

	return hosts_order(&reply, &own, seed, &hosts);
}

static void three(void)
{
	start();
	add(30, "c", "192.0.2.3");
	add(10, "a", "192.0.2.1");
	add(20, "b", "192.0.2.2");
}

static void test_preference(void **state)
{
	(void)state;
	three();
	for (uint64_t seed = 0; seed < 50; seed++) {
		assert_int_equal(order(NULL, seed), HOSTS_OK);
		assert_int_equal(hosts.count, 3);
		assert_string_equal(hosts.at[0].name, "a");
		assert_string_equal(hosts.at[1].name, "b");
		assert_string_equal(hosts.at[2].name, "c");
	}
}

/* Every order of three equals comes up, about equally often; the worse one stays behind them. */
static void test_equals_are_shuffled(void **state)
{
	unsigned seen[3][3] = { { 0 } };

	(void)state;
	start();
	add(10, "0", "192.0.2.1");
	add(10, "1", "192.0.2.2");
	add(10, "2", "192.0.2.3");
	add(20, "last", "192.0.2.4");
	for (uint64_t seed = 1; seed <= 3000; seed++) {
		assert_int_equal(order(NULL, seed * UINT64_C(0x9e3779b97f4a7c15)), HOSTS_OK);
		assert_string_equal(hosts.at[3].name, "last");
		for (size_t i = 0; i < 3; i++)
			seen[i][hosts.at[i].name[0] - '0']++;
	}
	for (size_t i = 0; i < 9; i++)
		assert_in_range(seen[i / 3][i % 3], 850, 1150);
}

static void test_same_seed_same_order(void **state)
{
	struct hosts first;

	(void)state;
	start();
	for (unsigned i = 0; i < 10; i++)
		add(5, (const char[]){ (char)('a' + i), '\0' }, "192.0.2.9");
	(void)order(NULL, 4711);
	first = hosts;
	(void)order(NULL, 4711);
	assert_memory_equal(first.at, hosts.at, 10 * sizeof hosts.at[0]);
}

static void test_self_in_the_middle(void **state)
{
	(void)state;
	three();
	add(20, "also20", "192.0.2.20");
	assert_int_equal(order("192.0.2.2", 1), HOSTS_OK);
	assert_int_equal(hosts.count, 1);
	assert_string_equal(hosts.at[0].name, "a");
}

static void test_self_is_the_worst(void **state)
{
	(void)state;
	three();
	assert_int_equal(order("192.0.2.3", 1), HOSTS_OK);
	assert_int_equal(hosts.count, 2);
}

static void test_self_is_the_best(void **state)
{
	(void)state;
	three();
	assert_int_equal(order("192.0.2.1", 1), HOSTS_SELF);
	assert_int_equal(hosts.count, 0);
}

/* One of several addresses is enough, and the IPv6-mapped form of an address is that address. */
static void test_self_by_any_address(void **state)
{
	(void)state;
	start();
	add(10, "me", "192.0.2.1");
	add(10, "me", "2001:db8::1");
	assert_int_equal(order("2001:db8::1", 1), HOSTS_SELF);
	assert_int_equal(order("::ffff:192.0.2.1", 1), HOSTS_SELF);
}

/* Preferences go up to 65535, and that one can be ours, too. */
static void test_self_at_the_end_of_the_range(void **state)
{
	(void)state;
	start();
	add(65535, "me", "192.0.2.1");
	add(65534, "other", "192.0.2.2");
	assert_int_equal(order("192.0.2.1", 1), HOSTS_OK);
	assert_int_equal(hosts.count, 1);
	assert_string_equal(hosts.at[0].name, "other");
}

static void test_unresolved(void **state)
{
	(void)state;
	start();
	add(5, "unknown", NULL);
	add(10, "me", "192.0.2.1");
	assert_int_equal(order("192.0.2.1", 1), HOSTS_UNSURE);
	assert_int_equal(order(NULL, 1), HOSTS_OK);
	assert_int_equal(hosts.count, 1);
	start();
	add(10, "me", "192.0.2.1");
	add(20, "unknown", NULL);
	assert_int_equal(order("192.0.2.1", 1), HOSTS_SELF);
	start();
	add(10, "unknown", NULL);
	assert_int_equal(order(NULL, 1), HOSTS_UNSURE);
}

static void test_bounded(void **state)
{
	(void)state;
	start();
	for (unsigned i = 0; i < DNS_HOSTS_MAX; i++)
		add(i, "x", "192.0.2.1");
	assert_int_equal(order(NULL, 1), HOSTS_OK);
	assert_int_equal(hosts.count, HOSTS_MAX);
	assert_int_equal(hosts.at[HOSTS_MAX - 1].preference, HOSTS_MAX - 1);
}

static void test_relays(void **state)
{
	static const struct { const char *in; bool is; const char *name; unsigned port; } rows[] = {
		{ "example.org", false, "", 0 }, { "relay:25", true, "relay", 25 }, { "relay:", true, "relay", 0 }, { "relay:99999", true, "relay", 0 },
		{ "[192.0.2.1]", true, "[192.0.2.1]", 0 }, { "[192.0.2.1]:26", true, "[192.0.2.1]", 26 }, { "[ipv6:::1]", true, "[ipv6:::1]", 0 },
		{ "[::1]:2525", true, "[::1]", 2525 }, { "[", true, "[", 0 }, { "", false, "", 0 }, { ":25", true, "", 25 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bytes name = { 0 };
		uint16_t port = 0;

		assert_int_equal(hosts_split_relay(bytes_of(rows[i].in), &name, &port), rows[i].is);
		assert_true(bytes_equal(name, bytes_of(rows[i].name)));
		assert_int_equal(port, rows[i].port);
	}
}

/* Loopback is ours only when ownaddresses says so: instances side by side share it. */
static void test_own(void **state)
{
	struct bytes line = LIT("127.0.0.77");
	struct settings s = { .ownaddresses = { .at = &line, .count = 1 } };
	struct hosts_own own;

	(void)state;
	hosts_own_find(&s, &own);
	assert_true(own.count >= 1);
	for (size_t i = 0; i < own.count; i++)
		assert_false(own.at[i].family == AF_INET && own.at[i].octets[0] == 127 && own.at[i].octets[3] != 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_preference), cmocka_unit_test(test_equals_are_shuffled), cmocka_unit_test(test_same_seed_same_order),
		cmocka_unit_test(test_self_in_the_middle), cmocka_unit_test(test_self_is_the_worst), cmocka_unit_test(test_self_is_the_best),
		cmocka_unit_test(test_self_by_any_address), cmocka_unit_test(test_self_at_the_end_of_the_range), cmocka_unit_test(test_unresolved),
		cmocka_unit_test(test_bounded), cmocka_unit_test(test_relays), cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
