/*
 * domain - names of hosts. A struct bytes that passed domain_valid is what the rest of the code calls a domain.
 */
#ifndef COMMON_DOMAIN_H
#define COMMON_DOMAIN_H

#include "bytes.h"

#define DOMAIN_MAX 255

/* RFC 5321 4.1.2 Domain: labels of letters, digits, hyphen inside (underscore tolerated: it exists), 1-63 octets, 255 in all,
 * no empty label, no trailing dot. utf8: U-labels (valid UTF-8) also pass (RFC 6531). */
bool domain_valid(struct bytes name, bool utf8);

/* Lower-cased ASCII copy into out (DOMAIN_MAX + 1 octets). A U-label domain becomes its A-label form (libidn2 is not
 * linked here: remote/resolver does that), so non-ASCII octets are left as they are. */
void domain_lower(struct bytes name, char out[DOMAIN_MAX + 1]);

/* qmail's matching for rcpthosts, locals: `pattern` "example.org" matches itself; ".example.org" matches every name below it. */
bool domain_matches(struct bytes name, struct bytes pattern);

#endif
