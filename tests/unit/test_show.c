/*
 * test_show - what of a stranger's octets reaches the operator's terminal: text, and nothing that moves a cursor or turns a line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "queue/tappal/show.h"

static const struct { const char *in, *line, *text; } cases[] = {
	{ "plain ~", "plain ~", "plain ~" },
	{ "a\tb\nc\r\nd\re", "a b c? d?e", "a\tb\nc\nd?e" },
	{ "\033[31mred\033[0m\a\b\177", "?[31mred?[0m???", "?[31mred?[0m???" },
	{ "\302\233" "31m", "?31m", "?31m" },                               /* C1 CSI */
	{ "m\303\274ller \342\202\254 \360\237\223\256", "m\303\274ller \342\202\254 \360\237\223\256", "m\303\274ller \342\202\254 \360\237\223\256" },
	{ "\377\376", "??", "??" },
	{ "\300\257 \340\200\257", "?? ???", "?? ???" },                     /* overlong */
	{ "\355\240\200", "???", "???" },                                    /* surrogate */
	{ "\364\220\200\200", "????", "????" },                              /* above U+10FFFF */
	{ "\303", "?", "?" },                                                /* cut */
	{ "\342\200\256evil\342\200\250\342\201\246\357\273\277", "?evil???", "?evil???" },   /* overrides, separators, byte order mark */
};

static void clean(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str line = STR_INIT(1000), text = STR_INIT(1000);

		show_clean(bytes_of(cases[i].in), &line);
		show_clean_text(bytes_of(cases[i].in), &text);
		assert_string_equal(str_c(&line), cases[i].line);
		assert_string_equal(str_c(&text), cases[i].text);
		assert_string_equal(show_text(bytes_of(cases[i].in)), cases[i].line);
		str_free(&line);
		str_free(&text);
	}
}

static void every_two_octets(void **state)
{
	(void)state;
	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			char in[2] = { (char)a, (char)b };
			struct str out = STR_INIT(100);

			show_clean((struct bytes){ in, 2 }, &out);
			assert_true(bytes_is_utf8_text(str_bytes(&out)));
			str_free(&out);
		}
	}
}

static void json_is_always_valid(void **state)
{
	json_t *value = show_json((struct bytes){ "a\0\377\033\"", 5 });

	(void)state;
	assert_non_null(value);
	assert_string_equal(json_string_value(value), "a???\"");
	json_decref(value);
}

static void sizes(void **state)
{
	static const struct { uint64_t octets; const char *text; } sizes_expected[] = {
		{ 0, "0" }, { 1023, "1023" }, { 1024, "1.0K" }, { 1536, "1.5K" }, { 10240, "10K" }, { 1047552, "1023K" }, { 1048576, "1.0M" }, { UINT64_C(1) << 30, "1.0G" },
		{ UINT64_C(1) << 50, "1024T" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes_expected) / sizeof(sizes_expected[0]); i++) {
		struct str out = STR_INIT(100);

		show_size(sizes_expected[i].octets, &out);
		assert_string_equal(str_c(&out), sizes_expected[i].text);
		str_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(clean), cmocka_unit_test(every_two_octets), cmocka_unit_test(json_is_always_valid), cmocka_unit_test(sizes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
