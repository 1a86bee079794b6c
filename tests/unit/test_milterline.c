/* test_milterline - lines of the setting `milters`. */
#include "unit.h"
#include "common/milterline.h"

static void good_lines(void **state)
{
	(void)state;
	struct milter_line m;
	assert_true(milter_line_parse(LIT("unix:/run/a.sock"), &m));
	assert_bytes(m.path, "/run/a.sock");
	assert_bytes(m.name, "unix:/run/a.sock");
	assert_int_equal(m.when_away, MILTER_TEMPFAIL);
	assert_int_equal(m.connect_ms, 30000);
	assert_int_equal(m.content_ms, 300000);
	assert_true(milter_line_parse(LIT("inet:127.0.0.1:8891  name=dkim default=accept connect=1 timeout=2 content=3"), &m));
	assert_int_equal(m.path.len, 0);
	assert_int_equal(m.addr.port, 8891);
	assert_bytes(m.name, "dkim");
	assert_int_equal(m.when_away, MILTER_ACCEPT);
	assert_int_equal(m.connect_ms, 1000);
	assert_int_equal(m.command_ms, 2000);
	assert_int_equal(m.content_ms, 3000);
	assert_true(milter_line_parse(LIT("inet:localhost:9"), &m));
	assert_int_equal(m.addr.family, AF_INET);
	assert_int_equal(m.addr.port, 9);
	assert_true(milter_line_parse(LIT("inet:[::1]:9 default=reject"), &m));
	assert_int_equal(m.addr.family, AF_INET6);
	assert_int_equal(m.when_away, MILTER_REJECT);
}

static void bad_lines(void **state)
{
	(void)state;
	static const char *const lines[] = { "", "/run/a", "unix:", "unix:/", "unix:run/a", "inet:25", "inet::25", "inet:mail.example.org:25", "inet:127.0.0.1",
		"inet:127.0.0.1:0", "inet:127.0.0.1:99999", "inet:localhost:", "inet:localhost:0", "tcp:127.0.0.1:9", "unix:/a/b name=", "unix:/a/b default=maybe", "unix:/a/b timeout=0",
		"unix:/a/b timeout=x", "unix:/a/b speed=1", "unix:/a/b x",
		"unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct milter_line m;
		if (milter_line_parse(bytes_of(lines[i]), &m))
			fail_msg("\"%s\" was taken", lines[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(good_lines), cmocka_unit_test(bad_lines) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
