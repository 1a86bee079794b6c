/* watch - tlsd's room: waiting without poll. See watch.h. */
#include "watch.h"

#include <errno.h>

bool watch_init(struct watch *w)
{
	*w = (struct watch){ .queue = epoll_create1(EPOLL_CLOEXEC) };
	return w->queue >= 0;
}

bool watch_set(struct watch *w, size_t i, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.u32 = (uint32_t)i };
	int how = events == 0 ? EPOLL_CTL_DEL : w->events[i] == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (w->events[i] == events && (events == 0 || w->fd[i] == fd))
		return true;
	if (epoll_ctl(w->queue, how, how == EPOLL_CTL_DEL ? w->fd[i] : fd, &event) < 0)
		return false;
	w->fd[i] = fd;
	w->events[i] = events;
	return true;
}

int watch_wait(struct watch *w, deadline_t until)
{
	struct epoll_event event[WATCH_SLOTS];
	int ready = 0, n = epoll_wait(w->queue, event, WATCH_SLOTS, deadline_poll_ms(until, clock_monotonic_ms()));
	if (n < 0)
		return errno == EINTR ? 0 : -1;
	for (int i = 0; i < n; i++) {
		ready |= 1 << event[i].data.u32;
		w->seen[event[i].data.u32] = event[i].events;
	}
	return ready;
}
