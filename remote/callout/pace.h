/*
 * pace - how many callouts at a time, and how many a minute: in all (the empty key), about a domain, to an address of a server.
 *
 * A minute begins with the first callout and ends in any case. Bounded: `places` keys; a key is forgotten when nothing of it goes on and its minute is over.
 */
#ifndef REMOTE_CALLOUT_PACE_H
#define REMOTE_CALLOUT_PACE_H

#include "common/bytes.h"
#include "common/clock.h"

#define PACE_KEY_MAX 255u

struct pace;
struct pace_limit { uint64_t at_a_time, a_minute; };

struct pace *pace_new(size_t places);      /* NULL: no memory */
void pace_free(struct pace *p);

enum pace_result {
	PACE_GO,
	PACE_WAIT,       /* too many at a time: until one leaves */
	PACE_OVER,       /* too many this minute, or no place for one more key */
};
/* May one more begin? Counts nothing. */
enum pace_result pace_may(const struct pace *p, struct bytes key, const struct pace_limit *limit, deadline_t now);
/* One begins: after PACE_GO, at the same `now`. */
void pace_enter(struct pace *p, struct bytes key, deadline_t now);
void pace_leave(struct pace *p, struct bytes key);

#endif
