/* test_letter - a message as milters see and change it. */
#include "unit.h"
#include "smtpd/content/letter.h"

static void open_letter(struct letter *l, const char *message)
{
	letter_init(l);
	assert_true(draft_add(&l->draft, bytes_of(message)));
	assert_int_equal(letter_open(l), LETTER_OK);
}

/* "[ours]" is the place of our own Received:. */
static void assert_letter(struct letter *l, const char *expected)
{
	struct str all = STR_INIT(100000);
	char piece[7];
	ssize_t n;
	for (size_t i = 0; i < l->count; i++)
		str_add(&all, l->fields[i].text == NULL ? LIT("[ours]") : (struct bytes){ l->fields[i].text, l->fields[i].len });
	if (letter_has_body(l))
		str_add_c(&all, "|");
	for (uint64_t at = 0; (n = letter_read_body(l, at, piece, sizeof piece)) > 0; at += (uint64_t)n)
		str_add(&all, (struct bytes){ piece, (size_t)n });
	assert_bytes(str_bytes(&all), expected);
	str_free(&all);
	letter_free(l);
}

static void messages_are_taken_apart(void **state)
{
	(void)state;
	static const struct { const char *message, *parts; } rows[] = {
		{ "", "[ours]" },
		{ "\r\n", "[ours]" },
		{ "\r\nbody\r\n", "[ours]|body\r\n" },
		{ "A: 1\r\n", "[ours]A: 1\r\n" },
		{ "A: 1\r\n\r\n", "[ours]A: 1\r\n" },
		{ "A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\nbody\r\n\r\nC: no\r\n", "[ours]A: 1\r\n 2\r\n\t3\r\nB:\r\n|body\r\n\r\nC: no\r\n" },
		{ "A: 1\r\nno field\r\nB: 2\r\n", "[ours]A: 1\r\n|no field\r\nB: 2\r\n" },
		{ " begins with a blank\r\nA: 1\r\n", "[ours]| begins with a blank\r\nA: 1\r\n" },
		{ "A : 1\r\nB \t: 2\r\n\r\nx\r\n", "[ours]A : 1\r\nB \t: 2\r\n|x\r\n" },
		{ " : 1\r\n", "[ours]| : 1\r\n" },
		{ "body only\r\n", "[ours]|body only\r\n" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct letter l;
		open_letter(&l, rows[i].message);
		assert_letter(&l, rows[i].parts);
	}
}

static void fields_go_where_they_shall(void **state)
{
	(void)state;
	struct letter l;
	open_letter(&l, "A: 1\r\nB: 2\r\nA: 3\r\n\r\nx\r\n");
	assert_int_equal(letter_add(&l, LIT("Z"), LIT(" end")), LETTER_OK);
	assert_int_equal(letter_insert(&l, 0, LIT("Top"), LIT(" t")), LETTER_OK);
	assert_int_equal(letter_insert(&l, 2, LIT("Under"), LIT(" u")), LETTER_OK);
	assert_int_equal(letter_insert(&l, 4000, LIT("Far"), LIT(" f")), LETTER_OK);
	assert_int_equal(letter_prepend(&l, LIT("")), LETTER_OK);
	assert_letter(&l, "Top: t\r\n[ours]Under: u\r\nA: 1\r\nB: 2\r\nA: 3\r\nZ: end\r\nFar: f\r\n|x\r\n");
}

static void fields_are_changed_by_number(void **state)
{
	(void)state;
	struct letter l;
	open_letter(&l, "A: 1\r\nB: 2\r\na: 3\r\n\r\nx\r\n");
	assert_int_equal(letter_change(&l, LIT("A"), 2, LIT(" three")), LETTER_OK);
	assert_int_equal(letter_change(&l, LIT("b"), 1, LIT("")), LETTER_OK);
	assert_int_equal(letter_change(&l, LIT("C"), 1, LIT(" new")), LETTER_OK);
	assert_int_equal(letter_change(&l, LIT("D"), 1, LIT("")), LETTER_OK);
	assert_int_equal(letter_change(&l, LIT("A"), 0, LIT(" one\nBcc: x")), LETTER_OK);
	assert_letter(&l, "[ours]A: one\r\n\tBcc: x\r\nA: three\r\nC: new\r\n|x\r\n");
}

static void the_trace_is_not_theirs(void **state)
{
	(void)state;
	struct letter l;
	open_letter(&l, "Received: by x\r\nA: 1\r\n\r\n");
	assert_int_equal(letter_change(&l, LIT("received"), 1, LIT("")), LETTER_REFUSED);
	assert_int_equal(letter_insert(&l, 0, LIT("Received"), LIT(" by y")), LETTER_REFUSED);
	assert_int_equal(letter_add(&l, LIT("Return-Path"), LIT(" <>")), LETTER_REFUSED);
	assert_letter(&l, "[ours]Received: by x\r\nA: 1\r\n");
}

static void a_new_body_has_lines(void **state)
{
	(void)state;
	static const struct { const char *first, *second, *body; } rows[] = {
		{ "a\r\nb\r\n", "", "[ours]|a\r\nb\r\n" }, { "a\nb", "", "[ours]|a\r\nb\r\n" }, { "a\r", "\nb\r\n", "[ours]|a\r\nb\r\n" },
		{ "a\r", "b\n", "[ours]|a\r\nb\r\n" }, { "a\r\r\n", "", "[ours]|a\r\n\r\n" }, { "\n", "\n", "[ours]|\r\n\r\n" }, { "", "", "[ours]" },
		{ "a\r\n.\r\nMAIL", "", "[ours]|a\r\n.\r\nMAIL\r\n" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct letter l;
		open_letter(&l, "\r\nold\r\n");
		letter_body_begin(&l);
		assert_int_equal(letter_body_add(&l, bytes_of(rows[i].first)), LETTER_OK);
		assert_int_equal(letter_body_add(&l, bytes_of(rows[i].second)), LETTER_OK);
		assert_int_equal(letter_body_end(&l), LETTER_OK);
		assert_letter(&l, rows[i].body);
	}
	struct letter l;
	open_letter(&l, "\r\nold\r\n");
	letter_body_begin(&l);
	assert_int_equal(letter_body_add(&l, ((struct bytes){ "a\0b", 3 })), LETTER_FULL);   /* half of it must not go anywhere */
	letter_free(&l);
}

static void a_new_binary_body_is_octets(void **state)
{
	(void)state;
	static const char pieces[2][3] = { "a\0", "\r\n" };
	struct letter l;
	char got[8];
	open_letter(&l, "A: 1\r\n\r\nold");
	assert_true(l.parted);
	l.binary = true;
	letter_body_begin(&l);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(letter_body_add(&l, (struct bytes){ pieces[i], sizeof pieces[i] }), LETTER_OK);
	assert_int_equal(letter_body_end(&l), LETTER_OK);
	assert_int_equal(letter_read_body(&l, 0, got, sizeof got), 6);
	assert_memory_equal(got, "a\0\0\r\n\0", 6);
	letter_free(&l);
}

static void bounds_hold(void **state)
{
	(void)state;
	struct letter l;
	struct str line = STR_INIT(70000);
	open_letter(&l, "A: 1\r\n");
	while (line.len < 60000)
		str_add(&line, LIT("0123456789"));
	for (size_t i = 0; i < LETTER_HEAD_MAX / 60000; i++)
		assert_int_equal(letter_add(&l, LIT("X"), str_bytes(&line)), LETTER_OK);
	assert_int_equal(letter_add(&l, LIT("X"), str_bytes(&line)), LETTER_FULL);
	letter_free(&l);
	letter_init(&l);
	for (size_t i = 0; i < 4; i++)
		assert_true(draft_add(&l.draft, str_bytes(&line)));
	assert_int_equal(l.draft.size, 240000);
	assert_int_equal(l.draft.fd, -1);
	letter_free(&l);
	str_free(&line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_taken_apart),
		cmocka_unit_test(fields_go_where_they_shall),
		cmocka_unit_test(fields_are_changed_by_number),
		cmocka_unit_test(the_trace_is_not_theirs),
		cmocka_unit_test(a_new_body_has_lines),
		cmocka_unit_test(a_new_binary_body_is_octets),
		cmocka_unit_test(bounds_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
