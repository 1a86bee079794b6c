/*
 * route - where a recipient goes: decided from the settings alone, the same way by smtpd (may I take it?), queued (which
 * destination?) and `tappal` (why there?). No DNS, no users' files.
 */
#ifndef COMMON_ROUTE_H
#define COMMON_ROUTE_H

#include "mailaddr.h"
#include "settings.h"

enum channel { CHANNEL_LOCAL, CHANNEL_REMOTE, CHANNEL_COUNT };

#define DESTINATION_MAX 330

struct route {
	enum channel channel;
	/* The destination's name, the unit of fairness, windows and back-off; also the first key of the due index:
	 *   local   "l:" and the routed local address in lower case, unquoted: "user@domain", "prefix-user@domain" for a virtual domain,
	 *           "postmaster" for ADDR_BARE; a longer one than DESTINATION_MAX is cut and ends with "#" and its checksum
	 *   remote  "r:" and the next hop: the domain, "[literal]", or for an smtproute "relay:port" */
	char destination[DESTINATION_MAX + 1];
	size_t destination_len;
	/* local: the local part that the mailbox lookup gets (virtual prefix applied), a view into `destination`'s sibling below */
	char local_part[DESTINATION_MAX + 1];
	bool virtual_domain;     /* by virtualdomains */
};

/* Order: locals, virtualdomains (user@domain, domain, longest .suffix), then remote. Mailboxes without a domain (ADDR_BARE) and literals of this
 * host's own addresses (loopback, ownaddresses, a literal in locals) count as local. smtproutes without a port get `remoteport`. Never blocks. */
void route_find(const struct settings *s, const struct mailaddr *rcpt, struct route *route_r);

/* Is mail to this domain taken from strangers: in rcpthosts, locals or virtualdomains (exact and ".domain" lines). */
bool route_is_ours(const struct settings *s, const struct mailaddr *rcpt);

/* The smtproutes line for a domain: true when one matches; relay empty = use MX. port 0 = the default. */
bool route_smtp(const struct settings *s, struct bytes domain, struct bytes *relay_r, uint16_t *port_r);

#endif
