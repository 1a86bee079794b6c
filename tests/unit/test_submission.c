/* test_submission - which senders a login owns, and the headers that are added, exactly once. */
#include "unit.h"
#include "smtpd/session/submission.h"

static struct bytes local_domains[] = { { "local.test", 10 }, { "example.net", 11 } };
static struct bytes owners[] = { { "sales@local.test:joe ann", 24 }, { "@other.test:ann", 15 }, { "news@other.test:*", 17 } };
static struct settings settings;

static bool owns(const char *login, const char *sender)
{
	struct mailaddr addr;
	assert_int_equal(mailaddr_parse(bytes_of(sender), &addr), ADDR_OK);
	return submission_owns(&settings, bytes_of(login), &addr);
}

static void test_owner(void **state)
{
	static const struct { const char *login, *sender; bool yes; } cases[] = {
		{ "joe", "", true }, { "joe", "joe@local.test", true }, { "joe", "Joe@example.net", true }, { "joe", "joe-list@local.test", true },
		{ "joe@local.test", "joe@local.test", true }, { "joe@Elsewhere.test", "joe@elsewhere.test", true }, { "joe@elsewhere.test", "joe-x@elsewhere.test", true },
		{ "joe", "ann@local.test", false }, { "joe", "joe@elsewhere.test", false }, { "joe@local.test", "joe@example.net", false }, { "joe", "joey@local.test", false },
		{ "joey", "joe@local.test", false }, { "joe", "-joe@local.test", false }, { "joe", "jo-e@local.test", false }, { "joe", "joe@sub.local.test", false },
		{ "joe@local.test@x.test", "joe@x.test", false }, { "joe", "joe@[192.0.2.1]", false },
		{ "joe", "sales@local.test", true }, { "ann", "SALES@local.test", true }, { "sam", "sales@local.test", false }, { "an", "sales@local.test", false },
		{ "ann", "anything@other.test", true }, { "joe", "anything@other.test", false }, { "joe", "news@other.test", true }, { "Ann", "x@other.test", false },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (owns(cases[i].login, cases[i].sender) != cases[i].yes)
			fail_msg("%s as %s", cases[i].login, cases[i].sender);
}

static void scan(struct session *s, struct bytes in, size_t step)
{
	message_begin(&s->message, 0, 100);
	while (in.len > 0) {
		struct bytes kept;
		size_t used;
		message_scan(&s->message, bytes_slice(in, 0, step), &kept, &used);
		in = bytes_slice(in, used, in.len);
	}
}

static void test_headers(void **state)
{
	static const struct { const char *in; bool date, id; } cases[] = {
		{ "Subject: x\r\n\r\nDate: x\r\nMessage-ID: <x>\r\n", true, true }, { "DATE: x\r\n\r\n", false, true }, { "message-id: <a@b>\r\n\r\n", true, false },
		{ "Message-ID:\r\n\t<a@b>\r\nDate:x\r\n\r\n", false, false }, { "Message-ID:\r\n\r\n", true, false }, { "X-Date: x\r\nDated: y\r\n\r\n", true, true }, { "\r\nx\r\n", true, true },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		for (size_t step = 1; step < 100; step += 7) {
			struct session s = { .settings = &settings };
			struct str out = STR_INIT(1000);
			scan(&s, bytes_of(cases[i].in), step);
			assert_true(submission_headers(&s, &out));
			if ((strstr(str_c(&out), "Date: ") != NULL) != cases[i].date || (strstr(str_c(&out), "Message-ID: <") != NULL) != cases[i].id)
				fail_msg("%s -> %s", cases[i].in, str_c(&out));
			if (cases[i].id) {
				assert_int_equal(s.message.message_id[0], '<');
				assert_non_null(strstr(s.message.message_id, "@mx.test>"));
			}
			str_free(&out);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_owner), cmocka_unit_test(test_headers) };
	settings = (struct settings){ .me = LIT("mx.test"), .locals = { .at = local_domains, .count = 2 }, .senderlogins = { .at = owners, .count = 3 }, .extensionchar = LIT("-") };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
