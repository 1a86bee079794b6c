/* xclient - smtpd's room: XCLIENT and XFORWARD. See xclient.h. */
#include "xclient.h"

#include "attributes.h"
#include "gate.h"

#include "common/envelope.h"
#include "common/log.h"

#include <stdlib.h>

#define WORDS_MAX 2400u

struct forwarded { struct attributes said; char words[WORDS_MAX]; };

static bool may_xclient(const struct session *s)
{
	return access_in(&s->access->xclients, &s->connected);
}

bool xclient_is_trusted(const struct session *s)
{
	return may_xclient(s) && !s->xclient;
}

static bool may_xforward(const struct session *s)
{
	return access_in(&s->access->xforwards, &s->connected);
}

static void announce(struct session *s, const char *verb, unsigned allowed)
{
	struct str line = STR_INIT(200);
	str_add_c(&line, verb);
	for (size_t i = 0; i < ATTRIBUTES; i++)
		if (allowed & ATTR_BIT(i))
			str_addf(&line, " %s", attribute_name((enum attribute)i));
	session_reply_more(s, 250, NULL, "%s", str_c(&line));
	str_free(&line);
}

void xclient_announce(struct session *s)
{
	if (may_xclient(s))
		announce(s, "XCLIENT", XCLIENT_ATTRIBUTES);
	if (may_xforward(s))
		announce(s, "XFORWARD", XFORWARD_ATTRIBUTES);
}

static bool admit(struct session *s, bool may)
{
	if (!may)
		session_reject(s, NULL, 550, "5.7.0", "Not for this client");
	return may;
}

static bool is_given(const struct attributes *a, enum attribute which)
{
	return (a->given & ATTR_BIT(which)) != 0;
}

/* ---- XCLIENT */

bool check_xclient(struct session *s, struct command *c)
{
	(void)c;
	return admit(s, may_xclient(s));
}

static void take_client(struct session *s, const struct attributes *a)
{
	struct peer client;
	bool other = is_given(a, ATTR_ADDR);
	if (!other && !is_given(a, ATTR_NAME))
		return;
	peer_announced(other ? &a->addr : &s->peer->addr, s->peer->is_socket, is_given(a, ATTR_NAME) ? a->text[ATTR_NAME] : other ? "" : s->peer->name, &client);
	if (other) {
		session_become(s, &client);
		if (!is_given(a, ATTR_NAME))
			gate_name(s);
	} else {
		s->told = client;
		s->peer = &s->told;
	}
}

/* A login that was proved here was proved by the host that speaks, maybe. One that XCLIENT gave stays until it is taken back: its commands may be several. */
static void take_login(struct session *s, const struct attributes *a)
{
	bool proved = s->login[0] != '\0' && !s->login_told;
	if (proved || is_given(a, ATTR_LOGIN)) {
		bytes_to_cstring(bytes_of(a->text[ATTR_LOGIN]), s->login, sizeof s->login);
		s->login_told = s->login[0] != '\0';
		s->may_relay = access_client_may_relay(s->access, &s->peer->addr);
	}
	if (s->login[0] != '\0')
		s->may_relay = true;
}

void act_xclient(struct session *s, struct command *c)
{
	struct attributes said = { 0 };
	const char *fault = attributes_parse(c->argument, XCLIENT_ATTRIBUTES, &said);
	if (fault == NULL && said.text[ATTR_LOGIN][0] != '\0' && !envelope_value_fits('A', bytes_of(said.text[ATTR_LOGIN])))
		fault = "LOGIN cannot be one";
	if (fault != NULL) {
		session_reply(s, 501, "5.5.4", "%s", fault);
		return;
	}
	session_end_transaction(s);
	gate_end(s);
	take_client(s, &said);
	take_login(s, &said);
	s->xclient = true;
	session_begin_anew(s);
	command_helo_text(bytes_of(said.text[ATTR_HELO]), s->helo);
	log_info("XCLIENT: client is %s%s%s", s->peer->text, s->login[0] ? " sasl_username=" : "", log_text(bytes_of(s->login)));
	if (gate_connect(s))
		session_greet(s);
}

/* ---- XFORWARD */

bool check_xforward(struct session *s, struct command *c)
{
	(void)c;
	return admit(s, may_xforward(s));
}

/* The host is trusted, and passes on what strangers said: what could end a word or its brackets becomes "?". */
static void add_shown(struct str *out, const struct attributes *a, enum attribute which)
{
	for (const char *c = a->text[which]; *c != '\0'; c++)
		str_add_char(out, *c > ' ' && *c < 127 && *c != '<' && *c != '>' ? *c : '?');
	if (a->text[which][0] == '\0')
		str_add_c(out, "unknown");
}

static void write_words(struct forwarded *f)
{
	static const struct { enum attribute which; const char *word; } words[] = { { ATTR_PORT, " orig_port=<" }, { ATTR_IDENT, " orig_queue_id=<" },
		{ ATTR_PROTO, " orig_proto=<" }, { ATTR_HELO, " orig_helo=<" }, { ATTR_SOURCE, " orig_source=<" } };
	struct str out = STR_INIT(WORDS_MAX - 1);
	str_add_c(&out, " orig_client=");
	add_shown(&out, &f->said, ATTR_NAME);
	str_add_char(&out, '[');
	add_shown(&out, &f->said, ATTR_ADDR);
	str_add_char(&out, ']');
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (!is_given(&f->said, words[i].which))
			continue;
		str_add_c(&out, words[i].word);
		add_shown(&out, &f->said, words[i].which);
		str_add_char(&out, '>');
	}
	bytes_to_cstring(str_bytes(&out), f->words, sizeof f->words);
	str_free(&out);
}

void act_xforward(struct session *s, struct command *c)
{
	struct attributes said = { 0 };
	if (s->forwarded != NULL)
		said = s->forwarded->said;
	const char *fault = attributes_parse(c->argument, XFORWARD_ATTRIBUTES, &said);
	if (fault != NULL) {
		session_reply(s, 501, "5.5.4", "%s", fault);
		return;
	}
	if (s->forwarded == NULL && (s->forwarded = calloc(1, sizeof *s->forwarded)) == NULL) {
		session_dismiss(s, END_MEMORY, "4.3.0", "Out of memory");
		return;
	}
	s->forwarded->said = said;
	write_words(s->forwarded);
	session_reply(s, 250, "2.0.0", "Ok");
}

void xforward_reset(struct session *s)
{
	free(s->forwarded);
	s->forwarded = NULL;
}

const char *xforward_words(const struct session *s)
{
	return s->forwarded != NULL ? s->forwarded->words : "";
}
