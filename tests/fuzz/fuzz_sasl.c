/*
 * fuzz_sasl - any lines as an exchange of AUTH. The first octet chooses mechanism and binding, each further line is one of the client's.
 * Nobody gets in: no keys are known, so no exchange may end in SASL_OK. The table's lines are fed the same octets.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "smtpd/auth/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static enum sasl_result keys(struct sasl *s)
{
	static const uint8_t secret[SCRAM_KEY] = { 7 };

	scram_made_up(secret, bytes_of(s->scram.name), &s->scram.keys);
	return sasl_keys(s);
}

static void exchange(uint8_t how, struct bytes rest, bool encode)
{
	static struct sasl s;
	static char text[2 * SASL_LINE_MAX];
	enum sasl_result result = SASL_CHALLENGE;
	bool first = true;

	while (rest.len > 0 && result == SASL_CHALLENGE) {
		struct bytes line = bytes_cut(&rest, '\n');

		if (encode && line.len <= SASL_LINE_MAX) {
			sodium_bin2base64(text, sizeof text, (const unsigned char *)line.at, line.len, sodium_base64_VARIANT_ORIGINAL);
			line = bytes_of(text);
		}
		result = first ? sasl_begin(&s, (enum sasl_mechanism)(how % SASL_MECHANISMS), line, (how & 4) != 0, how & 8 ? LIT("0123456789abcdef") : LIT("")) : sasl_line(&s, line);
		first = false;
		if (result == SASL_KEYS)
			result = keys(&s);
	}
	require(result != SASL_OK && result != SASL_KEYS);
	if (result == SASL_VERIFY)
		require(password_login_valid(bytes_of(s.login)) && password_valid((struct bytes){ s.password, s.password_len }));
	if (!first)
		sasl_wipe(&s);
}

static void table(struct bytes text)
{
	struct passwords p;
	const char *why;

	if (passwords_parse(&p, text, NULL, &why)) {
		for (size_t i = 0; i < p.count; i++)
			require(passwords_find(&p, p.entries[i].login) != NULL);
		passwords_free(&p);
	} else {
		require(why != NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct bytes rest = { (const char *)data + 1, size - 1 };

	exchange(data[0], rest, (data[0] & 16) != 0);
	table(rest);
	return 0;
}
