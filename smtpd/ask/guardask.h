/*
 * guardask - smtpd's end of the socket of `guard`: limits, bans and greylisting within a session.
 *
 * guard is asked only for what the settings make it decide: with none of them set there is no socket and no question. The socket stays from
 * session to session of a process, and its end, however it comes, tells guard that the session is over. A guard that is away, slow or talks nonsense
 * lets everything pass, with a warning a minute at most of all sessions together (seldom.h); one that was slow is not asked again for a while.
 */
#ifndef SMTPD_GUARDASK_H
#define SMTPD_GUARDASK_H

#include "common/channel.h"
#include "smtpd/guard/wire.h"

#define GUARDASK_TIMEOUT_MS 3000u
#define GUARDASK_PAUSE_MS 10000u       /* after a guard that was slow */

/* A process's, from session to session. */
struct guardask {
	int fd;                            /* -1: none */
	struct record_reader in;
	bool told;                         /* guard knows of this session */
	uint32_t errors_told;              /* of this session's */
	uint64_t octets_told;
	deadline_t away_until;             /* 0: ask */
};

void guardask_init(struct guardask *g);
void guardask_free(struct guardask *g);

struct session;
struct mailaddr;
/* True: go on. False: refused, answered and logged; after guardask_connect, and where the client was sent away, s->end is set. */
bool guardask_connect(struct session *s);
bool guardask_mail(struct session *s, const struct mailaddr *sender);
bool guardask_rcpt(struct session *s, const struct mailaddr *rcpt);
/* The reply 550 5.1.1 was given: wait before it leaves, or send the client away. */
void guardask_unknown(struct session *s);
void guardask_end(struct session *s);

#endif
