/*
 * submit - hand a whole message to the queue: to enqueue, one shot, or where set-uid has no effect to the smtpd of this host.
 */
#ifndef LOCAL_SUBMIT_H
#define LOCAL_SUBMIT_H

#include "common/bytes.h"
#include "common/envelope.h"
#include "common/netaddr.h"
#include "common/verdict.h"

struct submit_answer {
	enum verdict verdict;
	bool bad_address;      /* V_PERM, because an address was refused */
	struct str text;       /* a sentence; never empty unless V_OK */
};

/* `message` is a file at its start, with LF or CRLF line ends; `envelope` is whole (common/envelope.h). Blocks until the message is
 * safe or refused. The answer's text is to be freed. */
void submit_message(int message, struct bytes envelope, struct submit_answer *answer_r);

/* The other way alone: SMTP to this host's smtpd at `to` (submit_smtp.c). `helo`: this host's name. */
void submit_smtp(int message, const struct envelope *envelope, struct bytes helo, const struct netaddr *to, struct submit_answer *answer);

#endif
