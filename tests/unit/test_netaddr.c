/* test_netaddr - addresses, literals, listen addresses and networks. */
#include "unit.h"
#include <netinet/in.h>
#include "common/netaddr.h"

/* What an address parses to, printed; "-" when refused. */
static const struct { const char *text, *plain, *literal, *listen; } addresses[] = {
	{ "192.0.2.1", "192.0.2.1", "-", "-" },
	{ "255.255.255.255", "255.255.255.255", "-", "-" },
	{ "192.0.2.256", "-", "-", "-" },
	{ "192.0.2", "-", "-", "-" },
	{ "192.0.2.01", "-", "-", "-" },
	{ "0x7f.1", "-", "-", "-" },
	{ "2001:DB8::1", "2001:db8::1", "-", "-" },
	{ "::", "::", "-", "-" },
	{ "::ffff:192.0.2.1", "::ffff:192.0.2.1", "-", "-" },
	{ "fe80::1%lo", "-", "-", "-" },
	{ "1::2::3", "-", "-", "-" },
	{ "", "-", "-", "-" },
	{ " 192.0.2.1", "-", "-", "-" },
	{ "[192.0.2.1]", "-", "192.0.2.1", "-" },
	{ "[IPv6:2001:db8::1]", "-", "2001:db8::1", "-" },
	{ "[ipv6:::1]", "-", "::1", "-" },
	{ "[IPv6:192.0.2.1]", "-", "-", "-" },
	{ "[2001:db8::1]", "-", "-", "-" },
	{ "[x400:abc]", "-", "-", "-" },
	{ "[]", "-", "-", "-" },
	{ "[", "-", "-", "-" },
	{ "]", "-", "-", "-" },
	{ "[192.0.2.1", "-", "-", "-" },
	{ "[192.0.2.1]]", "-", "-", "-" },
	{ "25", "-", "-", ":: 25" },
	{ ":25", "-", "-", ":: 25" },
	{ "192.0.2.1:587", "-", "-", "192.0.2.1 587" },
	{ "[2001:db8::1]:25", "-", "-", "2001:db8::1 25" },
	{ "[::]:65535", "-", "-", ":: 65535" },
	{ "[192.0.2.1]:25", "-", "-", "-" },
	{ "192.0.2.1:0", "-", "-", "-" },
	{ "192.0.2.1:65536", "-", "-", "-" },
	{ "192.0.2.1:", "-", "-", "-" },
	{ "example.org:25", "-", "-", "-" },
	{ "[]:25", "-", "-", "-" },
	{ "[:25", "-", "-", "-" },
};

static void parsing(void **state)
{
	struct netaddr a;
	char text[NETADDR_TEXT], with_port[NETADDR_TEXT + 10];
	(void)state;
	for (size_t i = 0; i < COUNT(addresses); i++) {
		struct bytes in = unit_exact(bytes_of(addresses[i].text));
		a = (struct netaddr){ 0 };
		snprintf(text, sizeof text, "-");
		if (netaddr_parse(in, &a))
			netaddr_format(&a, text);
		assert_string_equal(text, addresses[i].plain);
		snprintf(text, sizeof text, "-");
		if (netaddr_parse_literal(in, &a))
			netaddr_format(&a, text);
		assert_string_equal(text, addresses[i].literal);
		snprintf(with_port, sizeof with_port, "-");
		if (netaddr_parse_listen(in, &a)) {
			netaddr_format(&a, text);
			snprintf(with_port, sizeof with_port, "%s %u", text, a.port);
		}
		/* Where no form takes all of "2001:db8::1" as host and port, a colon in the host must be refused. */
		assert_string_equal(with_port, addresses[i].listen);
		unit_free(in);
	}
}

static void unknown(void **state)
{
	struct netaddr none = { 0 };
	char text[NETADDR_TEXT];
	(void)state;
	netaddr_format(&none, text);
	assert_string_equal(text, "unknown");
}

static struct netaddr addr(const char *text)
{
	struct netaddr a;
	assert_true(netaddr_parse(bytes_of(text), &a));
	return a;
}

static void equality(void **state)
{
	struct netaddr v4 = addr("192.0.2.1"), mapped = addr("::ffff:192.0.2.1"), other = addr("192.0.2.2"), v6 = addr("2001:db8::1");
	(void)state;
	assert_true(netaddr_equal(&v4, &mapped));
	assert_true(netaddr_equal(&mapped, &v4));
	assert_false(netaddr_equal(&v4, &other));
	assert_false(netaddr_equal(&v4, &v6));
	v4.port = 25;
	assert_true(netaddr_equal(&v4, &mapped));
}

static void kernel_forms(void **state)
{
	struct sockaddr_storage sa;
	struct netaddr back, v4 = addr("192.0.2.1"), v6 = addr("2001:db8::1"), mapped = addr("::ffff:192.0.2.1"), none = { 0 };
	(void)state;
	v4.port = 25;
	v6.port = 587;
	socklen_t n = netaddr_to_sockaddr(&v4, &sa);
	assert_int_equal(n, sizeof(struct sockaddr_in));
	assert_true(netaddr_from_sockaddr((struct sockaddr *)&sa, n, &back));
	assert_true(back.family == AF_INET && back.port == 25 && netaddr_equal(&back, &v4));
	assert_false(netaddr_from_sockaddr((struct sockaddr *)&sa, n - 1, &back));
	n = netaddr_to_sockaddr(&v6, &sa);
	assert_int_equal(n, sizeof(struct sockaddr_in6));
	assert_true(netaddr_from_sockaddr((struct sockaddr *)&sa, n, &back));
	assert_true(back.family == AF_INET6 && back.port == 587 && netaddr_equal(&back, &v6));
	n = netaddr_to_sockaddr(&mapped, &sa);
	assert_true(netaddr_from_sockaddr((struct sockaddr *)&sa, n, &back));
	assert_int_equal(back.family, AF_INET);
	assert_int_equal(netaddr_to_sockaddr(&none, &sa), 0);
	sa.ss_family = AF_UNIX;
	assert_false(netaddr_from_sockaddr((struct sockaddr *)&sa, sizeof sa, &back));
	assert_false(netaddr_from_sockaddr((struct sockaddr *)&sa, 0, &back));
}

static const struct { const char *block, *inside, *outside; } blocks[] = {
	{ "10.0.0.0/8", "10.255.1.2", "11.0.0.0" },
	{ "192.0.2.128/25", "192.0.2.255", "192.0.2.127" },
	{ "192.0.2.1", "192.0.2.1", "192.0.2.0" },
	{ "192.0.2.1/32", "::ffff:192.0.2.1", "192.0.2.2" },
	{ "0.0.0.0/0", "203.0.113.9", "2001:db8::1" },
	{ "2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1" },
	{ "2001:db8::1", "2001:db8::1", "2001:db8::2" },
	{ "::/0", "2001:db8::1", "192.0.2.1" },
	{ "::ffff:192.0.2.0/120", "192.0.2.77", "192.0.3.77" },
	{ "::1/128", "::1", "127.0.0.1" },
};

static void networks(void **state)
{
	struct netblock b;
	struct netaddr none = { 0 };
	(void)state;
	for (size_t i = 0; i < COUNT(blocks); i++) {
		struct netaddr inside = addr(blocks[i].inside), outside = addr(blocks[i].outside);
		assert_true(netblock_parse(bytes_of(blocks[i].block), &b));
		if (!netblock_contains(&b, &inside) || netblock_contains(&b, &outside))
			fail_msg("%s", blocks[i].block);
		assert_false(netblock_contains(&b, &none));
	}
}

static void bad_networks(void **state)
{
	static const char *const bad[] = { "", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/8/8", "10/8", "2001:db8::/129",
		"2001:db8::1/64", "example.org/8", "10.0.0.0 /8" };
	struct netblock b;
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (netblock_parse(bytes_of(bad[i]), &b))
			fail_msg("%s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parsing), cmocka_unit_test(unknown), cmocka_unit_test(equality), cmocka_unit_test(kernel_forms),
		cmocka_unit_test(networks), cmocka_unit_test(bad_networks),
	};
	return cmocka_run_group_tests_name("netaddr", tests, NULL, NULL);
}
