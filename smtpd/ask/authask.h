/*
 * authask - smtpd's end of the socket of `auth`: one exchange of AUTH at a time, each step a question and its answer.
 *
 * What auth says is held against what it may say: a line for the client is base64 and nothing else, a login is one word of UTF-8. An auth
 * that is away, silent, somebody else's (SO_PEERCRED) or talks nonsense is AUTHASK_AWAY, and the connection to it is closed.
 */
#ifndef SMTPD_AUTHASK_H
#define SMTPD_AUTHASK_H

#include <signal.h>

#include "common/channel.h"
#include "smtpd/auth/wire.h"

#define AUTHASK_LINE_MAX 12288u       /* octets of a client's line with CRLF, RFC 4954 4 */
#define AUTHASK_TIMEOUT_MS 150000u    /* more than a full queue of slow verifications and the longest authdelay */

enum authask_result { AUTHASK_LINE, AUTHASK_DONE, AUTHASK_AWAY };

struct authask {
	int fd;                           /* -1: no exchange goes on */
	struct record_reader in;
	/* what it said last: valid until the next call */
	struct bytes line;                /* AUTHASK_LINE */
	enum auth_result result;          /* AUTHASK_DONE */
	struct bytes login;
};

void authask_init(struct authask *a);
/* Each blocks until auth answers, AUTHASK_TIMEOUT_MS at the most; a signal that sets *stop (may be NULL) ends the wait. */
enum authask_result authask_begin(struct authask *a, const struct auth_begin *begin, const volatile sig_atomic_t *stop);
enum authask_result authask_line(struct authask *a, struct bytes line, const volatile sig_atomic_t *stop);
void authask_close(struct authask *a);    /* the exchange, if any, is over */

#endif
