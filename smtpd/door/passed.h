/*
 * passed - connections that smtpd-start passes to the pool: the socket they come by, who may pass, and what was said of each.
 *
 * What counts in the environment of a session that tcpserver starts is passed along and counts here, RELAYCLIENT above all. So only root and the
 * account under which the pool serves may pass (SO_PEERCRED); the latter could do to the queue what it likes anyway.
 */
#ifndef SMTPD_PASSED_H
#define SMTPD_PASSED_H

#include "peer.h"
#include "pool.h"

#define PASSED_RELAY_MAX 255

struct passed {
	int control;                    /* smtpd-start waits at its other end: the session is over when it is closed */
	int client;
	enum smtpd_role role;
	struct peer peer;
	bool relays;                    /* RELAYCLIENT was set */
	char relay_suffix[PASSED_RELAY_MAX + 1];
	bool limited;                   /* DATABYTES was */
	uint64_t databytes;
};

/* One more listener, at path_run/smtpd; false with a line in `error`. A socket that is there is replaced. */
bool passed_listen(struct listeners *l, struct str *error);

/* What came by `control`, which was accepted there. True: smtpd-start was told that it is taken. False: nothing was, `control` is closed, and
 * smtpd-start does without us. Blocks for some seconds at most, and only for who may pass. */
bool passed_take(int control, struct passed *p_r);
void passed_end(struct passed *p);   /* closes both */

#endif
