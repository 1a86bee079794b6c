/*
 * chunk - BDAT (RFC 3030 2): a message in chunks whose sizes are said before. Nothing in a chunk ends it, so nothing of it can be taken for a command.
 *
 * Messages here are text: the rules of DATA hold (message.h), because they are sent on by DATA. A last line without CRLF gets one. After BODY=BINARYMIME that
 * is true of the header only: such a message is never sent on by DATA as it is. DATA is refused for it (503).
 * A chunk that nobody asked for (no recipient, no MAIL) is read to its end and then refused: its client may have sent it with the commands
 * before. A BDAT of which the size cannot be read ends the connection, for nobody can tell what follows from commands.
 */
#ifndef SMTPD_CHUNK_H
#define SMTPD_CHUNK_H

#include "command.h"

bool check_bdat(struct session *s, struct command *c);
/* The state becomes ST_CHUNK. */
void act_bdat(struct session *s, struct command *c);
/* Take what s->lines holds of the chunk; at its end it is answered, and commands go on. Also for a chunk of which nothing is left to come. */
void chunk_data(struct session *s);

#endif
