/*
 * macros - what a milter is told besides the commands: sendmail's names and our values. A milter gets those that it asked for when the connection
 * was made, else the usual ones of the stage; what has no value is left out.
 */
#ifndef SMTPD_CONTENT_MACROS_H
#define SMTPD_CONTENT_MACROS_H

#include "smtpd/session/command.h"
#include "milter.h"

/* One packet of them appended to m->out, before the command of kind `kind`. `c` may be NULL. */
void macros_add(const struct session *s, const struct command *c, struct milter *m, enum milter_stage stage, enum milter_command kind);

#endif
