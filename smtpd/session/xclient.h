/*
 * xclient - hosts that are trusted to say for whom they speak (Postfix's XCLIENT and XFORWARD).
 *
 * XCLIENT, from `xclientfrom`: the client is another one. What it names replaces the client for everything that is judged, and the session begins
 * anew with the greeting. XFORWARD, from `xforwardfrom`: where the next message came from in the first place, for the log alone.
 * Both are judged by who connected: the peer, or whom a PROXY header named, and never by whom XCLIENT named.
 */
#ifndef SMTPD_XCLIENT_H
#define SMTPD_XCLIENT_H

#include "command.h"

/* The lines of EHLO's answer, for those who may; else nothing. */
void xclient_announce(struct session *s);

/* The host itself speaks, and is trusted as much as we are: no XCLIENT has put another client in its place. */
bool xclient_is_trusted(const struct session *s);

bool check_xclient(struct session *s, struct command *c);
void act_xclient(struct session *s, struct command *c);
bool check_xforward(struct session *s, struct command *c);
void act_xforward(struct session *s, struct command *c);

/* What XFORWARD said ends with its message, RSET, EHLO and STARTTLS. */
void xforward_reset(struct session *s);
/* " orig_client=name[address] orig_helo=<...> ...", or an empty text; harmless in a log line. Valid until the session's next command. */
const char *xforward_words(const struct session *s);

#endif
