/*
 * gate - what stands between a well-formed command and its 2xx. The dialog calls these functions and nothing behind them; behind them, in this
 * order, each part has its line. What refuses has answered and logged it, and those behind it are not asked.
 *
 * All of them may block, each part for a bounded time of its own. `c` is what the check functions of the command table made of the line.
 */
#ifndef SMTPD_GATE_H
#define SMTPD_GATE_H

#include "command.h"

void gate_name(struct session *s);                        /* before the first line of the log, in which the client should have its name */
bool gate_connect(struct session *s);                     /* before the banner; false: the session is over (s->end), the reply is given */
bool gate_helo(struct session *s, struct command *c);     /* false, of these: refused */
bool gate_mail(struct session *s, struct command *c);     /* the sender can be one, and belongs to the login */
bool gate_rcpt(struct session *s, struct command *c);     /* the recipient is one of ours, or the client may relay */
void gate_unknown(struct session *s);                     /* the recipient does not exist here: 550 5.1.1 was answered */
bool gate_data(struct session *s);                        /* before 354, or at the first BDAT; false: the transaction stays as it is */
void gate_reset(struct session *s);                       /* a transaction ended without a message: RSET, EHLO, STARTTLS, loss */
void gate_end(struct session *s);                         /* the connection is over */

#endif
