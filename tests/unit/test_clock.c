/* test_clock - deadlines at their edges, the date forms in zones of either sign. */
#include "unit.h"
#include <limits.h>
#include <time.h>
#include "common/clock.h"

static void deadlines(void **state)
{
	(void)state;
	assert_int_equal(deadline_in(0, 0), 1);
	assert_int_equal(deadline_in(10, 5), 15);
	assert_true(deadline_in(10, UINT64_MAX) == UINT64_MAX);
	assert_false(deadline_passed(0, UINT64_MAX));
	assert_false(deadline_passed(15, 14));
	assert_true(deadline_passed(15, 15));
	assert_int_equal(deadline_earlier(0, 0), 0);
	assert_int_equal(deadline_earlier(0, 7), 7);
	assert_int_equal(deadline_earlier(7, 0), 7);
	assert_int_equal(deadline_earlier(7, 9), 7);
	assert_int_equal(deadline_earlier(9, 7), 7);
	assert_int_equal(deadline_poll_ms(0, 5), -1);
	assert_int_equal(deadline_poll_ms(5, 5), 0);
	assert_int_equal(deadline_poll_ms(4, 5), 0);
	assert_int_equal(deadline_poll_ms(6, 5), 1);
	assert_int_equal(deadline_poll_ms(UINT64_MAX, 5), INT_MAX);
}

static void clocks_move(void **state)
{
	(void)state;
	deadline_t a = clock_monotonic_ms(), b = clock_monotonic_ms();
	assert_true(a > 0 && b >= a && b - a < 10000);
	assert_true(clock_wall_ms() > UINT64_C(1600000000000));
}

static void zone(const char *name)
{
	setenv("TZ", name, 1);
	tzset();
}

static void check_dates(wall_ms_t at, const char *rfc5322, const char *rfc3339)
{
	struct str out = STR_INIT(200);
	clock_rfc5322(at, &out);
	assert_bytes(str_bytes(&out), rfc5322);
	str_clear(&out);
	clock_rfc3339(at, &out);
	assert_bytes(str_bytes(&out), rfc3339);
	str_free(&out);
}

static void dates(void **state)
{
	(void)state;
	zone("UTC0");
	check_dates(UINT64_C(1795292934123), "Sat, 21 Nov 2026 20:28:54 +0000", "2026-11-21T20:28:54.123000+00:00");
	check_dates(0, "Thu, 1 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000000+00:00");
	check_dates(UINT64_C(951827696007), "Tue, 29 Feb 2000 12:34:56 +0000", "2000-02-29T12:34:56.007000+00:00");
	zone("IST-5:30");
	check_dates(0, "Thu, 1 Jan 1970 05:30:00 +0530", "1970-01-01T05:30:00.000000+05:30");
	zone("NST3:30");
	check_dates(0, "Wed, 31 Dec 1969 20:30:00 -0330", "1969-12-31T20:30:00.000000-03:30");
	zone("UTC0");
	/* A damaged time from the disk must not crash. */
	struct str out = STR_INIT(200);
	clock_rfc5322(UINT64_MAX, &out);
	clock_rfc3339(UINT64_MAX, &out);
	assert_true(out.len > 0);
	str_free(&out);
}

static const struct { uint64_t ms; const char *text; } spans[] = {
	{ 0, "0s" }, { 999, "0s" }, { 1000, "1s" }, { 12000, "12s" }, { 59999, "59s" }, { 60000, "1m" }, { 61000, "1m1s" }, { 3600000, "1h" },
	{ 7500000, "2h5m" }, { 7503000, "2h5m" }, { 86400000, "1d" }, { 97200000, "1d3h" }, { 86460000, "1d" }, { 864000000, "10d" },
	{ UINT64_MAX, "213503982334d14h" },
};

static void span(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(spans); i++) {
		struct str out = STR_INIT(100);
		clock_span(spans[i].ms, &out);
		assert_bytes(str_bytes(&out), spans[i].text);
		str_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deadlines), cmocka_unit_test(clocks_move), cmocka_unit_test(dates), cmocka_unit_test(span),
	};
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
