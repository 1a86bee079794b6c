/*
 * authenticate - the AUTH command (RFC 4954). smtpd carries the lines; who the client is, `auth` says.
 *
 *   offered        on submission listeners over TLS; with authrelay to clients of port 25, too, over TLS or from a network of
 *                  authplaintext
 *   legal          after EHLO, outside of a mail transaction, until it has succeeded once: else 503
 *   235            s->login is set: the client may relay
 * While ST_AUTH lasts every line is the client's answer and no command.
 */
#ifndef SMTPD_AUTHENTICATE_H
#define SMTPD_AUTHENTICATE_H

#include "session.h"

struct command;

bool authenticate_offered(const struct session *s);
/* "AUTH SCRAM-SHA-256 PLAIN ..." for EHLO, or "" when nothing is offered. */
void authenticate_announce(const struct session *s, struct str *out);

/* Rows of the command table. */
bool check_auth(struct session *s, struct command *c);
void act_auth(struct session *s, struct command *c);

/* A line while ST_AUTH lasts; and one that is none (too long, bare octets), which ends the exchange. */
void authenticate_line(struct session *s, struct bytes line);
void authenticate_not_a_line(struct session *s, const char *text);

#endif
