/* test_accounts - what a line of /etc/passwd must be, and lines that lie across the reader's chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/accounts.h"

static int file_of(const char *text, size_t n)
{
	int fd = memfd_create("passwd", 0);
	assert_true(fd >= 0 && write(fd, text, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static enum account_result find(const char *text, const char *name, uid_t uid, struct account *a)
{
	int fd = file_of(text, strlen(text));
	enum account_result r = account_scan(fd, name, uid, a);
	close(fd);
	return r;
}

static void lines(void **state)
{
	static const char text[] = "root:x:0:0:root:/root:/bin/sh\n\n# nobody\nbad:x:-1:2::\nworse:x:1:\nhuge:x:4294967295:1::\n"
		"joe:x:1000:100:Joe:/home/joe:/bin/sh\nother:x:1000:101::\nlast:x:7:8";
	struct account a;
	(void)state;
	assert_int_equal(find(text, "joe", 0, &a), ACCOUNT_FOUND);
	assert_int_equal(a.uid, 1000);
	assert_int_equal(a.gid, 100);
	assert_int_equal(find(text, NULL, 1000, &a), ACCOUNT_FOUND);
	assert_string_equal(a.name, "joe");
	assert_int_equal(find(text, "last", 0, &a), ACCOUNT_FOUND);
	assert_int_equal(a.gid, 8);
	assert_int_equal(find(text, "bad", 0, &a), ACCOUNT_NONE);
	assert_int_equal(find(text, "worse", 0, &a), ACCOUNT_NONE);
	assert_int_equal(find(text, "huge", 0, &a), ACCOUNT_NONE);
	assert_int_equal(find(text, "jo", 0, &a), ACCOUNT_NONE);
	assert_int_equal(find("", NULL, 0, &a), ACCOUNT_NONE);
}

/* A line of every length up to and over the chunk before the one that is looked for. */
static void chunks(void **state)
{
	static char text[40000];
	struct account a;
	(void)state;
	for (size_t n = 8100; n < 8300; n++) {
		memset(text, 'x', n);
		size_t len = n + (size_t)sprintf(text + n, "\njoe:x:1000:100::/:\n");
		int fd = file_of(text, len);
		assert_int_equal(account_scan(fd, "joe", 0, &a), ACCOUNT_FOUND);
		assert_int_equal(a.uid, 1000);
		close(fd);
	}
}

static void unreadable(void **state)
{
	struct account a;
	(void)state;
	assert_int_equal(account_scan(-1, "joe", 0, &a), ACCOUNT_UNREADABLE);
	assert_int_equal(account_by_name("root", &a), ACCOUNT_FOUND);
	assert_int_equal(a.uid, 0);
	assert_int_equal(account_by_uid(0, &a), ACCOUNT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(lines), cmocka_unit_test(chunks), cmocka_unit_test(unreadable) };
	return cmocka_run_group_tests_name("accounts", tests, NULL, NULL);
}
