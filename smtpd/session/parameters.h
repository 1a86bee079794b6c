/*
 * parameters - what may stand behind the path of MAIL and RCPT: a table, in parameters.c. A parameter that is not in it is refused (RFC 5321
 * 4.1.1.11), as one is that this client is not offered; one that is given twice, too. What a check accepts is kept in the struct command; nothing of the session changes.
 */
#ifndef SMTPD_PARAMETERS_H
#define SMTPD_PARAMETERS_H

#include "command.h"

/* Check c->argument for this verb ("MAIL" or "RCPT"). False: it was refused, and that was answered. Values point into c->argument's octets. */
bool parameters_check(struct session *s, struct command *c, const char *verb);

/* Are RFC 3461's there for this client, and DSN announced? Success reports tell a stranger whom mail reaches, and go to whoever he says he is. */
bool parameters_dsn_offered(const struct session *s);

#endif
