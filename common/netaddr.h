/*
 * netaddr - an IP address and networks of them, without the resolver.
 */
#ifndef COMMON_NETADDR_H
#define COMMON_NETADDR_H

#include <sys/socket.h>
#include "bytes.h"

#define NETADDR_TEXT 46   /* with NUL */

struct netaddr { int family; /* AF_INET, AF_INET6, or 0 for none */ uint8_t octets[16]; uint16_t port; /* 0 = none */ };
struct netblock { struct netaddr base; unsigned bits; };

bool netaddr_parse(struct bytes text, struct netaddr *a_r);           /* "192.0.2.1", "2001:db8::1" */
bool netaddr_parse_literal(struct bytes text, struct netaddr *a_r);   /* "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3) */
/* "address:port", "[v6]:port", ":port" (any address, family AF_INET6), "port" alone likewise. */
bool netaddr_parse_listen(struct bytes text, struct netaddr *a_r);
void netaddr_format(const struct netaddr *a, char out[NETADDR_TEXT]); /* "unknown" for family 0 */
bool netaddr_equal(const struct netaddr *a, const struct netaddr *b); /* address only; a v4-mapped v6 equals its v4 */
/* From and to the kernel's form; v4-mapped addresses become AF_INET. */
bool netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct netaddr *a_r);
socklen_t netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *sa_r);
bool netblock_parse(struct bytes text, struct netblock *b_r);         /* "10.0.0.0/8", a lone address is /32 or /128; host bits must be 0 */
bool netblock_contains(const struct netblock *b, const struct netaddr *a);

#endif
