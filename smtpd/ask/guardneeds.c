/* guardneeds - smtpd's room: what guard is asked about. See guardneeds.h. */
#include "guardneeds.h"

/* The events at which a limit is held against what was counted. */
static unsigned events_of(const struct limit *l)
{
	static const unsigned events[LIMIT_WHATS] = {
		[LIMIT_CONNECTIONS] = GUARD_BIT(GUARD_CONNECT), [LIMIT_MESSAGES] = GUARD_BIT(GUARD_MAIL), [LIMIT_RECIPIENTS] = GUARD_BIT(GUARD_RCPT),
		[LIMIT_ERRORS] = GUARD_BIT(GUARD_CONNECT) | GUARD_BIT(GUARD_MAIL), [LIMIT_OCTETS] = GUARD_BIT(GUARD_CONNECT) | GUARD_BIT(GUARD_MAIL),
	};
	/* Of messages to a domain guard must know where one begins. */
	return l->subject == LIMIT_DOMAIN ? GUARD_BIT(GUARD_RCPT) | events[l->what] : events[l->what];
}

void guard_needs_of(const struct settings *settings, struct guard_needs *needs_r)
{
	struct limit l;
	const char *why;
	*needs_r = (struct guard_needs){ 0 };
	for (size_t i = 0; i < settings->limits.count; i++) {
		if (!limit_parse(settings->limits.at[i], &l, &why) || l.none)
			continue;
		if (l.subject == LIMIT_DOMAIN)
			needs_r->all |= events_of(&l);
		else if (l.subject == LIMIT_LOGIN)
			needs_r->login |= events_of(&l) & ~GUARD_BIT(GUARD_CONNECT);
		else
			needs_r->stranger |= events_of(&l);
	}
	if (settings->banafter > 0)
		needs_r->stranger |= GUARD_BIT(GUARD_CONNECT);
	if (settings->banafter > 0 || settings->hangupafter > 0 || settings->tarpitafter > 0)
		needs_r->stranger |= GUARD_BIT(GUARD_UNKNOWN);
	if (settings->greylist.len > 0 && !bytes_equal(settings->greylist, LIT("off")))
		needs_r->stranger |= GUARD_BIT(GUARD_RCPT);
}

bool guard_needs_event(const struct guard_needs *needs, bool has_login, bool may_relay, enum guard_event event)
{
	unsigned events = needs->all | (has_login ? needs->login : may_relay ? 0 : needs->stranger);
	return (events & GUARD_BIT(event)) != 0;
}
