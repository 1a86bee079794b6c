/* role - smtpd's room: what a listener is for. See role.h. */
#include "role.h"

#include <string.h>

static const struct role_row roles[] = {
/*                           name            TLS at once  needs TLS  needs login */
	[ROLE_RELAY] =       { "relay",       false,       false,     false },
	[ROLE_SUBMISSION] =  { "submission",  false,       true,      true },
	[ROLE_SUBMISSIONS] = { "submissions", true,        true,      true },
};

/* RFC 3207 4: what a client may say on its way into TLS and to its login. BDAT refuses by itself, for its octets must be taken: no MAIL was. */
static const char *const always[] = { "EHLO", "HELO", "STARTTLS", "NOOP", "RSET", "HELP", "QUIT", "BDAT" };

const struct role_row *role_row(enum smtpd_role role)
{
	return &roles[role];
}

static bool is_always(const char *verb)
{
	size_t i = 0;
	while (i < sizeof always / sizeof *always && strcmp(always[i], verb) != 0)
		i++;
	return i < sizeof always / sizeof *always;
}

bool role_admits(struct session *s, const struct command_row *row)
{
	const struct role_row *role = role_row(s->role);
	if (is_always(row->verb))
		return true;
	if (role->needs_tls && !s->tls.on) {
		session_reply(s, 530, "5.7.0", "Must issue a STARTTLS command first");
		return false;
	}
	/* RFC 4954 6. */
	if (role->needs_login && s->login[0] == '\0' && strcmp(row->verb, "AUTH") != 0 && strcmp(row->verb, "XCLIENT") != 0) {
		session_reply(s, 530, "5.7.0", "Authentication required");
		return false;
	}
	return true;
}
