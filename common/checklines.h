/*
 * checklines - the lines of dnslists and checkexempt: text in, typed value out. Views point into the line. Nothing here allocates.
 */
#ifndef COMMON_CHECKLINES_H
#define COMMON_CHECKLINES_H

#include "netaddr.h"

/* ---- dnslists: "ZONE [=PATTERN] WEIGHT [client|helo|reverse|sender ...]" */

enum { LIST_CLIENT = 1, LIST_HELO = 2, LIST_REVERSE = 4, LIST_SENDER = 8 };   /* what is looked up in it */
#define LIST_WEIGHT_MAX 1000

struct dnslist {
	struct bytes zone;
	uint8_t low[4], high[4];     /* answers that count, octet by octet */
	int weight;                  /* below 0: speaks for the client */
	unsigned of;                 /* LIST_*, or'ed; LIST_CLIENT where the line names none */
};
bool dnslist_parse(struct bytes line, struct dnslist *list_r);

/* What an address in a list's answer means. RFC 5782 2.1: answers are in 127/8. One elsewhere is a list that has died and whose name somebody
 * else has now; 127.255.255.x is a list that refuses the question (our name server asks too much, or is a public one). */
enum dnslist_meaning { LISTED, LISTED_OTHERWISE, LIST_DEAD, LIST_REFUSES };
enum dnslist_meaning dnslist_meaning(const struct dnslist *list, const struct netaddr *answer);

/* ---- checkexempt: "NETWORK [CHECK ...]" or "DOMAIN [CHECK ...]"; no check: all of them */

struct exemption {
	bool of_network;
	struct netblock network;
	struct bytes domain;         /* "example.org", or ".example.org" for every name below it */
	struct bytes checks;
};
bool exemption_parse(struct bytes line, struct exemption *e_r);
bool exemption_is_of(const struct exemption *e, struct bytes check);

#endif
