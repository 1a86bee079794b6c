/*
 * filterask - smtpd's end of the socket of `filterd`: a whole message shown to the programs of `filters`.
 *
 * They get a copy of the message as the queue will get it, in a file that they cannot change, and qmail-queue's envelope. What a program writes
 * for the client is cleaned here: it can end no line, in a reply, in the log or in the queue. A filterd that is away, slow or talks nonsense puts the
 * message off, with 451.
 */
#ifndef SMTPD_FILTERASK_H
#define SMTPD_FILTERASK_H

#include "smtpd/session/command.h"

/* s->content has the judged message, `trace` goes before it. True: it may be queued (held, where s->content says so); false: answered and logged.
 * Blocks as long as the programs run, and five minutes for their turn. With no filters it does nothing. */
bool filterask(struct session *s, struct bytes trace);

#endif
