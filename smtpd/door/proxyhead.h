/*
 * proxyhead - the header that a front puts before a client's octets (HAProxy's PROXY protocol, versions 1 and 2). A parser and nothing else:
 * it holds no state, never blocks and never allocates.
 */
#ifndef SMTPD_PROXYHEAD_H
#define SMTPD_PROXYHEAD_H

#include "common/netaddr.h"

#define PROXYHEAD_MAX 4096u      /* octets of a header, with what version 2 lets stand behind the addresses; longer ones are refused */

enum proxyhead_result {
	PROXYHEAD_MORE,              /* all of `in` is the header's, and it goes on */
	PROXYHEAD_DONE,
	PROXYHEAD_BAD,
};

struct proxyhead {
	bool announced;              /* false: the front speaks for itself (a health check), or of a client that has no IP address */
	struct netaddr client;       /* with its port; v4-mapped addresses are AF_INET */
	size_t size;                 /* of the header, when it is done */
};

/* Look at `in`, everything that has come so far, from the connection's first octet on. */
enum proxyhead_result proxyhead_parse(struct bytes in, struct proxyhead *head_r);

#endif
