/*
 * events - what happened in the store, as log lines in Postfix's shape, each under the name of the program whose work it was (pflogsumm
 * counts them). Room: queue (queued).
 *
 *   smtpd    ID: client=name[ip]                        pickup  ID: uid=1000 from=<sender>     (a message from this host)
 *   cleanup  ID: message-id=<...>                       qmgr    ID: from=<sender>, size=N, nrcpt=N (queue active)
 *   smtp, local  ID: to=<rcpt>, relay=host[ip]:25, delay=1.2, delays=0/0.1/0/1.1, dsn=2.0.0, status=sent (250 ok)
 *   qmgr     ID: removed
 * delays are: before the queue, in the queue, (unknown) connecting, delivering. Text of peers is neutered by log_text.
 */
#ifndef QUEUE_EVENTS_H
#define QUEUE_EVENTS_H

#include "queue/store/store.h"

struct events {
	const struct settings *settings;
	wall_ms_t now;        /* of this turn */
	wall_ms_t handed;     /* when the job whose result is being reported was given to spawn; 0: unknown */
};

/* A store_event_fn; the context is a struct events. */
void events_write(void *context, const struct store_event *event);

#endif
