/* test_sasl - the exchanges of AUTH line by line: what each mechanism takes, and base64 that is none. */
#include "unit.h"
#include "smtpd/auth/sasl.h"

#include <sodium.h>

static struct sasl s;

static struct bytes base64(struct bytes in)
{
	static char text[2 * SASL_LINE_MAX];
	sodium_bin2base64(text, sizeof text, (const unsigned char *)in.at, in.len, sodium_base64_VARIANT_ORIGINAL);
	return bytes_of(text);
}

static enum sasl_result plain(struct bytes message)
{
	return sasl_begin(&s, SASL_PLAIN, base64(message), false, (struct bytes){ NULL, 0 });
}

static void done(void)
{
	sasl_wipe(&s);
	for (size_t i = 0; i < sizeof s; i++)
		assert_int_equal(((const char *)&s)[i], 0);
}

static void test_plain(void **state)
{
	static const struct { struct bytes in; enum sasl_result want; } cases[] = {
#define C(text, want) { { text, sizeof text - 1 }, want }
		C("\0joe\0pencil", SASL_VERIFY), C("joe\0joe\0pencil", SASL_VERIFY), C("\0j\xc3\xb6rg@example.org\0p", SASL_VERIFY),
		C("ann\0joe\0pencil", SASL_FAILED), C("", SASL_FAILED), C("\0", SASL_FAILED), C("\0\0", SASL_FAILED), C("\0joe", SASL_FAILED), C("\0joe\0", SASL_FAILED),
		C("\0\0pencil", SASL_FAILED), C("joe\0pencil", SASL_FAILED), C("\0joe\0pen\0cil", SASL_FAILED), C("\0jo e\0pencil", SASL_FAILED),
		C("\0jo:e\0pencil", SASL_FAILED), C("\0jo\re\0pencil", SASL_FAILED), C("\0joe\0pen\ncil", SASL_FAILED), C("\0j\xff\0pencil", SASL_FAILED),
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (plain(cases[i].in) != cases[i].want)
			fail_msg("case %zu", i);
		done();
	}
	assert_int_equal(plain((struct bytes){ "\0joe\0pencil", 11 }), SASL_VERIFY);
	assert_string_equal(s.login, "joe");
	assert_bytes(((struct bytes){ s.password, s.password_len }), "pencil");
	done();
	/* Without an initial response; an empty challenge. */
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, (struct bytes){ NULL, 0 }, false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_int_equal(s.out.len, 0);
	assert_int_equal(sasl_line(&s, LIT("AGpvZQBwZW5jaWw=")), SASL_VERIFY);
	done();
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, LIT("="), false, (struct bytes){ NULL, 0 }), SASL_FAILED);
	done();
}

static void test_lengths(void **state)
{
	char message[2000];
	(void)state;
	for (size_t login = 254; login <= 256; login++)
		for (size_t password = 1023; password <= 1025; password++) {
			memset(message, 'x', sizeof message);
			message[0] = message[1 + login] = '\0';
			assert_int_equal(plain((struct bytes){ message, 2 + login + password }), login <= 255 && password <= 1024 ? SASL_VERIFY : SASL_FAILED);
			done();
		}
}

static void test_login(void **state)
{
	(void)state;
	assert_int_equal(sasl_begin(&s, SASL_LOGIN, (struct bytes){ NULL, 0 }, false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_bytes(str_bytes(&s.out), "VXNlcm5hbWU6");
	assert_int_equal(sasl_line(&s, LIT("am9l")), SASL_CHALLENGE);
	assert_bytes(str_bytes(&s.out), "UGFzc3dvcmQ6");
	assert_int_equal(sasl_line(&s, LIT("cGVuY2ls")), SASL_VERIFY);
	assert_string_equal(s.login, "joe");
	assert_bytes(((struct bytes){ s.password, s.password_len }), "pencil");
	done();
	/* The name with the command; a name that cannot be one is refused no earlier than others. */
	assert_int_equal(sasl_begin(&s, SASL_LOGIN, base64(LIT("no name")), false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_int_equal(sasl_line(&s, LIT("cGVuY2ls")), SASL_FAILED);
	done();
	assert_int_equal(sasl_begin(&s, SASL_LOGIN, base64(LIT("joe")), false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_int_equal(sasl_line(&s, LIT("")), SASL_FAILED);
	done();
	assert_int_equal(sasl_begin(&s, SASL_LOGIN, base64(LIT("joe")), false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_int_equal(sasl_line(&s, LIT("*")), SASL_CANCELLED);
	done();
}

/* Every length, with every padding: what is not base64 is said so, and nothing of it is used. */
static void test_base64(void **state)
{
	static const char *const bad[] = { "A", "AA", "AAA", "AAA==", "A===", "=AAA", "AA=A", "AAAA=", "AAAA====", "AAA\n", "AA A", "AAA*", "**", "AAA-", "AAA_", "AAAA\r\n", "AB==", "AAB=",
		"====", "\xc3\xa4" "AA" };
	char text[64];
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (sasl_begin(&s, SASL_PLAIN, bytes_of(bad[i]), false, (struct bytes){ NULL, 0 }) != SASL_NOT_BASE64)
			fail_msg("%s", bad[i]);
		done();
	}
	for (size_t n = 1; n < 60; n++) {
		memset(text, 'A', n);
		struct bytes line = unit_exact((struct bytes){ text, n });
		assert_int_equal(sasl_begin(&s, SASL_PLAIN, line, false, (struct bytes){ NULL, 0 }), n % 4 == 0 ? SASL_FAILED : SASL_NOT_BASE64);
		unit_free(line);
		done();
	}
	static char longest[SASL_LINE_MAX + 4];
	memset(longest, 'A', sizeof longest);
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, (struct bytes){ longest, SASL_LINE_MAX }, false, (struct bytes){ NULL, 0 }), SASL_FAILED);
	done();
	assert_int_equal(sasl_begin(&s, SASL_PLAIN, (struct bytes){ longest, SASL_LINE_MAX + 4 }, false, (struct bytes){ NULL, 0 }), SASL_NOT_BASE64);
	done();
}

/* RFC 7677's exchange, through the lines of SMTP. */
static void test_scram(void **state)
{
	(void)state;
	assert_int_equal(sasl_begin(&s, SASL_SCRAM, (struct bytes){ NULL, 0 }, false, (struct bytes){ NULL, 0 }), SASL_CHALLENGE);
	assert_int_equal(s.out.len, 0);
	memcpy(s.scram.nonce, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", 31);
	assert_int_equal(sasl_line(&s, base64(LIT("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))), SASL_KEYS);
	assert_string_equal(s.login, "user");
	assert_true(scram_keys_parse(LIT("4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="), &s.scram.keys));
	assert_int_equal(sasl_keys(&s), SASL_CHALLENGE);
	assert_bytes(str_bytes(&s.out), str_c(&(struct str){ .at = (char *)(uintptr_t)base64(LIT("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")).at }));
	assert_int_equal(sasl_line(&s, base64(LIT("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))), SASL_CHALLENGE);
	assert_bytes(str_bytes(&s.out), "dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==");
	assert_int_equal(sasl_line(&s, LIT("")), SASL_OK);
	done();
	assert_int_equal(sasl_begin(&s, SASL_SCRAM_PLUS, base64(LIT("p=tls-exporter,,n=user,r=x")), true, (struct bytes){ NULL, 0 }), SASL_FAILED);
	done();
}

static void test_names(void **state)
{
	enum sasl_mechanism m;
	(void)state;
	assert_true(sasl_mechanism(LIT("scram-sha-256-plus"), &m));
	assert_int_equal(m, SASL_SCRAM_PLUS);
	assert_true(sasl_mechanism(LIT("Plain"), &m));
	assert_int_equal(m, SASL_PLAIN);
	assert_false(sasl_mechanism(LIT("PLAI"), &m));
	assert_false(sasl_mechanism(LIT(""), &m));
	assert_false(sasl_mechanism(LIT("CRAM-MD5"), &m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_lengths), cmocka_unit_test(test_login), cmocka_unit_test(test_base64), cmocka_unit_test(test_scram),
		cmocka_unit_test(test_names),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
