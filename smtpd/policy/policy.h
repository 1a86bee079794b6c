/*
 * policy - the checks of the client (checks.h) within a session.
 *
 * Who has logged in or may relay is not checked, and neither is who comes to a listener that wants a login. What is wrong with a client is told at
 * RCPT, so that the log names sender and recipient, and mail to our postmaster and abuse comes through.
 */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "../session.h"

/* False: refused, answered, logged. */
bool policy_rcpt(struct session *s, const struct mailaddr *rcpt);

#endif
