/* test_bytes - views, growable strings and checked arithmetic. */
#include "unit.h"

static void views(void **state)
{
	(void)state;
	assert_int_equal(bytes_of(NULL).len, 0);
	assert_int_equal(bytes_of("abc").len, 3);
	assert_bytes(bytes_slice(LIT("hello"), 1, 3), "el");
	assert_bytes(bytes_slice(LIT("hello"), 0, 99), "hello");
	assert_bytes(bytes_slice(LIT("hello"), 4, 2), "");
	assert_bytes(bytes_slice(LIT("hello"), 77, 99), "");
	assert_null(bytes_slice((struct bytes){ 0 }, 3, 9).at);
}

static void equality(void **state)
{
	(void)state;
	struct bytes none = { 0 };
	assert_true(bytes_equal(none, LIT("")));
	assert_false(bytes_equal(LIT("a"), LIT("A")));
	assert_true(bytes_equal(LIT("a\0b"), LIT("a\0b")));
	assert_false(bytes_equal(LIT("a\0b"), LIT("a\0c")));
	assert_true(bytes_equal_nocase(LIT("Example-1.ORG"), LIT("eXAMPLE-1.org")));
	/* Only letters fold: '@' and '`', '[' and '{' differ by the same bit. */
	assert_false(bytes_equal_nocase(LIT("@["), LIT("`{")));
	assert_false(bytes_equal_nocase(LIT("\xc3\x89"), LIT("\xc3\xa9")));
	assert_true(bytes_starts_nocase(LIT("MAIL FROM:<a>"), LIT("mail from:")));
	assert_false(bytes_starts_nocase(LIT("MAIL"), LIT("mail from:")));
	assert_true(bytes_ends_nocase(LIT("a.Example"), LIT(".example")));
	assert_false(bytes_ends_nocase(LIT("example"), LIT(".example")));
	assert_true(bytes_starts_nocase(none, none));
}

static int sign(int n)
{
	return (n > 0) - (n < 0);
}

static void order(void **state)
{
	static const char *const sorted[] = { "", "a", "a\x01", "ab", "b", "\x7f", "\x80", "\xff" };
	(void)state;
	for (size_t i = 0; i < COUNT(sorted); i++)
		for (size_t k = 0; k < COUNT(sorted); k++)
			assert_int_equal(sign(bytes_compare(bytes_of(sorted[i]), bytes_of(sorted[k]))), (i > k) - (i < k));
}

static void search(void **state)
{
	(void)state;
	assert_int_equal(bytes_find(LIT("a@b@c"), '@'), 1);
	assert_int_equal(bytes_find_last(LIT("a@b@c"), '@'), 3);
	assert_int_equal(bytes_find(LIT("abc"), '@'), 3);
	assert_int_equal(bytes_find_last(LIT("abc"), '@'), 3);
	assert_int_equal(bytes_find((struct bytes){ 0 }, 'x'), 0);
	assert_int_equal(bytes_find(LIT("ab\0"), 0), 2);
}

static void cutting(void **state)
{
	struct bytes rest = LIT("a,,b,");
	(void)state;
	assert_bytes(bytes_cut(&rest, ','), "a");
	assert_bytes(bytes_cut(&rest, ','), "");
	assert_bytes(bytes_cut(&rest, ','), "b");
	assert_non_null(rest.at);
	assert_bytes(bytes_cut(&rest, ','), "");
	assert_null(rest.at);
	assert_bytes(bytes_cut(&rest, ','), "");
	assert_bytes(bytes_trim(LIT(" \t a b\t ")), "a b");
	assert_bytes(bytes_trim(LIT(" \t ")), "");
	assert_bytes(bytes_trim(LIT("a\r\n")), "a\r\n");
}

static const struct { const char *text; uint64_t max; bool good; uint64_t value; } numbers[] = {
	{ "0", 10, true, 0 },
	{ "10", 10, true, 10 },
	{ "11", 10, false, 0 },
	{ "0000000000000000000000000007", 10, true, 7 },
	{ "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
	{ "18446744073709551616", UINT64_MAX, false, 0 },
	{ "99999999999999999999", UINT64_MAX, false, 0 },
	{ "", 10, false, 0 },
	{ "-1", 10, false, 0 },
	{ "+1", 10, false, 0 },
	{ " 1", 10, false, 0 },
	{ "1 ", 10, false, 0 },
	{ "1x", 10, false, 0 },
	{ "\xb2", 10, false, 0 },
	{ "/", 10, false, 0 },
	{ ":", 99, false, 0 },
};

static void to_number(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(numbers); i++) {
		uint64_t value = 77;
		bool good = bytes_to_u64(bytes_of(numbers[i].text), numbers[i].max, &value);
		assert_int_equal(good, numbers[i].good);
		assert_int_equal(value, good ? numbers[i].value : 77);
	}
}

static void to_cstring(void **state)
{
	char out[4];
	(void)state;
	assert_true(bytes_to_cstring(LIT("abc"), out, sizeof out));
	assert_string_equal(out, "abc");
	assert_false(bytes_to_cstring(LIT("abcd"), out, sizeof out));
	assert_string_equal(out, "");
	assert_false(bytes_to_cstring(LIT("a\0b"), out, sizeof out));
	assert_true(bytes_to_cstring((struct bytes){ 0 }, out, sizeof out));
	assert_false(bytes_to_cstring(LIT(""), out, 0));
}

static const struct { const char *text; bool good; } utf8[] = {
	{ "", true },
	{ "plain ~", true },
	{ "\xc3\xa9t\xc3\xa9", true },
	{ "\xe2\x82\xac", true },
	{ "\xf0\x9f\x93\xae", true },
	{ "\xf4\x8f\xbf\xbf", true },
	{ "\xed\x9f\xbf\xee\x80\x80", true },
	{ "\xf4\x90\x80\x80", false },   /* above U+10FFFF */
	{ "\xed\xa0\x80", false },       /* a surrogate */
	{ "\xc0\xaf", false },           /* overlong */
	{ "\xc1\xbf", false },
	{ "\xe0\x9f\xbf", false },
	{ "\xf0\x8f\xbf\xbf", false },
	{ "\xc3", false },               /* cut off */
	{ "\xe2\x82", false },
	{ "\xf0\x9f\x93", false },
	{ "\x80", false },               /* no lead */
	{ "\xff", false },
	{ "\xc3\x28", false },
	{ "\xe2\x82\xc0", false },
	{ "a\nb", false },               /* controls */
	{ "\x7f", false },
	{ "\xc2\x85", false },
	{ "\xc2\x9f", false },
	{ "\xc2\xa0", true },
};

static void utf8_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(utf8); i++) {
		struct bytes exact = unit_exact(bytes_of(utf8[i].text));
		if (bytes_is_utf8_text(exact) != utf8[i].good)
			fail_msg("case %zu", i);
		unit_free(exact);
	}
	assert_false(bytes_is_utf8_text(LIT("a\0b")));
}

static void str_grows(void **state)
{
	struct str s = STR_INIT(1000);
	(void)state;
	assert_string_equal(str_c(&s), "");
	assert_int_equal(str_bytes(&s).len, 0);
	for (int i = 0; i < 500; i++) {
		assert_true(str_add_char(&s, (char)('a' + i % 26)));
		assert_int_equal(strlen(str_c(&s)), (size_t)i + 1);
	}
	str_remove_front(&s, 498);
	assert_bytes(str_bytes(&s), "ef");
	str_remove_front(&s, 99);
	assert_int_equal(s.len, 0);
	str_remove_front(&s, 1);
	assert_true(str_add_u64(&s, 0) && str_add_char(&s, ' ') && str_add_u64(&s, UINT64_MAX) && str_addf(&s, " %d%s", -5, "x"));
	assert_bytes(str_bytes(&s), "0 18446744073709551615 -5x");
	str_truncate(&s, 1);
	str_truncate(&s, 5);
	assert_bytes(str_bytes(&s), "0");
	str_free(&s);
	str_free(&s);
	assert_true(str_add_c(&s, "again"));
	assert_bytes(str_bytes(&s), "again");
	str_free(&s);
}

static void str_ceiling(void **state)
{
	struct str s = STR_INIT(5);
	(void)state;
	assert_true(str_add_c(&s, "12345"));
	assert_false(str_add_char(&s, '6'));
	assert_true(s.failed);
	assert_bytes(str_bytes(&s), "12345");
	/* Sticky: even what would fit is refused, so that no hole can arise. */
	assert_false(str_add(&s, LIT("")));
	str_truncate(&s, 2);
	assert_false(str_add_char(&s, 'x'));
	assert_bytes(str_bytes(&s), "12");
	str_clear(&s);
	assert_true(str_addf(&s, "%s", "abcde"));
	assert_false(str_addf(&s, "%s", "f"));
	assert_null(str_reserve(&s, 0));
	str_free(&s);
	str_init(&s, 0);
	assert_true(str_add_c(&s, ""));
	assert_false(str_add_c(&s, "x"));
	str_free(&s);
	str_init(&s, SIZE_MAX);
	assert_null(str_reserve(&s, SIZE_MAX));
	assert_true(s.failed);
	str_free(&s);
}

static void str_reserved(void **state)
{
	struct str s = STR_INIT(100);
	(void)state;
	char *at = str_reserve(&s, 10);
	assert_non_null(at);
	memcpy(at, "hey", 3);
	str_grew(&s, 3);
	assert_string_equal(str_c(&s), "hey");
	at = str_reserve(&s, 97);
	assert_non_null(at);
	memset(at, 'x', 97);
	str_grew(&s, 97);
	assert_int_equal(strlen(str_c(&s)), 100);
	str_free(&s);
}

static void arithmetic(void **state)
{
	size_t r = 9;
	(void)state;
	assert_true(size_add(2, 3, &r));
	assert_int_equal(r, 5);
	assert_false(size_add(SIZE_MAX, 1, &r));
	assert_int_equal(r, 5);
	assert_true(size_mul(SIZE_MAX, 1, &r));
	assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &r));
	assert_true(r == SIZE_MAX);
}

static void arrays(void **state)
{
	(void)state;
	size_t room = 0;
	uint64_t *all = NULL;
	for (size_t i = 0; i < 1000; i++) {
		uint64_t *grown = array_room(all, i, &room, sizeof *grown);
		assert_non_null(grown);
		assert_true(room > i);
		all = grown;
		all[i] = i;
	}
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(all[i], i);
	/* What cannot be had changes nothing. */
	size_t much = SIZE_MAX / 4, too_much = SIZE_MAX / 2 + 1;
	assert_null(array_room(all, much, &much, sizeof *all));
	assert_null(array_room(all, too_much, &too_much, 1));
	assert_true(much == SIZE_MAX / 4 && too_much == SIZE_MAX / 2 + 1);
	assert_int_equal(all[999], 999);
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(views), cmocka_unit_test(equality), cmocka_unit_test(order), cmocka_unit_test(search), cmocka_unit_test(cutting),
		cmocka_unit_test(to_number), cmocka_unit_test(to_cstring), cmocka_unit_test(utf8_text), cmocka_unit_test(str_grows),
		cmocka_unit_test(str_ceiling), cmocka_unit_test(str_reserved), cmocka_unit_test(arithmetic), cmocka_unit_test(arrays),
	};
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
