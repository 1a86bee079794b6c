/*
 * parameters - what may stand behind the path of MAIL and RCPT: a table, in parameters.c. A parameter that is not in it is refused (RFC 5321
 * 4.1.1.11), one that is given twice, too. What a check accepts is kept in the struct command; nothing of the session changes.
 */
#ifndef SMTPD_PARAMETERS_H
#define SMTPD_PARAMETERS_H

#include "command.h"

/* Check c->argument for this verb ("MAIL" or "RCPT"). False: it was refused, and that was answered. Values point into c->argument's octets. */
bool parameters_check(struct session *s, struct command *c, const char *verb);

#endif
