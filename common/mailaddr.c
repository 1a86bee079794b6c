/* mailaddr - common room, used wherever an address is read. See mailaddr.h. */
#include "mailaddr.h"

#include <string.h>

#include "domain.h"
#include "netaddr.h"

#define PATH_OCTETS 256   /* RFC 5321 4.5.3.1.3, with the angle brackets */

/* A local part without its spelling: what quotes and backslashes stood for. */
struct local {
	char octets[LOCALPART_MAX];
	size_t len;
};

const char *mailaddr_error_text(enum mailaddr_error e)
{
	switch (e) {
	case ADDR_OK: return "the address is well-formed";
	case ADDR_SYNTAX: return "the address is malformed";
	case ADDR_LOCAL_LONG: return "the part before the @ is longer than 250 octets";
	case ADDR_DOMAIN_BAD: return "the domain of the address is malformed";
	case ADDR_LITERAL_BAD: return "the address literal is malformed";
	case ADDR_LONG: return "the address is too long";
	case ADDR_UTF8_NEEDED: return "the address is not ASCII and SMTPUTF8 was not asked for";
	}
	return "the address is malformed";
}

/* ---- characters ---- */

static bool is_high(char c)
{
	return (unsigned char)c >= 0x80;
}

/* RFC 5321 4.1.2 quoted-pairSMTP, and together with '"' and '\\' what a Quoted-string can hold. */
static bool is_print(char c)
{
	return c >= 32 && c <= 126;
}

/* RFC 5322 3.2.3 atext; RFC 6531 3.3 adds all that is not ASCII (its validity is checked over the whole). */
static bool is_atext(char c)
{
	if (is_high(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL;
}

static enum mailaddr_error local_push(struct local *local, char c)
{
	if (local->len == LOCALPART_MAX)
		return ADDR_LOCAL_LONG;
	local->octets[local->len++] = c;
	return ADDR_OK;
}

static struct bytes local_bytes(const struct local *local)
{
	return (struct bytes){ local->octets, local->len };
}

/* ---- the local part as it is spelled ---- */

static enum mailaddr_error read_quoted(struct bytes in, struct local *local_r, size_t *used_r)
{
	for (size_t i = 1; i < in.len; i++) {
		char c = in.at[i];
		if (c == '"') {
			*used_r = i + 1;
			return ADDR_OK;
		}
		if (c == '\\') {
			if (++i == in.len || !is_print(in.at[i]))
				return ADDR_SYNTAX;
			c = in.at[i];
		} else if (!is_print(c) && !is_high(c)) {
			return ADDR_SYNTAX;
		}
		enum mailaddr_error e = local_push(local_r, c);
		if (e != ADDR_OK)
			return e;
	}
	return ADDR_SYNTAX;
}

static enum mailaddr_error read_dot_string(struct bytes in, struct local *local_r, size_t *used_r)
{
	size_t i = 0;
	bool after_dot = true;   /* the beginning counts as one: an atom must follow */

	for (; i < in.len && (is_atext(in.at[i]) || in.at[i] == '.'); i++) {
		bool dot = in.at[i] == '.';
		if (dot && after_dot)
			return ADDR_SYNTAX;
		after_dot = dot;
		enum mailaddr_error e = local_push(local_r, in.at[i]);
		if (e != ADDR_OK)
			return e;
	}
	*used_r = i;
	return after_dot ? ADDR_SYNTAX : ADDR_OK;
}

static enum mailaddr_error read_local(struct bytes in, struct local *local_r, size_t *used_r)
{
	enum mailaddr_error e;

	local_r->len = 0;
	if (in.len && in.at[0] == '"')
		e = read_quoted(in, local_r, used_r);
	else
		e = read_dot_string(in, local_r, used_r);
	if (e == ADDR_OK && !bytes_is_utf8_text(local_bytes(local_r)))
		return ADDR_SYNTAX;
	return e;
}

/* ---- the canonical form ---- */

static bool is_dot_string(struct bytes plain)
{
	struct local scratch = { .len = 0 };
	size_t used;

	return read_dot_string(plain, &scratch, &used) == ADDR_OK && used == plain.len;
}

static void add_local(struct str *text, struct bytes plain)
{
	if (is_dot_string(plain)) {
		str_add(text, plain);
		return;
	}
	str_add_char(text, '"');
	for (size_t i = 0; i < plain.len; i++) {
		if (plain.at[i] == '"' || plain.at[i] == '\\')
			str_add_char(text, '\\');
		str_add_char(text, plain.at[i]);
	}
	str_add_char(text, '"');
}

static enum mailaddr_error check_domain(struct bytes domain, enum mailaddr_kind *kind_r)
{
	struct netaddr ip;

	if (domain.len && domain.at[0] == '[') {
		*kind_r = ADDR_LITERAL;
		return netaddr_parse_literal(domain, &ip) ? ADDR_OK : ADDR_LITERAL_BAD;
	}
	*kind_r = ADDR_MAILBOX;
	return domain_valid(domain, true) ? ADDR_OK : ADDR_DOMAIN_BAD;
}

static void add_domain(struct str *text, struct bytes domain, enum mailaddr_kind kind)
{
	if (kind == ADDR_LITERAL) {
		struct netaddr ip;
		char ip_text[NETADDR_TEXT];
		netaddr_parse_literal(domain, &ip);
		netaddr_format(&ip, ip_text);
		str_addf(text, "[%s%s]", ip.family == AF_INET6 ? "IPv6:" : "", ip_text);
		return;
	}
	char lower[DOMAIN_MAX + 1];
	domain_lower(domain, lower);
	str_add(text, (struct bytes){ lower, domain.len });
}

/* Plain local part and any spelling of the domain into canonical text and its views. */
static enum mailaddr_error build(struct bytes plain, struct bytes domain, struct str *text, struct mailaddr *addr_r)
{
	enum mailaddr_kind kind;
	enum mailaddr_error e = check_domain(domain, &kind);

	if (e != ADDR_OK)
		return e;
	str_clear(text);
	add_local(text, plain);
	size_t local_len = text->len;
	str_add_char(text, '@');
	add_domain(text, domain, kind);
	if (text->failed || text->len > ADDRESS_MAX)
		return ADDR_LONG;
	struct bytes whole = str_bytes(text);
	*addr_r = (struct mailaddr){ kind, whole, bytes_slice(whole, 0, local_len), bytes_slice(whole, local_len + 1, whole.len) };
	return ADDR_OK;
}

static enum mailaddr_error build_bare(struct bytes plain, struct str *text, struct mailaddr *addr_r)
{
	/* RFC 5321 4.5.1: no other local part may stand alone. */
	if (!bytes_equal_nocase(plain, LIT("postmaster")))
		return ADDR_SYNTAX;
	str_clear(text);
	if (!str_add(text, plain))
		return ADDR_LONG;
	*addr_r = (struct mailaddr){ .kind = ADDR_BARE, .text = str_bytes(text), .local = str_bytes(text) };
	return ADDR_OK;
}

/* ---- wire form ---- */

/* RFC 5321 4.1.2 A-d-l ":" = "@a,@b:". Must be accepted, is dropped (appendix C). *rest loses it. */
static enum mailaddr_error drop_source_route(struct bytes *rest)
{
	if (rest->len == 0 || rest->at[0] != '@')
		return ADDR_OK;
	size_t colon = bytes_find(*rest, ':');
	if (colon == rest->len)
		return ADDR_SYNTAX;
	struct bytes route = bytes_slice(*rest, 0, colon);
	*rest = bytes_slice(*rest, colon + 1, rest->len);
	while (route.at) {
		struct bytes hop = bytes_cut(&route, ',');
		if (hop.len == 0 || hop.at[0] != '@')
			return ADDR_SYNTAX;
		if (!domain_valid(bytes_slice(hop, 1, hop.len), true))
			return ADDR_DOMAIN_BAD;
	}
	return ADDR_OK;
}

static bool has_high(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (is_high(b.at[i]))
			return true;
	return false;
}

enum mailaddr_error mailaddr_parse_path(struct bytes in, bool utf8, struct str *text, struct mailaddr *addr_r, size_t *used_r)
{
	struct local local;
	size_t used;

	str_clear(text);
	if (in.len < 2 || in.at[0] != '<')
		return ADDR_SYNTAX;
	if (in.at[1] == '>') {
		*addr_r = (struct mailaddr){ .kind = ADDR_NULL };
		*used_r = 2;
		return ADDR_OK;
	}
	struct bytes rest = bytes_slice(in, 1, PATH_MAX_OCTETS);
	enum mailaddr_error e = drop_source_route(&rest);
	if (e == ADDR_OK)
		e = read_local(rest, &local, &used);
	if (e != ADDR_OK)
		return e;
	/* Only now is a ">" the end: inside quotes it is data. */
	rest = bytes_slice(rest, used, rest.len);
	size_t end = bytes_find(rest, '>');
	if (end == rest.len)
		return in.len > PATH_MAX_OCTETS ? ADDR_LONG : ADDR_SYNTAX;
	if (end == 0)
		e = build_bare(local_bytes(&local), text, addr_r);
	else if (rest.at[0] == '@')
		e = build(local_bytes(&local), bytes_slice(rest, 1, end), text, addr_r);
	else
		e = ADDR_SYNTAX;
	if (e != ADDR_OK)
		return e;
	*used_r = (size_t)(rest.at - in.at) + end + 1;
	if (!utf8 && has_high(bytes_slice(in, 0, *used_r)))
		return ADDR_UTF8_NEEDED;
	return addr_r->text.len + 2 > PATH_OCTETS ? ADDR_LONG : ADDR_OK;
}

/* ---- stored and written forms ---- */

enum mailaddr_error mailaddr_parse(struct bytes in, struct mailaddr *addr_r)
{
	struct local local;
	enum mailaddr_kind kind;
	size_t used;

	if (in.len == 0) {
		*addr_r = (struct mailaddr){ .kind = ADDR_NULL };
		return ADDR_OK;
	}
	enum mailaddr_error e = read_local(in, &local, &used);
	if (e != ADDR_OK)
		return e;
	if (used == in.len || in.at[used] != '@')
		return ADDR_SYNTAX;
	struct bytes domain = bytes_slice(in, used + 1, in.len);
	e = check_domain(domain, &kind);
	if (e != ADDR_OK)
		return e;
	if (in.len > ADDRESS_MAX)
		return ADDR_LONG;
	*addr_r = (struct mailaddr){ kind, in, bytes_slice(in, 0, used), domain };
	return ADDR_OK;
}

/* Any legal spelling of a local part without its meaning. Only for a parsed address. */
static void unquote(const struct mailaddr *addr, struct local *local_r)
{
	size_t used;

	if (read_local(addr->local, local_r, &used) != ADDR_OK)
		local_r->len = 0;
}

enum mailaddr_error mailaddr_from_raw(struct bytes raw, struct str *text, struct mailaddr *addr_r)
{
	struct local local;
	enum mailaddr_error e = mailaddr_parse(raw, addr_r);

	str_clear(text);
	if (e == ADDR_OK && addr_r->kind == ADDR_NULL)
		return ADDR_OK;
	if (e == ADDR_OK) {
		unquote(addr_r, &local);
		return build(local_bytes(&local), addr_r->domain, text, addr_r);
	}
	/* No legal spelling: so every octet before the last "@" stands for itself. */
	size_t at = bytes_find_last(raw, '@');
	struct bytes plain = bytes_slice(raw, 0, at);
	if (at == raw.len || at == 0 || !bytes_is_utf8_text(plain))
		return ADDR_SYNTAX;
	if (plain.len > LOCALPART_MAX)
		return ADDR_LOCAL_LONG;
	return build(plain, bytes_slice(raw, at + 1, raw.len), text, addr_r);
}

bool mailaddr_unquote_local(const struct mailaddr *addr, struct str *out)
{
	struct local local;

	unquote(addr, &local);
	return str_add(out, local_bytes(&local));
}

bool mailaddr_is_utf8(const struct mailaddr *addr)
{
	return has_high(addr->text);
}

bool mailaddr_equal(const struct mailaddr *a, const struct mailaddr *b)
{
	struct local local_a, local_b;

	if (a->kind != b->kind || !bytes_equal_nocase(a->domain, b->domain))
		return false;
	if (bytes_equal(a->local, b->local))
		return true;
	unquote(a, &local_a);
	unquote(b, &local_b);
	return bytes_equal(local_bytes(&local_a), local_bytes(&local_b));
}
