/*
 * receive - a message comes in: from DATA to the reply to its final dot.
 */
#ifndef SMTPD_RECEIVE_H
#define SMTPD_RECEIVE_H

#include "session.h"

/* A message begins. */
void receive_start(struct session *s);
/* Octets of it that passed the scanner go on; `ended`: they are the last. */
void receive_octets(struct session *s, struct bytes octets, bool ended);
/* It is whole, or lost: the answer, and the end of the transaction. */
void receive_end(struct session *s);

/* DATA was accepted: trace header and envelope go to the enqueuer, the state becomes ST_DATA. */
void receive_begin(struct session *s);
/* Take what s->lines holds, up to the final dot if it is there; then the answer is given and commands go on. */
void receive_data(struct session *s);
/* The connection ended within the data: nothing is queued. */
void receive_abandon(struct session *s);

#endif
