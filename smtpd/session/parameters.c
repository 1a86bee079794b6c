/* parameters - smtpd's room: the table of ESMTP parameters. See parameters.h. */
#include "parameters.h"

#include "authenticate.h"

#include "common/envelope.h"
#include "common/xtext.h"

#include <string.h>

#define ENVID_MAX 100u   /* RFC 3461 4.4 */
#define ORCPT_MAX 500u   /* RFC 3461 4.2 */
#define AUTH_MAILBOX_MAX 500u   /* RFC 4954 3 */

static bool check_size(struct session *s, struct command *c, struct bytes value);
static bool check_body(struct session *s, struct command *c, struct bytes value);
static bool check_smtputf8(struct session *s, struct command *c, struct bytes value);
static bool check_ret(struct session *s, struct command *c, struct bytes value);
static bool check_envid(struct session *s, struct command *c, struct bytes value);
static bool check_auth_mailbox(struct session *s, struct command *c, struct bytes value);
static bool check_notify(struct session *s, struct command *c, struct bytes value);
static bool check_orcpt(struct session *s, struct command *c, struct bytes value);

static const struct parameter {
	const char *name, *verb;
	bool (*offered)(const struct session *s);   /* NULL: to everybody */
	bool (*check)(struct session *s, struct command *c, struct bytes value);   /* false: refused and answered */
} parameters[] = {
	{ "SIZE",     "MAIL", NULL,                   check_size },       /* RFC 1870 */
	{ "BODY",     "MAIL", NULL,                   check_body },       /* RFC 6152, RFC 3030 */
	{ "SMTPUTF8", "MAIL", NULL,                   check_smtputf8 },   /* RFC 6531 */
	{ "RET",      "MAIL", parameters_dsn_offered, check_ret },        /* RFC 3461 */
	{ "ENVID",    "MAIL", parameters_dsn_offered, check_envid },
	{ "AUTH",     "MAIL", authenticate_offered,   check_auth_mailbox },   /* RFC 4954 5 */
	{ "NOTIFY",   "RCPT", parameters_dsn_offered, check_notify },
	{ "ORCPT",    "RCPT", parameters_dsn_offered, check_orcpt },
};
#define PARAMETERS (sizeof parameters / sizeof *parameters)
_Static_assert(PARAMETERS <= 32, "a bit for each that was given");

bool parameters_dsn_offered(const struct session *s)
{
	return !policy_is_stranger(s) || access_in(&s->access->dsns, &s->peer->addr);
}

/* ---- values */

/* RFC 5321 4.1.2 esmtp-value, and RFC 6531 3.3. */
static bool is_value_char(char c, bool utf8)
{
	return (unsigned char)c >= 128 ? utf8 : c > ' ' && c != '=' && c != 127;
}

static bool refuse(struct session *s, const char *text)
{
	session_reply(s, 501, "5.5.4", "%s", text);
	return false;
}

static bool check_size(struct session *s, struct command *c, struct bytes value)
{
	uint64_t size, limit = s->settings->databytes;
	(void)c;
	if (value.len > 20 || !bytes_to_u64(value, UINT64_MAX, &size))
		return refuse(s, "SIZE needs a number of at most 20 digits");
	if (limit > 0 && size > limit) {
		session_reject(s, NULL, 552, "5.3.4", "Message size exceeds the limit of %llu octets", (unsigned long long)limit);
		return false;
	}
	return true;
}

static bool check_body(struct session *s, struct command *c, struct bytes value)
{
	if (bytes_equal_nocase(value, LIT("8BITMIME")))
		c->body = BODY_8BITMIME;
	else if (bytes_equal_nocase(value, LIT("BINARYMIME")))
		c->body = BODY_BINARYMIME;
	else if (!bytes_equal_nocase(value, LIT("7BIT")))
		return refuse(s, "BODY is 7BIT, 8BITMIME or BINARYMIME");
	return true;
}

static bool check_smtputf8(struct session *s, struct command *c, struct bytes value)
{
	c->smtputf8 = value.at == NULL;
	return c->smtputf8 || refuse(s, "SMTPUTF8 has no value");
}

static bool check_ret(struct session *s, struct command *c, struct bytes value)
{
	if (bytes_equal_nocase(value, LIT("FULL")))
		c->ret = LIT("FULL");
	else if (bytes_equal_nocase(value, LIT("HDRS")))
		c->ret = LIT("HDRS");
	else
		return refuse(s, "RET is FULL or HDRS");
	return true;
}

/* RFC 3461 4. Control characters are refused in their encoded form as well: no server that decodes them shall find a line end. `utf8`: RFC 6533 3. */
static bool is_xtext(struct bytes text, bool utf8)
{
	for (struct bytes rest = text; rest.len > 0;) {
		unsigned char c;
		size_t n = is_value_char(rest.at[0], utf8) ? xtext_char(rest, &c) : 0;
		if (n == 0 || (n > 1 && (c < ' ' || c == 127)))
			return false;
		rest = bytes_slice(rest, n, rest.len);
	}
	return text.len > 0;
}

static bool check_envid(struct session *s, struct command *c, struct bytes value)
{
	c->envid = value;
	return (value.len <= ENVID_MAX && is_xtext(value, false)) || refuse(s, "ENVID is at most 100 characters of xtext");
}

/* Who submitted it first, as a client that we trust would say. It is checked and goes no further: no server of ours is told. */
static bool check_auth_mailbox(struct session *s, struct command *c, struct bytes value)
{
	(void)c;
	return bytes_equal(value, LIT("<>")) || (value.len <= AUTH_MAILBOX_MAX && is_xtext(value, false)) || refuse(s, "AUTH is <>, or a mailbox as xtext");
}

static bool check_notify(struct session *s, struct command *c, struct bytes value)
{
	c->notify = value;
	return envelope_value_fits('N', value) || refuse(s, "NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY");
}

/* RFC 822 atom. */
static bool is_atom(struct bytes word)
{
	for (size_t i = 0; i < word.len; i++)
		if (word.at[i] <= ' ' || word.at[i] >= 127 || strchr("()<>@,;:\\\".[]", word.at[i]) != NULL)
			return false;
	return word.len > 0;
}

static bool check_orcpt(struct session *s, struct command *c, struct bytes value)
{
	struct bytes address = value, type = bytes_cut(&address, ';');
	c->orcpt = value;
	bool utf8 = s->mail.smtputf8 && bytes_equal_nocase(type, LIT("utf-8"));
	return (value.len <= ORCPT_MAX && is_atom(type) && is_xtext(address, utf8) && bytes_is_utf8_text(address)) || refuse(s, "ORCPT is TYPE;ADDRESS, the address as xtext");
}

/* ---- the line */

/* RFC 5321 4.1.2 esmtp-keyword. */
static bool is_keyword(struct bytes key)
{
	for (size_t i = 0; i < key.len; i++) {
		char c = key.at[i];
		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i > 0)))
			return false;
	}
	return key.len > 0;
}

static bool is_value(struct bytes value, bool utf8)
{
	for (size_t i = 0; i < value.len; i++)
		if (!is_value_char(value.at[i], utf8))
			return false;
	return value.at == NULL || value.len > 0;
}

static const struct parameter *find(const struct session *s, struct bytes key, const char *verb)
{
	for (size_t i = 0; i < PARAMETERS; i++)
		if (bytes_equal_nocase(key, bytes_of(parameters[i].name)) && strcmp(parameters[i].verb, verb) == 0)
			return parameters[i].offered == NULL || parameters[i].offered(s) ? &parameters[i] : NULL;
	return NULL;
}

bool parameters_check(struct session *s, struct command *c, const char *verb)
{
	struct bytes rest = c->argument;
	uint32_t given = 0;
	while (rest.len > 0) {
		struct bytes value = bytes_cut(&rest, ' ');
		if (value.len == 0)
			continue;
		struct bytes key = bytes_cut(&value, '=');
		if (!is_keyword(key) || !is_value(value, s->mail.smtputf8))
			return refuse(s, "Syntax of a parameter: KEYWORD or KEYWORD=value");
		const struct parameter *p = find(s, key, verb);
		if (p == NULL) {
			session_reply(s, 555, "5.5.4", "Unknown %s parameter", verb);
			return false;
		}
		uint32_t bit = UINT32_C(1) << (p - parameters);
		if (given & bit)
			return refuse(s, "A parameter is given twice");
		given |= bit;
		if (!p->check(s, c, value))
			return false;
	}
	return true;
}
