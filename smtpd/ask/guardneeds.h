/*
 * guardneeds - what guard is asked about at all: found once in a process, from the settings, so that a session that needs nothing asks nothing.
 */
#ifndef SMTPD_GUARDNEEDS_H
#define SMTPD_GUARDNEEDS_H

#include "common/settings.h"
#include "smtpd/guard/wire.h"

#define GUARD_BIT(event) (1u << (event))

/* Events, as bits: for a client without a login, with one, and for all. */
struct guard_needs { unsigned stranger, login, all; };
void guard_needs_of(const struct settings *settings, struct guard_needs *needs_r);
bool guard_needs_event(const struct guard_needs *needs, bool has_login, bool may_relay, enum guard_event event);

#endif
