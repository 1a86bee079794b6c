/*
 * hosts - which addresses to try for a destination, in which order (RFC 5321 5.1).
 *
 * A destination is the name that route.h gives it: "r:" and a domain (its mail exchangers), "[literal]" (that address), or "relay:port"
 * (the addresses of the relay, no MX). Exchangers of equal preference are tried in random order. When this host is one of them, it
 * and everything of the same or a worse preference is left out, or mail would run in circles; when nothing better is left, the DNS
 * says that this host is where the mail ends, and its settings say otherwise: permanent, 5.4.6. What the addresses do not tell, a loopback address or a
 * literal above all, the server's name does (client.h).
 */
#ifndef REMOTE_HOSTS_H
#define REMOTE_HOSTS_H

#include "common/settings.h"
#include "common/verdict.h"
#include "common/dns.h"

#define HOSTS_MAX 20      /* addresses tried in one attempt */
#define HOSTS_OWN_MAX 256

struct hosts { size_t count; uint16_t port; bool relay /* named by the operator */; struct dns_address at[DNS_HOSTS_MAX]; };
struct hosts_own { size_t count; struct netaddr at[HOSTS_OWN_MAX]; };

/* The addresses of this host: its interfaces (but for loopback, which many instances share) and ownaddresses. */
void hosts_own_find(const struct settings *s, struct hosts_own *own_r);

enum hosts_result {
	HOSTS_OK,
	HOSTS_SELF,     /* this host is the best */
	HOSTS_UNSURE,   /* those that are better could not be looked up now */
};
/* Order `reply` as said above into *hosts_r, at most HOSTS_MAX, without those that have no address (family 0: its lookup failed for
 * now). The same seed gives the same order. Port is left alone. */
enum hosts_result hosts_order(const struct dns_reply *reply, const struct hosts_own *own, uint64_t seed, struct hosts *hosts_r);

/* The name and port of a relay, or a literal: "relay:25", "[::1]:25", "[192.0.2.1]". port 0: none given. False: it is a domain. */
bool hosts_split_relay(struct bytes destination, struct bytes *name_r, uint16_t *port_r);

/* All of it: true with at least one host, or false with *o_r (its text stands in `text`, or is static). Blocks until the resolver
 * answers or the deadline. */
bool hosts_find(const struct settings *s, struct bytes destination, deadline_t deadline, struct hosts *hosts_r, char text[401], struct outcome *o_r);

#endif
