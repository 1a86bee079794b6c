/*
 * test_select - which messages a command means: patterns, ages, states, ids and prefixes, limits, and turns over a real index.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queue/tappal/select.h"

#define NOW UINT64_C(1800000000000)
#define HOUR UINT64_C(3600000)

static void globs(void **state)
{
	static const struct { const char *pattern, *text; bool match; } cases[] = {
		{ "", "", true }, { "", "a", false }, { "*", "", true }, { "*", "abc", true }, { "a*c", "abbbc", true }, { "a*c", "abbbd", false }, { "a?c", "abc", true },
		{ "a?c", "ac", false }, { "*@b.example", "x@B.Example", true }, { "*a*a*a*", "aaa", true }, { "*a*a*a*", "aa", false }, { "[a]", "[A]", true }, { "[a]", "a", false },
		{ "**", "x", true }, { "*x", "xxy", false }, { "x*", "X", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (select_glob(bytes_of(cases[i].pattern), bytes_of(cases[i].text)) != cases[i].match)
			fail_msg("%s against %s", cases[i].pattern, cases[i].text);
}

static void glob_is_not_exponential(void **state)
{
	struct str pattern = STR_INIT(10000), text = STR_INIT(10000);

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		str_add_c(&pattern, "*a");
	str_add_char(&pattern, 'b');
	for (unsigned i = 0; i < 1000; i++)
		str_add_char(&text, 'a');
	assert_false(select_glob(str_bytes(&pattern), str_bytes(&text)));
	str_free(&pattern);
	str_free(&text);
}

static void addresses(void **state)
{
	(void)state;
	assert_true(select_address(LIT("<>"), LIT("")));
	assert_true(select_address(LIT(""), LIT("")));
	assert_false(select_address(LIT("<>"), LIT("a@b.example")));
	assert_true(select_address(LIT("@b.example"), LIT("a@B.example")));
	assert_false(select_address(LIT("@b.example"), LIT("a@sub.b.example")));
	assert_true(select_address(LIT("A@b.example"), LIT("a@b.example")));
	assert_false(select_address(LIT("a@b"), LIT("a@b.example")));
}

static void spans(void **state)
{
	uint64_t ms = 0;

	(void)state;
	assert_true(select_span(LIT("90"), &ms) && ms == 90000);
	assert_true(select_span(LIT("15m"), &ms) && ms == 15 * 60000);
	assert_true(select_span(LIT("2h"), &ms) && ms == 2 * HOUR);
	assert_true(select_span(LIT("1w"), &ms) && ms == 7 * 24 * HOUR);
	assert_false(select_span(LIT(""), &ms));
	assert_false(select_span(LIT("h"), &ms));
	assert_false(select_span(LIT("-1h"), &ms));
	assert_false(select_span(LIT("1x"), &ms));
	assert_false(select_span(LIT("0"), &ms));
	assert_false(select_span(LIT("99999999999999999999"), &ms));
}

static void options(void **state)
{
	struct str why = STR_INIT(1000);
	struct selection sel;

	(void)state;
	selection_init(&sel);
	assert_false(selection_given(&sel));
	assert_true(selection_option(&sel, "limit", "5", &why) && sel.limit == 5);
	assert_false(selection_given(&sel));   /* a limit alone chooses nothing */
	assert_true(selection_option(&sel, "state", "hold", &why) && sel.state == STATE_HELD);
	assert_true(selection_given(&sel));
	assert_false(selection_option(&sel, "state", "gone", &why));
	assert_false(selection_option(&sel, "older", "soon", &why));
	assert_false(selection_option(&sel, "limit", "-1", &why));
	assert_true(selection_option(&sel, "from", "", &why) && sel.from.at != NULL);
	selection_free(&sel);
	str_free(&why);
}

/* ---- an index ---- */

static char directory[] = "/tmp/test_select.XXXXXX";
static struct index *ix;

struct rcpt { const char *address, *text; uint8_t state; uint32_t attempts; };
struct message { uint64_t age_hours; const char *sender; bool held; size_t count; struct rcpt rcpt[3]; };

static const struct message messages[] = {
	{ 50, "old@a.example", false, 1, { { "x@b.example", "451 greylisted, come back", RCPT_WAITING, 4 } } },
	{ 40, "", false, 1, { { "ann@a.example", "550 unknown", RCPT_FAILED, 1 } } },
	{ 30, "ann@a.example", true, 2, { { "x@b.example", "", RCPT_WAITING, 0 }, { "y@sub.b.example", "", RCPT_WAITING, 0 } } },
	{ 2, "ann@a.example", false, 3, { { "d@b.example", "250 ok", RCPT_DELIVERED, 1 }, { "e@c.example", "450 Mailbox busy", RCPT_WAITING, 1 }, { "f@c.example", "", RCPT_WAITING, 0 } } },
	{ 1, "bob@a.example", false, 1, { { "x@b.example", "", RCPT_WAITING, 0 } } },
};
#define MESSAGES (sizeof(messages) / sizeof(messages[0]))

static msgid_t id_of(size_t i)
{
	return msgid_next(0, NOW - messages[i].age_hours * HOUR);
}

static void put_message(size_t i)
{
	const struct message *m = &messages[i];
	struct row_message row = { .arrival_ms = NOW - m->age_hours * HOUR, .rcpt_count = (uint32_t)m->count, .held_ms = m->held ? NOW : 0, .held_reason = LIT("spam run?"),
		.sender = bytes_of(m->sender) };

	assert_int_equal(index_put_message(ix, id_of(i), &row), INDEX_OK);
	for (uint32_t n = 0; n < m->count; n++) {
		char destination[100];
		struct row_rcpt rcpt = { .state = m->rcpt[n].state, .attempts = m->rcpt[n].attempts, .address = bytes_of(m->rcpt[n].address), .text = bytes_of(m->rcpt[n].text) };

		snprintf(destination, sizeof(destination), "r:%s", strchr(m->rcpt[n].address, '@') + 1);
		rcpt.destination = bytes_of(destination);
		assert_int_equal(index_put_rcpt(ix, id_of(i), n, &rcpt), INDEX_OK);
	}
}

static int make_index(void **state)
{
	struct str error = STR_INIT(1000);

	(void)state;
	assert_non_null(mkdtemp(directory));
	ix = index_open(directory, UINT64_C(1) << 26, false, &error);
	assert_non_null(ix);
	for (size_t i = 0; i < MESSAGES; i++)
		put_message(i);
	assert_int_equal(index_commit(ix), INDEX_OK);
	index_close(ix);
	ix = index_open(directory, 0, true, &error);
	assert_non_null(ix);
	str_free(&error);
	return 0;
}

static int remove_index(void **state)
{
	char path[200];

	(void)state;
	index_close(ix);
	snprintf(path, sizeof(path), "%s/data.mdb", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lock.mdb", directory);
	unlink(path);
	rmdir(directory);
	return 0;
}

static bool note(void *context, const struct found *f)
{
	struct str *out = context;

	for (size_t i = 0; i < MESSAGES; i++)
		if (id_of(i) == f->id)
			str_addf(out, "%zu%c ", i, message_state_name(f->state)[0]);
	return true;
}

/* Turns of one message and of many must find the same. */
static void expect(const struct selection *sel, const char *found)
{
	for (size_t most = 1; most <= 100; most *= 10) {
		struct str out = STR_INIT(1000);
		enum walk_result r;
		struct walk w;

		walk_begin(&w, sel, ix, NOW);
		while ((r = walk_turn(&w, most, note, &out)) == WALK_MORE)
			;
		assert_int_equal(r, WALK_END);
		assert_string_equal(str_c(&out), found);
		str_free(&out);
	}
}

static void filters(void **state)
{
	static const struct { const char *option, *value, *found; } cases[] = {
		{ NULL, NULL, "0d 1f 2h 3d 4a " },
		{ "from", "ann@a.example", "2h 3d " }, { "from", "<>", "1f " }, { "from", "*@a.example", "0d 2h 3d 4a " }, { "from", "@a.example", "0d 2h 3d 4a " }, { "from", "nobody@x", "" },
		{ "to", "x@b.example", "0d 2h 4a " }, { "to", "d@b.example", "" /* delivered: not in the queue any more */ }, { "to", "ann@a.example", "1f " },
		{ "domain", "b.example", "0d 2h 4a " }, { "domain", ".b.example", "2h " }, { "domain", "c.example", "3d " },
		{ "older", "3h", "0d 1f 2h " }, { "older", "1w", "" }, { "newer", "3h", "3d 4a " },
		{ "state", "held", "2h " }, { "state", "active", "4a " }, { "state", "deferred", "0d 3d " }, { "state", "failed", "1f " },
		{ "reason", "MAILBOX BUSY", "3d " }, { "reason", "grey", "0d " }, { "reason", "spam", "2h " }, { "limit", "2", "0d 1f " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str why = STR_INIT(1000);
		struct selection sel;

		selection_init(&sel);
		if (cases[i].option != NULL)
			assert_true(selection_option(&sel, cases[i].option, cases[i].value, &why));
		expect(&sel, cases[i].found);
		selection_free(&sel);
		str_free(&why);
	}
}

static void filters_together(void **state)
{
	struct str why = STR_INIT(1000);
	struct selection sel;

	(void)state;
	selection_init(&sel);
	selection_option(&sel, "to", "x@b.example", &why);
	selection_option(&sel, "newer", "35h", &why);
	expect(&sel, "2h 4a ");
	selection_option(&sel, "state", "active", &why);
	expect(&sel, "4a ");
	/* the same recipient must agree with all: e@c.example has this text, f@c.example has not */
	selection_init(&sel);
	selection_option(&sel, "to", "f@c.example", &why);
	selection_option(&sel, "reason", "busy", &why);
	expect(&sel, "");
	str_free(&why);
}

static void ids(void **state)
{
	struct selection sel;
	char text[MSGID_TEXT + 1];
	struct id_range range;
	msgid_t found[2];
	unsigned count = 0;

	(void)state;
	selection_init(&sel);
	assert_true(selection_add_id(&sel, (struct id_range){ id_of(3), id_of(3) }));
	assert_true(selection_add_id(&sel, (struct id_range){ id_of(0), id_of(0) }));
	assert_true(selection_add_id(&sel, (struct id_range){ 5, 5 }));
	expect(&sel, "3d 0d ");
	selection_free(&sel);
	for (size_t n = 1; n <= MSGID_TEXT; n++) {
		msgid_format(id_of(4), text);
		assert_true(msgid_parse_prefix((struct bytes){ text, n }, &range.first, &range.last));
		assert_true(index_read_begin(ix));
		assert_int_equal(select_resolve(ix, range, false, &count, found), INDEX_OK);
		index_read_end(ix);
		assert_in_range(count, 1, 2);
		if (n == 1)
			assert_int_equal(count, 2);
		if (n == MSGID_TEXT)
			assert_int_equal(count, 1);
		if (count == 1)
			assert_true(found[0] == id_of(4));
	}
	assert_true(index_read_begin(ix));
	assert_int_equal(select_resolve(ix, (struct id_range){ 1, 9 }, false, &count, found), INDEX_OK);
	assert_int_equal(count, 0);
	index_read_end(ix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(globs), cmocka_unit_test(glob_is_not_exponential), cmocka_unit_test(addresses), cmocka_unit_test(spans), cmocka_unit_test(options),
		cmocka_unit_test(filters), cmocka_unit_test(filters_together), cmocka_unit_test(ids),
	};

	return cmocka_run_group_tests(tests, make_index, remove_index);
}
