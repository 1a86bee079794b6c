/* authenticate - smtpd's room: the AUTH command. See authenticate.h. */
#include "authenticate.h"

#include <string.h>

#include "command.h"
#include "smtpd/door/role.h"

#include "common/log.h"

static bool has_mechanism(const struct settings *settings, struct bytes name)
{
	const struct lines *list = &settings->authmechanisms;
	for (size_t i = 0; i < list->count; i++)
		if (bytes_equal_nocase(list->at[i], name))
			return true;
	return false;
}

/* By listener; whether it is safe is another question. */
static bool is_served(const struct session *s)
{
	return (role_row(s->role)->needs_login || s->settings->authrelay) && s->settings->authmechanisms.count > 0;
}

bool authenticate_offered(const struct session *s)
{
	return is_served(s) && (s->tls.on || (!role_row(s->role)->needs_tls && access_may_auth_plain(s->access, &s->peer->addr)));
}

/* In the order in which they are announced: the best first. */
static const struct mechanism { const char *name; bool scram, plus; } mechanisms[] = {
	{ "SCRAM-SHA-256-PLUS", true, true }, { "SCRAM-SHA-256", true, false }, { "PLAIN", false, false }, { "LOGIN", false, false },
};
#define MECHANISMS (sizeof mechanisms / sizeof mechanisms[0])

/* SCRAM needs keys that only the own table has, -PLUS what TLS gives to bind to (RFC 9266). */
static bool is_announced(const struct session *s, const struct mechanism *m)
{
	bool own = bytes_equal(s->settings->authbackend, LIT("own")), binding = s->tls.on && s->tls.binding_len > 0;
	return has_mechanism(s->settings, bytes_of(m->name)) && (own || !m->scram) && (binding || !m->plus);
}

void authenticate_announce(const struct session *s, struct str *out)
{
	for (size_t i = 0; authenticate_offered(s) && i < MECHANISMS; i++)
		if (is_announced(s, &mechanisms[i]))
			str_addf(out, "%s%s", out->len == 0 ? "AUTH " : " ", mechanisms[i].name);
}

/* ---- the end of an exchange ---- */

/* The buffer held a password, maybe; what was moved within it, too. */
static void wipe_input(struct session *s)
{
	struct linein *in = &s->lines;
	explicit_bzero(in->buffer, in->start);
	explicit_bzero(in->buffer + in->end, in->room - in->end);
}

static void log_failure(const struct session *s, const char *why)
{
	log_warn("%s: SASL %s authentication failed: %s, sasl_username=%s", s->peer->text, s->mechanism, why, log_text(s->auth.login));
}

static void succeed(struct session *s)
{
	bytes_to_cstring(s->auth.login, s->login, sizeof s->login);
	s->may_relay = true;
	log_info("%s: SASL %s authentication succeeded, sasl_username=%s", s->peer->text, s->mechanism, log_text(bytes_of(s->login)));
	session_reply(s, 235, "2.7.0", "Authentication successful");
}

static void answer_done(struct session *s)
{
	switch (s->auth.result) {
	case AUTH_OK:
		succeed(s);
		break;
	case AUTH_WRONG:
		log_failure(s, "authentication failure");
		session_reply(s, 535, "5.7.8", "Authentication credentials invalid");
		break;
	case AUTH_LIMITED:
		log_failure(s, "too many failures");
		session_reply(s, 454, "4.7.0", "Too many failed authentications, try again later");
		break;
	case AUTH_CANCELLED:
		session_reply(s, 501, "5.7.0", "Authentication cancelled");
		break;
	case AUTH_NOT_BASE64:
		session_reply(s, 501, "5.5.2", "That is not base64");
		break;
	case AUTH_NO_MECHANISM:
		session_reply(s, 504, "5.5.4", "No such mechanism");
		break;
	default:
		log_warn("%s: SASL %s authentication could not be decided", s->peer->text, s->mechanism);
		session_reply(s, 454, "4.7.0", "Temporary authentication failure");
	}
}

/* Longer than other replies may be (RFC 4954 4): it takes its own way into the buffer. */
static void challenge(struct session *s)
{
	s->code = 334;
	s->state = ST_AUTH;
	str_add_c(&s->replies, "334 ");
	str_add(&s->replies, s->auth.line);
	if (!str_add(&s->replies, LIT("\r\n")))
		s->end = END_MEMORY;
}

static void go_on(struct session *s, enum authask_result result)
{
	wipe_input(s);
	if (result == AUTHASK_LINE) {
		challenge(s);
		return;
	}
	s->state = ST_GREETED;
	if (result == AUTHASK_DONE)
		answer_done(s);
	else
		session_reply(s, 454, "4.7.0", "Temporary authentication failure");
	authask_close(&s->auth);
}

/* ---- the command ---- */

bool check_auth(struct session *s, struct command *c)
{
	(void)c;
	if (!is_served(s))
		session_no_command(s);
	else if (s->login[0] != '\0')
		session_reply(s, 503, "5.5.1", "Already authenticated");
	else if (!s->extended)
		session_reply(s, 503, "5.5.1", "Say EHLO first");
	else if (!authenticate_offered(s))
		session_reply(s, 538, "5.7.11", "Encryption is required before authentication");
	else
		return true;
	wipe_input(s);
	return false;
}

/* What was announced, in letters of ours: it goes into log lines. NULL: it was not. */
static const char *announced(const struct session *s, struct bytes name)
{
	for (size_t i = 0; i < MECHANISMS; i++)
		if (bytes_equal_nocase(name, bytes_of(mechanisms[i].name)) && is_announced(s, &mechanisms[i]))
			return mechanisms[i].name;
	return NULL;
}

void act_auth(struct session *s, struct command *c)
{
	struct bytes initial = c->argument, name = bytes_cut(&initial, ' ');
	initial = bytes_trim(initial);
	s->mechanism = announced(s, name);
	if (s->mechanism == NULL || bytes_find(initial, ' ') < initial.len) {
		session_reply(s, s->mechanism == NULL ? 504 : 501, "5.5.4", s->mechanism == NULL ? "No such mechanism" : "AUTH takes a mechanism and an initial response");
		wipe_input(s);
		return;
	}
	struct auth_begin begin = {
		.has_initial = initial.len > 0, .plus = is_announced(s, &mechanisms[0]), .client = bytes_of(s->peer->ip), .mechanism = bytes_of(s->mechanism),
		.binding = { (const char *)s->tls.binding, s->tls.on ? s->tls.binding_len : 0 }, .initial = initial,
	};
	go_on(s, authask_begin(&s->auth, &begin, s->stop));
}

/* The reply to the last line is AUTH's own, as that to the final dot is DATA's. */
static void count_end(struct session *s)
{
	if (s->state != ST_AUTH && s->code < 400)
		s->count[s->kind].ok++;
}

void authenticate_line(struct session *s, struct bytes line)
{
	go_on(s, authask_line(&s->auth, line, s->stop));
	count_end(s);
}

void authenticate_not_a_line(struct session *s, const char *text)
{
	authask_close(&s->auth);
	wipe_input(s);
	s->state = ST_GREETED;
	session_reply(s, 500, "5.5.6", "%s", text);
}
