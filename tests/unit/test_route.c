/*
 * test_route - a table of recipients and where each goes.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/route.h"

static char dir[] = "/var/tmp/tappal-route-XXXXXX";
static struct settings settings;

static const struct { const char *name, *text; } files[] = {
	{ "me", "mx.example.org" },
	{ "locals", "example.org\n.local.example.org\n[192.0.2.9]" },
	{ "rcpthosts", "backup.example.com\n.backup.example.net" },
	{ "virtualdomains", "virtual.example.org:joe\n.virtual.example.org:sub\nspecial@virtual.example.org:jim\nfree.virtual.example.org:\n"
		"exempt@virtual.example.org:\nlonger.virtual.example.org:exact" },
	{ "smtproutes", "routed.example.com:relay.example.com:2525\nplain.example.com:relay.example.com\n.below.example.com:[2001:db8::1]:26\n"
		"deep.below.example.com:192.0.2.4\nmx.below.example.com:" },
	{ "ownaddresses", "198.51.100.7" },
	{ "remoteport", "2626" },
};

static struct route find(const char *text)
{
	struct mailaddr addr = { .kind = ADDR_BARE, .text = bytes_of(text), .local = bytes_of(text) };
	struct route route;
	if (strchr(text, '@'))
		assert_int_equal(mailaddr_parse(bytes_of(text), &addr), ADDR_OK);
	route_find(&settings, &addr, &route);
	assert_int_equal(strlen(route.destination), route.destination_len);
	return route;
}

static bool ours(const char *text)
{
	struct mailaddr addr;
	assert_int_equal(mailaddr_parse(bytes_of(text), &addr), ADDR_OK);
	return route_is_ours(&settings, &addr);
}

static void goes(const char *text, const char *destination, const char *local_part, bool is_ours)
{
	struct route route = find(text);
	assert_string_equal(route.destination, destination);
	assert_string_equal(route.local_part, local_part);
	assert_int_equal(route.channel, destination[0] == 'l' ? CHANNEL_LOCAL : CHANNEL_REMOTE);
	if (strchr(text, '@'))
		assert_int_equal(ours(text), is_ours);
}

static void where_mail_goes(void **state)
{
	(void)state;
	goes("joe@example.org", "l:joe@example.org", "joe", true);
	goes("Joe-List@Example.ORG", "l:joe-list@example.org", "joe-list", true);
	goes("\"odd name\"@example.org", "l:odd name@example.org", "odd name", true);
	goes("joe@a.local.example.org", "l:joe@a.local.example.org", "joe", true);
	goes("joe@local.example.org", "r:local.example.org", "", false);
	goes("Postmaster", "l:postmaster", "postmaster", true);
	goes("joe@other.example", "r:other.example", "", false);
	goes("joe@OTHER.example", "r:other.example", "", false);
	goes("joe@backup.example.com", "r:backup.example.com", "", true);
	goes("joe@x.backup.example.net", "r:x.backup.example.net", "", true);
	goes("joe@backup.example.net", "r:backup.example.net", "", false);
}

static void virtual_domains(void **state)
{
	(void)state;
	goes("info@virtual.example.org", "l:joe-info@virtual.example.org", "joe-info", true);
	goes("Special@virtual.example.org", "l:jim-special@virtual.example.org", "jim-special", true);
	goes("exempt@virtual.example.org", "r:virtual.example.org", "", false);
	goes("info@a.virtual.example.org", "l:sub-info@a.virtual.example.org", "sub-info", true);
	goes("info@longer.virtual.example.org", "l:exact-info@longer.virtual.example.org", "exact-info", true);
	goes("info@free.virtual.example.org", "r:free.virtual.example.org", "", false);
	assert_true(find("info@virtual.example.org").virtual_domain);
	assert_false(find("joe@example.org").virtual_domain);
}

static void literals(void **state)
{
	(void)state;
	goes("joe@[127.0.0.1]", "l:joe@[127.0.0.1]", "joe", true);
	goes("joe@[IPv6:::1]", "l:joe@[ipv6:::1]", "joe", true);
	goes("joe@[192.0.2.9]", "l:joe@[192.0.2.9]", "joe", true);
	goes("joe@[198.51.100.7]", "l:joe@[198.51.100.7]", "joe", true);
	goes("joe@[198.51.100.8]", "r:[198.51.100.8]", "", false);
}

static void smtp_routes(void **state)
{
	(void)state;
	goes("joe@routed.example.com", "r:relay.example.com:2525", "", false);
	goes("joe@plain.example.com", "r:relay.example.com:2626", "", false);
	goes("joe@x.below.example.com", "r:[2001:db8::1]:26", "", false);
	goes("joe@deep.below.example.com", "r:192.0.2.4:2626", "", false);
	goes("joe@mx.below.example.com", "r:mx.below.example.com", "", false);
	struct bytes relay;
	uint16_t port;
	assert_true(route_smtp(&settings, LIT("x.below.example.com"), &relay, &port));
	assert_true(bytes_equal(relay, LIT("[2001:db8::1]")));
	assert_int_equal(port, 26);
	assert_true(route_smtp(&settings, LIT("mx.below.example.com"), &relay, &port));
	assert_int_equal(relay.len, 0);
	assert_false(route_smtp(&settings, LIT("below.example.com"), &relay, &port));
}

/* Two recipients that differ have destinations that differ, however long their names are. */
static void long_names(void **state)
{
	(void)state;
	struct settings s = settings;
	char line[400], a[400], b[400], domain[256];
	memset(domain, 'd', 255);
	for (int i = 50; i < 255; i += 50)
		domain[i] = '.';
	domain[255] = 0;
	snprintf(line, sizeof line, "%s:%064d", domain, 7);
	struct bytes one = bytes_of(line);
	uint32_t number = 1;
	s.virtualdomains = (struct lines){ .at = &one, .number = &number, .count = 1 };
	snprintf(a, sizeof a, "%060d@%s", 1, domain);
	snprintf(b, sizeof b, "%060d@%s", 2, domain);
	struct mailaddr addr;
	struct route ra, rb;
	assert_int_equal(mailaddr_parse(bytes_of(a), &addr), ADDR_OK);
	route_find(&s, &addr, &ra);
	assert_int_equal(mailaddr_parse(bytes_of(b), &addr), ADDR_OK);
	route_find(&s, &addr, &rb);
	assert_int_equal(ra.destination_len, DESTINATION_MAX);
	assert_int_equal(strlen(ra.destination), DESTINATION_MAX);
	assert_string_not_equal(ra.destination, rb.destination);
	assert_int_equal(strlen(ra.local_part), 64 + 1 + 60);
}

static void catch_all_route(void **state)
{
	(void)state;
	struct settings s = settings;
	struct bytes lines[] = { LIT("direct.example.com:"), LIT(":smart.example.net:587") };
	uint32_t numbers[] = { 1, 2 };
	s.smtproutes = (struct lines){ .at = lines, .number = numbers, .count = 2 };
	struct mailaddr addr;
	struct route route;
	mailaddr_parse(LIT("a@anything.example"), &addr);
	route_find(&s, &addr, &route);
	assert_string_equal(route.destination, "r:smart.example.net:587");
	mailaddr_parse(LIT("a@direct.example.com"), &addr);
	route_find(&s, &addr, &route);
	assert_string_equal(route.destination, "r:direct.example.com");
	mailaddr_parse(LIT("a@example.org"), &addr);
	route_find(&s, &addr, &route);
	assert_string_equal(route.destination, "l:a@example.org");
}

static int set_up(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	if (!mkdtemp(dir))
		return -1;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		int file = openat(fd, files[i].name, O_WRONLY | O_CREAT, 0644);
		io_write_full(file, files[i].text, strlen(files[i].text));
		close(file);
	}
	bool ok = settings_load(&settings, dir, USED_ALL, &faults);
	if (!ok)
		print_error("%s", str_c(&faults));
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		unlinkat(fd, files[i].name, 0);
	close(fd);
	rmdir(dir);
	str_free(&faults);
	return ok ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	settings_free(&settings);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_mail_goes),
		cmocka_unit_test(virtual_domains),
		cmocka_unit_test(literals),
		cmocka_unit_test(smtp_routes),
		cmocka_unit_test(long_names),
		cmocka_unit_test(catch_all_route),
	};
	return cmocka_run_group_tests_name("route", tests, set_up, tear_down);
}
