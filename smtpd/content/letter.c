/* letter - smtpd's room: a message as milters see and change it. See letter.h. */
#include "letter.h"

#include "wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/fieldname.h"

#define PIECE 16384u

void letter_init(struct letter *l)
{
	*l = (struct letter){ 0 };
	draft_init(&l->draft);
	draft_init(&l->body);
}

void letter_free(struct letter *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->fields[i].text);
	free(l->fields);
	draft_free(&l->draft);
	draft_free(&l->body);
	letter_init(l);
}

/* ---- fields */

struct bytes field_name(const struct field *f)
{
	return (struct bytes){ f->text, f->name_len };
}

struct bytes field_value(const struct field *f)
{
	struct bytes field = { f->text, f->len - 2 };
	return bytes_slice(field, bytes_find(field, ':') + 1, field.len);
}

/* Make room for one more at `index`. */
static struct field *open_place(struct letter *l, size_t index)
{
	if (l->count >= LETTER_FIELDS_MAX)
		return NULL;
	if (l->count == l->room) {
		size_t room = l->room == 0 ? 32 : 2 * l->room;
		struct field *more = reallocarray(l->fields, room, sizeof *more);
		if (more == NULL)
			return NULL;
		l->fields = more;
		l->room = room;
	}
	memmove(l->fields + index + 1, l->fields + index, (l->count - index) * sizeof *l->fields);
	l->count++;
	l->fields[index] = (struct field){ 0 };
	return &l->fields[index];
}

static void remove_field(struct letter *l, size_t index)
{
	l->octets -= l->fields[index].len;
	free(l->fields[index].text);
	l->count--;
	memmove(l->fields + index, l->fields + index + 1, (l->count - index) * sizeof *l->fields);
}

/* `text` is a whole field. */
static bool put_field(struct letter *l, size_t index, struct bytes text, size_t name_len)
{
	if (l->octets + text.len > LETTER_HEAD_MAX)
		return false;
	char *copy = malloc(text.len);
	struct field *f = copy != NULL ? open_place(l, index) : NULL;
	if (f == NULL) {
		free(copy);
		return false;
	}
	memcpy(copy, text.at, text.len);
	*f = (struct field){ copy, text.len, name_len };
	l->octets += text.len;
	return true;
}

static bool is_8bit(struct bytes octets)
{
	for (size_t i = 0; i < octets.len; i++)
		if ((unsigned char)octets.at[i] >= 128)
			return true;
	return false;
}

/* A field of a milter's making. */
static enum letter_result put_new(struct letter *l, size_t index, struct bytes name, struct bytes value)
{
	struct str text = STR_INIT(4 * MILTER_HEADER_MAX);
	str_add(&text, name);
	str_add_char(&text, ':');
	milter_clean_value(value, &text);
	str_add_c(&text, "\r\n");
	bool done = !text.failed && put_field(l, index, str_bytes(&text), name.len);
	l->has_8bit = l->has_8bit || is_8bit(value);
	str_free(&text);
	return done ? LETTER_OK : LETTER_FULL;
}

static bool is_trace(struct bytes name)
{
	return bytes_equal_nocase(name, LIT("Received")) || bytes_equal_nocase(name, LIT("Return-Path"));
}

enum letter_result letter_add(struct letter *l, struct bytes name, struct bytes value)
{
	return is_trace(name) ? LETTER_REFUSED : put_new(l, l->count, name, value);
}

enum letter_result letter_insert(struct letter *l, uint32_t index, struct bytes name, struct bytes value)
{
	return is_trace(name) ? LETTER_REFUSED : put_new(l, index < l->count ? index : l->count, name, value);
}

enum letter_result letter_change(struct letter *l, struct bytes name, uint32_t nth, struct bytes value)
{
	size_t i = 0;
	uint32_t seen = 0;
	if (is_trace(name))
		return LETTER_REFUSED;
	for (; i < l->count; i++)
		if (l->fields[i].text != NULL && bytes_equal_nocase(field_name(&l->fields[i]), name) && ++seen == (nth > 0 ? nth : 1))
			break;
	if (i < l->count)
		remove_field(l, i);
	return value.len == 0 ? LETTER_OK : put_new(l, i, name, value);
}

/* ---- the message that came */

struct opening { size_t begun, name_len; };

static bool close_field(struct letter *l, struct opening *o, struct bytes head, size_t end)
{
	bool good = o->name_len == 0 || put_field(l, l->count, bytes_slice(head, o->begun, end), o->name_len);
	o->begun = end;
	o->name_len = 0;
	return good;
}

/* Fields of `head`, the beginning of the message, which ends with the message or is LETTER_HEAD_MAX octets and more. */
static enum letter_result take_fields(struct letter *l, struct bytes head)
{
	struct opening o = { 0 };
	for (size_t at = 0; at < head.len;) {
		struct bytes line = bytes_slice(head, at, head.len);
		size_t lf = bytes_find(line, '\n');
		if (lf == line.len && head.len < l->draft.size)
			return LETTER_FULL;
		size_t next = at + lf + 1 < head.len ? at + lf + 1 : head.len;
		bool continued = (line.at[0] == ' ' || line.at[0] == '\t') && o.name_len > 0;
		if (!continued && !close_field(l, &o, head, at))
			return LETTER_FULL;
		if (!continued)
			o.name_len = fieldname(bytes_slice(line, 0, lf));
		if (o.name_len > LETTER_NAME_MAX)
			return LETTER_FULL;
		if (o.name_len == 0) {
			l->parted = line.at[0] == '\r';
			l->body_at = l->parted ? next : at;
			return LETTER_OK;
		}
		at = next;
	}
	l->body_at = head.len;
	return head.len < l->draft.size || !close_field(l, &o, head, head.len) ? LETTER_FULL : LETTER_OK;
}

enum letter_result letter_open(struct letter *l)
{
	struct str head = STR_INIT(LETTER_HEAD_MAX + PIECE);
	ssize_t n = 1;
	if (open_place(l, 0) == NULL)
		return LETTER_FULL;
	while (n > 0 && head.len < LETTER_HEAD_MAX) {
		char *at = str_reserve(&head, PIECE);
		n = at != NULL ? draft_read(&l->draft, head.len, at, PIECE) : -1;
		if (n > 0)
			str_grew(&head, (size_t)n);
	}
	enum letter_result result = n < 0 ? LETTER_FULL : take_fields(l, str_bytes(&head));
	str_free(&head);
	return result;
}

enum letter_result letter_prepend(struct letter *l, struct bytes fields)
{
	for (size_t i = 1; fields.len > 0; i++) {
		size_t end = bytes_find(fields, '\n') + 1;
		struct bytes line = bytes_slice(fields, 0, end);
		if (!put_field(l, i, line, fieldname(line)))
			return LETTER_FULL;
		fields = bytes_slice(fields, end, fields.len);
	}
	return LETTER_OK;
}

/* ---- the body */

void letter_body_begin(struct letter *l)
{
	draft_free(&l->body);
	l->replaced = true;
	l->ended_in_cr = false;
}

static size_t line_octets(struct bytes in)
{
	size_t n = 0;
	while (n < in.len && in.at[n] != '\r' && in.at[n] != '\n')
		n++;
	return n;
}

/* Up to the next CR or LF; either alone, or both, become CRLF. */
static enum letter_result add_lines(struct letter *l, struct bytes octets)
{
	if (octets.len > 0 && memchr(octets.at, '\0', octets.len) != NULL)
		return LETTER_FULL;
	while (octets.len > 0) {
		size_t n = line_octets(octets);
		bool ends = n < octets.len, is_done = l->ended_in_cr && octets.at[0] == '\n';
		if (!is_done && (!draft_add(&l->body, bytes_slice(octets, 0, n)) || (ends && !draft_add(&l->body, LIT("\r\n")))))
			return LETTER_FULL;
		l->ended_in_cr = ends && octets.at[n] == '\r';
		octets = bytes_slice(octets, n + 1, octets.len);
	}
	return LETTER_OK;
}

enum letter_result letter_body_add(struct letter *l, struct bytes octets)
{
	l->has_8bit = l->has_8bit || is_8bit(octets);
	if (l->binary)
		return draft_add(&l->body, octets) ? LETTER_OK : LETTER_FULL;
	return add_lines(l, octets);
}

enum letter_result letter_body_end(struct letter *l)
{
	char last;
	if (l->binary || l->body.size == 0 || (draft_read(&l->body, l->body.size - 1, &last, 1) == 1 && last == '\n'))
		return LETTER_OK;
	return draft_add(&l->body, LIT("\r\n")) ? LETTER_OK : LETTER_FULL;
}

bool letter_has_body(const struct letter *l)
{
	return l->replaced ? l->body.size > 0 : l->body_at < l->draft.size;
}

ssize_t letter_read_body(const struct letter *l, uint64_t offset, char *at, size_t room)
{
	return l->replaced ? draft_read(&l->body, offset, at, room) : draft_read(&l->draft, l->body_at + offset, at, room);
}
