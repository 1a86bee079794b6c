/*
 * header - see header.h. Room: local, the caller's own uid; the octets come from any program of the user.
 */
#include "header.h"

#include <string.h>

#include "common/fieldname.h"

static const struct { const char *name; enum header_id id; } known[] = {
	{ "return-path", HDR_RETURN_PATH }, { "date", HDR_DATE }, { "from", HDR_FROM }, { "sender", HDR_SENDER }, { "to", HDR_TO }, { "cc", HDR_CC }, { "bcc", HDR_BCC },
	{ "message-id", HDR_MESSAGE_ID }, { "resent-date", HDR_RESENT_DATE }, { "resent-from", HDR_RESENT_FROM }, { "resent-sender", HDR_RESENT_SENDER },
	{ "resent-to", HDR_RESENT_TO }, { "resent-cc", HDR_RESENT_CC }, { "resent-bcc", HDR_RESENT_BCC }, { "resent-message-id", HDR_RESENT_MESSAGE_ID },
};

/* ---- lines and fields ---- */

/* The line that starts at `from`: its length with the line end; 0 when it is not whole. */
static size_t line_length(struct bytes in, size_t from, bool all)
{
	struct bytes rest = bytes_slice(in, from, in.len);
	size_t lf = bytes_find(rest, '\n');

	if (lf < rest.len)
		return lf + 1;
	return all ? rest.len : 0;
}

static struct bytes without_line_end(struct bytes line)
{
	if (line.len > 0 && line.at[line.len - 1] == '\n')
		line.len--;
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool is_mbox_line(struct bytes line)
{
	struct bytes from = LIT("From "), quoted = LIT(">From ");

	return bytes_equal(bytes_slice(line, 0, from.len), from) || bytes_equal(bytes_slice(line, 0, quoted.len), quoted);
}

static bool is_continuation(struct bytes line)
{
	return line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t');
}

static bool belongs_to_header(struct bytes line, size_t offset, bool seen_field)
{
	if (is_continuation(line))
		return seen_field;
	return (offset == 0 && is_mbox_line(line)) || fieldname(line) > 0;
}

bool header_end(struct bytes message, bool all, size_t *scanned, size_t *fields_r, size_t *body_r)
{
	while (*scanned < message.len) {
		size_t n = line_length(message, *scanned, all);
		struct bytes line;

		if (n == 0)
			return false;
		line = without_line_end(bytes_slice(message, *scanned, *scanned + n));
		if (line.len == 0 || !belongs_to_header(line, *scanned, *scanned > 0)) {
			*fields_r = *scanned;
			*body_r = line.len == 0 ? *scanned + n : *scanned;
			return true;
		}
		*scanned += n;
	}
	if (all)
		*fields_r = *body_r = message.len;
	return all;
}

static enum header_id identify(struct bytes name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (bytes_equal_nocase(name, bytes_of(known[i].name)))
			return known[i].id;
	return bytes_starts_nocase(name, LIT("resent-")) ? HDR_RESENT_OTHER : HDR_OTHER;
}

bool header_next(struct bytes fields, size_t *offset, struct header_field *field_r)
{
	size_t from = *offset, to = from, name, value_at;

	if (from >= fields.len)
		return false;
	do {
		to += line_length(fields, to, true);
	} while (to < fields.len && is_continuation(bytes_slice(fields, to, fields.len)));
	*offset = to;
	field_r->raw = bytes_slice(fields, from, to);
	name = fieldname(field_r->raw);
	value_at = name > 0 ? bytes_find(field_r->raw, ':') + 1 : 0;
	field_r->name = bytes_slice(field_r->raw, 0, name);
	field_r->value = without_line_end(bytes_slice(field_r->raw, value_at, field_r->raw.len));
	if (name > 0)
		field_r->id = identify(field_r->name);
	else
		field_r->id = from == 0 && is_mbox_line(field_r->raw) ? HDR_MBOX_LINE : HDR_OTHER;
	return true;
}

uint32_t header_present(struct bytes fields)
{
	struct header_field field;
	uint32_t present = 0;

	for (size_t offset = 0; header_next(fields, &offset, &field);)
		present |= UINT32_C(1) << field.id;
	return present;
}

/* Fields that a block of Resent- fields holds at most once: all that we know (RFC 5322 3.6). */
static bool once_in_a_block(enum header_id id)
{
	return id > HDR_RESENT_OTHER;
}

bool header_resent_block(struct bytes fields, size_t *from_r, size_t *to_r)
{
	struct header_field field;
	uint32_t seen = 0;
	bool inside = false;

	for (size_t offset = 0, at = 0; header_next(fields, &offset, &field); at = offset) {
		if (field.id < HDR_RESENT_OTHER) {
			if (inside)
				break;
			continue;
		}
		if (inside && once_in_a_block(field.id) && HEADER_HAS(seen, field.id))
			break;
		if (!inside)
			*from_r = at;
		inside = true;
		seen |= UINT32_C(1) << field.id;
		*to_r = offset;
	}
	return inside;
}

/* ---- tokens of a structured value (RFC 5322 3.2) ---- */

enum token_kind { TOKEN_END, TOKEN_WORD /* atom or quoted string */, TOKEN_LITERAL, TOKEN_SPECIAL, TOKEN_BAD };

struct token { enum token_kind kind; struct bytes text; };

struct lexer { struct bytes in; size_t at; enum header_error error; };

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_atom_char(char c)
{
	return (unsigned char)c > 32 && c != 127 && strchr("()<>[]:;@\\,.\"", c) == NULL;
}

/* lx->at stands on "(": go behind its ")". */
static bool skip_comment(struct lexer *lx)
{
	size_t depth = 0;

	for (; lx->at < lx->in.len; lx->at++) {
		char c = lx->in.at[lx->at];

		if (c == '\\')
			lx->at++;
		else if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0) {
			lx->at++;
			return true;
		}
		if (depth > HEADER_NESTING) {
			lx->error = HEADER_DEEP;
			return false;
		}
	}
	lx->at = lx->in.len;
	lx->error = HEADER_UNCLOSED;
	return false;
}

static bool skip_cfws(struct lexer *lx)
{
	while (lx->at < lx->in.len && (is_blank(lx->in.at[lx->at]) || lx->in.at[lx->at] == '(')) {
		if (lx->in.at[lx->at] != '(')
			lx->at++;
		else if (!skip_comment(lx))
			return false;
	}
	return true;
}

/* From an opening to its closing octet, both taken; a backslash takes the next octet with it. */
static bool take_enclosed(struct lexer *lx, char closing)
{
	for (lx->at++; lx->at < lx->in.len; lx->at++) {
		char c = lx->in.at[lx->at];

		if (c == '\\')
			lx->at++;
		else if (c == closing) {
			lx->at++;
			return true;
		}
	}
	lx->at = lx->in.len;
	lx->error = HEADER_UNCLOSED;
	return false;
}

static struct token next_token(struct lexer *lx)
{
	struct token bad = { TOKEN_BAD, { NULL, 0 } };
	size_t from;
	char c;

	if (!skip_cfws(lx))
		return bad;
	if (lx->at >= lx->in.len)
		return (struct token){ TOKEN_END, { NULL, 0 } };
	from = lx->at;
	c = lx->in.at[from];
	if (c == '"' || c == '[') {
		if (!take_enclosed(lx, c == '"' ? '"' : ']'))
			return bad;
		return (struct token){ c == '"' ? TOKEN_WORD : TOKEN_LITERAL, bytes_slice(lx->in, from, lx->at) };
	}
	if (c != '\0' && strchr("<>:;@,.", c) != NULL) {
		lx->at++;
		return (struct token){ TOKEN_SPECIAL, bytes_slice(lx->in, from, lx->at) };
	}
	while (lx->at < lx->in.len && is_atom_char(lx->in.at[lx->at]))
		lx->at++;
	if (lx->at == from) {
		lx->error = HEADER_SYNTAX;
		return bad;
	}
	return (struct token){ TOKEN_WORD, bytes_slice(lx->in, from, lx->at) };
}

/* ---- address lists ---- */

struct reader {
	struct lexer lx;
	struct bytes host;
	header_address_fn *fn;
	void *context;
	struct header_fault *fault;
	struct str addr;       /* "<", the pieces of the address being read, without blanks and comments */
	struct str canonical;
	size_t from;           /* where the element being read began, for messages */
	bool has_at, after_word, apart /* two words side by side: a phrase, no address */, angle /* <...> was read */, in_group;
};

static bool fail(struct reader *r, enum header_error error)
{
	r->fault->error = error;
	r->fault->near = bytes_trim(bytes_slice(r->lx.in, r->from, r->lx.at));
	return false;
}

static void element_begin(struct reader *r)
{
	str_clear(&r->addr);
	str_add_char(&r->addr, '<');
	r->from = r->lx.at;
	r->has_at = r->after_word = r->apart = r->angle = false;
}

/* One piece of an address; what a fold left in a quoted string goes. */
static void add_piece(struct reader *r, struct token token)
{
	bool word = token.kind != TOKEN_SPECIAL;

	if (word && r->after_word)
		r->apart = true;
	r->after_word = word;
	if (!word && token.text.at[0] == '@')
		r->has_at = true;
	for (size_t i = 0; i < token.text.len; i++)
		if (token.text.at[i] != '\r' && token.text.at[i] != '\n')
			str_add_char(&r->addr, token.text.at[i]);
}

static bool element_end(struct reader *r)
{
	struct mailaddr addr;
	size_t used;

	if (r->addr.len == 1 && !r->angle)
		return true;
	if (r->apart)
		return fail(r, HEADER_SYNTAX);
	if (!r->has_at && r->addr.len > 1) {
		str_add_char(&r->addr, '@');
		str_add(&r->addr, r->host);
	}
	str_add_char(&r->addr, '>');
	if (r->addr.failed)
		return r->fault->why = ADDR_LONG, fail(r, HEADER_ADDRESS);
	r->fault->why = mailaddr_parse_path(str_bytes(&r->addr), true, &r->canonical, &addr, &used);
	if (r->fault->why != ADDR_OK || used != r->addr.len)
		return fail(r, HEADER_ADDRESS);
	if (addr.kind == ADDR_NULL)
		return r->fault->why = ADDR_SYNTAX, fail(r, HEADER_ADDRESS);
	return r->fn(r->context, &addr) || fail(r, HEADER_STOPPED);
}

/* Behind "<": to ">". A source route (RFC 5322 4.4 obs-route) is dropped. */
static bool read_angle(struct reader *r)
{
	struct token token;
	size_t from = r->from;
	bool route = false;

	if (r->angle)
		return fail(r, HEADER_SYNTAX);
	element_begin(r);
	r->from = from;
	for (;;) {
		token = next_token(&r->lx);
		if (token.kind == TOKEN_BAD || token.kind == TOKEN_END)
			return fail(r, token.kind == TOKEN_BAD ? r->lx.error : HEADER_UNCLOSED);
		if (token.kind != TOKEN_SPECIAL || token.text.at[0] == '.') {
			add_piece(r, token);
		} else if (token.text.at[0] == '@') {
			route = route || r->addr.len == 1;
			add_piece(r, token);
		} else if (token.text.at[0] == '>') {
			r->angle = true;
			return true;
		} else if (route && token.text.at[0] == ':') {
			element_begin(r);
			r->from = from;
			route = false;
		} else if (!route || token.text.at[0] != ',') {
			return fail(r, HEADER_SYNTAX);
		}
	}
}

static bool read_special(struct reader *r, struct token token)
{
	switch (token.text.at[0]) {
	case '<':
		return read_angle(r);
	case ',':
	case ';':
		if (!element_end(r))
			return false;
		if (token.text.at[0] == ';')
			r->in_group = false;
		element_begin(r);
		return true;
	case ':':
		if (r->in_group || r->angle || r->has_at || r->addr.len == 1)
			return fail(r, HEADER_SYNTAX);
		r->in_group = true;
		element_begin(r);
		return true;
	case '.':
	case '@':
		if (r->angle)
			return fail(r, HEADER_SYNTAX);
		add_piece(r, token);
		return true;
	default:
		return fail(r, HEADER_SYNTAX);
	}
}

static bool read_list(struct reader *r)
{
	struct token token;

	element_begin(r);
	for (;;) {
		token = next_token(&r->lx);
		switch (token.kind) {
		case TOKEN_END:
			return element_end(r);
		case TOKEN_BAD:
			return fail(r, r->lx.error);
		case TOKEN_SPECIAL:
			if (!read_special(r, token))
				return false;
			break;
		default:
			if (r->angle)
				return fail(r, HEADER_SYNTAX);
			add_piece(r, token);
		}
	}
}

bool header_addresses(struct bytes value, struct bytes host, header_address_fn *fn, void *context, struct header_fault *fault_r)
{
	/* A phrase may be longer than an address, so the pieces have room for one; element_end sees when it was too little. */
	struct reader r = { .lx = { .in = value }, .host = host, .fn = fn, .context = context, .fault = fault_r,
		.addr = STR_INIT(HEADER_MAX), .canonical = STR_INIT(4 * PATH_MAX_OCTETS) };
	bool good;

	*fault_r = (struct header_fault){ .error = HEADER_OK };
	good = read_list(&r);
	str_free(&r.addr);
	str_free(&r.canonical);
	return good;
}

static bool names_recipients(enum header_id id, bool resent)
{
	if (resent)
		return id == HDR_RESENT_TO || id == HDR_RESENT_CC || id == HDR_RESENT_BCC;
	return id == HDR_TO || id == HDR_CC || id == HDR_BCC;
}

bool header_recipients(struct bytes fields, struct bytes host, header_address_fn *fn, void *context, struct header_fault *fault_r)
{
	struct header_field field;
	size_t from = 0, to = 0;
	bool resent = header_resent_block(fields, &from, &to);
	struct bytes part = resent ? bytes_slice(fields, from, to) : fields;

	*fault_r = (struct header_fault){ .error = HEADER_OK };
	for (size_t offset = 0; header_next(part, &offset, &field);)
		if (names_recipients(field.id, resent) && !header_addresses(field.value, host, fn, context, fault_r))
			return false;
	return true;
}

const char *header_error_text(enum header_error e)
{
	switch (e) {
	case HEADER_OK: return "no error";
	case HEADER_SYNTAX: return "this is not an address";
	case HEADER_UNCLOSED: return "a quote, comment or bracket is not closed";
	case HEADER_DEEP: return "comments are nested too deeply";
	case HEADER_ADDRESS: return "this address is not valid";
	case HEADER_STOPPED: return "too many recipients";
	}
	return "unknown error";
}
