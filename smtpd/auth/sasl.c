/* sasl - auth's room: the exchanges of the mechanisms. See sasl.h. */
#include "sasl.h"

#include <sodium.h>
#include <string.h>

const char *const sasl_names[SASL_MECHANISMS] = { "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" };

bool sasl_mechanism(struct bytes name, enum sasl_mechanism *mechanism_r)
{
	for (unsigned i = 0; i < SASL_MECHANISMS; i++)
		if (bytes_equal_nocase(name, bytes_of(sasl_names[i]))) {
			*mechanism_r = (enum sasl_mechanism)i;
			return true;
		}
	return false;
}

static enum sasl_result challenge(struct sasl *s, struct bytes text)
{
	size_t room = sodium_base64_ENCODED_LEN(text.len, sodium_base64_VARIANT_ORIGINAL);
	str_clear(&s->out);
	char *at = str_reserve(&s->out, room);
	if (at == NULL)
		return SASL_NO_MEMORY;
	sodium_bin2base64(at, room, (const unsigned char *)text.at, text.len, sodium_base64_VARIANT_ORIGINAL);
	str_grew(&s->out, room - 1);
	return SASL_CHALLENGE;
}

static bool keep_login(struct sasl *s, struct bytes login)
{
	return password_login_valid(login) && bytes_to_cstring(login, s->login, sizeof s->login);
}

static bool keep_password(struct sasl *s, struct bytes password)
{
	if (!password_valid(password))
		return false;
	memcpy(s->password, password.at, password.len);
	s->password_len = password.len;
	return true;
}

/* [authzid] NUL authcid NUL password. Nobody acts for another. */
static enum sasl_result plain(struct sasl *s, struct bytes message)
{
	struct bytes rest = message, zid = bytes_cut(&rest, '\0'), login = bytes_cut(&rest, '\0');
	if (rest.at == NULL || !keep_login(s, login) || (zid.len > 0 && !bytes_equal(zid, login)))
		return SASL_FAILED;
	return keep_password(s, rest) ? SASL_VERIFY : SASL_FAILED;
}

static enum sasl_result login(struct sasl *s, struct bytes message)
{
	if (s->step++ == 0) {
		/* A name that cannot be one is refused when the password has been asked for, like any other. */
		if (!keep_login(s, message))
			s->login[0] = '\0';
		return challenge(s, LIT("Password:"));
	}
	return keep_password(s, message) && s->login[0] != '\0' ? SASL_VERIFY : SASL_FAILED;
}

static enum sasl_result scram(struct sasl *s, struct bytes message)
{
	struct str final = STR_INIT(200);
	enum sasl_result result = SASL_FAILED;
	switch (s->step++) {
	case 0:
		if (scram_first(&s->scram, message) && keep_login(s, bytes_of(s->scram.name)))
			result = SASL_KEYS;
		break;
	case 1:
		if (scram_final(&s->scram, message, &final))
			result = challenge(s, str_bytes(&final));
		break;
	default:   /* SMTP has no data beside success, so the client answers our signature with an empty line (RFC 4422 4) */
		result = message.len == 0 ? SASL_OK : SASL_FAILED;
	}
	str_free(&final);
	return result;
}

static enum sasl_result take(struct sasl *s, struct bytes message)
{
	switch (s->mechanism) {
	case SASL_PLAIN: return plain(s, message);
	case SASL_LOGIN: return login(s, message);
	default: return scram(s, message);
	}
}

static enum sasl_result take_base64(struct sasl *s, struct bytes text)
{
	size_t len = 0;
	if (text.len > sizeof s->line || (text.len > 0 && !scram_decode(text, (uint8_t *)s->line, sizeof s->line, &len)))
		return SASL_NOT_BASE64;
	enum sasl_result result = take(s, (struct bytes){ s->line, len });
	sodium_memzero(s->line, text.len);
	return result;
}

enum sasl_result sasl_begin(struct sasl *s, enum sasl_mechanism mechanism, struct bytes initial, bool plus_offered, struct bytes binding)
{
	s->mechanism = mechanism;
	s->step = 0;
	s->login[0] = '\0';
	s->password_len = 0;
	s->out = STR_INIT(2 * SASL_LINE_MAX);
	scram_init(&s->scram, mechanism == SASL_SCRAM_PLUS, plus_offered, binding);
	if (initial.at == NULL)
		return challenge(s, mechanism == SASL_LOGIN ? LIT("Username:") : LIT(""));
	return take_base64(s, bytes_equal(initial, LIT("=")) ? LIT("") : initial);
}

enum sasl_result sasl_line(struct sasl *s, struct bytes line)
{
	if (bytes_equal(line, LIT("*")))
		return SASL_CANCELLED;
	return take_base64(s, line);
}

enum sasl_result sasl_keys(struct sasl *s)
{
	struct bytes text = scram_challenge(&s->scram);
	return text.len > 0 ? challenge(s, text) : SASL_NO_MEMORY;
}

void sasl_wipe(struct sasl *s)
{
	scram_wipe(&s->scram);
	str_free(&s->out);
	sodium_memzero(s, sizeof *s);
}
