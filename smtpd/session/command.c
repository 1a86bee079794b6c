/* command - smtpd's room: the table of commands. See command.h. */
#include "command.h"

#include "authenticate.h"
#include "chunk.h"
#include "smtpd/content/content.h"
#include "etrn.h"
#include "gate.h"
#include "parameters.h"
#include "receive.h"
#include "smtpd/door/role.h"
#include "starttls.h"
#include "submission.h"
#include "xclient.h"

#include <stdio.h>
#include <string.h>

#include "common/envelope.h"
#include "common/log.h"
#include "common/route.h"

static bool check_nothing(struct session *s, struct command *c);
static bool check_unavailable(struct session *s, struct command *c);
static bool check_mail(struct session *s, struct command *c);
static bool check_rcpt(struct session *s, struct command *c);
static bool check_data(struct session *s, struct command *c);
static void act_helo(struct session *s, struct command *c);
static void act_ehlo(struct session *s, struct command *c);
static void act_mail(struct session *s, struct command *c);
static void act_rcpt(struct session *s, struct command *c);
static void act_data(struct session *s, struct command *c);
static void act_rset(struct session *s, struct command *c);
static void act_noop(struct session *s, struct command *c);
static void act_vrfy(struct session *s, struct command *c);
static void act_help(struct session *s, struct command *c);
static void act_quit(struct session *s, struct command *c);

/* Of an envelope's room, for one more recipient with what is asked for it, and for the attributes. */
#define ENVELOPE_RESERVE 8192u
#define RCPT_OVER_MAX 1000u

#define ST_ANY (ST_START | ST_GREETED | ST_MAIL | ST_RCPT | ST_BDAT)

/* "legal in" is where a command is carried out; elsewhere it gets 503 5.5.1 and changes nothing. */
const struct command_row command_table[] = {
/*  verb        keyword   legal in    argument  ends group  idle   check              act      */
{  "HELO",      NULL,     ST_ANY,     ARG_TEXT, true,       true,  gate_helo,         act_helo },
{  "EHLO",      NULL,     ST_ANY,     ARG_TEXT, true,       true,  gate_helo,         act_ehlo },
{  "MAIL",      "FROM:",  ST_GREETED, ARG_PATH, false,      false, check_mail,        act_mail },
{  "RCPT",      "TO:",    ST_MAIL | ST_RCPT, ARG_PATH, false, false, check_rcpt,      act_rcpt },
{  "DATA",      NULL,     ST_RCPT,    ARG_NONE, true,       false, check_data,        act_data },
{  "BDAT",      NULL,     ST_ANY,     ARG_ANY,  false,      false, check_bdat,        act_bdat },   /* act judges the state, behind the octets */
{  "RSET",      NULL,     ST_ANY,     ARG_NONE, false,      true,  check_nothing,     act_rset },
{  "NOOP",      NULL,     ST_ANY,     ARG_ANY,  true,       true,  check_nothing,     act_noop },
{  "VRFY",      NULL,     ST_ANY,     ARG_TEXT, true,       true,  check_nothing,     act_vrfy },
{  "HELP",      NULL,     ST_ANY,     ARG_ANY,  true,       true,  check_nothing,     act_help },
{  "QUIT",      NULL,     ST_ANY,     ARG_NONE, true,       false, check_nothing,     act_quit },
{  "EXPN",      NULL,     ST_ANY,     ARG_ANY,  true,       true,  check_unavailable, NULL },
{  "TURN",      NULL,     ST_ANY,     ARG_ANY,  true,       true,  check_unavailable, NULL },
{  "ETRN",      NULL,     ST_GREETED, ARG_TEXT, true,       true,  check_etrn,        act_etrn },   /* RFC 1985 */
{  "SEND",      NULL,     ST_ANY,     ARG_ANY,  false,      true,  check_unavailable, NULL },
{  "SOML",      NULL,     ST_ANY,     ARG_ANY,  false,      true,  check_unavailable, NULL },
{  "SAML",      NULL,     ST_ANY,     ARG_ANY,  false,      true,  check_unavailable, NULL },
{  "STARTTLS",  NULL,     ST_START | ST_GREETED, ARG_NONE, true, true, starttls_check, starttls_act },
{  "AUTH",      NULL,     ST_GREETED, ARG_TEXT, true,       true,  check_auth,        act_auth },
{  "XCLIENT",   NULL,     ST_START | ST_GREETED, ARG_TEXT, true, true, check_xclient, act_xclient },
{  "XFORWARD",  NULL,     ST_GREETED, ARG_TEXT, true,       true,  check_xforward,    act_xforward },
};
const size_t command_rows = sizeof command_table / sizeof *command_table;
_Static_assert(sizeof command_table / sizeof *command_table < COMMAND_KINDS, "a count for each row and one for unknown commands");

/* What EHLO announces, after the name. */
static const struct extension { const char *name; bool (*offered)(const struct session *s); /* NULL: to everybody */ } extensions[] = {
	{ "PIPELINING", NULL }, { "8BITMIME", NULL }, { "ENHANCEDSTATUSCODES", NULL }, { "DSN", parameters_dsn_offered }, { "SMTPUTF8", NULL }, { "CHUNKING", NULL },
	{ "BINARYMIME", NULL }, { "STARTTLS", starttls_offered },
};

/* ---- HELO and its kin */

static bool check_nothing(struct session *s, struct command *c)
{
	(void)s;
	(void)c;
	return true;
}

static bool check_unavailable(struct session *s, struct command *c)
{
	(void)c;
	session_no_command(s);
	return false;
}

/* The client's name is only shown (trace header, logs), never believed: what could confuse a reader of those becomes "?".
 * RFC 5321 4.1.4 forbids to refuse a client for a name that is not its own; who wants to has checkhelodns. */
void command_helo_text(struct bytes name, char out[HELO_MAX + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < name.len && n < HELO_MAX; i++) {
		char c = name.at[i];
		out[n++] = c > ' ' && c < 127 && strchr("()<>\"\\;,", c) == NULL ? c : '?';
	}
	out[n] = '\0';
}

static void greet(struct session *s, struct command *c, bool extended)
{
	session_end_transaction(s);
	xforward_reset(s);
	command_helo_text(c->argument, s->helo);
	s->extended = extended;
	s->state = ST_GREETED;
}

static void act_helo(struct session *s, struct command *c)
{
	greet(s, c, false);
	session_reply(s, 250, NULL, "%.*s", (int)s->settings->me.len, s->settings->me.at);
}

static void announce_auth(struct session *s)
{
	struct str text = STR_INIT(200);
	authenticate_announce(s, &text);
	if (text.len > 0)
		session_reply_more(s, 250, NULL, "%s", str_c(&text));
	str_free(&text);
}

static void act_ehlo(struct session *s, struct command *c)
{
	greet(s, c, true);
	session_reply_more(s, 250, NULL, "%.*s", (int)s->settings->me.len, s->settings->me.at);
	for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
		if (extensions[i].offered == NULL || extensions[i].offered(s))
			session_reply_more(s, 250, NULL, "%s", extensions[i].name);
	announce_auth(s);
	if (etrn_offered(s))
		session_reply_more(s, 250, NULL, "ETRN");
	xclient_announce(s);
	session_reply_more(s, 250, NULL, "LIMITS RCPTMAX=%llu", (unsigned long long)s->settings->maxrcpt);   /* RFC 9422; others have none */
	session_reply(s, 250, NULL, "SIZE %llu", (unsigned long long)s->settings->databytes);
}

/* ---- MAIL and RCPT */

static void refuse_address(struct session *s, enum mailaddr_error error, const char *syntax_code)
{
	if (error == ADDR_UTF8_NEEDED)
		session_reply(s, 553, "5.6.7", "%s", mailaddr_error_text(error));
	else
		session_reply(s, 501, syntax_code, "%s", mailaddr_error_text(error));
}

/* "<path> parameters" into c->addr and c->argument, which then holds the parameters. */
static bool parse_path(struct session *s, struct command *c, bool utf8, const char *syntax_code)
{
	size_t used = 0;
	struct bytes path = bytes_trim(c->argument);
	enum mailaddr_error error = mailaddr_parse_path(path, utf8, c->text, &c->addr, &used);
	if (c->text->failed) {
		session_dismiss(s, END_MEMORY, "4.3.0", "Out of memory");
		return false;
	}
	if (error != ADDR_OK) {
		refuse_address(s, error, syntax_code);
		return false;
	}
	c->argument = bytes_slice(path, used, path.len);
	if (c->argument.len > 0 && c->argument.at[0] != ' ') {
		session_reply(s, 501, "5.5.4", "A space goes before the parameters");
		return false;
	}
	return true;
}

/* RFC 6409 6.1: who has told who he is sends as himself. */
static bool check_sender_is_own(struct session *s, const struct command *c)
{
	if (s->login[0] == '\0' || submission_owns(s->settings, bytes_of(s->login), &c->addr))
		return true;
	session_reject(s, NULL, 553, "5.7.1", "<%.*s>: Sender address rejected: not owned by user", (int)c->addr.text.len, c->addr.text.at);
	return false;
}

static bool check_mail(struct session *s, struct command *c)
{
	/* Whether UTF-8 is allowed stands behind the address. */
	if (!parse_path(s, c, true, "5.1.7"))
		return false;
	if (c->addr.kind == ADDR_BARE) {
		session_reply(s, 501, "5.1.7", "Sender address needs a domain");
		return false;
	}
	if (!parameters_check(s, c, "MAIL"))
		return false;
	if (mailaddr_is_utf8(&c->addr) && !c->smtputf8) {
		refuse_address(s, ADDR_UTF8_NEEDED, "5.6.7");
		return false;
	}
	return check_sender_is_own(s, c) && gate_mail(s, c);
}

static void act_mail(struct session *s, struct command *c)
{
	struct transaction *mail = &s->mail;
	session_end_transaction(s);
	if (!str_add(&mail->sender_text, c->addr.text) || mailaddr_parse(str_bytes(&mail->sender_text), &mail->sender) != ADDR_OK) {
		session_dismiss(s, END_MEMORY, "4.3.0", "Out of memory");
		return;
	}
	mail->body = c->body;
	mail->smtputf8 = c->smtputf8;
	bytes_to_cstring(c->ret, mail->ret, sizeof mail->ret);
	bytes_to_cstring(c->envid, mail->envid, sizeof mail->envid);
	s->state = ST_MAIL;
	session_reply(s, 250, "2.1.0", "Ok");
}

/* c->addr becomes local-or-address + suffix, parsed anew; false when that is no address. */
static bool extend_address(struct command *c, struct bytes suffix)
{
	char canonical[ADDRESS_MAX + 1];
	if (!bytes_to_cstring(c->addr.text, canonical, sizeof canonical))
		return false;
	str_clear(c->text);
	return str_add_c(c->text, canonical) && str_add(c->text, suffix) && mailaddr_parse(str_bytes(c->text), &c->addr) == ADDR_OK;
}

/* <postmaster> alone (RFC 5321 4.5.1) is this host's; where `me` is not delivered here, the first of locals is. */
static bool complete_bare(struct session *s, struct command *c)
{
	const struct settings *settings = s->settings;
	struct bytes domains[2] = { settings->me, settings->locals.count > 0 ? settings->locals.at[0] : settings->me };
	for (size_t i = 0; i < 2; i++) {
		str_clear(c->text);
		if (str_add_c(c->text, "postmaster@") && str_add(c->text, domains[i]) && mailaddr_parse(str_bytes(c->text), &c->addr) == ADDR_OK
			&& route_is_ours(settings, &c->addr))
			return true;
	}
	session_reject(s, "postmaster", 550, "5.1.1", "<postmaster>: Recipient address rejected: no domain is local here");
	return false;
}

static bool check_access(struct session *s, struct command *c)
{
	char rcpt[ADDRESS_MAX + 1];
	if (!bytes_to_cstring(c->addr.text, rcpt, sizeof rcpt)) {
		session_reply(s, 501, "5.1.3", "Recipient address is too long");
		return false;
	}
	switch (access_check(s->access, s->may_relay, &c->addr)) {
	case ACCESS_OK:
		return true;
	case ACCESS_RELAY:
		session_reject(s, rcpt, 554, "5.7.1", "<%s>: Relay access denied", rcpt);
		return false;
	case ACCESS_UNKNOWN:
		session_reject(s, rcpt, 550, "5.1.1", "<%s>: Recipient address rejected: User unknown", rcpt);
		gate_unknown(s);
		return false;
	default:
		session_reject(s, rcpt, 451, "4.3.0", "<%s>: Recipient address rejected: cannot look it up now", rcpt);
		return false;
	}
}

/* RFC 5321 4.5.3.1.10: the client keeps them for another transaction. That many are no errors, or it would be sent away before the first ones have their message. */
static bool refuse_one_more(struct session *s)
{
	session_reply(s, 452, "4.5.3", "Too many recipients");
	if (s->mail.rcpt_over++ < RCPT_OVER_MAX)
		s->errors--;
	return false;
}

static bool check_rcpt(struct session *s, struct command *c)
{
	if (s->mail.rcpt_count >= s->settings->maxrcpt || s->mail.recipients.len > ENVELOPE_MAX - ENVELOPE_RESERVE)
		return refuse_one_more(s);
	if (!parse_path(s, c, s->mail.smtputf8, "5.1.3"))
		return false;
	if (c->addr.kind == ADDR_NULL) {
		session_reply(s, 501, "5.1.3", "Recipient address is empty");
		return false;
	}
	if (!parameters_check(s, c, "RCPT"))
		return false;
	if (c->addr.kind == ADDR_BARE && !complete_bare(s, c))
		return false;
	if (s->relay_suffix.len > 0 && !extend_address(c, s->relay_suffix)) {
		session_reply(s, 501, "5.1.3", "Recipient address with RELAYCLIENT is no address");
		return false;
	}
	return check_access(s, c) && gate_rcpt(s, c);
}

static void act_rcpt(struct session *s, struct command *c)
{
	struct transaction *mail = &s->mail;
	if (!envelope_add_rcpt(&mail->recipients, &c->addr) || (c->notify.len > 0 && !envelope_add(&mail->recipients, 'N', c->notify))
		|| (c->orcpt.len > 0 && !envelope_add(&mail->recipients, 'O', c->orcpt))) {
		session_dismiss(s, END_MEMORY, "4.3.0", "Out of memory");
		return;
	}
	if (mail->rcpt_count++ == 0)
		bytes_to_cstring(c->addr.text, mail->only_rcpt, sizeof mail->only_rcpt);
	s->state = ST_RCPT;
	s->wants_enqueuer = true;
	session_reply(s, 250, "2.1.5", "Ok");
}

/* ---- the others */

/* RFC 3030 3: binary octets and a final dot do not go together. */
static bool check_data(struct session *s, struct command *c)
{
	(void)c;
	if (s->mail.body == BODY_BINARYMIME) {
		session_reply(s, 503, "5.5.1", "BODY=BINARYMIME was said: its message comes by BDAT");
		return false;
	}
	return gate_data(s);
}

static void act_data(struct session *s, struct command *c)
{
	(void)c;
	receive_begin(s);
}

static void act_rset(struct session *s, struct command *c)
{
	(void)c;
	session_end_transaction(s);
	xforward_reset(s);
	session_reply(s, 250, "2.0.0", "Ok");
}

static void act_noop(struct session *s, struct command *c)
{
	(void)c;
	session_reply(s, 250, "2.0.0", "Ok");
}

static void act_vrfy(struct session *s, struct command *c)
{
	(void)c;
	session_reply(s, 252, "2.0.0", "Cannot verify here; RCPT tells");
}

static void act_help(struct session *s, struct command *c)
{
	(void)c;
	session_reply_more(s, 214, "2.0.0", "HELO EHLO%s%s MAIL RCPT DATA BDAT RSET NOOP VRFY%s HELP QUIT", starttls_offered(s) ? " STARTTLS" : "",
		authenticate_offered(s) ? " AUTH" : "", etrn_offered(s) ? " ETRN" : "");
	session_reply(s, 214, "2.0.0", "See RFC 5321");
}

static void act_quit(struct session *s, struct command *c)
{
	(void)c;
	session_reply(s, 221, "2.0.0", "Bye");
	s->end = END_QUIT;
}

/* ---- lines */

static size_t command_find(struct bytes verb)
{
	size_t i = 0;
	while (i < command_rows && !bytes_equal_nocase(verb, bytes_of(command_table[i].verb)))
		i++;
	return i;
}

void command_refuse_order(struct session *s)
{
	const struct command_row *row = &command_table[s->kind];
	bool data = row->act == act_data || row->act == act_bdat;
	if (s->state == ST_START)
		session_reply(s, 503, "5.5.1", "Say HELO or EHLO first");
	else if (s->state == ST_BDAT)
		session_reply(s, 503, "5.5.1", "The message that BDAT began is not whole: BDAT or RSET comes next");
	else if (data && s->mail.rcpt_refused > 0)
		session_reply(s, 554, "5.5.1", "No valid recipients");
	else if (data && s->state == ST_MAIL)
		session_reply(s, 503, "5.5.1", "RCPT comes first");
	else if (row->act == act_mail)
		session_reply(s, 503, "5.5.1", "There is a sender already");
	else if (row->act == act_auth)
		session_reply(s, 503, "5.5.1", "No AUTH within a mail transaction");
	else if (row->act == starttls_act || row->act == act_xclient || row->act == act_xforward || row->act == act_etrn)
		session_reply(s, 503, "5.5.1", "Not within a mail transaction");
	else
		session_reply(s, 503, "5.5.1", "MAIL comes first");
}

/* The argument against its row: present or not, and its keyword, which is cut off. */
static bool argument_fits(struct session *s, const struct command_row *row, struct bytes *argument)
{
	if (row->argument == ARG_NONE && argument->len > 0) {
		session_reply(s, 501, "5.5.4", "%s takes no argument", row->verb);
		return false;
	}
	if (row->argument == ARG_TEXT && argument->len == 0) {
		bool hello = row->act == act_helo || row->act == act_ehlo;
		session_reply(s, 501, hello ? NULL : "5.5.4", "%s needs an argument", row->verb);
		return false;
	}
	if (row->argument != ARG_PATH)
		return true;
	struct bytes keyword = bytes_of(row->keyword);
	if (!bytes_starts_nocase(*argument, keyword)) {
		session_reply(s, 501, "5.5.4", "Syntax: %s %s<address>", row->verb, row->keyword);
		return false;
	}
	*argument = bytes_slice(*argument, keyword.len, argument->len);
	return true;
}

static void command_carry_out(struct session *s, const struct command_row *row, struct bytes argument)
{
	struct str text = STR_INIT(ADDRESS_MAX * 4);
	struct command c = { .argument = argument, .text = &text };
	bool fine = row->check(s, &c);
	if (fine)
		row->act(s, &c);
	else if (row->act == act_rcpt)
		s->mail.rcpt_refused++;
	str_free(&text);
}

static void command_run(struct session *s, const struct command_row *row, struct bytes line, struct bytes argument)
{
	if (line.len > COMMAND_LINE_MAX - 2 && row->argument != ARG_PATH && row->act != act_auth && row->act != act_bdat)
		session_reply(s, 500, "5.5.2", "Line too long");
	else if (row->check == check_unavailable)
		row->check(s, NULL);
	else if (!(row->legal & s->state))
		command_refuse_order(s);
	else if (!role_admits(s, row))
		return;
	else if (argument_fits(s, row, &argument))
		command_carry_out(s, row, argument);
}

static void command_count(struct session *s, bool idle)
{
	struct command_count *count = &s->count[s->kind];
	if (count->all < UINT32_MAX)
		count->all++;
	/* DATA is answered twice; its final reply counts (session_data_ended). BDAT is answered behind its octets. */
	if (s->code < 400 && !(s->state & (ST_DATA | ST_AUTH | ST_CHUNK)) && count->ok < UINT32_MAX)
		count->ok++;
	if (idle && s->idle_commands < UINT32_MAX)
		s->idle_commands++;
}

/* RFC 2920 3.1: after such a command a client waits. One that does not is a program that does not read replies. */
static void note_haste(struct session *s, const struct command_row *row)
{
	if (s->hasty || !row->ends_group || linein_rest(&s->lines).len == 0 || s->end != END_NOT)
		return;
	s->hasty = true;
	log_info("improper command pipelining after %s from %s", row->verb, s->peer->text);
}

void command_line(struct session *s, struct bytes line)
{
	if (line.len > COMMAND_PATH_LINE_MAX - 2 && !bytes_starts_nocase(line, LIT("AUTH "))) {
		command_not_a_line(s, "Line too long");
		return;
	}
	while (line.len > 0 && (line.at[line.len - 1] == ' ' || line.at[line.len - 1] == '\t'))
		line.len--;
	struct bytes argument = line;
	struct bytes verb = bytes_cut(&argument, ' ');
	s->kind = command_find(verb);
	if (s->kind == command_rows) {
		s->verb = "UNKNOWN";
		if (content_unknown(s, line))
			session_reply(s, 500, "5.5.2", "Command not recognized");
		command_count(s, true);
		return;
	}
	const struct command_row *row = &command_table[s->kind];
	s->verb = row->verb;
	command_run(s, row, line, bytes_trim(argument));
	command_count(s, row->idle);
	note_haste(s, row);
}

void command_not_a_line(struct session *s, const char *text)
{
	if (s->state == ST_AUTH) {
		authenticate_not_a_line(s, text);
		return;
	}
	s->kind = command_rows;
	s->verb = "UNKNOWN";
	session_reply(s, 500, "5.5.2", "%s", text);
	command_count(s, true);
}
