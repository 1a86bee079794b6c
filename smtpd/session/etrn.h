/*
 * etrn - ETRN (RFC 1985): a client whose link was down asks for the mail that waits for its domain. For clients in `etrnfrom` and those that may relay.
 *
 * smtpd may not touch the queue. It tells queued through fifo/retry, which says "try this domain" and can say nothing else, and hears no answer:
 * so the reply is that the order was given, never what waits.
 */
#ifndef SMTPD_ETRN_H
#define SMTPD_ETRN_H

#include "command.h"

bool etrn_offered(const struct session *s);
bool check_etrn(struct session *s, struct command *c);
void act_etrn(struct session *s, struct command *c);

#endif
