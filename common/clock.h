/*
 * clock - time is read once a turn and passed down. Two clocks, both in milliseconds, never mixed:
 *   wall_ms_t     since 1970, for what is stored (arrival, next try, expiry)
 *   deadline_t    a point of the monotonic clock, for waiting; 0 means "never"
 */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include "bytes.h"

typedef uint64_t wall_ms_t;
typedef uint64_t deadline_t;

#define SECOND_MS 1000u
#define MINUTE_MS 60000u

wall_ms_t clock_wall_ms(void);
deadline_t clock_monotonic_ms(void);

deadline_t deadline_in(deadline_t now, uint64_t ms);          /* saturates, never returns 0 */
bool deadline_passed(deadline_t deadline, deadline_t now);    /* false for 0 */
deadline_t deadline_earlier(deadline_t a, deadline_t b);      /* 0 counts as later than all */
int deadline_poll_ms(deadline_t deadline, deadline_t now);    /* for poll(2): -1 never, rounded up, capped at INT_MAX */

/* RFC 5322 3.3 date-time in local time, e.g. "Sat, 21 Nov 2026 20:28:54 +0000". */
void clock_rfc5322(wall_ms_t at, struct str *out);
/* RFC 3339 with microsecond field (ms precision): "2026-11-21T20:28:54.123000+00:00". */
void clock_rfc3339(wall_ms_t at, struct str *out);
/* RFC 3164 4.1.2, in local time: "Nov  1 20:28:54". */
void clock_rfc3164(wall_ms_t at, struct str *out);
/* "1d3h", "2h5m", "12s" for people. */
void clock_span(uint64_t ms, struct str *out);

#endif
