/* places - smtpd's room: sessions, and who serves how many. See places.h. */
#include "places.h"

#include "guardneeds.h"
#include "smtpd/auth/wire.h"
#include "smtpd/filterd/wire.h"

#include <stdio.h>

/* A listener's line is an address and its role. */
static bool takes_logins(const struct settings *settings)
{
	bool takes = settings->authrelay;
	for (size_t i = 0; i < settings->smtpdlisten.count; i++) {
		struct bytes role = settings->smtpdlisten.at[i];
		bytes_cut(&role, ' ');
		takes = takes || bytes_starts_nocase(bytes_trim(role), LIT("submission"));
	}
	return takes && settings->authmechanisms.count > 0;
}

static bool asks_guard(const struct settings *settings)
{
	struct guard_needs needs;
	guard_needs_of(settings, &needs);
	return (needs.all | needs.login | needs.stranger) != 0;
}

static bool asks_filterd(const struct settings *settings)
{
	return settings->filters.count > 0;
}

void places_look(const struct settings *settings, void (*tell)(const char *sentence))
{
	static const struct { const char *program; unsigned places; bool (*is_asked)(const struct settings *settings); } rows[] = {
		{ "auth", AUTH_PLACES, takes_logins }, { "guard", GUARD_PLACES, asks_guard }, { "filterd", FILTER_PLACES, asks_filterd },
	};
	char sentence[200];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (settings->smtpdsessions <= rows[i].places || !rows[i].is_asked(settings))
			continue;
		snprintf(sentence, sizeof sentence, "smtpdsessions is %llu, and %s serves %u of them at a time", (unsigned long long)settings->smtpdsessions, rows[i].program,
			rows[i].places);
		tell(sentence);
	}
}
