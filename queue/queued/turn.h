/*
 * turn - one turn of a program's loop: what to poll and until when. Parts add what they wait for in x_prepare and look at what
 * came in x_run. Room: queue (spawn).
 */
#ifndef QUEUE_TURN_H
#define QUEUE_TURN_H

#include <poll.h>

#include "common/clock.h"

struct turn {
	struct pollfd *fds;      /* `room` of them, the caller's */
	size_t count, room;
	deadline_t now;          /* read once, at its beginning */
	deadline_t deadline;     /* the earliest that a part asked for; 0 none */
};

/* Where to look for the events of fd afterwards; -1 when fd is not open or all places are taken. */
static inline int turn_watch(struct turn *t, int fd, short events) {
	if (fd < 0 || t->count == t->room)
		return -1;
	t->fds[t->count] = (struct pollfd){ .fd = fd, .events = events };
	return (int)t->count++;
}

static inline void turn_until(struct turn *t, deadline_t deadline) {
	t->deadline = deadline_earlier(t->deadline, deadline);
}

static inline short turn_events(const struct turn *t, int place) {
	return place < 0 ? (short)0 : t->fds[place].revents;
}

/* For lines about the same thing, of which one a second is enough: may it be said now? *said: when it was; 0: never. */
static inline bool turn_may_say(deadline_t *said, deadline_t now) {
	if (*said != 0 && now - *said < SECOND_MS)
		return false;
	*said = now;
	return true;
}

#endif
