/* policy - smtpd's room: the checks of the client within a session. See policy.h. */
#include "policy.h"

#include "../role.h"
#include "checks.h"

static bool is_checked(const struct session *s)
{
	return !s->may_relay && s->login[0] == '\0' && !role_row(s->role)->needs_login;
}

static bool any_is_on(const struct settings *settings)
{
	for (size_t i = 0; i < check_count; i++)
		if (check_action(settings, &check_table[i]) != ACTION_OFF)
			return true;
	return false;
}

static void gather(const struct session *s, struct check_facts *f)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	*f = (struct check_facts){ .client = s->peer->addr, .helo = bytes_of(s->helo) };
	if (!s->peer->is_socket || getsockname(s->in, (struct sockaddr *)&sa, &len) < 0 || !netaddr_from_sockaddr((struct sockaddr *)&sa, len, &f->server))
		f->server = (struct netaddr){ 0 };
}

/* True: go on. */
static bool carry_out(struct session *s, const struct check_row *row, enum check_action action, const struct judgement *j, const char *rcpt)
{
	if (action == ACTION_LOG) {
		session_reject_log(s, row->name, "reject_warning", rcpt, j->code, j->enhanced, j->text);
		return true;
	}
	unsigned code = action == ACTION_DEFER ? 450 : j->code;
	char enhanced[16];
	bytes_to_cstring(bytes_of(j->enhanced), enhanced, sizeof enhanced);
	enhanced[0] = (char)('0' + code / 100);
	session_reject_log(s, row->name, "reject", rcpt, code, enhanced, j->text);
	session_reply(s, code, enhanced, "%s", j->text);
	return false;
}

bool policy_rcpt(struct session *s, const struct mailaddr *rcpt)
{
	struct check_facts facts;
	struct judgement j;
	char to[ADDRESS_MAX + 1];
	if (!is_checked(s) || !any_is_on(s->settings) || check_spares_recipient(s->settings, rcpt) || !bytes_to_cstring(rcpt->text, to, sizeof to))
		return true;
	gather(s, &facts);
	for (size_t i = 0; i < check_count; i++) {
		enum check_action action = check_action(s->settings, &check_table[i]);
		if (action == ACTION_OFF)
			continue;
		check_judge(s->settings, &facts, &check_table[i], &j);
		if (j.finding != CHECK_FINE && !carry_out(s, &check_table[i], action, &j, to))
			return false;
	}
	return true;
}
