/*
 * counts - limits, and unknown recipients with what follows from them: late answers, hanging up, a ban. Time is passed in; nothing blocks.
 *
 * A count begins with the first event and ends with its window. What is refused is counted, too, so that a log tells how hard somebody tried; a
 * window is not made longer by it. Errors and octets are known only afterwards: they are held against the next thing that their client wants.
 */
#ifndef SMTPD_GUARD_COUNTS_H
#define SMTPD_GUARD_COUNTS_H

#include "common/channel.h"
#include "keys.h"
#include "wire.h"

struct rules { struct limit *limit; size_t count; };
bool rules_init(struct rules *r, const struct lines *lines);   /* false: no memory. Views into the lines; a line that is none is passed over */
void rules_free(struct rules *r);

#define DOMAINS_COUNTED 16u

/* Who is in a session. */
struct visitor {
	struct netaddr client;
	bool spared;              /* limits by address and network do not hold, and no ban */
	struct bytes login;       /* empty: none. Then limits by address and network do not hold from MAIL on */
	uint64_t here_address, here_network;      /* connections at a time, this one among them */
	uint64_t *domain;         /* of DOMAINS_COUNTED: the domains that have been counted for this message; all zero at MAIL */
};

struct counts {
	struct table *table;
	const struct keys *keys;
	const struct rules *rules;
	const struct settings *settings;
	bool peek;                /* say what would be, and count nothing */
};

/* What the visitor did since the last question. */
void counts_charge(const struct counts *c, const struct visitor *v, uint32_t errors, uint64_t octets, wall_ms_t now);
/* GUARD_CONNECT, GUARD_MAIL or GUARD_RCPT (domain: the recipient's). GUARD_GO, or the first rule that is broken. */
struct guard_answer counts_event(const struct counts *c, const struct visitor *v, enum guard_event event, struct bytes domain, wall_ms_t now);
/* GUARD_GO or GUARD_BANNED. */
struct guard_answer counts_ban(const struct counts *c, const struct visitor *v, wall_ms_t now);
/* One more unknown recipient. A ban that begins with it is logged; with peek, wait_s says how long it would be. */
struct guard_answer counts_unknown(const struct counts *c, const struct visitor *v, wall_ms_t now);

#endif
