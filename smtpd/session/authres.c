/* authres - smtpd's room: forged Authentication-Results: fields. See authres.h. */
#include "authres.h"

#include <string.h>

enum place {
	AT_LINE,     /* before the first octet of a line */
	IN_NAME,     /* so far it is the name's beginning; held */
	AFTER_NAME,  /* blanks before the colon; held */
	IN_FIELD,    /* held */
	IN_PASSED,   /* a line that stays */
	IN_DROPPED,
};

static const char name[] = "authentication-results";   /* compared with octets | 0x20, which leaves "-" as it is */
#define NAME_LEN (sizeof name - 1)

void authres_begin(struct authres *a, struct bytes me)
{
	a->me = me;
	a->removed = 0;
	a->over = a->holding = a->dropping = false;
	a->place = AT_LINE;
	a->len = 0;
}

/* ---- whose is it? */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Behind the comment that begins at `i`, or field.len. */
static size_t skip_comment(struct bytes field, size_t i)
{
	size_t depth = 0;
	for (; i < field.len; i++) {
		if (field.at[i] == '\\')
			i++;
		else if (field.at[i] == '(')
			depth++;
		else if (field.at[i] == ')' && --depth == 0)
			return i + 1;
	}
	return field.len;
}

static size_t skip_blanks(struct bytes field, size_t i)
{
	while (i < field.len && (is_blank(field.at[i]) || field.at[i] == '('))
		i = field.at[i] == '(' ? skip_comment(field, i) : i + 1;
	return i;
}

/* The authserv-id from `i` on, without quotes; *end_r: field.len when it may go on behind what is known. */
static void take_id(struct bytes field, size_t i, struct str *id, size_t *end_r)
{
	bool quoted = i < field.len && field.at[i] == '"';
	for (i += quoted; i < field.len; i++) {
		char c = field.at[i];
		if (quoted ? c == '"' : is_blank(c) || c == ';' || c == '(')
			break;
		if (quoted && (c == '\r' || c == '\n'))
			continue;
		if (quoted && c == '\\' && i + 1 < field.len)
			c = field.at[++i];
		str_add_char(id, c);
	}
	*end_r = i;
}

/* `whole`: nothing of the field comes any more. What cannot be told is taken for ours. */
static bool is_ours(const struct authres *a, bool whole)
{
	struct bytes field = { a->held, a->len };
	struct str id = STR_INIT(AUTHRES_HELD);
	size_t i = skip_blanks(field, bytes_find(field, ':') + 1), end;
	take_id(field, i, &id, &end);
	struct bytes found = str_bytes(&id);
	if (found.len > 0 && found.at[found.len - 1] == '.')
		found.len--;
	bool ours = bytes_equal_nocase(found, a->me) || (!whole && end >= field.len) || id.failed;
	str_free(&id);
	return ours;
}

/* ---- the stream */

static void give_held(struct authres *a, struct str *out)
{
	str_add(out, (struct bytes){ a->held, a->len });
	a->len = 0;
}

static void decide(struct authres *a, bool whole, struct str *out)
{
	a->holding = false;
	a->dropping = is_ours(a, whole);
	a->removed += a->dropping;
	if (!a->dropping)
		give_held(a, out);
	a->len = 0;
}

/* The first octet of a line is looked at, not taken. */
static void begin_line(struct authres *a, char c, struct str *out)
{
	bool continues = c == ' ' || c == '\t';
	if (!continues && a->holding)
		decide(a, true, out);
	if (!continues)
		a->dropping = false;
	a->over = c == '\r';
	a->place = continues && a->holding ? IN_FIELD : a->dropping ? IN_DROPPED : !continues && (c | 0x20) == name[0] ? IN_NAME : IN_PASSED;
}

/* Octets up to and with the line's end, or all. */
static size_t line_octets(struct bytes in)
{
	size_t lf = bytes_find(in, '\n');
	return lf < in.len ? lf + 1 : lf;
}

static void take_name(struct authres *a, char c, struct str *out)
{
	a->held[a->len++] = c;
	if (a->place == IN_NAME && (c | 0x20) == name[a->len - 1]) {
		a->place = a->len == NAME_LEN ? AFTER_NAME : IN_NAME;
	} else if (a->place == AFTER_NAME && c == ':') {
		a->place = IN_FIELD;
		a->holding = true;
	} else if (a->place == AFTER_NAME && a->len == AUTHRES_HELD) {
		a->len = 0;
		a->removed++;
		a->dropping = true;
		a->place = IN_DROPPED;
	} else if (a->place != AFTER_NAME || (c != ' ' && c != '\t')) {
		give_held(a, out);
		a->place = c == '\n' ? AT_LINE : IN_PASSED;
	}
}

/* UNSAFE: what is copied into `held` is at most what is free there. */
static size_t hold(struct authres *a, struct bytes in, struct str *out)
{
	size_t n = line_octets(in), room = AUTHRES_HELD - a->len;
	if (n > room)
		n = room;
	memcpy(a->held + a->len, in.at, n);
	a->len += n;
	if (n > 0 && in.at[n - 1] == '\n')
		a->place = AT_LINE;
	if (a->len == AUTHRES_HELD) {
		decide(a, false, out);
		if (a->place != AT_LINE)
			a->place = a->dropping ? IN_DROPPED : IN_PASSED;
	}
	return n;
}

static size_t take(struct authres *a, struct bytes in, struct str *out)
{
	if (a->place == IN_NAME || a->place == AFTER_NAME) {
		take_name(a, in.at[0], out);
		return 1;
	}
	if (a->place == IN_FIELD)
		return hold(a, in, out);
	size_t n = line_octets(in);
	if (a->place == IN_PASSED)
		str_add(out, bytes_slice(in, 0, n));
	if (in.at[n - 1] == '\n')
		a->place = AT_LINE;
	return n;
}

size_t authres_feed(struct authres *a, struct bytes in, struct str *out)
{
	size_t used = 0;
	while (used < in.len && !a->over) {
		struct bytes rest = bytes_slice(in, used, in.len);
		if (a->place == AT_LINE)
			begin_line(a, rest.at[0], out);
		if (!a->over)
			used += take(a, rest, out);
	}
	return used;
}

void authres_end(struct authres *a, struct str *out)
{
	if (a->holding)
		decide(a, true, out);
	give_held(a, out);
}
