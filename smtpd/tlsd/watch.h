/*
 * watch - wait for a few descriptors, in a process that may open none: poll(2) refuses to look at more than RLIMIT_NOFILE allows,
 * and that is none at all here. epoll's queue is made before the limit is.
 */
#ifndef SMTPD_TLSD_WATCH_H
#define SMTPD_TLSD_WATCH_H

#include "common/clock.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define WATCH_SLOTS 3u

struct watch {
	int queue;
	int fd[WATCH_SLOTS];
	uint32_t events[WATCH_SLOTS];   /* that are waited for */
	uint32_t seen[WATCH_SLOTS];     /* by the last watch_wait, of the slots that it returned */
};

bool watch_init(struct watch *w);                 /* false: errno */
/* From now on slot `i` waits on fd for `events`; 0: it is not looked at, not even for its end. */
bool watch_set(struct watch *w, size_t i, int fd, uint32_t events);
/* Until something happens or the deadline: a set of the slots (1 << i) that are ready, 0 at the deadline or for a signal, -1 errno. */
int watch_wait(struct watch *w, deadline_t until);

#endif
