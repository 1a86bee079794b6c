/* test_milterwire - the milter protocol as octets: packets out, packets in, and what a header's value may hold. */
#include "unit.h"
#include "smtpd/content/wire.h"

#define PACKET(text) ((struct bytes){ text, sizeof(text) - 1 })

static bool parses(struct bytes packet, struct milter_reply *r)
{
	struct bytes exact = unit_exact(packet);
	bool good = milter_parse(exact, r);
	unit_free(exact);
	return good;
}

static void a_packet_is_built(void **state)
{
	(void)state;
	struct str out = STR_INIT(1000);
	size_t begun = milter_begin(&out, MILTER_HELO);
	milter_add_text(&out, PACKET("a\0b"));
	milter_end(&out, begun);
	assert_true(bytes_equal(str_bytes(&out), PACKET("\0\0\0\5Ha?b\0")));
	str_clear(&out);
	milter_offer(&out);
	assert_true(bytes_equal(str_bytes(&out), PACKET("\0\0\0\15O\0\0\0\6\0\0\1\377\0\37\377\377")));
	str_free(&out);
}

static void packets_are_cut_at_their_length(void **state)
{
	(void)state;
	struct bytes in = PACKET("\0\0\0\1c\0\0\0\2dx"), packet;
	size_t used;
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(milter_take(bytes_slice(in, 0, i), &packet, &used), MILTER_MORE);
	assert_int_equal(milter_take(in, &packet, &used), MILTER_PACKET);
	assert_bytes(packet, "c");
	assert_int_equal(used, 5);
	assert_int_equal(milter_take(PACKET("\0\0\0\0c"), &packet, &used), MILTER_BROKEN);
	assert_int_equal(milter_take(PACKET("\0\20\0\1c"), &packet, &used), MILTER_BROKEN);
	assert_int_equal(milter_take(PACKET("\377\377\377\377c"), &packet, &used), MILTER_BROKEN);
}

static void every_answer_is_consumed_exactly(void **state)
{
	(void)state;
	static const struct { struct bytes packet; bool good; } rows[] = {
		{ PACKET("c"), true }, { PACKET("cx"), false }, { PACKET("a"), true }, { PACKET("s"), true }, { PACKET("p"), true }, { PACKET("4"), true },
		{ PACKET("f"), true }, { PACKET("r"), true }, { PACKET("t"), true }, { PACKET("d"), true }, { PACKET("?"), false }, { PACKET(""), false },
		{ PACKET("hX-A\0v\0"), true }, { PACKET("hX-A\0v"), false }, { PACKET("hX-A\0v\0z"), false }, { PACKET("hX A\0v\0"), false },
		{ PACKET("hX\nA\0v\0"), false }, { PACKET("hX:\0v\0"), false }, { PACKET("h\0v\0"), false }, { PACKET("hX\0\0"), true },
		{ PACKET("i\0\0\0\1X\0v\0"), true }, { PACKET("i\0\0\1"), false }, { PACKET("m\0\0\0\1X\0v\0"), true }, { PACKET("mX\0v\0"), false },
		{ PACKET("+<a@b>\0"), true }, { PACKET("+<a@b>"), false }, { PACKET("+<a@b>\0NOTIFY=NEVER\0"), false }, { PACKET("+\0"), false },
		{ PACKET("2<a@b>\0NOTIFY=NEVER\0"), true }, { PACKET("e<>\0"), true }, { PACKET("e<>\0X\0Y\0"), false }, { PACKET("-<a@b>\0"), true },
		{ PACKET("b"), true }, { PACKET("b\0\r\n"), true }, { PACKET("qwhy\0"), true }, { PACKET("qwhy"), false },
		{ PACKET("y550 5.7.1 no\0"), true }, { PACKET("y550\0"), true }, { PACKET("y250 ok\0"), false }, { PACKET("y600 x\0"), false },
		{ PACKET("y55\0"), false }, { PACKET("y5505 x\0"), false }, { PACKET("y550 x"), false }, { PACKET("y550 x\0y\0"), false },
		{ PACKET("O\0\0\0\6\0\0\0\0\0\0\0\0"), true }, { PACKET("O\0\0\0\7\0\0\0\0\0\0\0\0"), false }, { PACKET("O\0\0\0\1\0\0\0\0\0\0\0\0"), false },
		{ PACKET("O\0\0\0\6\0\0\2\0\0\0\0\0"), false }, { PACKET("O\0\0\0\6\0\0\0\0\1\0\0\0"), false }, { PACKET("O\0\0\0\6\0\0\0\0\0\0\0"), false },
		{ PACKET("O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\2i\0"), true }, { PACKET("O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\7i\0"), false },
		{ PACKET("O\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\2i"), false },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct milter_reply r;
		if (parses(rows[i].packet, &r) != rows[i].good)
			fail_msg("row %zu (%c) was %s", i, rows[i].packet.len ? rows[i].packet.at[0] : '-', rows[i].good ? "refused" : "taken");
	}
}

static void fields_are_where_they_belong(void **state)
{
	(void)state;
	struct milter_reply r;
	assert_true(milter_parse(PACKET("m\0\0\1\2X-Spam\0yes\0"), &r));
	assert_int_equal(r.index, 258);
	assert_bytes(r.name, "X-Spam");
	assert_bytes(r.value, "yes");
	assert_true(milter_parse(PACKET("2<a@b>\0NOTIFY=NEVER\0"), &r));
	assert_bytes(r.name, "<a@b>");
	assert_bytes(r.value, "NOTIFY=NEVER");
	assert_true(milter_parse(PACKET("y451 4.7.0 Come later\0"), &r));
	assert_int_equal(r.code, 451);
	assert_int_equal(r.enhanced.class, 4);
	assert_int_equal(r.enhanced.subject, 7);
	assert_bytes(r.value, "Come later");
	assert_true(milter_parse(PACKET("y550 5.x No\0"), &r));
	assert_int_equal(r.enhanced.class, 0);
	assert_bytes(r.value, "5.x No");
	assert_true(milter_parse(PACKET("O\0\0\0\6\0\0\0\21\0\0\0\3\0\0\0\2i, {auth_type}\0\0\0\0\5\0"), &r));
	assert_int_equal(r.options.actions, 0x11);
	assert_bytes(r.options.macros[STAGE_OF_MAIL], "i, {auth_type}");
	assert_true(r.options.macros[STAGE_OF_BODY_END].at != NULL && r.options.macros[STAGE_OF_BODY_END].len == 0);
	assert_null(r.options.macros[STAGE_OF_RCPT].at);
}

static void no_value_begins_another_field(void **state)
{
	(void)state;
	static const struct { struct bytes value; const char *clean; } rows[] = {
		{ LIT("plain"), "plain" },
		{ LIT("a\n\tb"), "a\r\n\tb" },
		{ LIT("a\r\n b"), "a\r\n b" },
		{ LIT("a\nBcc: evil"), "a\r\n\tBcc: evil" },
		{ LIT("a\r\nBcc: evil\r\n"), "a\r\n\tBcc: evil" },
		{ LIT("a\r\n\r\nbody"), "a\r\n\tbody" },
		{ LIT("a\n \n\nbody"), "a\r\n\tbody" },
		{ LIT("a\rBcc: evil"), "a Bcc: evil" },
		{ PACKET("a\0b"), "a b" },
		{ LIT(""), "" },
		{ LIT("\nX: y"), "\r\n\tX: y" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct str out = STR_INIT(1000);
		assert_true(milter_clean_value(rows[i].value, &out));
		assert_bytes(str_bytes(&out), rows[i].clean);
		str_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_packet_is_built),
		cmocka_unit_test(packets_are_cut_at_their_length),
		cmocka_unit_test(every_answer_is_consumed_exactly),
		cmocka_unit_test(fields_are_where_they_belong),
		cmocka_unit_test(no_value_begins_another_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
