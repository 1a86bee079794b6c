/* test_proxyhead - the PROXY header, versions 1 and 2: what it announces, what is none, and that it does not matter how it comes. */
#include "unit.h"

#include "smtpd/door/proxyhead.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2(command, family, length) SIGNATURE command family length
#define B(text) ((struct bytes){ text, sizeof text - 1 })

/* What every cut of `in` says, the last octet apart, is that there is more to come; behind it stands what is not the header's. */
static void check_done(struct bytes in, const char *expected)
{
	struct str longer = STR_INIT(PROXYHEAD_MAX + 100);
	struct proxyhead head;
	char ip[NETADDR_TEXT] = "", text[NETADDR_TEXT + 10] = "";
	for (size_t n = 0; n < in.len; n++) {
		struct bytes part = unit_exact(bytes_slice(in, 0, n));
		assert_int_equal(proxyhead_parse(part, &head), PROXYHEAD_MORE);
		unit_free(part);
	}
	str_add(&longer, in);
	str_add(&longer, LIT("\r\nPROXY EHLO x\r\n"));
	assert_int_equal(proxyhead_parse(str_bytes(&longer), &head), PROXYHEAD_DONE);
	assert_int_equal(head.size, in.len);
	if (head.announced) {
		netaddr_format(&head.client, ip);
		snprintf(text, sizeof text, "%s %u", ip, (unsigned)head.client.port);
	}
	assert_string_equal(text, expected);
	str_free(&longer);
}

static void check_bad(struct bytes in)
{
	struct proxyhead head;
	struct bytes exact = unit_exact(in);
	assert_int_equal(proxyhead_parse(exact, &head), PROXYHEAD_BAD);
	assert_false(head.announced && head.size > 0);
	unit_free(exact);
}

static void test_v1(void **state)
{
	(void)state;
	check_done(B("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"), "192.0.2.7 56324");
	check_done(B("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255 65535");
	check_done(B("PROXY TCP6 2001:db8::7 2001:db8::1 1 465\r\n"), "2001:db8::7 1");
	check_done(B("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 1 25\r\n"), "192.0.2.7 1");
	check_done(B("PROXY UNKNOWN\r\n"), "");
	check_done(B("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), "");
}

static void test_v1_none(void **state)
{
	char much[200];
	(void)state;
	memset(much, ' ', sizeof much);
	memcpy(much, "PROXY UNKNOWN", 13);
	check_bad((struct bytes){ much, 107 });
	memcpy(much + 105, "\r\n", 2);
	check_done((struct bytes){ much, 107 }, "");
	memcpy(much + 105, " \r\n", 3);
	check_bad((struct bytes){ much, 108 });
	static const char *const bad[] = {
		"EHLO x\r\n", "PROXYTCP4", "proxy ", "PROXY \n", "PROXY \r\n", "PROXY TCP4\r\n", "PROXY TCP5 192.0.2.7 198.51.100.1 1 25\r\n", "PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n",
		"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "PROXY TCP4 192.0.2.7 198.51.100.1 1 25 \r\n", "PROXY TCP4  192.0.2.7 198.51.100.1 1 25\r\n",
		"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n", "PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n", "PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
		"PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n", "PROXY TCP4 192.0.2.7 2001:db8::1 1 25\r\n", "PROXY TCP6 192.0.2.7 198.51.100.1 1 25\r\n",
		"PROXY TCP4 [192.0.2.7] 198.51.100.1 1 25\r\n", "PROXY TCP4 192.0.2.7\t198.51.100.1 1 25\r\n", "PROXY UNKNOWNX\r\n", "\r\nPROXY UNKNOWN\r\n", "\r\n\r\nX",
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		check_bad(bytes_of(bad[i]));
	check_bad(B("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 25\r\n"));
}

#define IN4 "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x00\x19"
#define ADDRESS6 " \x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
#define IN6 ADDRESS6 "\x07" ADDRESS6 "\x01" "\0\x01\x01\xd1"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x07" "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01" "\0\x01\0\x19"

static void test_v2(void **state)
{
	(void)state;
	check_done(B(V2("\x21", "\x11", "\0\x0c") IN4), "192.0.2.7 56324");
	check_done(B(V2("\x21", "\x21", "\0\x24") IN6), "2001:db8::7 1");
	check_done(B(V2("\x21", "\x21", "\0\x24") MAPPED), "192.0.2.7 1");
	/* What stands behind the addresses is skipped, whatever it is. */
	check_done(B(V2("\x21", "\x11", "\0\x13") IN4 "\x02\0\x04host"), "192.0.2.7 56324");
	check_done(B(V2("\x21", "\x11", "\0\x0e") IN4 "\xff\xff"), "192.0.2.7 56324");
	/* LOCAL: whatever it says of addresses is not looked at. */
	check_done(B(V2("\x20", "\0", "\0\0")), "");
	check_done(B(V2("\x20", "\x11", "\0\x0c") IN4), "");
	check_done(B(V2("\x21", "\0", "\0\0")), "");
	check_done(B(V2("\x21", "\0", "\0\x03") "abc"), "");
}

static void test_v2_long(void **state)
{
	static char in[PROXYHEAD_MAX + 1];
	size_t body = PROXYHEAD_MAX - 16;
	(void)state;
	memcpy(in, V2("\x21", "\x11", "\0\0") IN4, 28);
	in[14] = (char)(body >> 8);
	in[15] = (char)(body & 255);
	check_done((struct bytes){ in, PROXYHEAD_MAX }, "192.0.2.7 56324");
	in[15]++;
	check_bad((struct bytes){ in, 16 });
	memcpy(in, V2("\x21", "\x31", "\0\xd8"), 16);
	check_done((struct bytes){ in, 16 + 216 }, "");
	in[15]--;
	check_bad((struct bytes){ in, 16 + 215 });
}

static void test_v2_none(void **state)
{
	(void)state;
	check_bad(B(V2("\x21", "\x11", "\0\x0b") IN4));
	check_bad(B(V2("\x21", "\x21", "\0\x0c") IN4));
	check_bad(B(V2("\x11", "\x11", "\0\x0c") IN4));   /* version 1 */
	check_bad(B(V2("\x22", "\x11", "\0\x0c") IN4));   /* no such command */
	check_bad(B(V2("\x21", "\x12", "\0\x0c") IN4));   /* UDP */
	check_bad(B(V2("\x21", "\x10", "\0\x0c") IN4));
	check_bad(B(V2("\x21", "\x41", "\0\x0c") IN4));
	check_bad(B(V2("\x21", "\x11", "\xff\xff")));
	check_bad(B("\r\n\r\n\0\r\nQUIX"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_v1), cmocka_unit_test(test_v1_none), cmocka_unit_test(test_v2), cmocka_unit_test(test_v2_long),
		cmocka_unit_test(test_v2_none) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
