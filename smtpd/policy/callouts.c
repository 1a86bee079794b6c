/* callouts - smtpd's room: what the sender's own mail exchanger says of him (remote/callout), as a check. */
#include "inside.h"

#include "common/route.h"

/* Only a stranger's mailbox: an empty reverse-path is never called out, or two hosts would ask each other without end. */
bool callout_is_possible(const struct settings *settings, const struct check_facts *facts)
{
	return facts->sender != NULL && facts->sender->kind == ADDR_MAILBOX && !route_is_ours(settings, facts->sender);
}

void judge_callout(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	const struct callout_said *said = facts->callout;
	(void)a;
	if (!callout_is_possible(settings, facts) || (said != NULL && (said->verdict == CALLOUT_EXISTS || said->verdict == CALLOUT_UNASKED)))
		return;
	j->finding = CHECK_UNASKED;
	if (said == NULL)
		return;
	int shown = facts->sender->text.len < 100 ? (int)facts->sender->text.len : 100;
	const char *sender = facts->sender->text.at, *by = said->host[0] != '\0' ? " says: " : "";
	if (said->verdict == CALLOUT_NOBODY)
		judgement_fail(j, 550, "5.1.7", "<%.*s>: Sender address rejected: no such address; %.90s%s%.120s", shown, sender, said->host, by, said->text);
	else if (said->verdict == CALLOUT_NO_BOUNCES)
		judgement_fail(j, 550, "5.1.8", "<%.*s>: Sender address rejected: its host takes no reports (MAIL FROM:<>); %.90s%s%.120s", shown, sender, said->host, by, said->text);
	else {
		judgement_fail(j, 450, "4.1.8", "<%.*s>: Sender address rejected: it cannot be verified now; %.90s%s%.120s", shown, sender, said->host, by, said->text);
		j->finding = CHECK_UNSURE;
		j->passes = bytes_equal(settings->calloutunknown, LIT("pass"));
	}
}
