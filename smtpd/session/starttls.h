/*
 * starttls - a session's way into TLS: the STARTTLS command (RFC 3207), TLS from the first octet (RFC 8314), and what the session knows of it.
 */
#ifndef SMTPD_STARTTLS_H
#define SMTPD_STARTTLS_H

#include "command.h"

/* Is it to be announced? Not within TLS, only to a client on a socket, and not behind XCLIENT: what that said in plaintext would count within TLS. */
bool starttls_offered(const struct session *s);

bool starttls_check(struct session *s, struct command *c);
/* Calls tlsd and answers 220 or 454. */
void starttls_act(struct session *s, struct command *c);

/* The replies are written and tlsd was called: wait for the handshake, then go on through it, as a session that begins.
 * False: the session is over. */
bool starttls_finish(struct session *s);
/* The same for a listener where TLS comes first; before the greeting. */
bool starttls_at_once(struct session *s);

/* "(using TLSv1.3 with cipher ...)", lines of the trace header, each with CRLF and tab behind it; nothing without TLS. */
void starttls_trace(const struct session *s, struct str *out);

#endif
