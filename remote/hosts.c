/* hosts - where to connect. Room: remote; the resolver's answers are ours, what stands in them is a stranger's. */
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/domain.h"
#include "common/route.h"
#include "hosts.h"

/* ---- this host ---- */

static void own_add(struct hosts_own *own, const struct netaddr *a)
{
	if (own->count < HOSTS_OWN_MAX)
		own->at[own->count++] = *a;
}

static bool is_loopback(const struct netaddr *a)
{
	static const uint8_t loopback6[16] = { [15] = 1 };

	return a->family == AF_INET ? a->octets[0] == 127 : memcmp(a->octets, loopback6, sizeof loopback6) == 0;
}

static void own_add_interfaces(struct hosts_own *own)
{
	struct ifaddrs *all = NULL;
	struct netaddr a;

	if (getifaddrs(&all) == -1)
		return;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		bool v4 = i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET;
		bool v6 = i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET6;

		if ((v4 || v6) && netaddr_from_sockaddr(i->ifa_addr, v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), &a) && !is_loopback(&a))
			own_add(own, &a);
	}
	freeifaddrs(all);
}

void hosts_own_find(const struct settings *s, struct hosts_own *own_r)
{
	struct netaddr a;

	own_r->count = 0;
	for (size_t i = 0; i < s->ownaddresses.count; i++)
		if (netaddr_parse(s->ownaddresses.at[i], &a))
			own_add(own_r, &a);
	own_add_interfaces(own_r);
}

static bool own_has(const struct hosts_own *own, const struct netaddr *a)
{
	for (size_t i = 0; i < own->count; i++)
		if (netaddr_equal(&own->at[i], a))
			return true;
	return false;
}

/* ---- order ---- */

/* Preferences from this one on are not used; 65536: all are. */
static uint32_t own_preference(const struct dns_reply *reply, const struct hosts_own *own)
{
	uint32_t best = 65536;

	for (size_t i = 0; i < reply->count; i++)
		if (reply->host[i].preference < best && reply->host[i].addr.family != 0 && own_has(own, &reply->host[i].addr))
			best = reply->host[i].preference;
	return best;
}

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void swap(struct dns_address *a, struct dns_address *b)
{
	struct dns_address keep = *a;

	*a = *b;
	*b = keep;
}

/* Insertion sort: at most DNS_HOSTS_MAX, and nearly sorted as they come. */
static void sort(struct hosts *h)
{
	for (size_t i = 1; i < h->count; i++)
		for (size_t k = i; k > 0 && h->at[k - 1].preference > h->at[k].preference; k--)
			swap(&h->at[k - 1], &h->at[k]);
}

static void shuffle(struct dns_address *at, size_t n, uint64_t *seed)
{
	for (size_t i = n; i > 1; i--)
		swap(&at[i - 1], &at[random_next(seed) % i]);
}

static void shuffle_equals(struct hosts *h, uint64_t seed)
{
	size_t end;

	for (size_t from = 0; from < h->count; from = end) {
		for (end = from + 1; end < h->count && h->at[end].preference == h->at[from].preference; end++)
			;
		shuffle(h->at + from, end - from, &seed);
	}
}

enum hosts_result hosts_order(const struct dns_reply *reply, const struct hosts_own *own, uint64_t seed, struct hosts *hosts_r)
{
	uint32_t limit = own_preference(reply, own);
	bool unsure = false;

	hosts_r->count = 0;
	for (size_t i = 0; i < reply->count && i < DNS_HOSTS_MAX; i++) {
		if (reply->host[i].preference >= limit)
			continue;
		if (reply->host[i].addr.family == 0)
			unsure = true;
		else
			hosts_r->at[hosts_r->count++] = reply->host[i];
	}
	if (hosts_r->count == 0)
		return unsure || limit == 65536 ? HOSTS_UNSURE : HOSTS_SELF;
	sort(hosts_r);
	shuffle_equals(hosts_r, seed | 1);
	if (hosts_r->count > HOSTS_MAX)
		hosts_r->count = HOSTS_MAX;
	return HOSTS_OK;
}

/* ---- destinations ---- */

bool hosts_split_relay(struct bytes destination, struct bytes *name_r, uint16_t *port_r)
{
	bool literal = destination.len > 0 && destination.at[0] == '[';
	size_t end = literal ? bytes_find(destination, ']') : 0;
	size_t colon = end + bytes_find(bytes_slice(destination, end, destination.len), ':');
	uint64_t port = 0;

	if (!literal && colon == destination.len)
		return false;
	(void)bytes_to_u64(bytes_slice(destination, colon + 1, destination.len), UINT16_MAX, &port);
	*name_r = bytes_slice(destination, 0, colon);
	*port_r = (uint16_t)port;
	return true;
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]", and as in smtproutes "[2001:db8::1]", "192.0.2.1" */
static bool address_read(struct bytes name, struct netaddr *a_r)
{
	struct bytes inner = bytes_slice(name, 1, name.len > 0 ? name.len - 1 : 0);

	if (name.len < 2 || name.at[0] != '[')
		return netaddr_parse(name, a_r);
	if (bytes_starts_nocase(inner, LIT("IPv6:")))
		inner = bytes_slice(inner, 5, inner.len);
	return name.at[name.len - 1] == ']' && netaddr_parse(inner, a_r);
}

/* Its name in log lines and bounces is the address itself. */
static void literal_only(const struct netaddr *a, struct hosts *hosts_r)
{
	struct dns_address *host = &hosts_r->at[0];

	*host = (struct dns_address){ .addr = *a };
	netaddr_format(a, host->name);
	hosts_r->count = 1;
}

static struct outcome outcome_of_dns(const struct dns_reply *reply, char text[401])
{
	static const struct { enum dns_status status; enum verdict verdict; const char *enhanced, *text; } rows[] = {
		{ DNS_NO_DOMAIN, V_PERM, "5.1.2", "the domain does not exist" },
		{ DNS_NO_DATA, V_PERM, "5.1.2", "the domain has neither a mail exchanger nor an address" },
		{ DNS_NULL_MX, V_PERM, "5.1.10", "the domain takes no mail (null MX)" },
		{ DNS_TEMPORARY, V_TEMP, "4.4.3", "the DNS gave no answer" },
		{ DNS_BOGUS, V_TEMP, "4.7.5", "the DNS answer failed its DNSSEC validation" },
		{ DNS_MX_UNRESOLVED, V_PERM, "5.4.4", "none of the domain's mail exchangers has an address" },
	};

	memcpy(text, reply->text, sizeof reply->text);
	text[400] = '\0';
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].status == reply->status)
			return outcome_make(rows[i].verdict, STAGE_DNS, rows[i].enhanced, bytes_of(text[0] != '\0' ? text : rows[i].text));
	return outcome_make(V_TEMP, STAGE_DNS, "4.4.3", LIT("the resolver's answer is not understood"));
}

static struct outcome outcome_of_order(enum hosts_result result)
{
	if (result == HOSTS_SELF)
		return outcome_make(V_PERM, STAGE_DNS, "5.4.6", LIT("the domain's best mail exchanger is this host, which does not take its mail"));
	return outcome_make(V_TEMP, STAGE_DNS, "4.4.3", LIT("the addresses of the domain's mail exchangers cannot be found out now"));
}

static uint64_t random_seed(void)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
		seed = clock_monotonic_ms();
	return seed;
}

static bool asked(const struct settings *s, enum dns_kind kind, struct bytes name, deadline_t deadline, struct hosts *hosts_r, char text[401],
	struct outcome *o_r)
{
	struct hosts_own own = { 0 };
	struct dns_reply reply;
	enum hosts_result result;

	dns_query(kind, name, deadline, &reply);
	if (reply.status != DNS_OK) {
		*o_r = outcome_of_dns(&reply, text);
		return false;
	}
	/* A relay was named by the operator: only what the DNS names can be a loop. */
	if (kind == DNS_MAIL)
		hosts_own_find(s, &own);
	result = hosts_order(&reply, &own, random_seed(), hosts_r);
	if (result != HOSTS_OK)
		*o_r = outcome_of_order(result);
	return result == HOSTS_OK;
}

bool hosts_find(const struct settings *s, struct bytes destination, deadline_t deadline, struct hosts *hosts_r, char text[401], struct outcome *o_r)
{
	struct bytes name = bytes_slice(destination, 2, destination.len);
	struct netaddr literal;
	uint16_t port = 0;
	bool relay;

	*o_r = outcome_make(V_PERM, STAGE_DNS, "5.1.2", LIT("the destination is not a domain, an address literal or a relay"));
	if (!bytes_starts_nocase(destination, LIT("r:")))
		return false;
	relay = hosts_split_relay(name, &name, &port);
	hosts_r->relay = port != 0;
	hosts_r->port = port != 0 ? port : (uint16_t)s->remoteport;
	if (address_read(name, &literal)) {
		literal_only(&literal, hosts_r);
		return true;
	}
	if (name.len > DOMAIN_MAX || !domain_valid(name, true))
		return false;
	return asked(s, relay ? DNS_ADDRESS : DNS_MAIL, name, deadline, hosts_r, text, o_r);
}
