/* test_scram - SCRAM-SHA-256 by RFC 7677's example, channel binding, and everything that is no such message. */
#include "unit.h"
#include "smtpd/auth/scram.h"

#include <sodium.h>

#define OUR_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define FIRST "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define CHALLENGE "r=rOprNGfwEbeRWgbNEkqO" OUR_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define FINAL "c=biws,r=rOprNGfwEbeRWgbNEkqO" OUR_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define ANSWER "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

/* RFC 7677 3: the keys of "pencil". */
static struct scram_keys example_keys(void)
{
	struct scram_keys keys = { .iterations = 4096 };
	size_t len;
	const char *salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
	assert_int_equal(sodium_base642bin(keys.salt, sizeof keys.salt, salt, strlen(salt), NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
	keys.salt_len = len;
	scram_derive(LIT("pencil"), &keys);
	return keys;
}

static void begin(struct scram *s, bool plus, bool offered, struct bytes binding)
{
	scram_init(s, plus, offered, binding);
	assert_int_equal(strlen(s->nonce), 32);
	memcpy(s->nonce, OUR_NONCE, sizeof OUR_NONCE);
}

static bool first_is_good(bool plus, bool offered, struct bytes message)
{
	struct scram s;
	struct bytes copy = unit_exact(message);
	begin(&s, plus, offered, LIT("0123456789abcdef0123456789abcdef"));
	bool good = scram_first(&s, copy);
	scram_wipe(&s);
	unit_free(copy);
	return good;
}

static bool final_is_good(struct bytes message, struct str *out)
{
	struct scram s;
	struct bytes copy = unit_exact(message);
	begin(&s, false, false, LIT(""));
	assert_true(scram_first(&s, LIT(FIRST)));
	s.keys = example_keys();
	assert_bytes(scram_challenge(&s), CHALLENGE);
	bool good = scram_final(&s, copy, out);
	scram_wipe(&s);
	unit_free(copy);
	return good;
}

static void test_rfc7677(void **state)
{
	struct str out = STR_INIT(200);
	(void)state;
	assert_true(final_is_good(LIT(FINAL), &out));
	assert_bytes(str_bytes(&out), ANSWER);
	str_free(&out);
}

/* Any octet changed, left out or put in, and every beginning: not the proof. */
static void test_final_mutated(void **state)
{
	struct str out = STR_INIT(200);
	char text[sizeof FINAL + 1];
	size_t n = sizeof FINAL - 1;
	(void)state;
	for (size_t i = 0; i < n; i++) {
		memcpy(text, FINAL, n);
		text[i] = (char)(text[i] ^ 1);
		assert_false(final_is_good((struct bytes){ text, n }, &out));
		memmove(text + i, FINAL + i + 1, n - i - 1);
		assert_false(final_is_good((struct bytes){ text, n - 1 }, &out));
		assert_false(final_is_good((struct bytes){ FINAL, i }, &out));
		memcpy(text, FINAL, i);
		text[i] = ',';
		memcpy(text + i + 1, FINAL + i, n - i);
		assert_false(final_is_good((struct bytes){ text, n + 1 }, &out));
	}
	assert_int_equal(out.len, 0);
	str_free(&out);
}

static void test_first(void **state)
{
	static const struct { const char *in; bool good; } cases[] = {
		{ FIRST, true }, { "n,a=user,n=user,r=x", true }, { "n,,n=user,r=x,ext=1", true }, { "y,,n=user,r=x", true },
		{ "n,a=other,n=user,r=x", false }, { "n,b=user,n=user,r=x", false }, { "n,A=user,n=user,r=x", false }, { "", false }, { "n", false }, { "n,", false },
		{ "n,,", false }, { "n,,n=", false }, { "n,,n=user", false }, { "n,,n=user,r=", false }, { "n,,r=x,n=user", false }, { "n,,m=x,n=user,r=x", false },
		{ "n,,n=us=er,r=x", false }, { "n,,n=us=2cer,r=x", false }, { "n,,n=us=2,r=x", false }, { "n,,n==,r=x", false }, { "N,,n=user,r=x", false },
		{ "x,,n=user,r=x", false }, { "p=tls-exporter,,n=user,r=x", false }, { "n,,n=user,r=a b", false }, { "n,,n=user,r=\x7f", false },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (first_is_good(false, false, bytes_of(cases[i].in)) != cases[i].good)
			fail_msg("%s", cases[i].in);
	assert_false(first_is_good(false, true, LIT("y,,n=user,r=x")));   /* somebody hid -PLUS from him */
	assert_true(first_is_good(true, true, LIT("p=tls-exporter,,n=user,r=x")));
	assert_false(first_is_good(true, true, LIT("p=tls-unique,,n=user,r=x")));
	assert_false(first_is_good(true, true, LIT("n,,n=user,r=x")));
	assert_false(first_is_good(false, false, (struct bytes){ "n,,n=us\0er,r=x", 14 }));
}

static void test_name(void **state)
{
	struct scram s;
	char text[400];
	(void)state;
	begin(&s, false, false, LIT(""));
	assert_true(scram_first(&s, LIT("n,,n=a=2Cb=3Dc,r=x")));
	assert_string_equal(s.name, "a,b=c");
	for (int n = 254; n <= 256; n++) {
		snprintf(text, sizeof text, "n,,n=%0*d,r=x", n, 1);
		assert_int_equal(scram_first(&s, bytes_of(text)), n <= 255);
	}
	scram_wipe(&s);
}

/* A client of -PLUS, whose c= holds the header and what binds; RFC 5802's arithmetic from the client's side. */
static bool plus_exchange(struct bytes server_binding, struct bytes client_binding)
{
	static const char header[] = "p=tls-exporter,,", bare[] = "n=user,r=abc";
	struct scram s;
	struct scram_keys keys = example_keys();
	struct str without = STR_INIT(1000), all = STR_INIT(2000), out = STR_INIT(200);
	uint8_t channel[200], salted[32], client_key[32], signature[32];
	char text[400];
	begin(&s, true, true, server_binding);
	assert_true(scram_first(&s, LIT("p=tls-exporter,,n=user,r=abc")));
	s.keys = keys;
	struct bytes challenge = scram_challenge(&s);
	memcpy(channel, header, sizeof header - 1);
	memcpy(channel + sizeof header - 1, client_binding.at, client_binding.len);
	sodium_bin2base64(text, sizeof text, channel, sizeof header - 1 + client_binding.len, sodium_base64_VARIANT_ORIGINAL);
	str_addf(&without, "c=%s,r=abc%s", text, OUR_NONCE);
	str_addf(&all, "%s,%.*s,%s", bare, (int)challenge.len, challenge.at, str_c(&without));
	/* PBKDF2 by hand: the server does not hand out the salted password. */
	crypto_auth_hmacsha256_state st;
	uint8_t u[32];
	crypto_auth_hmacsha256_init(&st, (const unsigned char *)"pencil", 6);
	crypto_auth_hmacsha256_update(&st, keys.salt, keys.salt_len);
	crypto_auth_hmacsha256_update(&st, (const unsigned char *)"\0\0\0\1", 4);
	crypto_auth_hmacsha256_final(&st, u);
	memcpy(salted, u, 32);
	for (int i = 1; i < 4096; i++) {
		crypto_auth_hmacsha256_init(&st, (const unsigned char *)"pencil", 6);
		crypto_auth_hmacsha256_update(&st, u, 32);
		crypto_auth_hmacsha256_final(&st, u);
		for (int k = 0; k < 32; k++)
			salted[k] ^= u[k];
	}
	crypto_auth_hmacsha256(client_key, (const unsigned char *)"Client Key", 10, salted);
	crypto_auth_hmacsha256(signature, (const unsigned char *)all.at, all.len, keys.stored);
	for (int k = 0; k < 32; k++)
		client_key[k] ^= signature[k];
	sodium_bin2base64(text, sizeof text, client_key, 32, sodium_base64_VARIANT_ORIGINAL);
	str_addf(&without, ",p=%s", text);
	bool good = scram_final(&s, str_bytes(&without), &out);
	str_free(&without);
	str_free(&all);
	str_free(&out);
	scram_wipe(&s);
	return good;
}

static void test_plus(void **state)
{
	(void)state;
	assert_true(plus_exchange(LIT("0123456789abcdef0123456789abcdef"), LIT("0123456789abcdef0123456789abcdef")));
	assert_false(plus_exchange(LIT("0123456789abcdef0123456789abcdef"), LIT("0123456789abcdef0123456789abcdeg")));
	assert_false(plus_exchange(LIT("0123456789abcdef0123456789abcdef"), LIT("")));
	assert_false(first_is_good(true, true, LIT("p=tls-exporter,n=user,r=x")));
}

static void test_keys_text(void **state)
{
	struct scram_keys keys = example_keys(), again;
	struct str text = STR_INIT(500);
	(void)state;
	assert_true(scram_keys_format(&keys, &text));
	assert_bytes(str_bytes(&text), "4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
	assert_true(scram_keys_parse(str_bytes(&text), &again));
	assert_memory_equal(&keys, &again, sizeof keys);
	for (size_t n = 0; n < text.len; n++) {
		struct bytes part = unit_exact(bytes_slice(str_bytes(&text), 0, n));
		assert_false(scram_keys_parse(part, &again));
		unit_free(part);
	}
	text.at[0] = '3';   /* too few iterations */
	assert_false(scram_keys_parse(str_bytes(&text), &again));
	assert_true(scram_password_fits(LIT("pencil"), &keys));
	assert_false(scram_password_fits(LIT("pencils"), &keys));
	str_free(&text);
}

static void test_made_up(void **state)
{
	static const uint8_t secret[SCRAM_KEY] = { 1 }, other[SCRAM_KEY] = { 2 };
	struct scram_keys a, b;
	(void)state;
	scram_made_up(secret, LIT("nobody"), &a);
	scram_made_up(secret, LIT("nobody"), &b);
	assert_memory_equal(&a, &b, sizeof a);
	assert_int_equal(a.iterations, SCRAM_ITERATIONS);
	assert_int_equal(a.salt_len, SCRAM_SALT);
	scram_made_up(secret, LIT("nobodz"), &b);
	assert_memory_not_equal(a.salt, b.salt, SCRAM_SALT);
	scram_made_up(other, LIT("nobody"), &b);
	assert_memory_not_equal(a.salt, b.salt, SCRAM_SALT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc7677), cmocka_unit_test(test_final_mutated), cmocka_unit_test(test_first), cmocka_unit_test(test_name), cmocka_unit_test(test_plus),
		cmocka_unit_test(test_keys_text), cmocka_unit_test(test_made_up),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
