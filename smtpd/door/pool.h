/*
 * pool - many sessions on shared listening sockets, without a fork per connection.
 *
 * A parent that never reads an octet of a client keeps a few processes waiting in epoll on the sockets (each event wakes one), more
 * when they get busy, at most smtpdsessions; each serves smtpdreuse connections in its life and has its own enqueue. A scoreboard in shared memory
 * tells the parent who is idle; nothing in it is used as an index or a length, for a process that was taken over can write there.
 *
 *   all busy      after a second of it, new clients get 421 4.3.2 at once instead of waiting in a silent backlog
 *   a crash       the process is replaced; one that dies before its first connection is replaced ever more slowly (no fork storm)
 *   EMFILE, ...   whoever got it pauses and goes on
 *   SIGHUP        settings are read again; new processes have them, old ones end after their connection. Addresses stay.
 *   SIGTERM       processes end at their client's next pause (421), messages within DATA are taken to their end, for STOP_GRACE_MS
 *   parent dies   its processes end as at SIGTERM
 */
#ifndef SMTPD_POOL_H
#define SMTPD_POOL_H

#include "common/settings.h"

#define POOL_LISTENERS 16
#define POOL_SESSIONS_MAX 20000u

struct listeners {
	int fd[POOL_LISTENERS];
	enum smtpd_role role[POOL_LISTENERS];
	bool passes[POOL_LISTENERS];   /* no client comes by it, but connections from smtpd-start (passed.h) */
	size_t count;
};

/* Bind and listen on one address ("25", "address:port", "[v6]:port"); false with a line in `error`. */
bool pool_listen(struct listeners *l, struct bytes address, enum smtpd_role role, struct str *error);

/* Serve until SIGTERM. The sockets become nonblocking. Returns an exit code. `settings` is replaced at SIGHUP. */
int pool_run(struct settings *settings, const struct listeners *l);

#endif
