/*
 * attributes - what a trusted host says of its client: "NAME=value ..." as XCLIENT and XFORWARD have it (Postfix's XCLIENT_README and XFORWARD_README).
 * A parser and nothing else: it never blocks and never allocates.
 */
#ifndef SMTPD_ATTRIBUTES_H
#define SMTPD_ATTRIBUTES_H

#include "common/netaddr.h"

enum attribute { ATTR_NAME, ATTR_ADDR, ATTR_PORT, ATTR_PROTO, ATTR_HELO, ATTR_LOGIN, ATTR_DESTADDR, ATTR_DESTPORT, ATTR_IDENT, ATTR_SOURCE, ATTRIBUTES };
#define ATTR_BIT(a) (1u << (a))
#define XCLIENT_ATTRIBUTES (ATTR_BIT(ATTR_IDENT) - 1)
#define XFORWARD_ATTRIBUTES (ATTR_BIT(ATTR_NAME) | ATTR_BIT(ATTR_ADDR) | ATTR_BIT(ATTR_PORT) | ATTR_BIT(ATTR_PROTO) | ATTR_BIT(ATTR_HELO) | ATTR_BIT(ATTR_IDENT) \
	| ATTR_BIT(ATTR_SOURCE))
#define ATTRIBUTE_MAX 255u

struct attributes {
	unsigned given;                                /* ATTR_BITs */
	char text[ATTRIBUTES][ATTRIBUTE_MAX + 1];      /* decoded; empty: [UNAVAILABLE], [TEMPUNAVAIL], or not given. No control characters */
	struct netaddr addr;                           /* ATTR_ADDR with ATTR_PORT; family 0: not known */
};

const char *attribute_name(enum attribute a);

/* Add what `argument` says to *a, which begins as zeros; what is said again replaces what was said. `allowed`: ATTR_BITs. NULL, or what is
 * wrong, a static text; *a is then not to be used. Names may be written in lower case. */
const char *attributes_parse(struct bytes argument, unsigned allowed, struct attributes *a);

#endif
