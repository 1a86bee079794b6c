/*
 * test_header - field scan and address lists of inject and sendmail, each list read whole and, for its effect, with folds put in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "local/header.h"

static bool collect(void *context, const struct mailaddr *addr)
{
	struct str *out = context;

	if (out->len > 0)
		str_add_char(out, ' ');
	return str_add(out, addr->text);
}

static struct str list_of(const char *value)
{
	struct str out = STR_INIT(1 << 20);
	struct header_fault fault;

	if (!header_addresses(bytes_of(value), LIT("here.example"), collect, &out, &fault)) {
		str_clear(&out);
		str_addf(&out, "!%s", header_error_text(fault.error));
	}
	return out;
}

static const struct { const char *value, *expect; } lists[] = {
	{ "", "" },
	{ "a@b.example", "a@b.example" },
	{ " a@B.Example ,c@d.example", "a@b.example c@d.example" },
	{ ",,a@b.example,, ,", "a@b.example" },
	{ "root", "root@here.example" },
	{ "root, a@b.example", "root@here.example a@b.example" },
	{ "Ann Example <ann@b.example>", "ann@b.example" },
	{ "<ann@b.example>", "ann@b.example" },
	{ "\"Example, Ann\" <ann@b.example>, Bob <bob@b.example>", "ann@b.example bob@b.example" },
	{ "John Q. Public <jqp@b.example>", "jqp@b.example" },
	{ "ann@b.example (Ann (of \\) course) Example)", "ann@b.example" },
	{ "(first)ann(second)@(third)b.example(fourth)", "ann@b.example" },
	{ "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "pete@silly.test" },
	{ "A Group(Some people):Chris Jones <c@(Chris's host.)public.example>, joe@example.org, John <jdoe@one.test> (my dear friend); (the end of the group)",
		"c@public.example joe@example.org jdoe@one.test" },
	{ "undisclosed-recipients:;", "" },
	{ "(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", "" },
	{ "x: a@b.example;, c@d.example", "a@b.example c@d.example" },
	{ "a@b.example; c@d.example;", "a@b.example c@d.example" },
	{ "\"quoted local\"@b.example", "\"quoted local\"@b.example" },
	{ "\"plain\"@b.example", "plain@b.example" },
	{ "\"a,b@c\"@b.example", "\"a,b@c\"@b.example" },
	{ "john . doe @ b . example", "john.doe@b.example" },
	{ "<@x.example,@y.example:ann@b.example>", "ann@b.example" },
	{ "=?utf-8?Q?M=C3=BCller=2C_Hans?= <hans@b.example>", "hans@b.example" },
	{ "=?iso-8859-1?B?TfxsbGVyLCBIYW5z?=\r\n\t<hans@b.example>,\r\n anna@b.example", "hans@b.example anna@b.example" },
	{ "M\303\274ller <m@b.example>", "m@b.example" },
	{ "\374\344\366 <m@b.example>", "m@b.example" },
	{ "m\303\274ller@b.example", "m\303\274ller@b.example" },
	{ "a@[192.0.2.1]", "a@[192.0.2.1]" },
	{ "a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]" },
	{ "Ann Example", "!this is not an address" },
	{ "a@b.example c@d.example", "!this is not an address" },
	{ "<a@b.example> <c@d.example>", "!this is not an address" },
	{ "<a@b.example> trailing", "!this is not an address" },
	{ "Ann <>", "!this address is not valid" },
	{ "a@", "!this address is not valid" },
	{ "@b.example", "!this address is not valid" },
	{ "a..b@c.example", "!this address is not valid" },
	{ "a@b@c.example", "!this address is not valid" },
	{ "a@-b.example", "!this address is not valid" },
	{ "\"never closed <a@b.example>", "!a quote, comment or bracket is not closed" },
	{ "a@b.example (never closed", "!a quote, comment or bracket is not closed" },
	{ "a@[192.0.2.1", "!a quote, comment or bracket is not closed" },
	{ "Ann <a@b.example", "!a quote, comment or bracket is not closed" },
	{ "a@b.example )", "!this is not an address" },
	{ "a\\b@c.example", "!this is not an address" },
	{ "x: y: a@b.example;;", "!this is not an address" },
	{ "a\001@b.example", "!this is not an address" },
};

static void address_lists(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct str got = list_of(lists[i].value);

		if (strcmp(str_c(&got), lists[i].expect) != 0)
			fail_msg("%s: got %s, expected %s", lists[i].value, str_c(&got), lists[i].expect);
		str_free(&got);
	}
}

/* A fold (CRLF and the blank behind it) may stand wherever a blank does: the result is the same. */
static void folds_do_not_matter(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct str folded = STR_INIT(1 << 16), got;

		for (const char *c = lists[i].value; *c != '\0'; c++) {
			if (*c == ' ')
				str_add_c(&folded, "\r\n");
			str_add_char(&folded, *c);
		}
		got = list_of(str_c(&folded));
		assert_string_equal(str_c(&got), lists[i].expect);
		str_free(&got);
		str_free(&folded);
	}
}

/* Cut at every octet: an answer each time, and never one that reads behind the end (asan sees it). */
static void cut_everywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (size_t n = 0; n <= strlen(lists[i].value); n++) {
			struct str copy = STR_INIT(1 << 16), got = STR_INIT(1 << 16);
			struct header_fault fault;

			str_add(&copy, (struct bytes){ lists[i].value, n });
			header_addresses((struct bytes){ copy.at, n }, LIT("here.example"), collect, &got, &fault);
			str_free(&copy);
			str_free(&got);
		}
	}
}

static void limits(void **state)
{
	struct str value = STR_INIT(1 << 16), got;

	(void)state;
	str_add_c(&value, "a@b.example ");
	for (unsigned i = 0; i < HEADER_NESTING; i++)
		str_add_char(&value, '(');
	for (unsigned i = 0; i < HEADER_NESTING; i++)
		str_add_char(&value, ')');
	got = list_of(str_c(&value));
	assert_string_equal(str_c(&got), "a@b.example");
	str_free(&got);
	str_clear(&value);
	for (unsigned i = 0; i < 10000; i++)
		str_add_char(&value, '(');
	got = list_of(str_c(&value));
	assert_string_equal(str_c(&got), "!comments are nested too deeply");
	str_free(&got);
	for (unsigned octets = LOCALPART_MAX; octets <= LOCALPART_MAX + 1; octets++) {
		str_clear(&value);
		for (unsigned i = 0; i < octets; i++)
			str_add_char(&value, 'a');
		str_add_c(&value, "@b.c");
		got = list_of(str_c(&value));
		assert_string_equal(str_c(&got), octets == LOCALPART_MAX ? str_c(&value) : "!this address is not valid");
		str_free(&got);
	}
	/* a phrase of any length is no address */
	str_clear(&value);
	for (unsigned i = 0; i < 5000; i++)
		str_add_c(&value, "word ");
	str_add_c(&value, "<a@b.example>");
	got = list_of(str_c(&value));
	assert_string_equal(str_c(&got), "a@b.example");
	str_free(&got);
	str_free(&value);
}

static bool stop_at_two(void *context, const struct mailaddr *addr)
{
	(void)addr;
	return ++*(int *)context < 2;
}

static void callback_stops(void **state)
{
	struct header_fault fault;
	int count = 0;

	(void)state;
	assert_false(header_addresses(LIT("a@b.example, c@d.example, e@f.example"), LIT("h"), stop_at_two, &count, &fault));
	assert_int_equal(fault.error, HEADER_STOPPED);
	assert_int_equal(count, 2);
}

static const struct { const char *message; size_t fields, body; } ends[] = {
	{ "", 0, 0 },
	{ "\n", 0, 1 },
	{ "hello\n", 0, 0 },
	{ " indented\n", 0, 0 },
	{ "A: b\n\nbody\n", 5, 6 },
	{ "A: b\r\n\r\nbody\r\n", 6, 8 },
	{ "A: b\n c\n\td\nB:\n\nbody", 14, 15 },
	{ "A: b\nno field\n", 5, 5 },
	{ "A : b\n\n", 6, 7 },
	{ "A: b", 4, 4 },
	{ "From ann Sat Nov 21\nA: b\n\nx", 25, 26 },
	{ "A: b\nFrom ann Sat Nov 21\n", 5, 5 },
	{ ": b\n\n", 0, 0 },
	{ "A: b\n \n\nx", 7, 8 },
};

static void header_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t len = strlen(ends[i].message), scanned = 0, fields = 99, body = 99;

		/* octet by octet: it must be found, once, with the same result as from the whole */
		for (size_t n = 0; n < len; n++)
			if (header_end((struct bytes){ ends[i].message, n }, false, &scanned, &fields, &body))
				break;
		if (fields == 99)
			assert_true(header_end(bytes_of(ends[i].message), true, &scanned, &fields, &body));
		assert_int_equal(fields, ends[i].fields);
		assert_int_equal(body, ends[i].body);
		scanned = 0;
		assert_true(header_end(bytes_of(ends[i].message), true, &scanned, &fields, &body));
		assert_int_equal(fields, ends[i].fields);
		assert_int_equal(body, ends[i].body);
	}
}

static void fields_and_presence(void **state)
{
	static const char text[] = "From ann\nTo: a@b\nX-Other: 1\n 2\nresent-to: c@d\nMESSAGE-ID :<x>\n";
	struct bytes fields = bytes_of(text);
	struct header_field f;
	size_t offset = 0;
	uint32_t present = header_present(fields);

	(void)state;
	assert_true(header_next(fields, &offset, &f) && f.id == HDR_MBOX_LINE);
	assert_true(header_next(fields, &offset, &f) && f.id == HDR_TO && bytes_equal(f.value, LIT(" a@b")));
	assert_true(header_next(fields, &offset, &f) && f.id == HDR_OTHER && bytes_equal(f.value, LIT(" 1\n 2")));
	assert_true(header_next(fields, &offset, &f) && f.id == HDR_RESENT_TO);
	assert_true(header_next(fields, &offset, &f) && f.id == HDR_MESSAGE_ID && bytes_equal(f.value, LIT("<x>")));
	assert_false(header_next(fields, &offset, &f));
	assert_true(HEADER_HAS(present, HDR_RESENT_TO));
	assert_false(HEADER_HAS(present, HDR_CC));
}

static const struct { const char *fields, *expect; } recipients[] = {
	{ "To: a@b.example\nSubject: c@d.example\nCc: e@f.example,\n g@h.example\nBcc: i@j.example\n", "a@b.example e@f.example g@h.example i@j.example" },
	{ "TO: a@b.example\nto: c@d.example\n", "a@b.example c@d.example" },
	{ "Subject: none\n", "" },
	{ "Reply-To: x@y.example\nApparently-To: z@y.example\n", "" },
	/* resent: only the newest block counts */
	{ "Resent-From: r@s.example\nResent-To: t@u.example\nTo: a@b.example\n", "t@u.example" },
	{ "Received: x\nResent-Cc: t@u.example\nResent-Bcc: v@w.example\nReceived: y\nResent-To: old@u.example\nTo: a@b.example\n", "t@u.example v@w.example" },
	{ "Resent-To: new@u.example\nResent-From: n@s.example\nResent-To: old@u.example\nResent-From: o@s.example\nTo: a@b.example\n", "new@u.example" },
	{ "Resent-From: r@s.example\nTo: a@b.example\n", "" },
	{ "To: fine@b.example\nCc: not fine\n", "!this is not an address" },
};

static void recipients_of_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(recipients) / sizeof(recipients[0]); i++) {
		struct str got = STR_INIT(1 << 16);
		struct header_fault fault;

		if (!header_recipients(bytes_of(recipients[i].fields), LIT("here.example"), collect, &got, &fault)) {
			str_clear(&got);
			str_addf(&got, "!%s", header_error_text(fault.error));
		}
		assert_string_equal(str_c(&got), recipients[i].expect);
		str_free(&got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_lists), cmocka_unit_test(folds_do_not_matter), cmocka_unit_test(cut_everywhere), cmocka_unit_test(limits),
		cmocka_unit_test(callback_stops), cmocka_unit_test(header_ends), cmocka_unit_test(fields_and_presence), cmocka_unit_test(recipients_of_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
