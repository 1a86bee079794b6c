/*
 * wire - what the numbers in the records between smtpd and guard mean.
 */
#ifndef SMTPD_GUARD_WIRE_H
#define SMTPD_GUARD_WIRE_H

#include "common/limits.h"

#define GUARD_PLACES 4096u   /* sessions of smtpd at a time, with a socket each */

/* What has happened in a session. The first thing that guard hears of a session on its socket makes it one of the connections at a time,
 * whatever it is; GUARD_END, or the socket's end, ends that. */
enum guard_event {
	GUARD_CONNECT,
	GUARD_MAIL,
	GUARD_RCPT,        /* to a recipient that would be taken */
	GUARD_UNKNOWN,     /* to one that does not exist here */
	GUARD_END,
	GUARD_EVENTS,
};

enum guard_verdict {
	GUARD_GO,
	GUARD_OVER,        /* a limit: subject, what, window_s (0: at a time), count, limit; wait_s: until the window ends */
	GUARD_TARPIT,      /* unknown recipients: count, limit, window_s; delay_ms */
	GUARD_HANGUP,
	GUARD_BANNED,      /* wait_s: until it is lifted */
	GUARD_GREY,        /* wait_s: until it may come again */
	GUARD_GREY_LOG,    /* the same, but it goes on */
	GUARD_VERDICTS,
};

/* Of a row: what is counted. The first are those of enum limit_what. */
enum row_what { ROW_UNKNOWN = LIMIT_WHATS, ROW_BAN, ROW_TRIPLET, ROW_NETWORK, ROW_WHATS };

enum { TABLE_COUNTS, TABLE_GREY, TABLE_TABLES };

#endif
