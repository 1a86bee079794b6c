/*
 * calloutask - asking `callout` about a sender (remote/callout), and what it said, for as long as he is the sender: a message asks once for all of its
 * recipients.
 */
#ifndef SMTPD_CALLOUTASK_H
#define SMTPD_CALLOUTASK_H

#include "common/mailaddr.h"
#include "common/settings.h"
#include "remote/callout/wire.h"

/* All zero: nobody was asked about. */
struct calloutask {
	bool asked;
	char sender[ADDRESS_MAX + 1];
	struct callout_said said;
	const char *away;                 /* why callout gave no answer, for a warning; NULL: it did */
};

/* Blocks until callout answers, callouttimeout and some seconds at the most. A callout that is away, slow, somebody else's (SO_PEERCRED) or talks nonsense knows
 * nothing (CALLOUT_UNKNOWN; a->away). The answer is a's. */
const struct callout_said *calloutask(struct calloutask *a, const struct settings *settings, struct bytes sender);

/* What is not known is to be asked again. */
void calloutask_forget_unknown(struct calloutask *a);

#endif
