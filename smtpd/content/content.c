/* content - smtpd's room: milters in the session. See content.h. */
#include "content.h"

#include "macros.h"
#include "smtpd/session/submission.h"

#include "common/envelope.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AWAY_TEXT "Service unavailable, try again later"
#define GIVE_PIECE 32768u

bool content_is_configured(const struct settings *settings)
{
	return settings->milters.count > 0 || settings->filters.count > 0;
}

bool content_init(struct content *content, const struct settings *settings)
{
	struct milter_line line;
	*content = (struct content){ 0 };
	letter_init(&content->letter);
	str_init(&content->hold, ENVELOPE_VALUE_MAX);
	content->milters = calloc(settings->milters.count + 1, sizeof *content->milters);
	if (content->milters == NULL)
		return false;
	for (size_t i = 0; i < settings->milters.count; i++)
		if (milter_line_parse(settings->milters.at[i], &line))
			milter_init(&content->milters[content->count++], &line);
	return true;
}

void content_free(struct content *content)
{
	for (size_t i = 0; i < content->count; i++) {
		if (content->milters[i].state != MILTER_OFF)
			milter_session_end(&content->milters[i]);
		milter_free(&content->milters[i]);
	}
	free(content->milters);
	letter_free(&content->letter);
	str_free(&content->hold);
	*content = (struct content){ 0 };
}

/* ---- verdicts */

/* `m`: who decided, for the log; NULL: we. */
static bool refuse(struct session *s, const struct milter *m, enum content_stage stage, const char *rcpt, unsigned code, const char *enhanced, const char *text)
{
	char who[64] = "";
	if (m != NULL)
		snprintf(who, sizeof who, "milters/%.40s", log_text(m->line.name));
	if (stage == CONTENT_CONNECT)
		code = code >= 500 ? 554 : 421;   /* what may stand for a banner */
	session_reject_log(s, m != NULL ? who : NULL, "reject", rcpt, code, enhanced, text);
	session_reply(s, code, enhanced, "%s", text);
	if (stage == CONTENT_CONNECT || code == 421)
		s->end = END_REFUSED;
	return false;
}

bool content_away(struct session *s, struct milter *m, const char *rcpt)
{
	if (m->line.when_away == MILTER_ACCEPT)
		return true;
	if (m->line.when_away == MILTER_REJECT)
		return refuse(s, m, CONTENT_MESSAGE, rcpt, 550, "5.7.1", AWAY_TEXT);
	return refuse(s, m, CONTENT_MESSAGE, rcpt, 451, "4.7.1", AWAY_TEXT);
}

/* The code at the beginning of a further line of a reply. */
static size_t line_head(struct bytes line)
{
	uint64_t code;
	return line.len >= 4 && bytes_to_u64(bytes_slice(line, 0, 3), 999, &code) && (line.at[3] == ' ' || line.at[3] == '-') ? 4 : 0;
}

/* On one line, in ASCII; sendmail's "%%" is one. */
static void clean_text(struct bytes text, char *out, size_t size)
{
	size_t n = 0;
	for (struct bytes rest = text; rest.len > 0 && n + 1 < size;) {
		struct bytes line = bytes_cut(&rest, '\n');
		size_t i = line.at == text.at ? 0 : line_head(line);
		if (n > 0)
			out[n++] = ' ';
		for (; i < line.len && n + 1 < size; i++) {
			char c = line.at[i];
			if (c == '\r' && i + 1 == line.len)
				continue;
			i += c == '%' && i + 1 < line.len && line.at[i + 1] == '%';
			out[n++] = c >= ' ' && c < 127 ? c : '?';
		}
	}
	out[n] = '\0';
}

static bool refuse_as_told(struct session *s, const struct milter *m, enum content_stage stage, const struct milter_reply *r, const char *rcpt)
{
	char text[400], code[16] = "";
	struct str enhanced = STR_INIT(sizeof code - 1);
	struct enhanced e = enhanced_or_default(r->enhanced, r->code >= 500 ? V_PERM : V_TEMP);
	enhanced_format(r->enhanced.class != 0 ? r->enhanced : e, &enhanced);
	bytes_to_cstring(str_bytes(&enhanced), code, sizeof code);
	str_free(&enhanced);
	clean_text(r->value, text, sizeof text);
	return refuse(s, m, stage, rcpt, r->code, code, text[0] != '\0' ? text : "Rejected by policy");
}

static bool discard(struct session *s, struct milter *m, enum content_stage stage)
{
	if (stage == CONTENT_CONNECT || stage == CONTENT_HELO || stage == CONTENT_UNKNOWN)
		return true;
	s->content->discard = true;
	log_msg(0, "discard: %s from %s: milter %s; from=<%s>", s->verb, s->peer->text, log_text(m->line.name), log_text(s->mail.sender.text));
	return true;
}

static bool accepted(struct milter *m, enum content_stage stage)
{
	m->state = stage <= CONTENT_HELO ? MILTER_PAST_SESSION : MILTER_PAST_MESSAGE;
	m->in_message = false;
	return true;
}

bool content_verdict(struct session *s, struct milter *m, const struct milter_reply *r, enum content_stage stage, const char *rcpt)
{
	switch (r->kind) {
	case ANSWER_CONTINUE:
	case ANSWER_SKIP:
		return true;
	case ANSWER_ACCEPT:
		return accepted(m, stage);
	case ANSWER_DISCARD:
		return discard(s, m, stage);
	case ANSWER_REJECT:
		return refuse(s, m, stage, rcpt, 550, "5.7.1", stage == CONTENT_MESSAGE ? "Message rejected" : "Command rejected");
	case ANSWER_TEMPFAIL:
		return refuse(s, m, stage, rcpt, 451, "4.7.1", AWAY_TEXT);
	case ANSWER_REPLY:
		return refuse_as_told(s, m, stage, r, rcpt);
	case ANSWER_SHUTDOWN:
	case ANSWER_CONNECTION_FAIL:
		return refuse(s, m, stage, rcpt, 421, "4.7.1", AWAY_TEXT);
	default:
		milter_lost(m, "answered what it may not answer here");
		return stage == CONTENT_CONNECT || stage == CONTENT_HELO || stage == CONTENT_UNKNOWN || content_away(s, m, rcpt);
	}
}

/* ---- commands */

struct question {
	enum content_stage stage;
	enum milter_command kind;
	enum milter_stage macros;
	uint32_t no_step, mute;
	void (*tell)(const struct session *s, const struct command *c, struct str *out);
};

static bool decides_when_away(enum content_stage stage)
{
	return stage == CONTENT_MAIL || stage == CONTENT_RCPT || stage == CONTENT_DATA;
}

/* False: refused and answered. */
static bool ask_one(struct session *s, const struct command *c, struct milter *m, const struct question *q, const char *rcpt)
{
	struct milter_reply reply;
	macros_add(s, c, m, q->macros, q->kind);
	size_t begun = milter_begin(&m->out, q->kind);
	if (q->tell != NULL)
		q->tell(s, c, &m->out);
	milter_end(&m->out, begun);
	bool mute = (m->options.steps & q->mute) != 0;
	if (mute ? milter_push(m, m->line.command_ms) : milter_ask(m, m->line.command_ms, &reply))
		return mute || content_verdict(s, m, &reply, q->stage, rcpt);
	return !decides_when_away(q->stage) || content_away(s, m, rcpt);
}

static bool ask_all(struct session *s, const struct command *c, const struct question *q)
{
	char rcpt[ADDRESS_MAX + 1] = "";
	const char *to = q->stage == CONTENT_RCPT && bytes_to_cstring(c->addr.text, rcpt, sizeof rcpt) ? rcpt : NULL;
	for (size_t i = 0; i < s->content->count && !s->content->discard; i++) {
		struct milter *m = &s->content->milters[i];
		if (m->state == MILTER_AWAY && decides_when_away(q->stage) && !content_away(s, m, to))
			return false;
		if (q->stage == CONTENT_MAIL && m->state == MILTER_ON)
			m->in_message = true;
		if (milter_wants(m, q->no_step) && !ask_one(s, c, m, q, to))
			return false;
	}
	return true;
}

static void tell_connect(const struct session *s, const struct command *c, struct str *out)
{
	const struct peer *p = s->peer;
	bool named = strcmp(p->name, "unknown") != 0;
	char host[NETADDR_TEXT + 2];
	(void)c;
	snprintf(host, sizeof host, "[%s]", p->ip);
	milter_add_text(out, bytes_of(named ? p->name : host));
	if (p->addr.family == 0) {
		str_add_char(out, 'U');
		return;
	}
	str_add_char(out, p->addr.family == AF_INET6 ? '6' : '4');
	str_add_char(out, (char)(p->addr.port >> 8));
	str_add_char(out, (char)(p->addr.port & 255));
	milter_add_text(out, bytes_of(p->ip));
}

static void tell_argument(const struct session *s, const struct command *c, struct str *out)
{
	(void)s;
	milter_add_text(out, c->argument);
}

/* The address between < and >, then each parameter. */
static void tell_path(const struct session *s, const struct command *c, struct str *out)
{
	(void)s;
	str_add_char(out, '<');
	str_add(out, c->addr.text);
	milter_add_text(out, LIT(">"));
	for (struct bytes rest = c->argument; rest.len > 0;) {
		struct bytes word = bytes_cut(&rest, ' ');
		if (word.len > 0)
			milter_add_text(out, word);
	}
}

static const struct question
	question_connect = { CONTENT_CONNECT, MILTER_CONNECT, STAGE_OF_CONNECT, STEP_NO_CONNECT, STEP_MUTE_CONNECT, tell_connect },
	question_helo = { CONTENT_HELO, MILTER_HELO, STAGE_OF_HELO, STEP_NO_HELO, STEP_MUTE_HELO, tell_argument },
	question_mail = { CONTENT_MAIL, MILTER_MAIL, STAGE_OF_MAIL, STEP_NO_MAIL, STEP_MUTE_MAIL, tell_path },
	question_rcpt = { CONTENT_RCPT, MILTER_RCPT, STAGE_OF_RCPT, STEP_NO_RCPT, STEP_MUTE_RCPT, tell_path },
	question_data = { CONTENT_DATA, MILTER_DATA, STAGE_OF_DATA, STEP_NO_DATA, STEP_MUTE_DATA, NULL },
	question_unknown = { CONTENT_UNKNOWN, MILTER_UNKNOWN, STAGE_OF_CONNECT, STEP_NO_UNKNOWN, STEP_MUTE_UNKNOWN, tell_argument };

bool content_connect(struct session *s)
{
	if (s->content == NULL)
		return true;
	for (size_t i = 0; i < s->content->count; i++)
		milter_session(&s->content->milters[i]);
	return ask_all(s, NULL, &question_connect);
}

bool content_helo(struct session *s, struct command *c)
{
	return s->content == NULL || ask_all(s, c, &question_helo);
}

/* A milter that was lost over a message judges the next one, if it is there again: nobody who brings it down once is rid of it. It hears of the client anew.
 * One that does not take the client's HELO then is left, and so hears it again before the next message, as a client who is refused at HELO has to say it again. */
static bool meet_again(struct session *s, struct milter *m)
{
	struct command hello = { .argument = bytes_of(s->helo) };
	if (m->state != MILTER_AWAY || !m->was_there || !milter_session(m))
		return true;
	if (milter_wants(m, question_connect.no_step) && !ask_one(s, NULL, m, &question_connect, NULL))
		return false;
	if (!milter_wants(m, question_helo.no_step) || ask_one(s, &hello, m, &question_helo, NULL))
		return true;
	milter_session_end(m);
	m->state = MILTER_AWAY;
	return false;
}

bool content_mail(struct session *s, struct command *c)
{
	struct content *content = s->content;
	if (content == NULL)
		return true;
	content_reset(s);
	for (size_t i = 0; i < content->count; i++)
		if (!meet_again(s, &content->milters[i]))
			return false;
	snprintf(content->tag, sizeof content->tag, "%08x%08x", (unsigned)getpid(), ++content->serial);
	return ask_all(s, c, &question_mail);
}

bool content_rcpt(struct session *s, struct command *c)
{
	return s->content == NULL || ask_all(s, c, &question_rcpt);
}

bool content_data(struct session *s)
{
	if (s->content == NULL)
		return true;
	if (s->content->refused) {
		session_reply(s, 550, "5.7.1", "The message was refused");
		return false;
	}
	s->content->refused = !ask_all(s, NULL, &question_data);
	return !s->content->refused;
}

bool content_unknown(struct session *s, struct bytes line)
{
	struct command c = { .argument = line };
	return s->content == NULL || ask_all(s, &c, &question_unknown);
}

static void forget(struct session *s)
{
	s->content->discard = s->content->refused = false;
	letter_free(&s->content->letter);
	str_clear(&s->content->hold);
}

void content_whole(struct session *s)
{
	for (size_t i = 0; i < s->content->count; i++)
		milter_message_end(&s->content->milters[i]);
	forget(s);
}

void content_reset(struct session *s)
{
	if (s->content != NULL)
		content_whole(s);
}

void content_end(struct session *s)
{
	if (s->content == NULL)
		return;
	for (size_t i = 0; i < s->content->count; i++)
		milter_session_end(&s->content->milters[i]);
	forget(s);
}

/* ---- the message */

void content_octets(struct session *s, const struct bytes *spans, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (spans[i].len > 0)
			draft_add(&s->content->letter.draft, spans[i]);
}

bool content_refuse_draft(struct session *s, int error)
{
	log_warn("a message cannot be kept aside: %s", strerror(error));
	if (error == ENOSPC || error == EDQUOT)
		return refuse(s, NULL, CONTENT_MESSAGE, NULL, 452, "4.3.1", "No space for the message now");
	return refuse(s, NULL, CONTENT_MESSAGE, NULL, 451, "4.3.0", "The message cannot be kept now");
}

static bool open_letter(struct session *s)
{
	struct letter *l = &s->content->letter;
	struct str own = STR_INIT(4096);
	if (l->draft.error != 0)
		return content_refuse_draft(s, l->draft.error);
	l->binary = s->mail.body == BODY_BINARYMIME;
	if (letter_open(l) != LETTER_OK)
		return refuse(s, NULL, CONTENT_MESSAGE, NULL, 552, "5.3.4", "The header of the message is too large");
	bool done = s->login[0] == '\0' || (submission_headers(s, &own) && letter_prepend(l, str_bytes(&own)) == LETTER_OK);
	str_free(&own);
	return done || content_refuse_draft(s, ENOMEM);
}

/* What stands in an envelope must be text: other octets come out as "?". */
static void add_word(struct str *out, struct bytes text, size_t most, char lowest)
{
	for (size_t i = 0; i < text.len && most > 0; i++, most--)
		str_add_char(out, text.at[i] >= lowest && text.at[i] < 127 ? text.at[i] : '?');
}

bool content_hold(struct content *content, const char *list, struct bytes name, struct bytes reason)
{
	struct str *hold = &content->hold;
	if (hold->len > 0)
		return true;
	str_addf(hold, "%s/", list);
	add_word(hold, name, ENVELOPE_BY_MAX - hold->len, '!');
	str_add_char(hold, ' ');
	add_word(hold, reason, hold->max - hold->len, ' ');
	return !hold->failed;
}

/* Thrown away as a milter said, or nobody is left to get it. */
static bool is_dropped(struct session *s)
{
	if (!s->content->discard && s->mail.rcpt_count > 0)
		return false;
	log_msg(0, "discarded: message from %s; from=<%s> message-id=%s", s->peer->text, log_text(s->mail.sender.text), s->message.message_id);
	session_reply(s, 250, "2.0.0", "Ok: taken");
	return true;
}

bool content_judge(struct session *s)
{
	struct content *content = s->content;
	bool good = open_letter(s);
	for (size_t i = 0; good && i < content->count && !content->discard; i++)
		good = inspect_message(s, &content->milters[i]);
	if (content->letter.has_8bit && s->mail.body == BODY_7BIT)
		s->mail.body = BODY_8BITMIME;
	return good && !is_dropped(s);
}

static size_t place_of_trace(const struct letter *l)
{
	size_t i = 0;
	while (i < l->count && l->fields[i].text != NULL)
		i++;
	return i;
}

bool content_front(const struct content *content, struct str *out)
{
	const struct letter *l = &content->letter;
	for (size_t i = 0; i < place_of_trace(l); i++)
		str_add(out, (struct bytes){ l->fields[i].text, l->fields[i].len });
	return !out->failed;
}

/* A header without its empty line would let the first line of the body join it. */
bool content_each(const struct content *content, bool (*take)(void *to, struct bytes piece), void *to)
{
	const struct letter *l = &content->letter;
	static char piece[GIVE_PIECE];
	ssize_t n = 0;
	bool good = true;
	for (size_t i = place_of_trace(l) + 1; good && i < l->count; i++)
		good = take(to, (struct bytes){ l->fields[i].text, l->fields[i].len });
	if (good && (l->parted || letter_has_body(l)))
		good = take(to, LIT("\r\n"));
	for (uint64_t at = 0; good && (n = letter_read_body(l, at, piece, sizeof piece)) > 0; at += (size_t)n)
		good = take(to, (struct bytes){ piece, (size_t)n });
	return good && n == 0;
}

static bool give_piece(void *to, struct bytes piece)
{
	enqueuer_body(to, &piece, 1);
	return true;
}

bool content_give(const struct content *content, struct enqueuer *e)
{
	return content_each(content, give_piece, e);
}
