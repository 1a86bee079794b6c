/* report: whole bounces against golden files, and what hostile text may not do to them. `make bless` renews the files. */
#include <time.h>

#include "unit.h"

#include "common/envelope.h"
#include "queue/bounce/clean.h"
#include "queue/bounce/report.h"

#define BOUNDARY "=_0123456789abcdef0123456789abcdef"
#define ORIGINAL "From: a@s.example\r\nSubject: hello\r\n\r\nbody\r\n"
#define SOME_ID ((UINT64_C(1763758134123) << 16) + 7)

static struct bounce_begin begin_of(uint32_t count)
{
	return (struct bounce_begin){ .id = SOME_ID, .batch = 2, .arrival_ms = UINT64_C(1763758134123), .body_size = sizeof ORIGINAL - 1, .rcpt_count = count,
		.sender = LIT("alice@s.example") };
}

static struct report report_of(const struct bounce_begin *begin, const struct bounce_rcpt *rcpts)
{
	struct report r = { .begin = begin, .rcpts = rcpts, .me = LIT("mx.example.org"), .from_local = LIT("MAILER-DAEMON"), .from_host = LIT("mx.example.org"),
		.now = UINT64_C(1763761734000), .boundary = BOUNDARY };
	assert_int_equal(mailaddr_parse(begin->sender, &r.to), ADDR_OK);
	r.is_double = begin->sender.len == 0;
	return r;
}

/* As bounce.c puts it together. */
static void compose(const struct report *r, struct bytes original, struct str *out)
{
	assert_true(report_begin(r, out));
	if (r->original != ORIGINAL_NONE)
		str_add(out, original);
	assert_true(report_end(r, out));
}

static void check(const char *golden, const struct report *r, struct bytes original)
{
	struct str out = STR_INIT(1 << 20);

	compose(r, original, &out);
	unit_golden(golden, &out);
	str_free(&out);
}

static void one_recipient(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(1);
	struct bounce_rcpt rcpt = { .id = SOME_ID, .stage = 8, .code = 550, .e_class = 5, .e_subject = 1, .e_detail = 1, .last_try_ms = UINT64_C(1763758140000), .attempts = 1,
		.address = LIT("bob@r.example"), .host = LIT("mx.r.example"), .text = LIT("550 5.1.1 <bob@r.example>: no such user here") };
	struct report r = report_of(&begin, &rcpt);

	r.original = ORIGINAL_WHOLE;
	check("bounce_one.eml", &r, LIT(ORIGINAL));
}

/* Expired after temporary failures, and one that failed without a host; ORCPT, ENVID; the header only. */
static void several_recipients(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(3);
	struct bounce_rcpt rcpts[] = {
		{ .id = SOME_ID, .index = 0, .stage = 2, .e_class = 4, .e_subject = 4, .e_detail = 1, .last_try_ms = UINT64_C(1763758140000), .attempts = 20,
			.address = LIT("bob@r.example"), .orcpt = LIT("rfc822;Bob+2Bx@old.example"),
			.text = LIT("cannot connect to mx.r.example[192.0.2.1] port 25: Connection refused; the message waited for longer than this system keeps mail") },
		{ .id = SOME_ID, .index = 1, .stage = 11, .e_class = 5, .e_subject = 1, .e_detail = 1, .last_try_ms = UINT64_C(1763758140000), .attempts = 1,
			.address = LIT("\"b c\"@r.example"), .text = LIT("no mailbox here by that name") },
		{ .id = SOME_ID, .index = 4, .stage = 10, .code = 552, .address = LIT("dan@[192.0.2.9]"), .host = LIT("192.0.2.9"), .text = LIT("too big") },
	};
	struct report r;

	begin.envid = LIT("QQ+2B314159");
	begin.ret = LIT("HDRS");
	r = report_of(&begin, rcpts);
	r.original = report_choice(&r, 50000);
	assert_int_equal(r.original, ORIGINAL_HEADER);
	check("bounce_several.eml", &r, LIT("From: a@s.example\r\nSubject: hello\r\n"));
}

/* Text of others with line ends, MIME syntax, controls, 8 bits and endless words. */
static void hostile_text(void **state)
{
	(void)state;
	static char endless[1000];
	struct bounce_begin begin = begin_of(2);
	struct bounce_rcpt rcpts[] = {
		{ .id = SOME_ID, .code = 550, .address = LIT("bob@r.example"), .host = LIT("evil\r\nX-Evil: 1"), .orcpt = LIT("rfc822;a+0D+0AX-Evil:+20yes"),
			.text = LIT("550-first\r\n550 second\r\n\r\n--" BOUNDARY "--\r\nX-Evil: 1\n.\r\n\x1b[31mred \xff\xc3\xa9 \0 end") },
		{ .id = SOME_ID, .code = 550, .address = LIT("eve@r.example"), .host = LIT("mx.r.example"), .orcpt = LIT("no type;x"), .text = { endless, sizeof endless } },
	};
	struct report r;

	memset(endless, 'x', sizeof endless);
	begin.envid = LIT("a+0AReporting-MTA:+20dns;+20evil");
	r = report_of(&begin, rcpts);
	r.original = ORIGINAL_NONE;
	check("bounce_hostile.eml", &r, LIT(""));
}

/* RFC 6533: a sender of SMTPUTF8 mail gets the parts with "global"; others get utf-8-addr-xtext. */
static void utf8(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(1);
	struct bounce_rcpt rcpt = { .id = SOME_ID, .code = 550, .e_class = 5, .e_subject = 1, .e_detail = 1, .address = LIT("j\xc3\xb6rg@b\xc3\xbc" "cher.example"),
		.host = LIT("mx.r.example"), .text = LIT("550 5.1.1 J\xc3\xb6rg ist fort \xc3") };
	struct report r = report_of(&begin, &rcpt);

	r.original = ORIGINAL_WHOLE;
	assert_false(report_is_utf8(&r));
	check("bounce_utf8_xtext.eml", &r, LIT(ORIGINAL));
	begin.smtputf8 = 1;
	r.eight_bit = true;
	assert_true(report_is_utf8(&r));
	check("bounce_utf8_global.eml", &r, LIT("Subject: gr\xc3\xbc\xc3\x9f\r\n\r\n\xe2\x82\xac\r\n"));
}

static void double_bounce(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(1);
	struct bounce_rcpt rcpt = { .id = SOME_ID, .code = 550, .address = LIT("alice@s.example"), .host = LIT("mx.s.example"), .text = LIT("550 gone") };

	begin.sender = LIT("");
	struct report r = report_of(&begin, &rcpt);
	assert_int_equal(mailaddr_parse(LIT("postmaster@mx.example.org"), &r.to), ADDR_OK);
	r.original = ORIGINAL_WHOLE;
	check("bounce_double.eml", &r, LIT(ORIGINAL));
}

/* NOTIFY=SUCCESS: delivered here, passed on to a server without DSN, and a report of everything at once. */
static void successes(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(3);
	struct bounce_rcpt rcpts[] = {
		{ .id = SOME_ID, .index = 0, .action = DSN_DELIVERED, .stage = STAGE_LOCAL, .e_class = 2, .last_try_ms = UINT64_C(1763758140000), .attempts = 1,
			.address = LIT("joe@example.org"), .orcpt = LIT("rfc822;Joe@old.example"), .text = LIT("delivered to maildir") },
		{ .id = SOME_ID, .index = 1, .action = DSN_RELAYED, .stage = STAGE_FINAL, .code = 250, .last_try_ms = UINT64_C(1763758140000), .attempts = 1,
			.address = LIT("bob@r.example"), .host = LIT("mx.r.example"), .text = LIT("250 ok 1234") },
		{ .id = SOME_ID, .index = 2, .action = DSN_FAILED, .stage = STAGE_RCPT, .code = 550, .e_class = 5, .e_subject = 1, .e_detail = 1, .attempts = 1,
			.address = LIT("eve@r.example"), .host = LIT("mx.r.example"), .text = LIT("550 5.1.1 no such user") },
	};
	struct report r;

	begin.envid = LIT("QQ314159");
	r = report_of(&begin, rcpts);
	r.original = report_choice(&r, 50000);
	assert_int_equal(r.original, ORIGINAL_WHOLE);
	check("report_mixed.eml", &r, LIT(ORIGINAL));
	begin.rcpt_count = 2;
	r.original = report_choice(&r, 50000);
	check("report_relayed.eml", &r, LIT("From: a@s.example\r\nSubject: hello\r\n"));
	begin.rcpt_count = 1;
	check("report_delivered.eml", &r, LIT("From: a@s.example\r\nSubject: hello\r\n"));
}

/* NOTIFY=DELAY: the server's last answer, one of ours, and a reply that is no failure yet; and beside a failure. */
static void delays(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(3);
	struct bounce_rcpt rcpts[] = {
		{ .id = SOME_ID, .index = 0, .action = DSN_DELAYED, .stage = STAGE_RCPT, .code = 450, .e_class = 4, .e_subject = 2, .e_detail = 1,
			.last_try_ms = UINT64_C(1763758140000), .attempts = 5, .address = LIT("bob@r.example"), .orcpt = LIT("rfc822;Bob@old.example"),
			.host = LIT("mx.r.example"), .text = LIT("450 4.2.1 mailbox busy") },
		{ .id = SOME_ID, .index = 1, .action = DSN_DELAYED, .stage = STAGE_CONNECT, .e_class = 4, .e_subject = 4, .e_detail = 1, .attempts = 5,
			.last_try_ms = UINT64_C(1763758140000), .address = LIT("ann@q.example"), .text = LIT("cannot connect to mx.q.example") },
		{ .id = SOME_ID, .index = 2, .action = DSN_DELAYED, .stage = STAGE_GREETING, .code = 554, .e_class = 5, .e_subject = 7, .e_detail = 1,
			.last_try_ms = UINT64_C(1763758140000), .attempts = 5, .address = LIT("eve@p.example"), .host = LIT("mx.p.example"), .text = LIT("554 5.7.1 go away") },
	};
	struct report r;

	begin.envid = LIT("QQ314159");
	begin.ret = LIT("FULL");
	r = report_of(&begin, rcpts);
	r.retry_until = UINT64_C(1764362934123);
	r.original = report_choice(&r, 50000);
	assert_int_equal(r.original, ORIGINAL_HEADER);   /* RFC 3461 4.3: FULL is for failures */
	check("report_delayed.eml", &r, LIT("From: a@s.example\r\nSubject: hello\r\n"));
	rcpts[1].action = DSN_FAILED;
	begin.rcpt_count = 2;
	r.original = report_choice(&r, 50000);
	assert_int_equal(r.original, ORIGINAL_WHOLE);
	check("report_delayed_failed.eml", &r, LIT(ORIGINAL));
}

static void envelopes(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(1);
	struct bounce_rcpt rcpt = { .id = SOME_ID, .address = LIT("bob@r.example") };
	struct report r = report_of(&begin, &rcpt);
	struct str out = STR_INIT(4096);
	struct envelope env;

	assert_true(report_envelope(&r, &out));
	assert_int_equal(envelope_parse(str_bytes(&out), &env), ENV_OK);
	assert_int_equal(env.sender.kind, ADDR_NULL);
	assert_true(env.bounce_of == SOME_ID && env.bounce_batch == 2 && !env.body_type && !env.smtputf8);
	assert_true(bytes_starts_nocase(env.message_id, LIT("<")) && bytes_ends_nocase(env.message_id, LIT(".2.bounce@mx.example.org>")));
	r.eight_bit = true;
	begin.smtputf8 = 1;
	str_clear(&out);
	assert_true(report_envelope(&r, &out));
	assert_int_equal(envelope_parse(str_bytes(&out), &env), ENV_OK);
	assert_true(env.body_type && env.smtputf8);
	str_free(&out);
}

static void what_is_returned(void **state)
{
	(void)state;
	struct bounce_begin begin = begin_of(2);
	struct bounce_rcpt rcpts[2] = { { .action = DSN_DELIVERED }, { .action = DSN_FAILED } };
	struct report r = report_of(&begin, rcpts);

	begin.body_size = 50000;
	assert_int_equal(report_choice(&r, 50000), ORIGINAL_WHOLE);
	assert_int_equal(report_choice(&r, 49999), ORIGINAL_HEADER);
	begin.ret = LIT("FULL");
	assert_int_equal(report_choice(&r, 49999), ORIGINAL_HEADER);
	assert_int_equal(report_choice(&r, 50000), ORIGINAL_WHOLE);
	rcpts[1].action = DSN_RELAYED;
	assert_int_equal(report_choice(&r, 50000), ORIGINAL_HEADER);   /* RFC 3461 4.3: FULL is for failures */
	rcpts[1].action = DSN_FAILED;
	begin.ret = LIT("hdrs");
	assert_int_equal(report_choice(&r, 50000), ORIGINAL_HEADER);
}

/* Fed whole, and cut at every place: the same. */
static void survey_at_every_cut(struct bytes text, uint64_t header, bool ended, bool hit, bool bits, bool header_bits)
{
	for (size_t cut = 0; cut <= text.len; cut++) {
		struct survey s;
		survey_init(&s, BOUNDARY);
		survey_feed(&s, bytes_slice(text, 0, cut));
		survey_feed(&s, bytes_slice(text, cut, text.len));
		assert_int_equal(s.size, text.len);
		assert_int_equal(s.header_size, header);
		assert_int_equal(s.header_ended, ended);
		assert_int_equal(s.has_boundary, hit);
		assert_int_equal(s.eight_bit, bits);
		assert_int_equal(s.eight_bit_header, header_bits);
	}
}

static void surveys(void **state)
{
	(void)state;
	survey_at_every_cut(LIT("a: b\r\n\r\nx\xc3\xa9\r\n"), 6, true, false, true, false);
	survey_at_every_cut(LIT("a: \xc3\xa9\r\n c\r\n\r\nx"), 11, true, false, true, true);
	survey_at_every_cut(LIT("\r\nbody"), 0, true, false, false, false);
	survey_at_every_cut(LIT("a: b\n\nx"), 5, true, false, false, false);
	survey_at_every_cut(LIT("a: b\r\nc: d"), 6, false, false, false, false);
	survey_at_every_cut(LIT("a: b\r\n\r\nx\r\n==_=_0--" BOUNDARY "--\r\n"), 6, true, true, false, false);
	survey_at_every_cut(LIT("a: b\r\n\r\n=_0123456789abcdef0123456789abcde"), 6, true, false, false, false);
	survey_at_every_cut(LIT(""), 0, false, false, false, false);
}

static void cleaned(const char *in, bool utf8_on, const char *expected)
{
	struct str out = STR_INIT(100);
	assert_true(clean_text(&out, bytes_of(in), utf8_on));
	assert_string_equal(str_c(&out), expected);
	str_free(&out);
}

static void cleaning(void **state)
{
	(void)state;
	cleaned("  a \r\n\t b  ", false, "a b");
	cleaned("\xc3\xa9", false, "?");
	cleaned("\xc3\xa9", true, "\xc3\xa9");
	cleaned("\xc3", true, "?");
	cleaned("\xc0\x80 \xed\xa0\x80 \xf5\x80\x80\x80", true, "?? ??? ????");
	cleaned("\xe2\x80\xae" "evil", true, "?evil");
	cleaned("\xc2\x85", true, "?");
	cleaned("\x7f\x01", true, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_recipient), cmocka_unit_test(several_recipients), cmocka_unit_test(hostile_text), cmocka_unit_test(utf8),
		cmocka_unit_test(double_bounce), cmocka_unit_test(successes), cmocka_unit_test(delays), cmocka_unit_test(envelopes), cmocka_unit_test(what_is_returned), cmocka_unit_test(surveys), cmocka_unit_test(cleaning),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
