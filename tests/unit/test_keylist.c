/*
 * test_keylist - the line by its key: what an index finds is what a search line by line finds, and a list of a hundred thousand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/keylist.h"
#include "common/settings_parse.h"

static const struct { const char *line, *key, *value; } keys[] = {
	{ "example.org", "example.org", "" },
	{ "example.org:relay:25", "example.org", "relay:25" },
	{ ".example.org:sub", ".example.org", "sub" },
	{ ":relay", "", "relay" },
	{ "", "", "" },
	{ "=user@example.org:u:1:1:/home:::", "=user@example.org", "u:1:1:/home:::" },
	{ "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", "" },
	{ "[192.0.2.1]:relay:25", "[192.0.2.1]", "relay:25" },
	{ "[192.0.2.1", "[192.0.2.1", "" },
};

static void the_key_and_the_value(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		assert_true(bytes_equal(keylist_key(bytes_of(keys[i].line)), bytes_of(keys[i].key)));
		assert_true(bytes_equal(keylist_value(bytes_of(keys[i].line)), bytes_of(keys[i].value)));
	}
}

#define MANY 3000

static char text[MANY][64];
static struct bytes line[MANY];

/* Names of few letters, so that many come twice, in either case, and as suffixes of others. */
static void name_make(char *to, size_t size)
{
	static const char letters[] = "abAB";
	size_t n = 0, labels = 1 + (size_t)rand() % 3;
	if (rand() % 3 == 0)
		to[n++] = '.';
	for (size_t i = 0; i < labels && n + 6 < size; i++) {
		if (i > 0)
			to[n++] = '.';
		for (int k = 1 + rand() % 3; k > 0; k--)
			to[n++] = letters[rand() % 4];
	}
	to[n] = '\0';
}

static void same_with_and_without_index(size_t count)
{
	static uint32_t place[4 * MANY];
	struct lines plain = { .at = line, .count = count }, indexed = plain;
	for (size_t i = 0; i < count; i++) {
		name_make(text[i], 30);
		snprintf(text[i] + strlen(text[i]), 24, ":%zu", i);
		line[i] = bytes_of(text[i]);
	}
	uint32_t places = keylist_places(count);
	assert_true(count <= 16 ? places == 0 : places >= 2 * count && places <= sizeof place / sizeof place[0]);
	if (places > 0)
		keylist_index(&indexed, place, places);
	for (int i = 0; i < 2000; i++) {
		char name[40];
		name_make(name, 30);
		assert_int_equal(keylist_find(&indexed, bytes_of(name)), keylist_find(&plain, bytes_of(name)));
		assert_int_equal(keylist_find_domain(&indexed, bytes_of(name)), keylist_find_domain(&plain, bytes_of(name)));
	}
}

static void random_lists(void **state)
{
	static const size_t counts[] = { 0, 1, 15, 16, 17, 31, 32, 33, 100, MANY };
	(void)state;
	srand(7);
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		same_with_and_without_index(counts[i]);
}

/* The first of two lines counts; a suffix is longer than its ".", and no suffix of itself. */
static void which_line(void **state)
{
	struct bytes at[] = { LIT(".org:1"), LIT(".example.org:2"), LIT("example.org:3"), LIT("EXAMPLE.org:4"), LIT(":5") };
	struct lines list = { .at = at, .count = 5 };
	(void)state;
	assert_int_equal(keylist_find_domain(&list, LIT("Example.Org")), 2);
	assert_int_equal(keylist_find_domain(&list, LIT("a.example.org")), 1);
	assert_int_equal(keylist_find_domain(&list, LIT("a.b.example.org")), 1);
	assert_int_equal(keylist_find_domain(&list, LIT("xexample.org")), 0);
	assert_int_equal(keylist_find_domain(&list, LIT("org")), 5);
	assert_int_equal(keylist_find(&list, LIT("")), 4);
}

static void a_hundred_thousand(void **state)
{
	const struct setting_row *row = setting_find(LIT("users"));
	struct str file = STR_INIT(64u << 20), faults = STR_INIT(4096);
	struct settings_memory memory = { NULL };
	struct parse p = { row, "users", &memory, &faults, true };
	struct lines users;
	char key[60];
	(void)state;
	for (int i = 0; i < 100000; i++)
		assert_true(str_addf(&file, "=user%d@example.org:u:1000:1000:/home/user%d:::\n", i, i));
	assert_true(parse_setting(&p, str_bytes(&file), &users));
	assert_true(users.places >= 200000);
	for (int i = 0; i < 100000; i++) {
		snprintf(key, sizeof key, "=USER%d@example.org", i);
		assert_int_equal(keylist_find(&users, bytes_of(key)), i);
	}
	for (int i = 0; i < 100000; i++)
		assert_int_equal(keylist_find(&users, LIT("=nobody@example.org")), users.count);
	settings_memory_free(&memory);
	str_free(&file);
	str_free(&faults);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_key_and_the_value), cmocka_unit_test(which_line), cmocka_unit_test(random_lists), cmocka_unit_test(a_hundred_thousand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
