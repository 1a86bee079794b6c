/* test_envelope - parsing, iterating, building; every prefix and every changed octet of a full envelope. */
#include "unit.h"
#include "common/envelope.h"

#define E(text) { text, sizeof(text) - 1 }

static const char full[] = "Fsender@example.org\0Cunknown[192.0.2.1]\0Hclient.example\0PESMTP\0Auser\0B\0U\0Eqq314\0RHDRS\0M<1@x>\0X01JD4ZZZZZZ9 7\0Qmilters/clam two words\0"
	"Ta@b\0NSUCCESS,delay\0Orfc822;a@b\0T\"c d\"@e\0Tf@[192.0.2.1]\0NNEVER\0\0";

static void whole(void **state)
{
	struct envelope env;
	struct bytes raw = unit_exact((struct bytes)E(full));
	(void)state;
	assert_int_equal(envelope_parse(raw, &env), ENV_OK);
	assert_bytes(env.sender.text, "sender@example.org");
	assert_int_equal(env.rcpt_count, 3);
	assert_true(env.body_type && env.smtputf8);
	assert_bytes(env.client, "unknown[192.0.2.1]");
	assert_bytes(env.helo, "client.example");
	assert_bytes(env.protocol, "ESMTP");
	assert_bytes(env.login, "user");
	assert_bytes(env.envid, "qq314");
	assert_bytes(env.ret, "HDRS");
	assert_bytes(env.message_id, "<1@x>");
	assert_true(env.bounce_of != 0);
	assert_int_equal(env.bounce_batch, 7);
	assert_bytes(env.held_by, "milters/clam");
	assert_bytes(env.held_reason, "two words");
	unit_free(raw);
}

static void iterating(void **state)
{
	static const char *const expected[][3] = { { "a@b", "SUCCESS,delay", "rfc822;a@b" }, { "\"c d\"@e", "", "" }, { "f@[192.0.2.1]", "NEVER", "" } };
	struct envelope env;
	struct envelope_cursor cursor = { 0 };
	struct envelope_rcpt rcpt;
	(void)state;
	assert_int_equal(envelope_parse((struct bytes)E(full), &env), ENV_OK);
	for (size_t i = 0; i < COUNT(expected); i++) {
		assert_true(envelope_next(&env, &cursor, &rcpt));
		assert_int_equal(rcpt.index, i);
		assert_bytes(rcpt.addr.text, expected[i][0]);
		assert_bytes(rcpt.notify, expected[i][1]);
		assert_bytes(rcpt.orcpt, expected[i][2]);
	}
	assert_false(envelope_next(&env, &cursor, &rcpt));
	assert_false(envelope_next(&env, &cursor, &rcpt));
	/* An attribute between recipients disturbs neither side. */
	assert_int_equal(envelope_parse((struct bytes)E("F\0Ta@b\0B\0NNEVER\0M<x>\0Tc@d\0\0"), &env), ENV_OK);
	cursor = (struct envelope_cursor){ 0 };
	assert_true(envelope_next(&env, &cursor, &rcpt));
	assert_bytes(rcpt.notify, "NEVER");
	assert_true(envelope_next(&env, &cursor, &rcpt));
	assert_bytes(rcpt.addr.text, "c@d");
	assert_bytes(rcpt.notify, "");
	assert_false(envelope_next(&env, &cursor, &rcpt));
}

static const struct { struct bytes raw; enum envelope_error error; } cases[] = {
	{ E("F\0Ta@b\0\0"), ENV_OK },
	{ E("Fx@y\0Ta@b\0Tc@d\0\0"), ENV_OK },          /* qmail's own */
	{ E(""), ENV_FORMAT },
	{ E("\0"), ENV_FORMAT },
	{ E("F\0\0"), ENV_NO_RCPT },
	{ E("F\0Ta@b\0"), ENV_FORMAT },                  /* no end */
	{ E("F\0Ta@b"), ENV_FORMAT },
	{ E("F\0Ta@b\0\0\0"), ENV_FORMAT },              /* something behind it */
	{ E("F\0Ta@b\0\0x"), ENV_FORMAT },
	{ E("Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0F\0Ta@b\0\0"), ENV_FORMAT },
	{ E("Ta@b\0F\0\0"), ENV_FORMAT },
	{ E("F\0T\0\0"), ENV_ADDRESS },
	{ E("F\0Tb\0\0"), ENV_ADDRESS },
	{ E("Fx\0Ta@b\0\0"), ENV_ADDRESS },
	{ E("F\0Ta\n@b\0\0"), ENV_ADDRESS },
	{ E("F\0Za\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0B1\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0B\0B\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0C\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0Ca\0Cb\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0RNONE\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0RFULL\0Ta@b\0\0"), ENV_OK },
	{ E("F\0Ea b\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0Ea\r\nRCPT\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0E\xc3\xa9\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0NNEVER\0Ta@b\0\0"), ENV_FORMAT },        /* N before any T */
	{ E("F\0Ta@b\0NNEVER\0NNEVER\0\0"), ENV_FORMAT },
	{ E("F\0Ta@b\0NNEVER\0Tc@d\0NNEVER\0\0"), ENV_OK },
	{ E("F\0Ta@b\0NNEVER,DELAY\0\0"), ENV_FORMAT },
	{ E("F\0Ta@b\0N\0\0"), ENV_FORMAT },
	{ E("F\0Ta@b\0NDELAY,\0\0"), ENV_FORMAT },
	{ E("F\0Ta@b\0Outf-8;\xc3\xa9@x\0\0"), ENV_OK },
	{ E("F\0Ta@b\0Orfc822;a\xe9\0\0"), ENV_FORMAT },
	{ E("F\0Ta@b\0Orfc822;a b\0\0"), ENV_FORMAT },
	{ E("F\0X01JD4ZZZZZZ9\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0X01JD4ZZZZZZ9 4294967296\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0X000000000000 1\0Ta@b\0\0"), ENV_FORMAT },
	{ E("F\0PESMTPESMTPESMTP12\0Ta@b\0\0"), ENV_TOO_LONG },
};

static void accepted_and_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct envelope env;
		struct bytes raw = unit_exact(cases[i].raw);
		enum envelope_error e = envelope_parse(raw, &env);
		if (e != cases[i].error)
			fail_msg("case %zu: %s", i, envelope_error_text(e));
		unit_free(raw);
	}
}

/* What a stopped writer leaves is never taken for whole, and one wrong octet never leads out of the buffer. */
static void cut_and_changed(void **state)
{
	struct envelope env;
	(void)state;
	for (size_t n = 0; n < sizeof full - 1; n++) {
		struct bytes part = unit_exact((struct bytes){ full, n });
		assert_int_not_equal(envelope_parse(part, &env), ENV_OK);
		unit_free(part);
	}
	for (size_t at = 0; at < sizeof full - 1; at++)
		for (unsigned octet = 0; octet < 256; octet += 1) {
			char copy[sizeof full];
			memcpy(copy, full, sizeof full);
			copy[at] = (char)octet;
			if (envelope_parse((struct bytes){ copy, sizeof full - 1 }, &env) != ENV_OK)
				continue;
			struct envelope_cursor cursor = { 0 };
			struct envelope_rcpt rcpt;
			size_t n = 0;
			while (envelope_next(&env, &cursor, &rcpt))
				n++;
			assert_int_equal(n, env.rcpt_count);
		}
}

static struct mailaddr parsed(const char *text)
{
	struct mailaddr addr;
	assert_int_equal(mailaddr_parse(bytes_of(text), &addr), ADDR_OK);
	return addr;
}

static void building(void **state)
{
	struct mailaddr sender = parsed("sender@example.org"), a = parsed("a@b"), c = parsed("\"c d\"@e"), f = parsed("f@[192.0.2.1]");
	struct str out = STR_INIT(ENVELOPE_MAX);
	(void)state;
	assert_true(str_add_c(&out, "an older one"));
	assert_true(envelope_begin(&out, &sender));
	assert_true(envelope_add(&out, 'C', LIT("unknown[192.0.2.1]")) && envelope_add(&out, 'H', LIT("client.example")));
	assert_true(envelope_add(&out, 'P', LIT("ESMTP")) && envelope_add(&out, 'A', LIT("user")) && envelope_add(&out, 'B', LIT("")));
	assert_true(envelope_add(&out, 'U', LIT("")) && envelope_add(&out, 'E', LIT("qq314")) && envelope_add(&out, 'R', LIT("HDRS")));
	assert_true(envelope_add(&out, 'M', LIT("<1@x>")) && envelope_add(&out, 'X', LIT("01JD4ZZZZZZ9 7")));
	assert_true(envelope_add(&out, 'Q', LIT("milters/clam two words")));
	assert_true(envelope_add_rcpt(&out, &a) && envelope_add(&out, 'N', LIT("SUCCESS,delay")) && envelope_add(&out, 'O', LIT("rfc822;a@b")));
	assert_true(envelope_add_rcpt(&out, &c) && envelope_add_rcpt(&out, &f) && envelope_add(&out, 'N', LIT("NEVER")));
	assert_true(envelope_end(&out));
	assert_true(bytes_equal(str_bytes(&out), (struct bytes)E(full)));
	str_free(&out);
}

static const struct { char tag; struct bytes value; } refused_values[] = {
	{ 'Q', E(" x") }, { 'Q', E("a\nb") }, { 'Q', E("0123456789012345678901234567890123456789012345678901234567890123x") }, { 'Y', E("x") },
	{ 'F', E("a@b") }, { 'T', E("a@b") }, { 'C', E("a\0b") }, { 'C', E("") }, { 'B', E("x") }, { 'R', E("full") },
	{ 'N', E("LATER") }, { 'O', E("a b") }, { 'E', E("a\nb") }, { 'X', E("1 2") }, { 'P', E("ESMTPESMTPESMTP12") },
};

static void building_refuses(void **state)
{
	struct mailaddr none = { .kind = ADDR_NULL }, bare = { .kind = ADDR_BARE, .text = LIT("postmaster"), .local = LIT("postmaster") };
	struct str out = STR_INIT(ENVELOPE_MAX);
	static char large[ENVELOPE_VALUE_MAX + 1];
	(void)state;
	for (size_t i = 0; i < COUNT(refused_values); i++) {
		assert_true(envelope_begin(&out, &none));
		assert_false(envelope_add(&out, refused_values[i].tag, refused_values[i].value));
		assert_true(out.failed);
		assert_false(envelope_end(&out));
	}
	memset(large, 'x', sizeof large);
	assert_true(envelope_begin(&out, &none));
	assert_true(envelope_add(&out, 'E', (struct bytes){ large, sizeof large - 1 }));
	assert_false(envelope_add(&out, 'O', (struct bytes){ large, sizeof large }));
	assert_true(envelope_begin(&out, &none));
	assert_false(envelope_add_rcpt(&out, &none));
	assert_true(envelope_begin(&out, &none));
	assert_false(envelope_add_rcpt(&out, &bare));
	assert_false(envelope_begin(&out, &bare));
	str_free(&out);
}

static void many(void **state)
{
	struct str out = STR_INIT(ENVELOPE_MAX);
	struct mailaddr none = { .kind = ADDR_NULL }, addr = parsed("user@example.org");
	struct envelope env;
	(void)state;
	assert_true(envelope_begin(&out, &none));
	for (size_t i = 0; i < ENVELOPE_RCPT_MAX; i++)
		assert_true(envelope_add_rcpt(&out, &addr));
	size_t len = out.len;
	assert_true(envelope_end(&out));
	assert_int_equal(envelope_parse(str_bytes(&out), &env), ENV_OK);
	assert_int_equal(env.rcpt_count, ENVELOPE_RCPT_MAX);
	str_truncate(&out, len);
	assert_true(envelope_add_rcpt(&out, &addr) && envelope_end(&out));
	assert_int_equal(envelope_parse(str_bytes(&out), &env), ENV_TOO_MANY);
	str_free(&out);
	char *large = calloc(1, ENVELOPE_MAX + 1);
	assert_non_null(large);
	assert_int_equal(envelope_parse((struct bytes){ large, ENVELOPE_MAX + 1 }, &env), ENV_TOO_LONG);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole), cmocka_unit_test(iterating), cmocka_unit_test(accepted_and_refused), cmocka_unit_test(cut_and_changed),
		cmocka_unit_test(building), cmocka_unit_test(building_refuses), cmocka_unit_test(many),
	};
	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
