/*
 * cache - what callouts found out, until it is too old. In memory only.
 *
 * Bounded: places stand in sets of eight, by a keyed hash; where a set is full, what would end first goes. A row's text is allocated, at most
 * CALLOUT_HOST_MAX + CALLOUT_TEXT_MAX + the key.
 */
#ifndef REMOTE_CALLOUT_CACHE_H
#define REMOTE_CALLOUT_CACHE_H

#include "common/bytes.h"
#include "common/clock.h"
#include "wire.h"

struct calloutcache;

/* Room for `rows`, rounded up to whole sets. NULL: no memory. */
struct calloutcache *calloutcache_new(uint64_t rows);
void calloutcache_free(struct calloutcache *c);

/* Replaces what was there under this key: an address, or "@domain". Without memory nothing is kept. */
void calloutcache_keep(struct calloutcache *c, struct bytes key, const struct callout_said *said, deadline_t until, deadline_t now);
bool calloutcache_find(const struct calloutcache *c, struct bytes key, deadline_t now, struct callout_said *said_r);

#endif
