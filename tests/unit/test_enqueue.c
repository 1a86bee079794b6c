/* test_enqueue - what enqueue makes of a caller's envelope, and where it finds the place of the id. */
#include "unit.h"

#include <sys/resource.h>

#include "queue/enqueue/enqueue.h"

#define ENV(literal) ((struct bytes){ literal, sizeof(literal) })   /* the literal's own NUL is the end */

static enum enqueue_exit rewrite(enum caller_kind kind, bool raw, struct bytes in, struct str *out) {
	struct caller c = { .uid = 1000, .kind = kind, .name = "joe" };
	struct bytes exact = unit_exact(in);
	enum enqueue_exit code = caller_envelope(&c, exact, raw, out);
	unit_free(exact);
	return code;
}

static void assert_rewritten(enum caller_kind kind, bool raw, struct bytes in, struct bytes expected) {
	struct str out = STR_INIT(ENVELOPE_MAX);
	assert_int_equal(rewrite(kind, raw, in, &out), ENQ_OK);
	assert_int_equal(out.len, expected.len);
	assert_memory_equal(out.at, expected.at, expected.len);
	str_free(&out);
}

static void claims(void **state) {
	static const char all[] = "Fa@x.org\0B\0U\0Cmx[192.0.2.1]\0Hmx\0PESMTP\0Alogin\0Eid\0RFULL\0X0000000000AB 3\0M<a@b>\0Tb@x.org\0NNEVER\0Orfc822;b@x.org\0";
	(void)state;
	assert_rewritten(CALLER_USER, true, ENV(all), ENV("Fa@x.org\0B\0U\0Eid\0RFULL\0M<a@b>\0Tb@x.org\0NNEVER\0Orfc822;b@x.org\0Plocal\0Ajoe\0"));
	assert_rewritten(CALLER_SMTPD, false, ENV(all),
		ENV("Fa@x.org\0B\0U\0Cmx[192.0.2.1]\0Hmx\0PESMTP\0Alogin\0Eid\0RFULL\0M<a@b>\0Tb@x.org\0NNEVER\0Orfc822;b@x.org\0"));
	assert_rewritten(CALLER_BOUNCE, true, ENV(all),
		ENV("Fa@x.org\0B\0U\0Eid\0RFULL\0X0000000000AB 3\0M<a@b>\0Tb@x.org\0NNEVER\0Orfc822;b@x.org\0Plocal\0Ajoe\0"));
	assert_rewritten(CALLER_ROOT, true, ENV(all), ENV(all));
}

/* Mail may be held by who queues it; that an operator or a milter held it is said by those alone who know. */
static void holds(void **state) {
	char in[2 * ENVELOPE_VALUE_MAX], out[2 * ENVELOPE_VALUE_MAX];
	(void)state;
	assert_rewritten(CALLER_USER, true, ENV("Fa@x.org\0Qroot see me\0Tb@x.org\0"), ENV("Fa@x.org\0Qjoe see me\0Tb@x.org\0Plocal\0Ajoe\0"));
	assert_rewritten(CALLER_BOUNCE, true, ENV("Fa@x.org\0Qroot\0Tb@x.org\0"), ENV("Fa@x.org\0Qjoe \0Tb@x.org\0Plocal\0Ajoe\0"));
	assert_rewritten(CALLER_SMTPD, false, ENV("Fa@x.org\0Pa\0Qmilters/x bad\0Tb@x.org\0"), ENV("Fa@x.org\0Pa\0Qmilters/x bad\0Tb@x.org\0"));
	assert_rewritten(CALLER_ROOT, true, ENV("Fa@x.org\0Pa\0Qmilters/x bad\0Tb@x.org\0"), ENV("Fa@x.org\0Pa\0Qmilters/x bad\0Tb@x.org\0"));
	int n = snprintf(in, sizeof in, "Fa@x.org%cQx %0*d%cTb@x.org%c", 0, (int)ENVELOPE_VALUE_MAX - 2, 0, 0, 0) + 1;
	int m = snprintf(out, sizeof out, "Fa@x.org%cQjoe %0*d%cTb@x.org%cPlocal%cAjoe%c", 0, (int)ENVELOPE_VALUE_MAX - 4, 0, 0, 0, 0, 0) + 1;
	assert_rewritten(CALLER_USER, true, (struct bytes){ in, (size_t)n }, (struct bytes){ out, (size_t)m });
}

static void spellings(void **state) {
	(void)state;
	assert_rewritten(CALLER_USER, true, ENV("FJoe Doe@X.ORG\0T\"b\"@X.org\0"), ENV("F\"Joe Doe\"@x.org\0Tb@x.org\0Plocal\0Ajoe\0"));
	assert_rewritten(CALLER_USER, true, ENV("F\0Tb@x.org\0"), ENV("F\0Tb@x.org\0Plocal\0Ajoe\0"));
}

static void refused(void **state) {
	static const struct { struct bytes in; enum enqueue_exit code; } rows[] = {
		{ { "", 0 }, ENQ_BAD_ENVELOPE }, { { "", 1 }, ENQ_BAD_ENVELOPE }, { ENV("Fa@x.org\0"), ENQ_BAD_ENVELOPE },
		{ { "Fa@x.org\0Tb@x.org", 18 }, ENQ_BAD_ENVELOPE }, { { "Fa@x.org\0Tb@x.org\0", 18 }, ENQ_BAD_ENVELOPE },
		{ ENV("Fa@x.org\0Tb@x.org\0\0Tc@x.org"), ENQ_BAD_ENVELOPE }, { ENV("Tb@x.org\0Fa@x.org\0"), ENQ_BAD_ENVELOPE },
		{ ENV("Fa@x.org\0Fa@x.org\0Tb@x.org\0"), ENQ_BAD_ENVELOPE }, { ENV("Fa@x.org\0Zwhat\0Tb@x.org\0"), ENQ_BAD_ENVELOPE },
		{ ENV("Fa@x.org\0Tb\0"), ENQ_BAD_ADDRESS }, { ENV("Fa@x.org\0T\0"), ENQ_BAD_ADDRESS }, { ENV("F<>\0Tb@x.org\0"), ENQ_BAD_ADDRESS },
		{ ENV("Fa@x.org\0Tb@x.org\0NSOMETIMES\0"), ENQ_BAD_ENVELOPE }, { ENV("Fa@x.org\0NNEVER\0Tb@x.org\0"), ENQ_BAD_ENVELOPE },
		{ ENV("Fa@x.org\0Q why\0Tb@x.org\0"), ENQ_BAD_ENVELOPE }, { ENV("Fa@x.org\0Qa\0Qb\0Tb@x.org\0"), ENQ_BAD_ENVELOPE },
	};
	struct str out = STR_INIT(ENVELOPE_MAX);
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		for (int raw = 0; raw < 2; raw++)
			assert_int_equal(rewrite(CALLER_USER, raw, rows[i].in, &out), rows[i].code);
	str_free(&out);
}

static void too_many(void **state) {
	struct str in = STR_INIT(2 * ENVELOPE_MAX), out = STR_INIT(ENVELOPE_MAX);
	(void)state;
	str_add(&in, ENV("Fa@x.org"));
	for (size_t i = 0; i < ENVELOPE_RCPT_MAX; i++)
		str_add(&in, ENV("Tb@x.org"));
	str_add_char(&in, 0);
	assert_int_equal(rewrite(CALLER_USER, true, str_bytes(&in), &out), ENQ_OK);
	str_truncate(&in, in.len - 1);
	str_add(&in, ENV("Tb@x.org"));
	str_add_char(&in, 0);
	assert_int_equal(rewrite(CALLER_USER, true, str_bytes(&in), &out), ENQ_REFUSED);
	str_free(&in);
	str_free(&out);
}

static uint32_t offset_in(const char *text) {
	struct bytes exact = unit_exact(bytes_of(text));
	uint32_t offset = received_id_offset(exact);
	unit_free(exact);
	return offset;
}

static void id_offsets(void **state) {
	(void)state;
	assert_int_equal(offset_in("Received: by h id ............; now\r\n"), 18);
	assert_int_equal(offset_in("received: by h\r\n\tid ............"), 20);
	assert_int_equal(offset_in("Received: by h\r\nX: id ............\r\n"), 0);
	assert_int_equal(offset_in("X: y\r\nReceived: by h id ............\r\n"), 0);
	assert_int_equal(offset_in("Received: by h id ..........."), 0);
	assert_int_equal(offset_in("Received:"), 0);
	assert_int_equal(offset_in("Received: x\n"), 0);
	assert_int_equal(offset_in(""), 0);
}

static void callers(void **state) {
	struct caller c;
	(void)state;
	assert_true(caller_find(0, &c));
	assert_int_equal(c.kind, CALLER_ROOT);
	assert_string_equal(c.name, "root");
	assert_true(caller_find(4000000001u, &c));
	assert_int_equal(c.kind, CALLER_USER);
	assert_string_equal(c.name, "#4000000001");
}

/* Without the accounts tappal-bounce would be anybody, and what it reports would be reported again. */
static void callers_unknown(void **state) {
	struct rlimit before, none;
	struct caller c;
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	bool known = caller_find(4000000001u, &c);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(known);
}

int main(void) {
	const struct CMUnitTest tests[] = { cmocka_unit_test(claims), cmocka_unit_test(holds), cmocka_unit_test(spellings), cmocka_unit_test(refused), cmocka_unit_test(too_many),
		cmocka_unit_test(id_offsets), cmocka_unit_test(callers), cmocka_unit_test(callers_unknown) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
