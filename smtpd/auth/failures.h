/*
 * failures - who has failed to authenticate how often, in bounded memory. Nothing here blocks or reads the clock.
 *
 * Counts are kept by address (an IPv6 client's /64) and by login, each for `window` after its first failure. Both are kept under a keyed
 * hash, so that nobody can choose names that push others out, and a login counts whether it exists or not; its letter case does not count. A login's limit does not
 * hold for an address from which that login has succeeded within the window: who guesses at a name does not lock its owner out.
 */
#ifndef SMTPD_AUTH_FAILURES_H
#define SMTPD_AUTH_FAILURES_H

#include "common/clock.h"
#include "common/netaddr.h"

#define FAILURES_PLACES 32768u    /* 24 octets each */
#define FAILURES_WAYS 8u          /* places one key may stand in */

struct failures;
struct failures_limits { uint64_t window_ms, per_address, per_login; };   /* 0: no limit */

struct failures *failures_new(void);   /* NULL: no memory */
void failures_free(struct failures *f);

/* Failures of this address within the window, up to now. */
uint32_t failures_of(const struct failures *f, const struct netaddr *client, deadline_t now);
/* May this address try this login now? login empty: as far as the address goes. */
bool failures_allow(const struct failures *f, const struct failures_limits *limits, const struct netaddr *client, struct bytes login, deadline_t now);
void failures_note(struct failures *f, const struct failures_limits *limits, const struct netaddr *client, struct bytes login, bool ok, deadline_t now);

#endif
