/*
 * submission - what an authenticated session owes and gets (RFC 6409): a sender that is its own, and the headers that its program left out.
 */
#ifndef SMTPD_SUBMISSION_H
#define SMTPD_SUBMISSION_H

#include "session.h"

/* May this login send as `sender`? The empty reverse-path: always (notices of programs have it). Else the address is the login itself, or the login
 * at a domain of `locals`, with an extension or without; or a line of `senderlogins` for the address or its @domain names the login or "*". */
bool submission_owns(const struct settings *settings, struct bytes login, const struct mailaddr *sender);

/* Date: and Message-ID: where s->message has none, appended to `out`; the id made is s->message's from then on. Only once the whole header
 * has been seen. False: no memory. */
bool submission_headers(struct session *s, struct str *out);

#endif
