/* test_passwords - lines and the whole of the table, cut off anywhere; and verify_own on every scheme. */
#include "unit.h"
#include "smtpd/auth/verify.h"

#include <sodium.h>

#define SCRAM "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define ARGON "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
#define CRYPT6 "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"   /* "Hello world!", Drepper's example */

static void test_lines(void **state)
{
	static const struct { const char *line; bool good; } cases[] = {
		{ "joe:" SCRAM, true }, { "joe:{ARGON2ID}" ARGON, true }, { "joe:{ARGON2ID}" ARGON " " SCRAM, true }, { "joe@example.org:{CRYPT}" CRYPT6, true },
		{ "joe:{sha512-crypt}" CRYPT6, true }, { "joe:{BLF-CRYPT}$2b$05$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK", true }, { "j\xc3\xb6rg:" SCRAM, true },
		{ "", false }, { "joe", false }, { "joe:", false }, { ":" SCRAM, false }, { "joe:x", false }, { "joe:{PLAIN}x", false }, { "joe:{CRYPT}", false }, { "joe:{CRYPT}x", false },
		{ "joe:{CRYPT}$1$abc$def", false }, { "jo e:" SCRAM, false }, { "joe:" SCRAM " " SCRAM, false }, { "joe:{ARGON2ID}" ARGON " {CRYPT}" CRYPT6, false },
		{ "joe: " SCRAM, false }, { "joe:" SCRAM " ", false }, { "joe:{ARGON2ID}$argon2id$v=19$m=99999999,t=2,p=1$c2FsdA$aGFzaA", false },
		{ "joe:{ARGON2ID}$argon2id$v=19$m=65536,t=99999,p=1$c2FsdA$aGFzaA", false }, { "joe:{ARGON2ID}$argon2i$v=19$m=65536,t=2,p=1$c2FsdA$aGFzaA", false },
		{ "joe:{SCRAM-SHA-256}1,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", false },
		{ "joe:$6$x$y", false }, { "joe:{CRYPT}$6$\x01", false },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct password_entry entry;
		const char *why;
		struct bytes line = unit_exact(bytes_of(cases[i].line));
		bool good = password_line_parse(line, &entry, &why);
		if (good != cases[i].good || good != (why == NULL))
			fail_msg("%s: %s", cases[i].line, why ? why : "good");
		unit_free(line);
	}
}

static unsigned bad_lines;
static void count_bad(size_t line, const char *why)
{
	assert_true(line > 0 && why != NULL);
	bad_lines++;
}

static void test_table(void **state)
{
	static const char text[] = "# logins\n\nzoe:" SCRAM "\nann:{CRYPT}" CRYPT6 "\nbroken\nann:" SCRAM "\n";
	struct passwords p;
	const char *why;
	(void)state;
	bad_lines = 0;
	assert_true(passwords_parse(&p, LIT(text), count_bad, &why));
	assert_int_equal(bad_lines, 1);
	assert_int_equal(p.count, 3);
	assert_int_equal(passwords_find(&p, LIT("ann"))->scheme, PASSWORD_CRYPT);   /* the first of the two */
	assert_int_equal(passwords_find(&p, LIT("zoe"))->scheme, PASSWORD_NONE);
	assert_null(passwords_find(&p, LIT("an")));
	assert_null(passwords_find(&p, LIT("")));
	assert_null(passwords_find(&p, LIT("zoez")));
	passwords_free(&p);
	/* Cut off anywhere but after a line: not used. */
	for (size_t n = 0; n < sizeof text; n++) {
		bool whole = n == 0 || text[n - 1] == '\n';
		struct bytes part = unit_exact((struct bytes){ text, n });
		assert_int_equal(passwords_parse(&p, part, NULL, &why), whole);
		passwords_free(&p);
		unit_free(part);
	}
}

static void test_modes(void **state)
{
	struct stat st = { .st_mode = S_IFREG | 0640, .st_uid = 0 };
	(void)state;
	assert_null(passwords_mode_fault(&st, 77));
	st.st_uid = 77;
	assert_null(passwords_mode_fault(&st, 77));
	st.st_uid = 78;
	assert_non_null(passwords_mode_fault(&st, 77));
	st.st_uid = 0;
	for (mode_t mode = 0; mode < 01000; mode++) {
		st.st_mode = S_IFREG | mode;
		assert_int_equal(passwords_mode_fault(&st, 77) == NULL, (mode & 027) == 0);
	}
	st.st_mode = S_IFDIR | 0640;
	assert_non_null(passwords_mode_fault(&st, 77));
}

static enum verify_result verify_line(const char *line, const char *password)
{
	struct password_entry entry;
	const char *why;
	assert_true(password_line_parse(bytes_of(line), &entry, &why));
	struct auth_check check = { .login = entry.login, .scheme = (uint8_t)entry.scheme, .hash = entry.hash, .scram = entry.scram, .password = bytes_of(password) };
	return verify_own(&check);
}

static void test_made_and_verified(void **state)
{
	(void)state;
	for (int scram_only = 0; scram_only < 2; scram_only++) {
		struct str line = STR_INIT(2000);
		str_add_c(&line, "joe:");
		assert_true(password_make(LIT("p\xc3\xa4ss word"), scram_only, &line));
		assert_int_equal(strstr(str_c(&line), "ARGON") == NULL, scram_only);
		assert_int_equal(verify_line(str_c(&line), "p\xc3\xa4ss word"), VERIFY_YES);
		assert_int_equal(verify_line(str_c(&line), "p\xc3\xa4ss wore"), VERIFY_NO);
		str_free(&line);
	}
	assert_int_equal(verify_line("joe:{CRYPT}" CRYPT6, "Hello world!"), VERIFY_YES);
	assert_int_equal(verify_line("joe:{CRYPT}" CRYPT6, "Hello world"), VERIFY_NO);
	assert_int_equal(verify_line("joe:" SCRAM, "pencil"), VERIFY_YES);
	assert_int_equal(verify_line("joe:" SCRAM, ""), VERIFY_NO);
	assert_int_equal(verify_line("joe:{CRYPT}$6$nonsense", "x"), VERIFY_NO);
	assert_int_equal(verify_line("joe:{ARGON2ID}$argon2id$v=19$m=1024,t=2,p=1$!$!", "x"), VERIFY_NO);
	assert_int_equal(verify_own(&(struct auth_check){ .login = LIT("nobody"), .password = LIT("x") }), VERIFY_NO);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_table), cmocka_unit_test(test_modes), cmocka_unit_test(test_made_and_verified) };
	return sodium_init() < 0 || !verify_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
