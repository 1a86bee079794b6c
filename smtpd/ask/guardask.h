/*
 * guardask - smtpd's end of the socket of `guard`: limits, bans and greylisting within a session.
 *
 * guard is asked only for what the settings make it decide: with none of them set there is no socket and no question. The socket stays from
 * session to session of a process, and its end, however it comes, tells guard that the session is over. A guard that is away, slow or talks nonsense
 * lets everything pass, with a warning a minute at most; one that was slow is not asked again for a while.
 */
#ifndef SMTPD_GUARDASK_H
#define SMTPD_GUARDASK_H

#include <stdatomic.h>

#include "common/channel.h"
#include "smtpd/guard/wire.h"

#define GUARDASK_TIMEOUT_MS 3000u
#define GUARDASK_PAUSE_MS 10000u       /* after a guard that was slow */
#define GUARDASK_WARN_MS 60000u

/* A process's, from session to session. */
struct guardask {
	int fd;                            /* -1: none */
	struct record_reader in;
	bool told;                         /* guard knows of this session */
	uint32_t errors_told;              /* of this session's */
	uint64_t octets_told;
	deadline_t away_until;             /* 0: ask */
	deadline_t own_warned;             /* when not to be silent any more; of this process, or of all that share one */
	_Atomic uint64_t *warned;          /* NULL: own_warned */
};

void guardask_init(struct guardask *g, _Atomic uint64_t *warned);
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
