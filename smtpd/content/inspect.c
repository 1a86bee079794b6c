/* inspect - smtpd's room: a whole message to one milter, and what it makes of it. See content.h. */
#include "content.h"

#include "edit.h"
#include "macros.h"

#include "common/log.h"

#define SHOWN_MAX 60000u       /* octets of a field's value: a milter takes packets of 64 KiB, and hangs up at a longer one */
_Static_assert(LETTER_NAME_MAX + 1 + SHOWN_MAX + 1 <= MILTER_CHUNK, "a field fits in a packet");
#define GATHERED 60000u        /* octets of packets without an answer that leave together */

#define CHANGES_MAX 100000u    /* of one milter to one message: a thousand recipients and a body in pieces are far below */

enum step { STEP_ON, STEP_ENOUGH /* no more of this kind */, STEP_JUDGED, STEP_LOST };

/* What stands in m->out is sent, and answered unless the milter is mute here. */
static enum step send_step(struct session *s, struct milter *m, uint32_t mute, bool *good_r)
{
	struct milter_reply reply;
	if (m->options.steps & mute)
		return m->out.len < GATHERED || milter_push(m, m->line.command_ms) ? STEP_ON : STEP_LOST;
	if (!milter_ask(m, m->line.command_ms, &reply))
		return STEP_LOST;
	if (reply.kind == ANSWER_CONTINUE)
		return STEP_ON;
	if (reply.kind == ANSWER_SKIP)
		return STEP_ENOUGH;
	*good_r = content_verdict(s, m, &reply, CONTENT_MESSAGE, NULL);
	return STEP_JUDGED;
}

/* Lines of a value are parted by LF, and its first blank is not shown to who does not know of it. */
static void add_value(struct milter *m, struct bytes value)
{
	struct str text = STR_INIT(SHOWN_MAX);
	if (!(m->options.steps & STEP_LEADING_BLANK) && value.len > 0 && value.at[0] == ' ')
		value = bytes_slice(value, 1, value.len);
	value = bytes_slice(value, 0, SHOWN_MAX);
	for (struct bytes rest = value; rest.len > 0;) {
		struct bytes line = bytes_cut(&rest, '\r');
		str_add(&text, line);
	}
	milter_add_text(&m->out, str_bytes(&text));
	str_free(&text);
}

static enum step show_headers(struct session *s, struct milter *m, bool *good_r)
{
	const struct letter *l = &s->content->letter;
	enum step step = STEP_ON;
	for (size_t i = 0; i < l->count && step == STEP_ON && !(m->options.steps & STEP_NO_HEADERS); i++) {
		const struct field *f = &l->fields[i];
		if (f->text == NULL)
			continue;
		size_t begun = milter_begin(&m->out, MILTER_HEADER);
		milter_add_text(&m->out, field_name(f));
		add_value(m, field_value(f));
		milter_end(&m->out, begun);
		step = send_step(s, m, STEP_MUTE_HEADER, good_r);
	}
	if (step == STEP_JUDGED || step == STEP_LOST || (m->options.steps & STEP_NO_HEADERS_END))
		return step;
	macros_add(s, NULL, m, STAGE_OF_HEADERS_END, MILTER_HEADERS_END);
	milter_end(&m->out, milter_begin(&m->out, MILTER_HEADERS_END));
	return send_step(s, m, STEP_MUTE_HEADERS_END, good_r);
}

static enum step show_body(struct session *s, struct milter *m, bool *good_r)
{
	static char piece[MILTER_CHUNK];
	enum step step = STEP_ON;
	ssize_t n = 1;
	for (uint64_t at = 0; step == STEP_ON && !(m->options.steps & STEP_NO_BODY); at += (size_t)n) {
		n = letter_read_body(&s->content->letter, at, piece, sizeof piece);
		if (n < 0)
			milter_lost(m, "the message cannot be read");
		if (n <= 0)
			return n < 0 ? STEP_LOST : STEP_ON;
		size_t begun = milter_begin(&m->out, MILTER_BODY);
		str_add(&m->out, (struct bytes){ piece, (size_t)n });
		milter_end(&m->out, begun);
		step = send_step(s, m, STEP_MUTE_BODY, good_r);
	}
	return step;
}

/* ---- the end, where it may change the message */

/* A message that is changed by half goes nowhere, whatever `default` says. */
static bool half_changed(struct session *s, struct milter *m, const char *why)
{
	if (why != NULL)
		milter_lost(m, why);
	session_reject(s, NULL, 451, "4.3.0", "The message cannot be judged now");
	return false;
}

struct ending { uint32_t changes; bool replaced; };

static enum edit_result take_change(struct session *s, struct milter *m, const struct milter_reply *r, struct ending *e)
{
	if (r->kind == ANSWER_QUARANTINE && (m->options.actions & ACT_QUARANTINE))
		return content_hold(s->content, "milters", m->line.name, r->value) ? EDIT_DONE : EDIT_FAILED;
	if (r->kind == ANSWER_BODY && !e->replaced)
		letter_body_begin(&s->content->letter);
	e->replaced = e->replaced || r->kind == ANSWER_BODY;
	return edit_carry_out(s, m, r);
}

static bool final_verdict(struct session *s, struct milter *m, const struct milter_reply *r, const struct ending *e)
{
	m->in_message = false;
	m->at_end = r->kind == ANSWER_CONTINUE;
	if (!content_verdict(s, m, r, CONTENT_MESSAGE, NULL))
		return false;
	return !e->replaced || letter_body_end(&s->content->letter) == LETTER_OK || half_changed(s, m, NULL);
}

static bool judge_end(struct session *s, struct milter *m)
{
	struct milter_reply r;
	struct ending e = { 0 };
	while (milter_ask(m, m->line.content_ms, &r)) {
		if (++e.changes > CHANGES_MAX)
			return half_changed(s, m, "changes the message without end");
		switch (take_change(s, m, &r, &e)) {
		case EDIT_NONE:
			return final_verdict(s, m, &r, &e);
		case EDIT_FAILED:
			return half_changed(s, m, "its changes cannot be carried out");
		case EDIT_FORBIDDEN:
			return half_changed(s, m, "makes a change that it did not ask to be allowed");
		default:
			break;
		}
	}
	return e.changes > 0 ? half_changed(s, m, NULL) : content_away(s, m, NULL);
}

bool inspect_message(struct session *s, struct milter *m)
{
	bool good = true;
	if (m->state == MILTER_AWAY)
		return content_away(s, m, NULL);
	if (m->state != MILTER_ON)
		return true;
	enum step step = show_headers(s, m, &good);
	if (step != STEP_JUDGED && step != STEP_LOST)
		step = show_body(s, m, &good);
	if (step == STEP_LOST)
		return content_away(s, m, NULL);
	if (step == STEP_JUDGED)
		return good;
	macros_add(s, NULL, m, STAGE_OF_BODY_END, MILTER_BODY_END);
	milter_end(&m->out, milter_begin(&m->out, MILTER_BODY_END));
	return judge_end(s, m);
}
