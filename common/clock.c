/* clock - common room, used by every program. See clock.h. */
#include "clock.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

static uint64_t clock_ms(clockid_t which)
{
	struct timespec now;

	/* Fails only for an unknown clock or a bad pointer; neither can be. */
	clock_gettime(which, &now);
	return (uint64_t)now.tv_sec * SECOND_MS + (uint64_t)now.tv_nsec / 1000000u;
}

wall_ms_t clock_wall_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

deadline_t clock_monotonic_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

deadline_t deadline_in(deadline_t now, uint64_t ms)
{
	deadline_t at;

	if (__builtin_add_overflow(now, ms, &at))
		return UINT64_MAX;
	return at ? at : 1;
}

bool deadline_passed(deadline_t deadline, deadline_t now)
{
	return deadline != 0 && now >= deadline;
}

deadline_t deadline_earlier(deadline_t a, deadline_t b)
{
	if (a == 0 || b == 0)
		return a | b;
	return a < b ? a : b;
}

int deadline_poll_ms(deadline_t deadline, deadline_t now)
{
	if (deadline == 0)
		return -1;
	if (now >= deadline)
		return 0;
	return deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}

/* All date forms are English and numeric by definition: no strftime, which follows the locale. */
static const char day_name[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char month_name[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

/* What localtime cannot hold (a year beyond int) is shown as 1970: a stored time that far off is damage. */
static void split_local(wall_ms_t at, struct tm *tm_r)
{
	time_t seconds = (time_t)(at / SECOND_MS);

	if (localtime_r(&seconds, tm_r))
		return;
	seconds = 0;
	gmtime_r(&seconds, tm_r);
}

/* At least `width` digits, then `behind`. Dates are put together by hand: with printf they were a fifth of what smtpd's code does for a message. */
static void add_digits(struct str *out, long n, size_t width, const char *behind)
{
	char digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (at > 0 && (n > 0 || sizeof digits - at < width));
	str_add(out, (struct bytes){ digits + at, sizeof digits - at });
	str_add_c(out, behind);
}

static void add_zone(const struct tm *tm, const char *between, struct str *out)
{
	long minutes = labs(tm->tm_gmtoff) / 60;

	str_add_char(out, tm->tm_gmtoff < 0 ? '-' : '+');
	add_digits(out, minutes / 60, 2, between);
	add_digits(out, minutes % 60, 2, "");
}

static void add_time(const struct tm *tm, const char *behind, struct str *out)
{
	add_digits(out, tm->tm_hour, 2, ":");
	add_digits(out, tm->tm_min, 2, ":");
	add_digits(out, tm->tm_sec, 2, behind);
}

void clock_rfc5322(wall_ms_t at, struct str *out)
{
	struct tm tm;

	split_local(at, &tm);
	str_add_c(out, day_name[tm.tm_wday]);
	str_add_c(out, ", ");
	add_digits(out, tm.tm_mday, 1, " ");
	str_add_c(out, month_name[tm.tm_mon]);
	str_add_char(out, ' ');
	add_digits(out, tm.tm_year + 1900L, 1, " ");
	add_time(&tm, " ", out);
	add_zone(&tm, "", out);
}

void clock_rfc3339(wall_ms_t at, struct str *out)
{
	struct tm tm;

	split_local(at, &tm);
	add_digits(out, tm.tm_year + 1900L, 4, "-");
	add_digits(out, tm.tm_mon + 1, 2, "-");
	add_digits(out, tm.tm_mday, 2, "T");
	add_time(&tm, ".", out);
	add_digits(out, (long)(at % SECOND_MS), 3, "000");
	add_zone(&tm, ":", out);
}

void clock_rfc3164(wall_ms_t at, struct str *out)
{
	struct tm tm;

	split_local(at, &tm);
	str_add_c(out, month_name[tm.tm_mon]);
	str_add_c(out, tm.tm_mday < 10 ? "  " : " ");
	add_digits(out, tm.tm_mday, 1, " ");
	add_time(&tm, "", out);
}

void clock_span(uint64_t ms, struct str *out)
{
	static const struct { uint64_t seconds; char name; } units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	uint64_t seconds = ms / SECOND_MS;
	size_t u = 0;

	while (u < 3 && seconds < units[u].seconds)
		u++;
	str_add_u64(out, seconds / units[u].seconds);
	str_add_char(out, units[u].name);
	if (u == 3)
		return;
	/* Two units are enough for people; a zero second one is left out. */
	uint64_t rest = seconds % units[u].seconds / units[u + 1].seconds;
	if (rest) {
		str_add_u64(out, rest);
		str_add_char(out, units[u + 1].name);
	}
}
