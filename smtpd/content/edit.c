/* edit - smtpd's room: changes by milters. See edit.h. */
#include "edit.h"

#include "common/envelope.h"
#include "common/log.h"

#include <string.h>

/* ---- the envelope */

static bool parse_address(const struct session *s, struct bytes text, struct str *canonical, struct mailaddr *addr_r)
{
	struct str path = STR_INIT(PATH_MAX_OCTETS);
	size_t used = 0;
	bool bare = text.len == 0 || text.at[0] != '<';
	if (bare)
		str_add_char(&path, '<');
	str_add(&path, text);
	if (bare)
		str_add_char(&path, '>');
	bool good = !path.failed && mailaddr_parse_path(str_bytes(&path), s->mail.smtputf8, canonical, addr_r, &used) == ADDR_OK && used == path.len
		&& addr_r->kind != ADDR_BARE;
	str_free(&path);
	return good;
}

/* The value of `key` among the parameters; at == NULL: not given. */
static struct bytes parameter(struct bytes parameters, struct bytes key)
{
	for (struct bytes rest = parameters; rest.len > 0;) {
		struct bytes value = bytes_cut(&rest, ' '), name = bytes_cut(&value, '=');
		if (bytes_equal_nocase(name, key))
			return value;
	}
	return (struct bytes){ 0 };
}

static bool add_parameter(struct str *out, struct bytes parameters, struct bytes key, char tag)
{
	struct bytes value = parameter(parameters, key);
	return value.len == 0 || !envelope_value_fits(tag, value) || envelope_add(out, tag, value);
}

/* Who is the first now? The trace header names one that is alone. */
static void note_only(struct transaction *mail)
{
	struct bytes all = str_bytes(&mail->recipients);
	bytes_to_cstring(bytes_slice(all, 1, bytes_find(all, '\0')), mail->only_rcpt, sizeof mail->only_rcpt);
}

static enum edit_result add_rcpt(struct session *s, const struct milter_reply *r)
{
	struct transaction *mail = &s->mail;
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	enum edit_result result = EDIT_IGNORED;
	if (parse_address(s, r->name, &text, &addr) && addr.kind != ADDR_NULL && mail->rcpt_count < ENVELOPE_RCPT_MAX) {
		bool added = envelope_add_rcpt(&mail->recipients, &addr) && add_parameter(&mail->recipients, r->value, LIT("NOTIFY"), 'N')
			&& add_parameter(&mail->recipients, r->value, LIT("ORCPT"), 'O');
		mail->rcpt_count++;
		note_only(mail);
		result = added ? EDIT_DONE : EDIT_FAILED;
	}
	str_free(&text);
	return result;
}

/* A recipient with what belongs to him: up to the next T. */
static struct bytes cut_recipient(struct bytes *rest)
{
	size_t end = 0;
	do
		end += bytes_find(bytes_slice(*rest, end, rest->len), '\0') + 1;
	while (end < rest->len && rest->at[end] != 'T');
	struct bytes one = bytes_slice(*rest, 0, end);
	*rest = bytes_slice(*rest, end, rest->len);
	return one;
}

static enum edit_result delete_rcpt(struct session *s, const struct milter_reply *r)
{
	struct transaction *mail = &s->mail;
	struct str text = STR_INIT(ADDRESS_MAX), left = STR_INIT(ENVELOPE_MAX);
	struct mailaddr addr;
	enum edit_result result = EDIT_IGNORED;
	if (parse_address(s, r->name, &text, &addr)) {
		for (struct bytes rest = str_bytes(&mail->recipients); rest.len > 0;) {
			struct bytes one = cut_recipient(&rest);
			if (bytes_equal_nocase(bytes_slice(one, 1, bytes_find(one, '\0')), addr.text))
				mail->rcpt_count--;
			else
				str_add(&left, one);
		}
		result = left.failed ? EDIT_FAILED : EDIT_DONE;
		str_clear(&mail->recipients);
		if (!str_add(&mail->recipients, str_bytes(&left)))
			result = EDIT_FAILED;
		note_only(mail);
	}
	str_free(&text);
	str_free(&left);
	return result;
}

static void take_parameter(struct bytes parameters, struct bytes key, char tag, char *out, size_t size)
{
	struct bytes value = parameter(parameters, key);
	if (value.len > 0 && value.len < size && envelope_value_fits(tag, value))
		bytes_to_cstring(value, out, size);
}

static enum edit_result change_from(struct session *s, const struct milter_reply *r)
{
	struct transaction *mail = &s->mail;
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	enum edit_result result = EDIT_IGNORED;
	if (parse_address(s, r->name, &text, &addr)) {
		str_clear(&mail->sender_text);
		bool done = str_add(&mail->sender_text, addr.text) && mailaddr_parse(str_bytes(&mail->sender_text), &mail->sender) == ADDR_OK;
		take_parameter(r->value, LIT("RET"), 'R', mail->ret, sizeof mail->ret);
		take_parameter(r->value, LIT("ENVID"), 'E', mail->envid, sizeof mail->envid);
		result = done ? EDIT_DONE : EDIT_FAILED;
	}
	str_free(&text);
	return result;
}

/* ---- the message */

static enum edit_result of_letter(enum letter_result result)
{
	return result == LETTER_OK ? EDIT_DONE : result == LETTER_REFUSED ? EDIT_IGNORED : EDIT_FAILED;
}

/* A milter that knows of the blank behind the colon sends it. */
static enum edit_result change_header(struct letter *l, const struct milter *m, const struct milter_reply *r)
{
	struct str value = STR_INIT(MILTER_HEADER_MAX + 1);
	bool gone = r->kind == ANSWER_CHANGE_HEADER && r->value.len == 0;
	if (!gone && !(m->options.steps & STEP_LEADING_BLANK))
		str_add_char(&value, ' ');
	str_add(&value, r->value);
	struct bytes v = str_bytes(&value);
	enum letter_result result = value.failed ? LETTER_FULL
		: r->kind == ANSWER_ADD_HEADER ? letter_add(l, r->name, v)
		: r->kind == ANSWER_INSERT_HEADER ? letter_insert(l, r->index, r->name, v)
		: letter_change(l, r->name, r->index, v);
	str_free(&value);
	return of_letter(result);
}

/* What is put in its place is held to the limit of what came. */
static enum edit_result replace_body(struct session *s, struct bytes octets)
{
	struct letter *l = &s->content->letter;
	uint64_t most = s->settings->databytes;
	enum edit_result result = of_letter(letter_body_add(l, octets));
	return most > 0 && l->body.size > most ? EDIT_FAILED : result;
}

static uint32_t right_for(enum milter_answer kind)
{
	switch (kind) {
	case ANSWER_ADD_HEADER: case ANSWER_INSERT_HEADER: return ACT_ADD_HEADERS;
	case ANSWER_CHANGE_HEADER: return ACT_CHANGE_HEADERS;
	case ANSWER_CHANGE_FROM: return ACT_CHANGE_FROM;
	case ANSWER_ADD_RCPT: return ACT_ADD_RCPT;
	case ANSWER_ADD_RCPT_ARGS: return ACT_ADD_RCPT_ARGS;
	case ANSWER_DELETE_RCPT: return ACT_DELETE_RCPT;
	case ANSWER_BODY: return ACT_CHANGE_BODY;
	default: return 0;
	}
}

enum edit_result edit_carry_out(struct session *s, const struct milter *m, const struct milter_reply *r)
{
	uint32_t right = right_for(r->kind);
	enum edit_result result;
	if (right == 0)
		return EDIT_NONE;
	if (!(m->options.actions & right))
		return EDIT_FORBIDDEN;
	switch (r->kind) {
	case ANSWER_ADD_RCPT: case ANSWER_ADD_RCPT_ARGS: result = add_rcpt(s, r); break;
	case ANSWER_DELETE_RCPT: result = delete_rcpt(s, r); break;
	case ANSWER_CHANGE_FROM: result = change_from(s, r); break;
	case ANSWER_BODY: result = replace_body(s, r->value); break;
	default: result = change_header(&s->content->letter, m, r);
	}
	if (result == EDIT_IGNORED)
		log_warn("milter %s: a change was not made: %c %s", log_text(m->line.name), (char)r->kind, log_text(r->name));
	return result;
}
