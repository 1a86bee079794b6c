/* test_callout - what callouts remember and for how long, how many there may be, and what a server's replies mean. */
#include "unit.h"
#include "common/verdict.h"
#include "remote/client.h"
#include "remote/callout/cache.h"
#include "remote/callout/dialogue.h"
#include "remote/callout/pace.h"

static struct callout_said said_of(enum callout_verdict verdict, const char *text)
{
	struct callout_said said = { .verdict = verdict, .host = "mx.example[192.0.2.1]" };
	snprintf(said.text, sizeof said.text, "%s", text);
	return said;
}

static void test_cache_keeps(void **state)
{
	struct calloutcache *c = calloutcache_new(1000);
	struct callout_said in = said_of(CALLOUT_NOBODY, "550 no"), out;
	(void)state;
	assert_non_null(c);
	assert_false(calloutcache_find(c, LIT("a@example.org"), 1000, &out));
	calloutcache_keep(c, LIT("a@example.org"), &in, 2000, 1000);
	assert_false(calloutcache_find(c, LIT("a@example.or"), 1000, &out));
	assert_false(calloutcache_find(c, LIT("A@example.org"), 1000, &out));
	assert_true(calloutcache_find(c, LIT("a@example.org"), 1999, &out));
	assert_int_equal(out.verdict, CALLOUT_NOBODY);
	assert_string_equal(out.host, in.host);
	assert_string_equal(out.text, "550 no");
	in = said_of(CALLOUT_EXISTS, "");
	calloutcache_keep(c, LIT("a@example.org"), &in, 3000, 1999);
	assert_true(calloutcache_find(c, LIT("a@example.org"), 2500, &out));
	assert_int_equal(out.verdict, CALLOUT_EXISTS);
	assert_string_equal(out.text, "");
	assert_false(calloutcache_find(c, LIT("a@example.org"), 3000, &out));
	assert_false(calloutcache_find(c, LIT("a@example.org"), 2500, &out));   /* it went when it was found too old */
	calloutcache_free(c);
}

static void test_cache_is_bounded(void **state)
{
	struct calloutcache *c = calloutcache_new(1);   /* one set of eight */
	struct callout_said in = said_of(CALLOUT_EXISTS, "250 ok"), out;
	char key[20];
	(void)state;
	assert_non_null(c);
	for (unsigned i = 0; i < 100; i++) {   /* the longest lives come first */
		snprintf(key, sizeof key, "%u@example.org", i);
		calloutcache_keep(c, bytes_of(key), &in, 100000 - i, 1000);
	}
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof key, "%u@example.org", i);
		assert_int_equal(calloutcache_find(c, bytes_of(key), 1000, &out), i < 7 || i == 99);   /* each newcomer replaced the one that would end first */
	}
	calloutcache_free(c);
}

static void test_cache_longest(void **state)
{
	struct calloutcache *c = calloutcache_new(64);
	struct callout_said in = { .verdict = CALLOUT_UNKNOWN }, out;
	char key[ADDRESS_MAX];
	(void)state;
	assert_non_null(c);
	memset(key, 'k', sizeof key);
	memset(in.host, 'h', CALLOUT_HOST_MAX);
	memset(in.text, 't', CALLOUT_TEXT_MAX);
	calloutcache_keep(c, (struct bytes){ key, sizeof key }, &in, 2000, 1000);
	assert_true(calloutcache_find(c, (struct bytes){ key, sizeof key }, 1000, &out));
	assert_string_equal(out.host, in.host);
	assert_string_equal(out.text, in.text);
	calloutcache_free(c);
}

static void test_pace(void **state)
{
	struct pace *p = pace_new(2);
	const struct pace_limit limit = { .at_a_time = 2, .a_minute = 3 };
	(void)state;
	assert_non_null(p);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pace_may(p, LIT("example.org"), &limit, 1000), PACE_GO);
		pace_enter(p, LIT("example.org"), 1000);
	}
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 1000), PACE_WAIT);
	assert_int_equal(pace_may(p, LIT("example.net"), &limit, 1000), PACE_GO);
	pace_leave(p, LIT("example.org"));
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 1000), PACE_GO);
	pace_enter(p, LIT("example.org"), 1000);
	pace_leave(p, LIT("example.org"));
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 60999), PACE_OVER);
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 61000), PACE_GO);   /* a new minute, and one is still there */
	pace_enter(p, LIT("example.org"), 61000);
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 61000), PACE_WAIT);
	pace_enter(p, LIT(""), 61000);
	assert_int_equal(pace_may(p, LIT("example.net"), &limit, 61000), PACE_OVER);   /* no place */
	pace_leave(p, LIT(""));
	assert_int_equal(pace_may(p, LIT("example.net"), &limit, 121000), PACE_GO);    /* the place of what is over */
	pace_enter(p, LIT("example.net"), 121000);
	assert_int_equal(pace_may(p, LIT("example.org"), &limit, 200000), PACE_WAIT);
	pace_free(p);
}

/* A reply's outcome as reply_outcome makes it. */
static struct outcome reply_of(enum stage stage, unsigned code, const char *text)
{
	struct outcome o = { .verdict = verdict_of_code(code), .stage = stage, .code = (uint16_t)code, .text = bytes_of(text) };
	(void)enhanced_parse(bytes_of(text), code, &o.enhanced);
	return o;
}

static void test_what_replies_mean(void **state)
{
	static const struct { enum stage stage; unsigned code; const char *text; enum callout_verdict verdict; enum callout_scope scope; } cases[] = {
		{ STAGE_RCPT, 250, "2.1.5 Ok", CALLOUT_EXISTS, CALLOUT_OF_ADDRESS }, { STAGE_RCPT, 251, "User not local; will forward", CALLOUT_EXISTS, CALLOUT_OF_ADDRESS },
		{ STAGE_RCPT, 252, "Cannot VRFY", CALLOUT_EXISTS, CALLOUT_OF_ADDRESS }, { STAGE_RCPT, 550, "5.1.1 no such user", CALLOUT_NOBODY, CALLOUT_OF_ADDRESS },
		{ STAGE_RCPT, 550, "no such user", CALLOUT_NOBODY, CALLOUT_OF_ADDRESS }, { STAGE_RCPT, 550, "5.4.1 Recipient address rejected", CALLOUT_NOBODY, CALLOUT_OF_ADDRESS },
		{ STAGE_RCPT, 550, "5.7.1 you are listed", CALLOUT_UNKNOWN, CALLOUT_OF_ADDRESS }, { STAGE_RCPT, 552, "5.2.2 mailbox full", CALLOUT_UNKNOWN, CALLOUT_OF_ADDRESS },
		{ STAGE_RCPT, 550, "5.2.1 mailbox disabled", CALLOUT_NOBODY, CALLOUT_OF_ADDRESS }, { STAGE_RCPT, 530, "5.7.0 STARTTLS first", CALLOUT_UNKNOWN, CALLOUT_OF_ADDRESS },
		{ STAGE_RCPT, 451, "4.7.1 greylisted", CALLOUT_UNKNOWN, CALLOUT_OF_ADDRESS }, { STAGE_MAIL, 550, "5.1.7 no null senders", CALLOUT_NO_BOUNCES, CALLOUT_OF_DOMAIN },
		{ STAGE_MAIL, 550, "5.7.1 your network is on our block list", CALLOUT_UNKNOWN, CALLOUT_OF_DOMAIN }, { STAGE_MAIL, 550, "no", CALLOUT_NO_BOUNCES, CALLOUT_OF_DOMAIN },
		{ STAGE_MAIL, 530, "5.7.0 STARTTLS first", CALLOUT_UNKNOWN, CALLOUT_OF_DOMAIN }, { STAGE_MAIL, 421, "4.3.2 going down", CALLOUT_UNKNOWN, CALLOUT_OF_DOMAIN },
		{ STAGE_GREETING, 554, "go away", CALLOUT_UNKNOWN, CALLOUT_OF_DOMAIN }, { STAGE_HELO, 550, "go away", CALLOUT_UNKNOWN, CALLOUT_OF_DOMAIN },
		{ STAGE_DNS, 500, "5.1.2 no such domain", CALLOUT_NOBODY, CALLOUT_OF_DOMAIN }, { STAGE_DNS, 500, "5.1.10 null MX", CALLOUT_NOBODY, CALLOUT_OF_DOMAIN },
		{ STAGE_DNS, 500, "5.4.6 it is this host", CALLOUT_UNASKED, CALLOUT_OF_DOMAIN }, { STAGE_DNS, 400, "4.4.3 no answer", CALLOUT_UNKNOWN, CALLOUT_NOW },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct outcome o = reply_of(cases[i].stage, cases[i].code, cases[i].text);
		struct callout_said said = { 0 };
		enum callout_scope scope = dialogue_judge(&o, &said);
		if (said.verdict != cases[i].verdict || scope != cases[i].scope)
			fail_msg("%s: %u %s: verdict %d, scope %d", stage_name(cases[i].stage), cases[i].code, cases[i].text, said.verdict, scope);
		assert_string_equal(said.text, cases[i].text);
	}
	struct outcome us = outcome_make(V_PERM, STAGE_HELO, "5.4.6", LIT("this host")), claims = reply_of(STAGE_HELO, 550, "5.4.6 you");
	struct callout_said said = { 0 };
	dialogue_judge(&us, &said);
	assert_int_equal(said.verdict, CALLOUT_UNASKED);
	dialogue_judge(&claims, &said);
	assert_int_equal(said.verdict, CALLOUT_UNKNOWN);
}

/* One sender in UTF-8 must not hide all others of his domain. */
static void test_address_in_utf8(void **state)
{
	static struct client old;      /* its server offers nothing */
	struct callout_said said = { 0 };
	struct outcome o = client_probe(&old, LIT("j\xc3\xb6@example.org"), true);
	(void)state;
	assert_int_equal(dialogue_judge(&o, &said), CALLOUT_OF_ADDRESS);
	assert_int_equal(said.verdict, CALLOUT_UNKNOWN);
}

static void test_text_is_cleaned(void **state)
{
	char out[8];
	(void)state;
	callout_clean((struct bytes){ "a\0b\x1b[\n", 6 }, out, sizeof out);
	assert_string_equal(out, "a?b?[?");
	callout_clean(LIT("\x7f\xc3\xa4 much too long"), out, sizeof out);
	assert_string_equal(out, "??? muc");
	callout_clean(LIT(""), out, sizeof out);
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_keeps), cmocka_unit_test(test_cache_is_bounded), cmocka_unit_test(test_cache_longest), cmocka_unit_test(test_pace),
		cmocka_unit_test(test_what_replies_mean), cmocka_unit_test(test_address_in_utf8), cmocka_unit_test(test_text_is_cleaned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
