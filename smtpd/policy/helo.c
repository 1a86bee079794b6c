/* helo - smtpd's room: is this a name that a client may give? See inside.h. */
#include "inside.h"

#include "common/domain.h"
#include "common/keylist.h"

static bool is_loopback(const struct netaddr *a)
{
	static const uint8_t one[16] = { [15] = 1 };
	struct netaddr v6 = { .family = AF_INET6 };
	for (size_t i = 0; i < sizeof one; i++)
		v6.octets[i] = one[i];
	return (a->family == AF_INET && a->octets[0] == 127) || netaddr_equal(a, &v6);
}

/* A program of this host may call itself by the host's names. */
static bool is_foreign(const struct check_facts *facts)
{
	return facts->client.family != 0 && !is_loopback(&facts->client);
}

static bool is_own_address(const struct settings *settings, const struct check_facts *facts, const struct netaddr *a)
{
	struct netaddr own;
	if (is_loopback(a) || (facts->server.family != 0 && netaddr_equal(a, &facts->server)))
		return true;
	for (size_t i = 0; i < settings->ownaddresses.count; i++)
		if (netaddr_parse(settings->ownaddresses.at[i], &own) && netaddr_equal(a, &own))
			return true;
	return false;
}

static bool is_own_name(const struct settings *settings, struct bytes name)
{
	return bytes_equal_nocase(name, settings->me) || keylist_find(&settings->locals, name) < settings->locals.count;
}

static bool is_localhost(struct bytes name)
{
	return bytes_equal_nocase(name, LIT("localhost")) || bytes_equal_nocase(name, LIT("localhost.localdomain"))
		|| bytes_ends_nocase(name, LIT(".localhost"));
}

/* No top-level domain is a number, so this is an address, or half of one. */
static bool ends_in_number(struct bytes name)
{
	uint64_t number;
	return bytes_to_u64(bytes_slice(name, bytes_find_last(name, '.') + 1, name.len), UINT64_MAX, &number);
}

const char *helo_fault(const struct settings *settings, const struct check_facts *facts)
{
	struct bytes name = facts->helo;
	struct netaddr a;
	if (name.len > 0 && name.at[0] == '[') {
		if (!netaddr_parse_literal(name, &a))
			return "not an address literal";
		return is_foreign(facts) && is_own_address(settings, facts, &a) ? "this is our own address" : NULL;
	}
	if (netaddr_parse(name, &a))
		return "an address stands in brackets";
	if (!domain_valid(name, false) || bytes_find(name, '_') < name.len || ends_in_number(name))
		return "not a host name";
	if (is_localhost(name))
		return is_foreign(facts) ? "you are not localhost" : NULL;
	if (bytes_find(name, '.') == name.len)
		return "need the host's full name, with its domain";
	return is_foreign(facts) && is_own_name(settings, name) ? "this is our own name" : NULL;
}
