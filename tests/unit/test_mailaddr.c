/* test_mailaddr - the wire form, the canonical form and qmail's raw form, each case in memory of exactly its size. */
#include "unit.h"
#include "common/mailaddr.h"

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X250 X64 X64 X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define D63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char *const error_names[] = { "ok", "syntax", "local-long", "domain", "literal", "long", "utf8" };

/* Wire form in, canonical text or error out. `rest` is what must be left behind the path. */
static const struct { const char *in; bool utf8; enum mailaddr_error error; const char *text, *rest; enum mailaddr_kind kind; } paths[] = {
	{ "<>", false, ADDR_OK, "", "", ADDR_NULL },
	{ "<> SIZE=3", false, ADDR_OK, "", " SIZE=3", ADDR_NULL },
	{ "<a@b>", false, ADDR_OK, "a@b", "", ADDR_MAILBOX },
	{ "<User.Name+tag@Example.ORG> BODY=8BITMIME", false, ADDR_OK, "User.Name+tag@example.org", " BODY=8BITMIME", ADDR_MAILBOX },
	{ "<!#$%&'*+-/=?^_`{|}~@b>", false, ADDR_OK, "!#$%&'*+-/=?^_`{|}~@b", "", ADDR_MAILBOX },
	/* source routes */
	{ "<@a,@b:user@c>", false, ADDR_OK, "user@c", "", ADDR_MAILBOX },
	{ "<@a.example:user@c>x", false, ADDR_OK, "user@c", "x", ADDR_MAILBOX },
	{ "<@a:\"b:c\"@d>", false, ADDR_OK, "\"b:c\"@d", "", ADDR_MAILBOX },
	{ "<@a:postmaster>", false, ADDR_OK, "postmaster", "", ADDR_BARE },
	{ "<@a,@b,:user@c>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<@a,b:user@c>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<@a@b>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<@:user@c>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<@a:>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<@-a:u@c>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	/* quoting: as little as can be */
	{ "<\"abc\"@d>", false, ADDR_OK, "abc@d", "", ADDR_MAILBOX },
	{ "<\"a\\b.c\"@d>", false, ADDR_OK, "ab.c@d", "", ADDR_MAILBOX },
	{ "<\"a b\"@d>", false, ADDR_OK, "\"a b\"@d", "", ADDR_MAILBOX },
	{ "<\"a\\\"b\\\\c\"@d>", false, ADDR_OK, "\"a\\\"b\\\\c\"@d", "", ADDR_MAILBOX },
	{ "<\"a@b>c\"@d>", false, ADDR_OK, "\"a@b>c\"@d", "", ADDR_MAILBOX },
	{ "<\"a..b\"@d>", false, ADDR_OK, "\"a..b\"@d", "", ADDR_MAILBOX },
	{ "<\".a\"@d>", false, ADDR_OK, "\".a\"@d", "", ADDR_MAILBOX },
	{ "<\"\"@d>", false, ADDR_OK, "\"\"@d", "", ADDR_MAILBOX },
	{ "<\"\\ \"@d>", false, ADDR_OK, "\" \"@d", "", ADDR_MAILBOX },
	{ "<\"abc@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"abc\\\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"abc\\", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\"b@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\".\"b\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\tb\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\rb\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\\\nb\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"a\x7f\"@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	/* dots and strangers */
	{ "<.a@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a.@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a..b@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a b@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "< a@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a@d >", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<a\\b@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a(b)@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a,b@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a@b@c>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<@d>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a@>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<a@b.>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<a@b..c>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "a@b", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a@b", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<<a@b>>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a\r\n@b>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	/* without a domain: postmaster alone */
	{ "<Postmaster>", false, ADDR_OK, "Postmaster", "", ADDR_BARE },
	{ "<\"postmaster\">", false, ADDR_OK, "postmaster", "", ADDR_BARE },
	{ "<root>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<postmaster.>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	/* literals */
	{ "<a@[192.0.2.1]>", false, ADDR_OK, "a@[192.0.2.1]", "", ADDR_LITERAL },
	{ "<a@[ipv6:2001:DB8:0:0::1]>", false, ADDR_OK, "a@[IPv6:2001:db8::1]", "", ADDR_LITERAL },
	{ "<a@[2001:db8::1]>", false, ADDR_LITERAL_BAD, NULL, NULL, 0 },
	{ "<a@[x400:foo]>", false, ADDR_LITERAL_BAD, NULL, NULL, 0 },
	{ "<a@[192.0.2.1>", false, ADDR_LITERAL_BAD, NULL, NULL, 0 },
	{ "<a@[192.0.2.300]>", false, ADDR_LITERAL_BAD, NULL, NULL, 0 },
	{ "<a@[192.0.2.1].b>", false, ADDR_LITERAL_BAD, NULL, NULL, 0 },
	/* UTF-8 */
	{ "<\xc3\xa9t\xc3\xa9@b>", true, ADDR_OK, "\xc3\xa9t\xc3\xa9@b", "", ADDR_MAILBOX },
	{ "<\"\xc3\xa9 \"@b>", true, ADDR_OK, "\"\xc3\xa9 \"@b", "", ADDR_MAILBOX },
	{ "<a@b\xc3\xbc" "cher.example>", true, ADDR_OK, "a@b\xc3\xbc" "cher.example", "", ADDR_MAILBOX },
	{ "<\xc3\xa9@b>", false, ADDR_UTF8_NEEDED, NULL, NULL, 0 },
	{ "<a@b\xc3\xbc" "cher.example>", false, ADDR_UTF8_NEEDED, NULL, NULL, 0 },
	{ "<@b\xc3\xbc" "cher.example:a@b>", false, ADDR_UTF8_NEEDED, NULL, NULL, 0 },
	{ "<a\xe9@b>", true, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a\xe9@b>", false, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\xc0\xaf@b>", true, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\xc2\x85@b>", true, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<\"\\\xc3\xa9\"@b>", true, ADDR_SYNTAX, NULL, NULL, 0 },
	{ "<a@b\xed\xa0\x80>", true, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	/* lengths */
	{ "<" X64 "@b>", false, ADDR_OK, X64 "@b", "", ADDR_MAILBOX },
	{ "<" X250 "@b.c>", false, ADDR_OK, X250 "@b.c", "", ADDR_MAILBOX },    /* as SRS and VERP write them, in 256 octets with the brackets */
	{ "<" X250 "@b.cc>", false, ADDR_LONG, NULL, NULL, 0 },
	{ "<" X250 "x@b>", false, ADDR_LOCAL_LONG, NULL, NULL, 0 },
	{ "<\"" X250 "\"@b>", false, ADDR_OK, X250 "@b", "", ADDR_MAILBOX },
	{ "<\"" X250 "x\"@b>", false, ADDR_LOCAL_LONG, NULL, NULL, 0 },
	{ "<x@" D63 "." D63 "." D63 "." "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" ">", false, ADDR_OK,
	  "x@" D63 "." D63 "." D63 "." "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", ADDR_MAILBOX },        /* 256 with its brackets */
	{ "<xx@" D63 "." D63 "." D63 "." "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" ">", false, ADDR_LONG, NULL, NULL, 0 },
	{ "<x@" D63 "." D63 "." D63 "." D63 ".a>", false, ADDR_DOMAIN_BAD, NULL, NULL, 0 },
	{ "<@" D63 "." D63 ",@" D63 "." D63 ":x@b>", false, ADDR_OK, "x@b", "", ADDR_MAILBOX },   /* a dropped route does not count */
};

static void check_path(size_t i)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	size_t used = 0;
	struct bytes in = unit_exact(bytes_of(paths[i].in));
	enum mailaddr_error e = mailaddr_parse_path(in, paths[i].utf8, &text, &addr, &used);

	if (e != paths[i].error)
		fail_msg("case %zu %s: %s, expected %s", i, paths[i].in, error_names[e], error_names[paths[i].error]);
	if (e == ADDR_OK) {
		assert_bytes(addr.text, paths[i].text);
		assert_int_equal(addr.kind, paths[i].kind);
		assert_bytes(bytes_slice(in, used, in.len), paths[i].rest);
		if (addr.kind == ADDR_MAILBOX || addr.kind == ADDR_LITERAL) {
			assert_int_equal(addr.local.len + 1 + addr.domain.len, addr.text.len);
			assert_true(addr.local.at == addr.text.at && addr.domain.at == addr.text.at + addr.local.len + 1);
		}
	}
	unit_free(in);
	str_free(&text);
}

static void wire_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++)
		check_path(i);
	assert_int_equal(COUNT(error_names), ADDR_UTF8_NEEDED + 1);
	for (unsigned e = 0; e < COUNT(error_names); e++)
		assert_true(strlen(mailaddr_error_text((enum mailaddr_error)e)) > 10);
}

/* However little of a path has come, the answer is a refusal that reads nothing behind it; more text behind changes nothing. */
static void cut_and_continued(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		struct str text = STR_INIT(ADDRESS_MAX);
		struct mailaddr addr;
		size_t whole_used = 0, used;
		struct bytes whole = bytes_of(paths[i].in);
		bool good = mailaddr_parse_path(whole, true, &text, &addr, &whole_used) == ADDR_OK;
		for (size_t n = 0; n <= whole.len; n++) {
			struct bytes part = unit_exact(bytes_slice(whole, 0, n));
			bool part_good = mailaddr_parse_path(part, true, &text, &addr, &used) == ADDR_OK;
			if (part_good != (good && n >= whole_used))
				fail_msg("case %zu cut at %zu", i, n);
			if (part_good)
				assert_int_equal(used, whole_used);
			unit_free(part);
		}
		str_free(&text);
	}
}

/* What is canonical stays so, in both readers, and no control octet comes through at any place. */
static void canonical_is_a_fixed_point(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		struct str text = STR_INIT(ADDRESS_MAX);
		struct mailaddr addr, again;
		if (paths[i].error != ADDR_OK || paths[i].kind == ADDR_BARE)
			continue;
		assert_int_equal(mailaddr_parse(bytes_of(paths[i].text), &addr), ADDR_OK);
		assert_int_equal(addr.kind, paths[i].kind);
		assert_bytes(addr.text, paths[i].text);
		assert_int_equal(mailaddr_from_raw(bytes_of(paths[i].text), &text, &again), ADDR_OK);
		assert_bytes(again.text, paths[i].text);
		assert_true(mailaddr_equal(&addr, &again));
		str_free(&text);
	}
}

static void no_octet_slips_in(void **state)
{
	static const char base[] = "\"a b\"@cc.dd";
	struct str text = STR_INIT(ADDRESS_MAX);
	(void)state;
	for (size_t at = 0; at < sizeof base - 1; at++)
		for (unsigned octet = 0; octet < 256; octet++) {
			char in[sizeof base];
			struct mailaddr addr;
			memcpy(in, base, sizeof base);
			in[at] = (char)octet;
			if (mailaddr_parse((struct bytes){ in, sizeof base - 1 }, &addr) == ADDR_OK && (octet < 32 || octet >= 127))
				fail_msg("octet %u at %zu", octet, at);
			/* The raw form takes more spellings but no more octets. */
			if (mailaddr_from_raw((struct bytes){ in, sizeof base - 1 }, &text, &addr) == ADDR_OK && (octet < 32 || octet >= 127))
				fail_msg("octet %u at %zu (raw)", octet, at);
		}
	str_free(&text);
}

static const struct { const char *in; enum mailaddr_error error; } stored[] = {
	{ "\"a\"@B", ADDR_OK },         /* any legal spelling, views as it stands */
	{ "a@b>", ADDR_DOMAIN_BAD },
	{ "postmaster", ADDR_SYNTAX },
	{ "@b", ADDR_SYNTAX },
	{ "a@", ADDR_DOMAIN_BAD },
	{ "<a@b>", ADDR_SYNTAX },
	{ "@x:a@b", ADDR_SYNTAX },
	{ "\"" X64 "\"@b", ADDR_OK },
	{ "\xc3\xa9@b", ADDR_OK },
	{ "\xe9@b", ADDR_SYNTAX },
	{ X64 "@" D63 "." D63 "." D63 "." D63, ADDR_OK },    /* 320 */
	{ "\"x\"@" D63 "." D63 "." D63 "." D63, ADDR_OK },
	{ "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx \"@" D63 "." D63 "." D63 "." D63, ADDR_LONG },
};

static void stored_form(void **state)
{
	struct mailaddr addr;
	(void)state;
	for (size_t i = 0; i < COUNT(stored); i++) {
		struct bytes in = unit_exact(bytes_of(stored[i].in));
		enum mailaddr_error e = mailaddr_parse(in, &addr);
		if (e != stored[i].error)
			fail_msg("%s: %s", stored[i].in, error_names[e]);
		if (e == ADDR_OK)
			assert_true(addr.text.at == in.at && addr.text.len == in.len);
		unit_free(in);
	}
	assert_int_equal(mailaddr_parse(LIT(""), &addr), ADDR_OK);
	assert_int_equal(addr.kind, ADDR_NULL);
	assert_int_equal(mailaddr_parse(LIT("a\0@b"), &addr), ADDR_SYNTAX);
	assert_int_equal(mailaddr_parse(LIT("a@b\0"), &addr), ADDR_DOMAIN_BAD);
}

static const struct { const char *in; enum mailaddr_error error; const char *text; } raws[] = {
	{ "", ADDR_OK, "" },
	{ "a@B.Org", ADDR_OK, "a@b.org" },
	{ "a b@c", ADDR_OK, "\"a b\"@c" },
	{ "a..b@c", ADDR_OK, "\"a..b\"@c" },
	{ "a@b@c", ADDR_OK, "\"a@b\"@c" },
	{ "a\"b@c", ADDR_OK, "\"a\\\"b\"@c" },
	{ "a\\b@c", ADDR_OK, "\"a\\\\b\"@c" },
	{ "\"a b\"@c", ADDR_OK, "\"a b\"@c" },
	{ "\"abc\"@c", ADDR_OK, "abc@c" },
	{ "a@[192.0.2.1]", ADDR_OK, "a@[192.0.2.1]" },
	{ "a@[ipv6:::1]", ADDR_OK, "a@[IPv6:::1]" },
	{ "\xc3\xa9@c", ADDR_OK, "\xc3\xa9@c" },
	{ "\xe9@c", ADDR_SYNTAX, NULL },
	{ "a\tb@c", ADDR_SYNTAX, NULL },
	{ "root", ADDR_SYNTAX, NULL },
	{ "@c", ADDR_SYNTAX, NULL },
	{ "a b@", ADDR_DOMAIN_BAD, NULL },
	{ "a b@c d", ADDR_DOMAIN_BAD, NULL },
	{ "a b@[x]", ADDR_LITERAL_BAD, NULL },
	{ X250 "@b", ADDR_OK, X250 "@b" },
	{ X250 "x@b", ADDR_LOCAL_LONG, NULL },
};

static void raw_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(raws); i++) {
		struct str text = STR_INIT(ADDRESS_MAX);
		struct mailaddr addr;
		struct bytes in = unit_exact(bytes_of(raws[i].in));
		enum mailaddr_error e = mailaddr_from_raw(in, &text, &addr);
		if (e != raws[i].error)
			fail_msg("%s: %s", raws[i].in, error_names[e]);
		if (e == ADDR_OK)
			assert_bytes(addr.text, raws[i].text);
		unit_free(in);
		str_free(&text);
	}
}

static struct mailaddr parsed(const char *text)
{
	struct mailaddr addr;
	assert_int_equal(mailaddr_parse(bytes_of(text), &addr), ADDR_OK);
	return addr;
}

static void comparing(void **state)
{
	struct mailaddr a = parsed("a@B"), quoted = parsed("\"\\a\"@b"), upper = parsed("A@b"), other = parsed("a@c"), none = parsed("");
	(void)state;
	assert_true(mailaddr_equal(&a, &quoted));
	assert_false(mailaddr_equal(&a, &upper));
	assert_false(mailaddr_equal(&a, &other));
	assert_false(mailaddr_equal(&a, &none));
	assert_true(mailaddr_equal(&none, &none));
}

static void unquoting(void **state)
{
	struct str out = STR_INIT(100);
	struct mailaddr addr = parsed("\"a\\\"b \\\\\"@c"), utf8 = parsed("a@b\xc3\xbc.example"), none = parsed("");
	(void)state;
	assert_true(mailaddr_unquote_local(&addr, &out));
	assert_bytes(str_bytes(&out), "a\"b \\");
	assert_true(mailaddr_unquote_local(&none, &out));
	assert_int_equal(out.len, 5);
	assert_true(mailaddr_is_utf8(&utf8));
	assert_false(mailaddr_is_utf8(&addr));
	str_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_form), cmocka_unit_test(cut_and_continued), cmocka_unit_test(canonical_is_a_fixed_point),
		cmocka_unit_test(no_octet_slips_in), cmocka_unit_test(stored_form), cmocka_unit_test(raw_form), cmocka_unit_test(comparing),
		cmocka_unit_test(unquoting),
	};
	return cmocka_run_group_tests_name("mailaddr", tests, NULL, NULL);
}
