/*
 * route - local or remote, and to which destination. Room: common. Settings in, a name out; no lookups.
 */
#include "route.h"

#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "keylist.h"
#include "netaddr.h"

static struct bytes after(struct bytes b, size_t n)
{
	return bytes_slice(b, n, b.len);
}

static bool list_matches(const struct lines *list, struct bytes domain)
{
	return keylist_find_domain(list, domain) < list->count;
}

/* ---- literals: user@[192.0.2.1] ---- */

static bool is_loopback(const struct netaddr *addr)
{
	static const uint8_t loopback6[16] = { [15] = 1 };
	return addr->family == AF_INET ? addr->octets[0] == 127 : memcmp(addr->octets, loopback6, 16) == 0;
}

/* This host's own: loopback, a line of ownaddresses, or a literal in locals. Its interfaces are not asked: that needs a
 * socket, and queued has none. */
static bool literal_is_ours(const struct settings *s, struct bytes literal)
{
	struct netaddr addr, own;
	if (!netaddr_parse_literal(literal, &addr))
		return false;
	if (is_loopback(&addr))
		return true;
	for (size_t i = 0; i < s->ownaddresses.count; i++)
		if (netaddr_parse(s->ownaddresses.at[i], &own) && netaddr_equal(&own, &addr))
			return true;
	for (size_t i = 0; i < s->locals.count; i++)
		if (netaddr_parse_literal(s->locals.at[i], &own) && netaddr_equal(&own, &addr))
			return true;
	return false;
}

static bool is_local(const struct settings *s, const struct mailaddr *rcpt)
{
	switch (rcpt->kind) {
	case ADDR_BARE: return true;
	case ADDR_LITERAL: return literal_is_ours(s, rcpt->domain);
	case ADDR_MAILBOX: return list_matches(&s->locals, rcpt->domain);
	default: return false;
	}
}

/* The prefix that virtualdomains gives this recipient, by its address or else its domain; false when no line matches or the best one
 * exempts it. */
static bool virtual_prefix(const struct settings *s, const struct mailaddr *rcpt, struct bytes *prefix_r)
{
	const struct lines *list = &s->virtualdomains;
	if (rcpt->kind != ADDR_MAILBOX)
		return false;
	size_t i = keylist_find(list, rcpt->text);
	if (i == list->count)
		i = keylist_find_domain(list, rcpt->domain);
	if (i == list->count)
		return false;
	*prefix_r = keylist_value(list->at[i]);
	return prefix_r->len > 0;
}

bool route_is_ours(const struct settings *s, const struct mailaddr *rcpt)
{
	struct bytes prefix;
	if (is_local(s, rcpt) || virtual_prefix(s, rcpt, &prefix))
		return true;
	return rcpt->kind == ADDR_MAILBOX && list_matches(&s->rcpthosts, rcpt->domain);
}

/* ---- smtproutes ---- */

/* "relay", "relay:port", "[v6]:port", "" */
static void split_relay(struct bytes rest, struct bytes *relay_r, uint16_t *port_r)
{
	uint64_t port = 0;
	size_t end = rest.len > 0 && rest.at[0] == '[' ? bytes_find(rest, ']') : 0;
	struct bytes tail = after(rest, end);
	size_t colon = end + bytes_find(tail, ':');
	*relay_r = bytes_slice(rest, 0, colon);
	bytes_to_u64(after(rest, colon + 1), UINT16_MAX, &port);
	*port_r = (uint16_t)port;
}

bool route_smtp(const struct settings *s, struct bytes domain, struct bytes *relay_r, uint16_t *port_r)
{
	const struct lines *list = &s->smtproutes;
	size_t i = keylist_find_domain(list, domain);
	if (i == list->count)
		i = keylist_find(list, LIT(""));
	if (i == list->count)
		return false;
	split_relay(keylist_value(list->at[i]), relay_r, port_r);
	return true;
}

/* ---- names of destinations ---- */

static void lower(struct str *s, size_t from)
{
	if (from < s->len)
		bytes_lower(s->at + from, s->len - from);
}

/* A name that is too long (a long virtual prefix before a domain of 255 octets) is cut, and a checksum of all of it keeps it apart. */
static void set_destination(struct route *route, struct bytes name)
{
	char sum[16] = "";
	size_t keep = name.len;
	if (name.len > DESTINATION_MAX) {
		int n = snprintf(sum, sizeof sum, "#%08lx", (unsigned long)crc32c(0, name.at, name.len));
		keep = DESTINATION_MAX - (size_t)n;
	}
	memcpy(route->destination, name.at, keep);
	route->destination_len = keep + strlen(sum);
	memcpy(route->destination + keep, sum, strlen(sum) + 1);
}

_Static_assert(DESTINATION_MAX >= LOCALPART_OWN_MAX + 1 + LOCALPART_MAX, "route.local_part holds a virtual domain's prefix and any local part");

static void route_local(const struct settings *s, const struct mailaddr *rcpt, struct bytes prefix, struct route *route)
{
	struct str name = STR_INIT(1024);
	route->channel = CHANNEL_LOCAL;
	route->virtual_domain = prefix.len > 0;
	str_add_c(&name, "l:");
	str_add(&name, prefix);
	if (prefix.len > 0)
		str_add(&name, s->extensionchar.len > 0 ? s->extensionchar : LIT("-"));
	mailaddr_unquote_local(rcpt, &name);
	lower(&name, 2);
	bytes_to_cstring(after(str_bytes(&name), 2), route->local_part, sizeof route->local_part);
	if (rcpt->kind != ADDR_BARE) {
		str_add_char(&name, '@');
		str_add(&name, rcpt->domain);
		lower(&name, 2);
	}
	set_destination(route, str_bytes(&name));
	str_free(&name);
}

static void route_remote(const struct settings *s, const struct mailaddr *rcpt, struct route *route)
{
	struct str name = STR_INIT(1024);
	struct bytes relay = { NULL, 0 };
	uint16_t port = 0;
	route->channel = CHANNEL_REMOTE;
	str_add_c(&name, "r:");
	if (route_smtp(s, rcpt->domain, &relay, &port) && relay.len > 0) {
		str_add(&name, relay);
		str_add_char(&name, ':');
		str_add_u64(&name, port > 0 ? port : s->remoteport);
	} else {
		str_add(&name, rcpt->domain);
	}
	lower(&name, 2);
	set_destination(route, str_bytes(&name));
	str_free(&name);
}

void route_find(const struct settings *s, const struct mailaddr *rcpt, struct route *route_r)
{
	struct bytes prefix = { NULL, 0 };
	memset(route_r, 0, sizeof *route_r);
	if (is_local(s, rcpt))
		route_local(s, rcpt, (struct bytes){ NULL, 0 }, route_r);
	else if (virtual_prefix(s, rcpt, &prefix))
		route_local(s, rcpt, prefix, route_r);
	else
		route_remote(s, rcpt, route_r);
}
