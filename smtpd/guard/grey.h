/*
 * grey - greylisting: has this network sent from this sender to this recipient before, and come again when it was told to?
 *
 *   first seen        told to come again in greylistdelay
 *   within the delay  told again; the delay is not made longer
 *   after it          passes, and is remembered for greylistlifetime since its last mail
 *   not again within  greylistwindow: forgotten
 * A network of which greylistallow senders and recipients have come again passes at once. Time is passed in; nothing blocks.
 */
#ifndef SMTPD_GUARD_GREY_H
#define SMTPD_GUARD_GREY_H

#include "common/channel.h"
#include "keys.h"
#include "wire.h"

struct grey {
	struct table *table;
	const struct keys *keys;
	const struct settings *settings;
};

/* GUARD_GO, GUARD_GREY with wait_s, or, as `greylist` says, GUARD_GREY_LOG. */
struct guard_answer grey_check(const struct grey *g, const struct netaddr *client, struct bytes sender, struct bytes recipient, wall_ms_t now);
/* What that would answer now; nothing is remembered. count: 0 for a sender that would be new; what: ROW_TRIPLET or ROW_NETWORK, which is known. */
struct guard_answer grey_peek(const struct grey *g, const struct netaddr *client, struct bytes sender, struct bytes recipient, wall_ms_t now);

#endif
