/* test_verdict - every conversion in one golden table (tests/golden/verdict), and the enhanced codes' edges. */
#include "unit.h"
#include <errno.h>
#include "common/verdict.h"

static void show(struct str *out, struct outcome o)
{
	str_addf(out, "%s %s %u ", verdict_name(o.verdict), stage_name(o.stage), o.code);
	enhanced_format(o.enhanced, out);
	str_addf(out, " %.*s\n", (int)o.text.len, o.text.len ? o.text.at : "");
}

static void show_enqueue(struct str *out)
{
	static const int codes[] = { -1, 0, 1, 10, 11, 12, 31, 40, 41, 50, 51, 52, 53, 54, 55, 56, 59, 61, 62, 66, 71, 81, 91, 99, 100, 111, 255 };

	str_add_c(out, "# what enqueue's exit code means\n");
	for (size_t i = 0; i < COUNT(codes); i++) {
		struct outcome o = outcome_of_enqueue(codes[i]);
		assert_int_equal(o.verdict, verdict_of_enqueue(codes[i]));
		assert_int_equal(o.verdict, verdict_of_code(o.code));
		assert_int_equal(o.enhanced.class, o.code / 100);
		str_addf(out, "enqueue %d: ", codes[i]);
		show(out, o);
	}
}

static void show_codes(struct str *out)
{
	static const unsigned codes[] = { 0, 1, 99, 100, 199, 200, 250, 299, 354, 399, 400, 421, 499, 500, 550, 599, 600, 999, 5500 };

	str_add_c(out, "# SMTP reply codes\n");
	for (size_t i = 0; i < COUNT(codes); i++)
		str_addf(out, "code %u: %s\n", codes[i], verdict_name(verdict_of_code(codes[i])));
}

static void show_errnos(struct str *out)
{
	static const struct { int number; const char *name; } errnos[] = { { 0, "0" }, { ENOSPC, "ENOSPC" }, { EDQUOT, "EDQUOT" }, { EIO, "EIO" },
		{ ENOMEM, "ENOMEM" }, { EACCES, "EACCES" }, { EPERM, "EPERM" }, { ENOENT, "ENOENT" }, { ENOTDIR, "ENOTDIR" }, { ELOOP, "ELOOP" },
		{ EROFS, "EROFS" }, { EFBIG, "EFBIG" }, { ECONNREFUSED, "ECONNREFUSED" }, { EHOSTUNREACH, "EHOSTUNREACH" },
		{ ENETUNREACH, "ENETUNREACH" }, { ETIMEDOUT, "ETIMEDOUT" }, { ECONNRESET, "ECONNRESET" }, { EPIPE, "EPIPE" }, { 12345, "unknown" } };

	str_add_c(out, "# errno\n");
	for (size_t i = 0; i < COUNT(errnos); i++) {
		struct outcome o = outcome_of_errno(STAGE_LOCAL, errnos[i].number, LIT("text"));
		assert_int_equal(o.error, errnos[i].number);
		str_addf(out, "errno %s: ", errnos[i].name);
		show(out, o);
	}
}

static void show_names(struct str *out)
{
	str_add_c(out, "# names\n");
	for (unsigned i = 0; i <= STAGE_COUNT; i++)
		str_addf(out, "stage %u: %s\n", i, stage_name((enum stage)i));
	for (unsigned i = 0; i <= V_PERM + 1; i++) {
		struct enhanced e = enhanced_or_default((struct enhanced){ 0 }, (enum verdict)i);
		str_addf(out, "verdict %u: %s ", i, verdict_name((enum verdict)i));
		enhanced_format(e, out);
		str_add_char(out, '\n');
	}
}

static void golden(void **state)
{
	struct str out = STR_INIT(100000);
	(void)state;
	show_enqueue(&out);
	show_codes(&out);
	show_errnos(&out);
	show_names(&out);
	unit_golden("verdict", &out);
	str_free(&out);
}

static const struct { const char *text; unsigned code; size_t used; const char *again; } enhanced[] = {
	{ "5.1.1", 550, 5, "5.1.1" },
	{ "5.1.1 no such user", 550, 5, "5.1.1" },
	{ "5.1.1\tno such user", 550, 5, "5.1.1" },
	{ "4.7.999 x", 450, 7, "4.7.999" },
	{ "2.0.0", 250, 5, "2.0.0" },
	{ "5.123.456 x", 0, 9, "5.123.456" },
	{ "5.1.1", 450, 0, "" },
	{ "4.1.1", 550, 0, "" },
	{ "5.1.1", 354, 0, "" },
	{ "3.1.1", 354, 0, "" },
	{ "5.1.1000", 550, 0, "" },
	{ "5.1.1x", 550, 0, "" },
	{ "5.1.1.1", 550, 0, "" },
	{ "55.1.1", 550, 0, "" },
	{ "5.1", 550, 0, "" },
	{ "5.1.", 550, 0, "" },
	{ "5..1", 550, 0, "" },
	{ ".1.1", 550, 0, "" },
	{ " 5.1.1", 550, 0, "" },
	{ "5", 550, 0, "" },
	{ "", 550, 0, "" },
	{ "#5.1.1", 550, 0, "" },
};

static void enhanced_codes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(enhanced); i++) {
		struct enhanced e = { 0 };
		struct str out = STR_INIT(20);
		struct bytes in = unit_exact(bytes_of(enhanced[i].text));
		if (enhanced_parse(in, enhanced[i].code, &e) != enhanced[i].used)
			fail_msg("case %zu: %s", i, enhanced[i].text);
		enhanced_format(e, &out);
		assert_bytes(str_bytes(&out), enhanced[i].again);
		str_free(&out);
		unit_free(in);
	}
}

static void making(void **state)
{
	struct outcome o = outcome_make(V_TEMP, STAGE_DNS, "4.4.3", LIT("no answer"));
	(void)state;
	assert_true(o.enhanced.class == 4 && o.enhanced.subject == 4 && o.enhanced.detail == 3);
	assert_true(o.verdict == V_TEMP && o.stage == STAGE_DNS && o.code == 0 && o.error == 0);
	assert_bytes(o.text, "no answer");
	o = outcome_make(V_PERM, STAGE_RCPT, NULL, LIT(""));
	assert_int_equal(o.enhanced.class, 0);
	struct enhanced kept = enhanced_or_default((struct enhanced){ 5, 7, 1 }, V_TEMP);
	assert_true(kept.class == 5 && kept.subject == 7 && kept.detail == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(golden), cmocka_unit_test(enhanced_codes), cmocka_unit_test(making) };
	return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
