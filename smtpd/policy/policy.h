/*
 * policy - the checks of the client (checks.h) within a session.
 *
 * Who has logged in or may relay is not checked, and neither is a program of this host or who comes to a listener that wants a login. What is
 * wrong with a client is told at RCPT, so that the log names sender and recipient, and mail to our postmaster and abuse comes through; with
 * checkwhen early, at EHLO and MAIL. Only who speaks before the greeting hears it there. Each refusal is one line in the log, with the name of its
 * check.
 *
 * Each of these may wait for the DNS, checktimeout seconds at the most, and, where the last check is reached, for a callout, callouttimeout seconds; without a check that
 * wants them there is no question and no system call.
 */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "answers.h"

#include "common/mailaddr.h"
#include "smtpd/ask/calloutask.h"

struct session;

/* What a session has of it; all zero at its beginning. */
struct policy {
	struct answers answers;
	struct calloutask callout;
	uint32_t logged;                 /* checks whose reject_warning this transaction's log has */
};
void policy_free(struct policy *p);

/* One who is checked: he has not logged in and may not relay, is no program of this host, and has not come to a listener that wants a login. */
bool policy_is_stranger(const struct session *s);

void policy_name(struct session *s);                        /* before the first line of the log: the client's name, with `clientnames` */
/* False: refused, answered, logged; policy_connect's ends the session. */
bool policy_connect(struct session *s);
bool policy_helo(struct session *s, struct bytes name);
bool policy_mail(struct session *s, const struct mailaddr *sender);
bool policy_rcpt(struct session *s, const struct mailaddr *rcpt);

#endif
