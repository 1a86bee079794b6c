/* test_msgid - ids grow whatever the clock does, and text and number are one to one. */
#include "unit.h"
#include "common/msgid.h"

static void grow(void **state)
{
	(void)state;
	wall_ms_t now = UINT64_C(1795292934123);
	msgid_t a = msgid_next(0, now);
	assert_int_equal(a, now << 16);
	assert_int_equal(msgid_time(a), now);
	msgid_t b = msgid_next(a, now);
	assert_int_equal(b, a + 1);
	assert_int_equal(msgid_next(b, now - 1000000), b + 1);
	assert_int_equal(msgid_next(b, now + 1), (now + 1) << 16);
	/* A full millisecond borrows from the next one. */
	msgid_t full = a | 0xffff;
	assert_int_equal(msgid_next(full, now), (now + 1) << 16);
	assert_true(msgid_next(full, now + 1) > full);
	assert_true(msgid_next(0, UINT64_MAX) <= MSGID_MAX);
	assert_int_equal(msgid_next(0, 0), 1);
}

static void text_both_ways(void **state)
{
	static const msgid_t ids[] = { 0, 1, 31, 32, UINT64_C(1795292934123) << 16, MSGID_MAX - 1, MSGID_MAX };
	char before[MSGID_TEXT + 1] = "", text[MSGID_TEXT + 1];
	msgid_t back;
	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++) {
		msgid_format(ids[i], text);
		assert_int_equal(strlen(text), MSGID_TEXT);
		assert_true(strcmp(before, text) < 0);   /* the text sorts as the number */
		assert_true(msgid_parse(bytes_of(text), &back));
		assert_int_equal(back, ids[i]);
		for (char *c = text; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
		assert_true(msgid_parse(bytes_of(text), &back));
		assert_int_equal(back, ids[i]);
		msgid_format(ids[i], before);
	}
	assert_int_equal(strlen(MSGID_PLACEHOLDER), MSGID_TEXT);
}

static void refused(void **state)
{
	static const char *const bad[] = { "", "0", "00000000000", "0000000000000", "00000000000I", "00000000000L", "00000000000O", "00000000000U",
		"00000000000-", "00000000 000", "............", "0000000000\xc3\xa9" };
	msgid_t id;
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(msgid_parse(bytes_of(bad[i]), &id));
	assert_false(msgid_parse((struct bytes){ "00000000000\0", 12 }, &id));
}

static void prefixes(void **state)
{
	msgid_t first, last;
	char text[MSGID_TEXT + 1];
	msgid_t id = UINT64_C(0x5a5a5a5a5a5a5a5);
	(void)state;
	msgid_format(id, text);
	msgid_t below = 0, above = MSGID_MAX;
	for (size_t n = 1; n <= MSGID_TEXT; n++) {
		assert_true(msgid_parse_prefix((struct bytes){ text, n }, &first, &last));
		assert_true(first <= id && id <= last && first >= below && last <= above);
		below = first;
		above = last;
	}
	assert_true(first == id && last == id);
	assert_false(msgid_parse_prefix(LIT(""), &first, &last));
	assert_false(msgid_parse_prefix(LIT("0000000000000"), &first, &last));
	assert_true(msgid_parse_prefix(LIT("z"), &first, &last));
	assert_true(last == MSGID_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grow), cmocka_unit_test(text_both_ways), cmocka_unit_test(refused), cmocka_unit_test(prefixes),
	};
	return cmocka_run_group_tests_name("msgid", tests, NULL, NULL);
}
