/*
 * limits - the lines of the setting `limits`, and lists of clients (guardexempt, greylistexempt).
 *
 *   SUBJECT WHAT COUNT[/WINDOW] [WHO]
 *     SUBJECT  address, network (IPv4 /24, IPv6 /64), login, domain (the recipient's)
 *     WHAT     connections (address and network), messages, recipients, errors and octets (not domain)
 *     COUNT    a number, with K, M or G behind it for 2^10, 2^20, 2^30; "none": no limit
 *     WINDOW   a number with s, m, h, d or w behind it. connections alone do without: so many at a time
 *     WHO      the line holds for these instead of those without one: a network in CIDR, a login, a domain or .domain
 *
 * Of the lines for one subject and what, those of the narrowest WHO that fits hold, all of them: more windows than one may be given,
 * but one window once: the first such line counts.
 * Nothing here blocks. Texts of a struct limit are views into its line.
 */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

#include "netaddr.h"
#include "settings.h"

enum limit_subject { LIMIT_ADDRESS, LIMIT_NETWORK, LIMIT_LOGIN, LIMIT_DOMAIN, LIMIT_SUBJECTS };
enum limit_what { LIMIT_CONNECTIONS, LIMIT_MESSAGES, LIMIT_RECIPIENTS, LIMIT_ERRORS, LIMIT_OCTETS, LIMIT_WHATS };
extern const char *const limit_subject_name[LIMIT_SUBJECTS], *const limit_what_name[LIMIT_WHATS];

struct limit {
	enum limit_subject subject;
	enum limit_what what;
	bool none;                /* no limit: count and window are 0 */
	uint64_t count;
	uint32_t window_s;        /* 0: at a time */
	struct bytes who;         /* empty: everybody */
	struct netblock block;    /* what it says, for address and network */
};

/* False, and *why_r a sentence on what to write instead. */
bool limit_parse(struct bytes line, struct limit *limit_r, const char **why_r);

/* How narrowly the line's WHO fits this name, or this address of a client: 0 not at all, 1 a line without WHO, more the narrower. */
unsigned limit_fits(const struct limit *limit, struct bytes name, const struct netaddr *client);

/* The network of an address: its /24 or /64, the other bits 0. */
struct netaddr limits_network(const struct netaddr *client);

/* ---- lists of clients: "192.0.2.0/24", "example.org", ".example.org" a line */
bool clientlist_line_valid(struct bytes line);
/* Does a line hold the client's address, or the name that was proved to be his (empty: none)? */
bool clientlist_has(const struct lines *list, const struct netaddr *client, struct bytes name);

#endif
