/*
 * guardreply - what a client is told when guard refuses it, and `tappal session` says of it. Nothing here blocks.
 *
 * What guard answers is numbers, and this makes the words: no octet of guard's reaches a client or a log line.
 */
#ifndef SMTPD_GUARDREPLY_H
#define SMTPD_GUARDREPLY_H

#include "common/bytes.h"
#include "common/channel.h"
#include "smtpd/guard/wire.h"

struct guard_reply {
	unsigned code;
	const char *enhanced;
	const char *check;        /* for the log: of the settings that made it */
	bool ends_session;        /* 421: our name belongs before the text */
	bool only_logged;
};

/* False: the record is no answer that makes sense. */
bool guardreply_take(const struct record *record, struct guard_answer *answer_r);
/* Of an answer that makes sense, to such an event. False: nothing is said, the session goes on. The text is added to `text`. */
bool guardreply_of(enum guard_event event, const struct guard_answer *a, struct guard_reply *r_r, struct str *text);

#endif
