/*
 * dns - the questions remote asks resolver, and the client side of asking. One question is one dns_ask record on resolver's
 * socket (path_run/resolver), one dns_answer and `count` dns_host records come back. resolver admits root, tappal-remote,
 * tappal-smtpd and nobody else (SO_PEERCRED).
 */
#ifndef REMOTE_DNS_H
#define REMOTE_DNS_H

#include "common/bytes.h"
#include "common/clock.h"
#include "common/netaddr.h"

enum dns_kind {
	DNS_MAIL = 1,     /* the mail exchangers of a domain with their addresses (RFC 5321 5.1): A/AAAA when there is no MX */
	DNS_ADDRESS = 2,  /* the addresses of a host */
};
enum dns_status {
	DNS_OK = 0,
	DNS_NO_DOMAIN,    /* NXDOMAIN: permanent, 5.1.2 */
	DNS_NO_DATA,      /* the name exists but has neither MX nor address: permanent, 5.1.2 */
	DNS_NULL_MX,      /* RFC 7505: permanent, 5.1.10 */
	DNS_TEMPORARY,    /* SERVFAIL, timeout, no resolver, or no exchanger has an address and at least one lookup was temporary: 4.4.3 */
	DNS_BOGUS,        /* DNSSEC validation failed: temporary, 4.7.5 */
	DNS_MX_UNRESOLVED,/* MX names exist, none has an address, and that is certain: permanent 5.4.4 */
};

/* An exchanger whose addresses could not be looked up now, while others' could, is listed with an address of family 0: not to be
 * connected to, but who looks for himself in the list must know that it is there. */
#define DNS_HOSTS_MAX 64
struct dns_address { uint16_t preference; char name[256]; struct netaddr addr; };
struct dns_reply { enum dns_status status; bool secure; char text[401]; size_t count; struct dns_address host[DNS_HOSTS_MAX]; };

/* Ask and wait. Blocks until the answer or the deadline (then DNS_TEMPORARY); never fails otherwise: no resolver is DNS_TEMPORARY, too.
 * Order: by preference, as resolver gave it; shuffling equals is the caller's. */
void dns_query(enum dns_kind kind, struct bytes name, deadline_t deadline, struct dns_reply *reply_r);

#endif
