/*
 * unit - what every unit test shares: cmocka's includes in its order, exact copies of inputs, golden files.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A view equals a C string; on failure both are shown. */
#define assert_bytes(view, expected) unit_assert_bytes((view), bytes_of(expected), __FILE__, __LINE__)

static inline void unit_assert_bytes(struct bytes got, struct bytes expected, const char *file, int line)
{
	if (bytes_equal(got, expected))
		return;
	print_error("got \"%.*s\" (%zu), expected \"%.*s\" (%zu)\n", (int)got.len, got.len ? got.at : "", got.len, (int)expected.len,
		expected.len ? expected.at : "", expected.len);
	_fail(file, line);
}

/* A copy in memory of exactly its size, so that the sanitizer sees every octet read too far. free() it. */
static inline struct bytes unit_exact(struct bytes b)
{
	char *copy = malloc(b.len ? b.len : 1);
	assert_non_null(copy);
	if (b.len)
		memcpy(copy, b.at, b.len);
	return (struct bytes){ copy, b.len };
}

static inline void unit_free(struct bytes b)
{
	free((char *)(uintptr_t)b.at);
}

/* Compare with tests/golden/NAME (from the top directory); with BLESS in the environment, write it anew. */
static inline void unit_golden(const char *name, const struct str *got)
{
	char path[256];
	static char expected[1 << 20];

	assert_false(got->failed);
	snprintf(path, sizeof path, "tests/golden/%s", name);
	FILE *f = fopen(path, getenv("BLESS") ? "w" : "r");
	if (!f)
		fail_msg("%s: cannot open (make bless writes it)", path);
	if (getenv("BLESS")) {
		assert_int_equal(fwrite(got->at, 1, got->len, f), got->len);
		assert_int_equal(fclose(f), 0);
		return;
	}
	size_t n = fread(expected, 1, sizeof expected - 1, f);
	fclose(f);
	expected[n] = 0;
	if (strcmp(expected, str_c(got)) != 0)
		fail_msg("%s differs; now it would be:\n%s", path, str_c(got));
}

#endif
