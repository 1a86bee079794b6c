/*
 * wire - what the numbers in the records between smtpd and filterd mean.
 *
 * A connection carries one question, filter_ask with two descriptors, and its answer. Its end before the answer tells filterd that nobody waits
 * any more.
 */
#ifndef SMTPD_FILTERD_WIRE_H
#define SMTPD_FILTERD_WIRE_H

#include "common/clock.h"

#define FILTER_PLACES 1100u               /* connections of smtpd at a time, a message each */
#define FILTER_WAIT_MS (5u * MINUTE_MS)   /* for a message's turn, before its first program begins */

enum filter_verdict {
	FILTER_PASS,
	FILTER_HOLD,       /* it is accepted and held in the queue */
	FILTER_TEMP,       /* put off, by a program */
	FILTER_PERM,       /* refused, by a program */
	FILTER_BROKEN,     /* put off: a program cannot be used, crashed or took too long; filterd's log has the cause */
	FILTER_BUSY,       /* put off: its turn did not come in time */
	FILTER_VERDICTS,
};

#endif
