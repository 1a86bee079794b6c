/*
 * dns - the questions that resolver answers, and the side that asks. One question is one dns_ask record on resolver's socket
 * (path_run/resolver); one dns_answer and `count` dns_host records come back. resolver admits root, tappal-remote, tappal-smtpd and nobody
 * else (SO_PEERCRED).
 */
#ifndef COMMON_DNS_H
#define COMMON_DNS_H

#include "bytes.h"
#include "clock.h"
#include "netaddr.h"

enum dns_kind {
	DNS_MAIL = 1,     /* the mail exchangers of a domain with their addresses (RFC 5321 5.1): A/AAAA when there is no MX */
	DNS_ADDRESS = 2,  /* the addresses of a host */
	DNS_REVERSE = 3,  /* of a name in in-addr.arpa or ip6.arpa (dns_reverse_name): the names that PTR gives, with their addresses */
	DNS_LIST = 4,     /* of a name in a DNS list (RFC 5782): its A records, and its TXT record as the text */
};
enum dns_status {
	DNS_OK = 0,
	DNS_NO_DOMAIN,    /* NXDOMAIN: permanent, 5.1.2 */
	DNS_NO_DATA,      /* the name exists but has neither MX nor address (DNS_REVERSE: no name): permanent, 5.1.2 */
	DNS_NULL_MX,      /* RFC 7505: permanent, 5.1.10 */
	DNS_TEMPORARY,    /* SERVFAIL, timeout, no resolver, or no exchanger has an address and at least one lookup was temporary: 4.4.3 */
	DNS_BOGUS,        /* DNSSEC validation failed: temporary, 4.7.5 */
	DNS_MX_UNRESOLVED,/* MX names exist, none has an address, and that is certain: permanent 5.4.4 */
};

/* An exchanger whose addresses could not be looked up now, while others' could, is listed with an address of family 0: not to be
 * connected to, but who looks for himself in the list must know that it is there. A name of DNS_REVERSE that has no address is listed so, too;
 * the preference there is 1 for a name of which not all addresses could be looked up now, else 0. */
#define DNS_HOSTS_MAX 64
struct dns_address { uint16_t preference; char name[256]; struct netaddr addr; };
struct dns_reply { enum dns_status status; bool secure; char text[401]; size_t count; struct dns_address host[DNS_HOSTS_MAX]; };

/* Ask and wait. Blocks until the answer or the deadline (then DNS_TEMPORARY); never fails otherwise: no resolver is DNS_TEMPORARY, too.
 * Order: by preference, as resolver gave it; shuffling equals is the caller's. */
void dns_query(enum dns_kind kind, struct bytes name, deadline_t deadline, struct dns_reply *reply_r);

/* The same for many at once: `take` is called once for each, in the order in which they are answered; what has no answer at the deadline is
 * DNS_TEMPORARY. `reply` is valid during the call. */
#define DNS_QUESTIONS_MAX 64
struct dns_question { enum dns_kind kind; struct bytes name; };
typedef void dns_take_fn(void *context, size_t index, const struct dns_reply *reply);
void dns_query_all(const struct dns_question *question, size_t count, deadline_t deadline, dns_take_fn *take, void *context);

/* "1.2.0.192.in-addr.arpa" for 192.0.2.1, nibbles and "ip6.arpa" for IPv6 (RFC 1035 3.5, 3596 2.5); with a `zone`, that instead of those
 * (RFC 5782 2.1, 2.4). False: no address, or too long for a name. */
#define DNS_NAME_MAX 253
bool dns_reverse_name(const struct netaddr *a, struct bytes zone, char name_r[DNS_NAME_MAX + 1]);

#endif
