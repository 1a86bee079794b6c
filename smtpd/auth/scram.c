/* scram - auth's room: SCRAM-SHA-256, server side. See scram.h. */
#include "scram.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define BASE64_KEY 45u   /* base64 of 32 octets, with NUL */

/* ---- keys ---- */

static void hmac(const uint8_t *key, size_t key_len, struct bytes text, uint8_t out[SCRAM_KEY])
{
	crypto_auth_hmacsha256_state state;
	crypto_auth_hmacsha256_init(&state, key, key_len);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *)text.at, text.len);
	crypto_auth_hmacsha256_final(&state, out);
	sodium_memzero(&state, sizeof state);
}

/* Hi() of RFC 5802 2.2: PBKDF2 with one block. The keyed state is made once. */
static void salted_password(struct bytes password, const struct scram_keys *keys, uint8_t out[SCRAM_KEY])
{
	static const uint8_t one[4] = { 0, 0, 0, 1 };
	crypto_auth_hmacsha256_state keyed, state;
	uint8_t u[SCRAM_KEY];
	crypto_auth_hmacsha256_init(&keyed, (const unsigned char *)password.at, password.len);
	state = keyed;
	crypto_auth_hmacsha256_update(&state, keys->salt, keys->salt_len);
	crypto_auth_hmacsha256_update(&state, one, sizeof one);
	crypto_auth_hmacsha256_final(&state, u);
	memcpy(out, u, SCRAM_KEY);
	for (uint32_t i = 1; i < keys->iterations; i++) {
		state = keyed;
		crypto_auth_hmacsha256_update(&state, u, sizeof u);
		crypto_auth_hmacsha256_final(&state, u);
		for (size_t k = 0; k < SCRAM_KEY; k++)
			out[k] ^= u[k];
	}
	sodium_memzero(&keyed, sizeof keyed);
	sodium_memzero(&state, sizeof state);
	sodium_memzero(u, sizeof u);
}

void scram_derive(struct bytes password, struct scram_keys *keys)
{
	uint8_t salted[SCRAM_KEY], client[SCRAM_KEY];
	if (keys->salt_len == 0) {
		keys->salt_len = SCRAM_SALT;
		keys->iterations = SCRAM_ITERATIONS;
		randombytes_buf(keys->salt, SCRAM_SALT);
	}
	salted_password(password, keys, salted);
	hmac(salted, sizeof salted, LIT("Client Key"), client);
	crypto_hash_sha256(keys->stored, client, sizeof client);
	hmac(salted, sizeof salted, LIT("Server Key"), keys->server);
	sodium_memzero(salted, sizeof salted);
	sodium_memzero(client, sizeof client);
}

bool scram_password_fits(struct bytes password, const struct scram_keys *keys)
{
	struct scram_keys made = *keys;
	scram_derive(password, &made);
	bool fits = sodium_memcmp(made.stored, keys->stored, SCRAM_KEY) == 0;
	sodium_memzero(&made, sizeof made);
	return fits;
}

void scram_made_up(const uint8_t secret[SCRAM_KEY], struct bytes name, struct scram_keys *keys_r)
{
	uint8_t octets[SCRAM_KEY];
	*keys_r = (struct scram_keys){ .iterations = SCRAM_ITERATIONS, .salt_len = SCRAM_SALT };
	hmac(secret, SCRAM_KEY, name, octets);
	memcpy(keys_r->salt, octets, SCRAM_SALT);
	hmac(octets, sizeof octets, name, keys_r->stored);
	hmac(octets, sizeof octets, (struct bytes){ (const char *)keys_r->stored, SCRAM_KEY }, keys_r->server);
	sodium_memzero(octets, sizeof octets);
}

/* libsodium 1.0.18 takes some octets above 127 for letters. */
static bool is_ascii(struct bytes text)
{
	size_t i = 0;
	while (i < text.len && (text.at[i] & 0x80) == 0)
		i++;
	return i == text.len;
}

bool scram_decode(struct bytes text, uint8_t *out, size_t max, size_t *len_r)
{
	const char *end = NULL;
	return text.len > 0 && is_ascii(text) && sodium_base642bin(out, max, text.at, text.len, NULL, len_r, &end, sodium_base64_VARIANT_ORIGINAL) == 0 && end == text.at + text.len;
}

static bool decode_key(struct bytes text, uint8_t out[SCRAM_KEY])
{
	size_t len;
	return scram_decode(text, out, SCRAM_KEY, &len) && len == SCRAM_KEY;
}

bool scram_keys_parse(struct bytes text, struct scram_keys *keys_r)
{
	uint64_t iterations;
	struct bytes count = bytes_cut(&text, ','), salt = bytes_cut(&text, ','), stored = bytes_cut(&text, ',');
	*keys_r = (struct scram_keys){ 0 };
	if (!bytes_to_u64(count, SCRAM_ITERATIONS_MAX, &iterations) || iterations < SCRAM_ITERATIONS_MIN)
		return false;
	keys_r->iterations = (uint32_t)iterations;
	return scram_decode(salt, keys_r->salt, SCRAM_SALT_MAX, &keys_r->salt_len) && keys_r->salt_len > 0 && decode_key(stored, keys_r->stored)
		&& decode_key(text, keys_r->server);
}

static bool add_base64(struct str *out, const uint8_t *octets, size_t len)
{
	char text[2 * SCRAM_SALT_MAX];
	_Static_assert(sizeof text >= sodium_base64_ENCODED_LEN(SCRAM_SALT_MAX, sodium_base64_VARIANT_ORIGINAL), "base64 of the longest salt");
	_Static_assert(sizeof text >= BASE64_KEY, "base64 of a key");
	sodium_bin2base64(text, sizeof text, octets, len, sodium_base64_VARIANT_ORIGINAL);
	bool added = str_add_c(out, text);
	sodium_memzero(text, sizeof text);
	return added;
}

bool scram_keys_format(const struct scram_keys *keys, struct str *out)
{
	return str_addf(out, "%u,", keys->iterations) && add_base64(out, keys->salt, keys->salt_len) && str_add_char(out, ',')
		&& add_base64(out, keys->stored, SCRAM_KEY) && str_add_char(out, ',') && add_base64(out, keys->server, SCRAM_KEY);
}

/* ---- the exchange ---- */

void scram_init(struct scram *s, bool plus, bool plus_offered, struct bytes binding)
{
	uint8_t random[24];
	*s = (struct scram){ .plus = plus, .plus_offered = plus_offered, .header = STR_INIT(SCRAM_MESSAGE_MAX), .first = STR_INIT(SCRAM_MESSAGE_MAX),
		.challenge = STR_INIT(SCRAM_MESSAGE_MAX) };
	if (binding.len <= sizeof s->binding && binding.len > 0) {
		memcpy(s->binding, binding.at, binding.len);
		s->binding_len = binding.len;
	}
	randombytes_buf(random, sizeof random);
	sodium_bin2base64(s->nonce, sizeof s->nonce, random, sizeof random, sodium_base64_VARIANT_ORIGINAL);
}

void scram_wipe(struct scram *s)
{
	str_free(&s->header);
	str_free(&s->first);
	str_free(&s->challenge);
	sodium_memzero(s, sizeof *s);
}

/* The value of "K=value" when the next attribute of *rest is K; it is cut off. A view with at NULL: it is another one. */
static struct bytes attribute(struct bytes *rest, char key)
{
	struct bytes none = { NULL, 0 };
	if (rest->len < 2 || rest->at[0] != key || rest->at[1] != '=')
		return none;
	struct bytes one = bytes_cut(rest, ',');
	return bytes_slice(one, 2, one.len);
}

/* saslname of RFC 5802 7: a comma is written =2C and an equals sign =3D. */
static bool unescape_name(struct bytes in, char out[SCRAM_NAME_MAX + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < in.len; i++) {
		char c = in.at[i];
		if (c == '=') {
			struct bytes code = bytes_slice(in, i, i + 3);
			if (!bytes_equal(code, LIT("=2C")) && !bytes_equal(code, LIT("=3D")))
				return false;
			c = code.at[1] == '2' ? ',' : '=';
			i += 2;
		}
		if (c == '\0' || n == SCRAM_NAME_MAX)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return n > 0;
}

static bool is_nonce(struct bytes nonce)
{
	for (size_t i = 0; i < nonce.len; i++)
		if (nonce.at[i] < 0x21 || nonce.at[i] > 0x7e || nonce.at[i] == ',')
			return false;
	return nonce.len > 0 && nonce.len <= SCRAM_NONCE_MAX;
}

/* gs2-cbind-flag: does it suit the mechanism? "y": the client thinks that we have no channel binding (RFC 5802 6). */
static bool flag_fits(const struct scram *s, struct bytes flag)
{
	if (s->plus)
		return bytes_equal(flag, LIT("p=tls-exporter")) && s->binding_len > 0;
	return bytes_equal(flag, LIT("n")) || (bytes_equal(flag, LIT("y")) && !s->plus_offered);
}

bool scram_first(struct scram *s, struct bytes message)
{
	char authzid[SCRAM_NAME_MAX + 1] = "";
	struct bytes rest = message, flag = bytes_cut(&rest, ','), zid = bytes_cut(&rest, ',');
	if (message.len > SCRAM_MESSAGE_MAX || rest.at == NULL || !flag_fits(s, flag))
		return false;
	if (zid.len > 0 && (!bytes_starts_nocase(zid, LIT("a=")) || zid.at[0] != 'a' || !unescape_name(bytes_slice(zid, 2, zid.len), authzid)))
		return false;
	str_clear(&s->header);
	str_clear(&s->first);
	if (!str_add(&s->header, bytes_slice(message, 0, (size_t)(rest.at - message.at))) || !str_add(&s->first, rest))
		return false;
	/* "m=" is an extension that must be understood; there is none (5.1). */
	struct bytes name = attribute(&rest, 'n'), nonce = attribute(&rest, 'r');
	if (!unescape_name(name, s->name) || !is_nonce(nonce))
		return false;
	/* Nobody acts for another. */
	if (zid.len > 0 && strcmp(authzid, s->name) != 0)
		return false;
	return snprintf(s->full_nonce, sizeof s->full_nonce, "%.*s%s", (int)nonce.len, nonce.at, s->nonce) < (int)sizeof s->full_nonce;
}

struct bytes scram_challenge(struct scram *s)
{
	str_clear(&s->challenge);
	str_addf(&s->challenge, "r=%s,s=", s->full_nonce);
	add_base64(&s->challenge, s->keys.salt, s->keys.salt_len);
	str_addf(&s->challenge, ",i=%u", s->keys.iterations);
	return s->challenge.failed ? (struct bytes){ NULL, 0 } : str_bytes(&s->challenge);
}

/* c= holds the gs2-header as it was, and behind it what binds to the channel. */
static bool binding_fits(const struct scram *s, struct bytes text)
{
	uint8_t got[SCRAM_MESSAGE_MAX];
	size_t len, want = s->header.len + (s->plus ? s->binding_len : 0);
	if (!scram_decode(text, got, sizeof got, &len) || len != want || memcmp(got, s->header.at, s->header.len) != 0)
		return false;
	return !s->plus || sodium_memcmp(got + s->header.len, s->binding, s->binding_len) == 0;
}

/* RFC 5802 3: the client's key follows from its proof and our key; its hash is what we keep. */
static bool proof_fits(const struct scram *s, struct bytes auth_message, const uint8_t proof[SCRAM_KEY])
{
	uint8_t key[SCRAM_KEY], hash[SCRAM_KEY];
	hmac(s->keys.stored, SCRAM_KEY, auth_message, key);
	for (size_t i = 0; i < SCRAM_KEY; i++)
		key[i] ^= proof[i];
	crypto_hash_sha256(hash, key, sizeof key);
	bool fits = sodium_memcmp(hash, s->keys.stored, SCRAM_KEY) == 0;
	sodium_memzero(key, sizeof key);
	return fits;
}

static bool check_proof(const struct scram *s, struct bytes without_proof, const uint8_t proof[SCRAM_KEY], struct str *out)
{
	struct str message = STR_INIT(4 * SCRAM_MESSAGE_MAX);
	uint8_t signature[SCRAM_KEY];
	str_add(&message, str_bytes(&s->first));
	str_add_char(&message, ',');
	str_add(&message, str_bytes(&s->challenge));
	str_add_char(&message, ',');
	bool fits = str_add(&message, without_proof) && proof_fits(s, str_bytes(&message), proof);
	if (fits) {
		hmac(s->keys.server, SCRAM_KEY, str_bytes(&message), signature);
		str_clear(out);
		fits = str_add_c(out, "v=") && add_base64(out, signature, sizeof signature);
	}
	str_free(&message);
	return fits;
}

bool scram_final(struct scram *s, struct bytes message, struct str *out)
{
	uint8_t proof[SCRAM_KEY];
	struct bytes rest = message;
	if (message.len > SCRAM_MESSAGE_MAX || s->challenge.len == 0)
		return false;
	struct bytes binding = attribute(&rest, 'c'), nonce = attribute(&rest, 'r');
	/* The proof is the last attribute; extensions may stand before it. */
	size_t at = bytes_find_last(message, ',');
	struct bytes last = bytes_slice(message, at + 1, message.len);
	struct bytes value = attribute(&last, 'p');
	return binding_fits(s, binding) && bytes_equal(nonce, bytes_of(s->full_nonce)) && decode_key(value, proof)
		&& check_proof(s, bytes_slice(message, 0, at), proof, out);
}
