/*
 * milter - the connection to one milter, kept from session to session: it is told that one is over and another follows (SMFIC_QUIT_NC), and if it
 * closes instead, the next session connects anew. libmilter understands that only right behind a "continue" at the end of a message, and is
 * silent for ever elsewhere; so a session that ended otherwise ends the connection.
 *
 * A milter that cannot be reached, does not answer in time or breaks the protocol is MILTER_AWAY until the next session: its line's `default` decides. One that the
 * session had is tried once more for its next message.
 * Every wait has a limit (connect, timeout, content of its line); "in progress" begins it again.
 */
#ifndef SMTPD_CONTENT_MILTER_H
#define SMTPD_CONTENT_MILTER_H

#include "common/clock.h"
#include "common/milterline.h"
#include "wire.h"

enum milter_state {
	MILTER_OFF,          /* no session */
	MILTER_ON,
	MILTER_PAST_MESSAGE, /* it has accepted the message: the next one is shown to it again */
	MILTER_PAST_SESSION, /* it has accepted the client */
	MILTER_AWAY,
};

struct milter {
	struct milter_line line;
	int fd;                              /* -1: not connected */
	struct str in, out;                  /* `in` from `taken` on is not looked at yet */
	size_t taken;
	struct milter_options options;
	struct str macros[MILTER_STAGES];    /* what it asked for; at == NULL: nothing */
	enum milter_state state;
	bool was_there;                      /* when it was tried last */
	bool in_message;                     /* it was told of a sender, and not of the end */
	bool at_end;                         /* its "continue" at a message's end was the last thing said */
};

void milter_init(struct milter *m, const struct milter_line *line);
void milter_free(struct milter *m);

/* A session begins: connect and agree on options, unless that is done. False: MILTER_AWAY (logged). */
bool milter_session(struct milter *m);
/* It is over. */
void milter_session_end(struct milter *m);
/* The message is: abort, if it knows of one, and it hears of the next one. */
void milter_message_end(struct milter *m);

bool milter_wants(const struct milter *m, uint32_t no_step);   /* on, and this step is not one it can do without */
/* Write what stands in m->out. False: MILTER_AWAY. */
bool milter_push(struct milter *m, uint64_t limit_ms);
/* Its next answer but progress, after m->out is written. Views are valid until the next call. False: MILTER_AWAY. */
bool milter_ask(struct milter *m, uint64_t limit_ms, struct milter_reply *reply_r);
/* It broke the protocol: `why` for the log. */
void milter_lost(struct milter *m, const char *why);

#endif
