/*
 * keys - what a row stands under: a keyed hash of what it counts, so that nobody can choose names that push others out.
 */
#ifndef SMTPD_GUARD_KEYS_H
#define SMTPD_GUARD_KEYS_H

#include <sodium.h>

#include "common/netaddr.h"
#include "table.h"

struct keys { unsigned char secret[crypto_shorthash_KEYBYTES]; };   /* made once, and kept with the rows */

/* Of up to three texts, each of which may be empty. */
uint64_t keys_of(const struct keys *k, unsigned subject, unsigned what, uint32_t window_s, const struct bytes text[3]);

/* The address itself, or with `network` its /24 or /64 with the mask behind it, for a row and for people. */
struct bytes keys_address(const struct netaddr *client, bool network, char out[NETADDR_TEXT + 4]);
/* Who is banned: an IPv4 address, or an IPv6 /64, which is one client's. */
struct bytes keys_client(const struct netaddr *client, char out[NETADDR_TEXT + 4]);

void keys_name(struct row *row, struct bytes name);   /* cut where it is too long */

#endif
