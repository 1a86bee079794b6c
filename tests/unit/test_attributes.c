/* test_attributes - what XCLIENT and XFORWARD may say, and what they may not. */
#include "unit.h"

#include "smtpd/session/attributes.h"

static const char *parse(const char *line, unsigned allowed, struct attributes *a)
{
	struct bytes exact = unit_exact(bytes_of(line));
	const char *fault = attributes_parse(exact, allowed, a);
	unit_free(exact);
	return fault;
}

static void test_values(void **state)
{
	struct attributes a = { 0 };
	char ip[NETADDR_TEXT];
	(void)state;
	assert_null(parse("NAME=client.example.org addr=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=helo+20name+2Bx LOGIN=joe+40example.org", XCLIENT_ATTRIBUTES, &a));
	assert_string_equal(a.text[ATTR_NAME], "client.example.org");
	assert_string_equal(a.text[ATTR_HELO], "helo name+x");
	assert_string_equal(a.text[ATTR_LOGIN], "joe@example.org");
	assert_int_equal(a.addr.port, 4711);
	netaddr_format(&a.addr, ip);
	assert_string_equal(ip, "192.0.2.7");
	/* More of it: what is said again replaces. */
	assert_null(parse("ADDR=IPV6:2001:db8::7  LOGIN=[UNAVAILABLE] DESTADDR=::1 DESTPORT=25 ", XCLIENT_ATTRIBUTES, &a));
	netaddr_format(&a.addr, ip);
	assert_string_equal(ip, "2001:db8::7");
	assert_string_equal(a.text[ATTR_LOGIN], "");
	assert_int_equal(a.given, XCLIENT_ATTRIBUTES);
	assert_null(parse("ADDR=[unavailable] NAME=[TEMPUNAVAIL] PORT=[UNAVAILABLE]", XCLIENT_ATTRIBUTES, &a));
	assert_int_equal(a.addr.family, 0);
	assert_string_equal(a.text[ATTR_NAME], "");
}

static void test_xforward(void **state)
{
	struct attributes a = { 0 };
	(void)state;
	assert_null(parse("NAME=x.test ADDR=192.0.2.1 IDENT=4FxYz SOURCE=LOCAL", XFORWARD_ATTRIBUTES, &a));
	assert_string_equal(a.text[ATTR_IDENT], "4FxYz");
	assert_non_null(parse("LOGIN=joe", XFORWARD_ATTRIBUTES, &a));
	assert_non_null(parse("DESTADDR=192.0.2.1", XFORWARD_ATTRIBUTES, &a));
	assert_non_null(parse("IDENT=x", XCLIENT_ATTRIBUTES, &a));
}

static void test_faults(void **state)
{
	char many[600] = "HELO=";
	static const char *const bad[] = {
		"", " ", "NAME", "NAME=", "=x", "FOO=x", "NAMES=x", "ADDR=192.0.2", "ADDR=192.0.2.1/24", "ADDR=[192.0.2.1]", "ADDR=IPV6:192.0.2.1", "ADDR=IPV4:192.0.2.1",
		"PORT=65536", "PORT=-1", "PORT=x", "PROTO=LMTP", "SOURCE=x", "NAME=a..b", "NAME=a b", "HELO=+0", "HELO=+0", "HELO=+0A", "HELO=x+0D+0Ay", "HELO=+00", "HELO=+7F",
		"HELO=+zz", "HELO=+2b", "HELO=+FF", "HELO=\xff", "LOGIN=a+0Ab", "ADDR=192.0.2.1 ADDR=x", "NAME=x.test\tADDR=192.0.2.1",
	};
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct attributes a = { 0 };
		if (parse(bad[i], (1u << ATTRIBUTES) - 1, &a) == NULL)
			fail_msg("taken: %s", bad[i]);
	}
	struct attributes a = { 0 };
	memset(many + 5, 'x', ATTRIBUTE_MAX);
	assert_null(parse(many, XCLIENT_ATTRIBUTES, &a));
	memset(many + 5, 'x', ATTRIBUTE_MAX + 1);
	assert_non_null(parse(many, XCLIENT_ATTRIBUTES, &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_values), cmocka_unit_test(test_xforward), cmocka_unit_test(test_faults) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
