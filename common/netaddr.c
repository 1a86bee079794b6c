/* netaddr - common room, used by smtpd, remote, resolver and the settings. See netaddr.h. */
#include "netaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static size_t octets_of(int family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

bool netaddr_parse(struct bytes text, struct netaddr *a_r)
{
	char copy[NETADDR_TEXT];
	struct netaddr a = { 0 };

	if (!bytes_to_cstring(text, copy, sizeof copy))
		return false;
	a.family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, copy, a.octets) != 1)
		return false;
	*a_r = a;
	return true;
}

bool netaddr_parse_literal(struct bytes text, struct netaddr *a_r)
{
	static const char tag[] = "IPv6:";
	struct netaddr a;

	if (text.len < 2 || text.at[0] != '[' || text.at[text.len - 1] != ']')
		return false;
	struct bytes inside = bytes_slice(text, 1, text.len - 1);
	/* RFC 5321 4.1.3: IPv6 only behind its tag; any other tag is a General-address-literal, of which none is registered. */
	bool v6 = bytes_starts_nocase(inside, LIT(tag));
	if (v6)
		inside = bytes_slice(inside, sizeof tag - 1, inside.len);
	if (!netaddr_parse(inside, &a) || a.family != (v6 ? AF_INET6 : AF_INET))
		return false;
	*a_r = a;
	return true;
}

bool netaddr_parse_listen(struct bytes text, struct netaddr *a_r)
{
	struct netaddr a = { .family = AF_INET6 };
	uint64_t port;
	size_t colon = bytes_find_last(text, ':');
	struct bytes host = colon == text.len ? bytes_slice(text, 0, 0) : bytes_slice(text, 0, colon);
	struct bytes port_text = colon == text.len ? text : bytes_slice(text, colon + 1, text.len);

	if (!bytes_to_u64(port_text, UINT16_MAX, &port) || port == 0)
		return false;
	if (host.len && host.at[0] == '[') {
		if (host.at[host.len - 1] != ']' || !netaddr_parse(bytes_slice(host, 1, host.len - 1), &a) || a.family != AF_INET6)
			return false;
	} else if (host.len && (!netaddr_parse(host, &a) || a.family != AF_INET)) {
		return false;
	}
	a.port = (uint16_t)port;
	*a_r = a;
	return true;
}

void netaddr_format(const struct netaddr *a, char out[NETADDR_TEXT])
{
	if (!octets_of(a->family) || !inet_ntop(a->family, a->octets, out, NETADDR_TEXT))
		memcpy(out, "unknown", sizeof "unknown");
}

/* v4-mapped (RFC 4291 2.5.5.2) as AF_INET, all else as it is. */
static struct netaddr unmapped(const struct netaddr *a)
{
	static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	struct netaddr v4 = { .family = AF_INET, .port = a->port };

	if (a->family != AF_INET6 || memcmp(a->octets, prefix, sizeof prefix) != 0)
		return *a;
	memcpy(v4.octets, a->octets + sizeof prefix, 4);
	return v4;
}

bool netaddr_equal(const struct netaddr *a, const struct netaddr *b)
{
	struct netaddr x = unmapped(a), y = unmapped(b);

	return x.family == y.family && memcmp(x.octets, y.octets, octets_of(x.family)) == 0;
}

bool netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct netaddr *a_r)
{
	struct netaddr a = { 0 };

	if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof in);
		a.family = AF_INET;
		memcpy(a.octets, &in.sin_addr, 4);
		a.port = ntohs(in.sin_port);
	} else if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof in6);
		a.family = AF_INET6;
		memcpy(a.octets, &in6.sin6_addr, 16);
		a.port = ntohs(in6.sin6_port);
	} else {
		return false;
	}
	*a_r = unmapped(&a);
	return true;
}

socklen_t netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *sa_r)
{
	memset(sa_r, 0, sizeof *sa_r);
	if (a->family == AF_INET) {
		struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(a->port) };
		memcpy(&in.sin_addr, a->octets, 4);
		memcpy(sa_r, &in, sizeof in);
		return sizeof in;
	}
	if (a->family == AF_INET6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
		memcpy(&in6.sin6_addr, a->octets, 16);
		memcpy(sa_r, &in6, sizeof in6);
		return sizeof in6;
	}
	return 0;
}

/* ---- networks ---- */

static bool bit_is_set(const uint8_t *octets, unsigned bit)
{
	return octets[bit / 8] & (0x80u >> (bit % 8));
}

bool netblock_parse(struct bytes text, struct netblock *b_r)
{
	struct netblock b;
	uint64_t bits;
	struct bytes rest = text;
	struct bytes base = bytes_cut(&rest, '/');

	if (!netaddr_parse(base, &b.base))
		return false;
	unsigned all = (unsigned)octets_of(b.base.family) * 8;
	b.bits = all;
	if (rest.at) {
		if (!bytes_to_u64(rest, all, &bits))
			return false;
		b.bits = (unsigned)bits;
	}
	for (unsigned i = b.bits; i < all; i++)
		if (bit_is_set(b.base.octets, i))
			return false;
	*b_r = b;
	return true;
}

bool netblock_contains(const struct netblock *b, const struct netaddr *a)
{
	struct netaddr base = b->bits >= 96 ? unmapped(&b->base) : b->base;
	struct netaddr addr = unmapped(a);
	unsigned bits = base.family == b->base.family ? b->bits : b->bits - 96;

	if (base.family != addr.family || octets_of(addr.family) == 0)
		return false;
	if (memcmp(base.octets, addr.octets, bits / 8) != 0)
		return false;
	for (unsigned i = bits / 8 * 8; i < bits; i++)
		if (bit_is_set(base.octets, i) != bit_is_set(addr.octets, i))
			return false;
	return true;
}
