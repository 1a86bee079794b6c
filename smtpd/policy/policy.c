/* policy - smtpd's room: the checks of the client within a session. See policy.h. */
#include "policy.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "smtpd/session/command.h"
#include "smtpd/ask/seldom.h"
#include "smtpd/door/role.h"
#include "checks.h"

#include "common/io.h"
#include "common/log.h"

void policy_free(struct policy *p)
{
	answers_free(&p->answers);
}

bool policy_is_stranger(const struct session *s)
{
	return !s->may_relay && s->login[0] == '\0' && !role_row(s->role)->needs_login && s->peer->addr.family != 0;
}

static bool is_early(const struct session *s)
{
	return bytes_equal(s->settings->checkwhen, LIT("early"));
}

static bool any_is_on(const struct settings *settings, enum check_stage from, enum check_stage to)
{
	for (size_t i = 0; i < check_count; i++)
		if (check_table[i].stage >= from && check_table[i].stage <= to && check_action(settings, &check_table[i]) != ACTION_OFF)
			return true;
	return false;
}

/* ---- the facts */

static void gather(const struct session *s, struct check_facts *f)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	*f = (struct check_facts){ .client = s->peer->addr, .hasty = s->hasty, .helo = bytes_of(s->helo), .recipient = s->mail.rcpt_count + 1 };
	if (s->state & ST_TRANSACTION)
		f->sender = &s->mail.sender;
	if (s->settings->checkhelo.len == 0 || bytes_equal(s->settings->checkhelo, LIT("off")) || !s->peer->is_socket)
		return;
	if (getsockname(s->in, (struct sockaddr *)&sa, &len) < 0 || !netaddr_from_sockaddr((struct sockaddr *)&sa, len, &f->server))
		f->server = (struct netaddr){ 0 };
}

/* A list that says what no list says counts for nothing, and somebody should know. */
static void warn_of_lists(const struct session *s, const struct check_facts *f)
{
	const struct answers *a = &s->policy.answers;
	struct listing l;
	for (size_t i = 0; check_listing(s->settings, f, a, i, &l); i++) {
		if (l.answer == NULL || (l.answer->status != DNS_OK && !answer_is_temporary(l.answer)))
			continue;
		enum dnslist_meaning meaning = l.answer->values > 0 ? dnslist_meaning(&l.list, &l.answer->value[0]) : LISTED;
		const char *zone = log_text(l.list.zone);
		if (answer_is_temporary(l.answer) && seldom("list mute", l.list.zone))
			log_info("warning: list %s does not answer for %s: %s", zone, l.answer->name, log_text(bytes_of(l.answer->text)));
		else if (meaning == LIST_DEAD && seldom("list dead", l.list.zone))
			log_warn("list %s answers for %s outside of 127.0.0.0/8: it is not counted, is it dead?", zone, l.answer->name);
		else if (meaning == LIST_REFUSES && seldom("list refuses", l.list.zone))
			log_warn("list %s refuses our questions (%s): it is not counted", zone, log_text(bytes_of(l.answer->text)));
	}
}

/* From here on the client goes by the name that its address has in the DNS. */
static void adopt_name(struct session *s, const struct check_facts *f)
{
	const char *name = check_client_name(f, &s->policy.answers);
	if (name == NULL || bytes_equal(bytes_of(name), bytes_of(s->peer->name)))
		return;
	struct peer named = *s->peer;
	peer_set_name(&named, name);
	s->told = named;
	s->peer = &s->told;
}

static void decide(struct session *s, struct check_facts *f, const struct check_row *row, struct check_asking *k, struct judgement *j_r)
{
	bool knew = k->learned;
	check_decide(s->settings, f, &s->policy.answers, row, k, j_r);
	if (k->learned && !knew) {
		adopt_name(s, f);
		if (k->asked > 0)
			warn_of_lists(s, f);
	}
	if (f->callout != NULL && k->callout->away != NULL && seldom("callout", (struct bytes){ NULL, 0 }))
		log_warn("callout %s: nothing is known of senders", k->callout->away);
}

/* ---- the verdicts */

static void enhanced_for(unsigned code, const char *enhanced, char out[16])
{
	bytes_to_cstring(bytes_of(enhanced), out, 16);
	out[0] = (char)('0' + code / 100);
}

/* True: go on. */
static bool carry_out(struct session *s, size_t row, enum check_action action, const struct judgement *j, const char *rcpt)
{
	const char *check = check_table[row].name;
	unsigned temporary = check_table[row].stage == STAGE_AT_CONNECT ? 421 : 450;   /* 421: the session ends with it */
	unsigned code = j->finding == CHECK_UNSURE || action == ACTION_DEFER ? temporary : j->code;
	char enhanced[16];
	enhanced_for(action == ACTION_LOG || j->passes ? j->code : code, j->enhanced, enhanced);
	if (action == ACTION_LOG || j->passes) {
		if (!(s->policy.logged >> row & 1))
			session_reject_log(s, check, "reject_warning", rcpt, j->code, enhanced, j->text);
		s->policy.logged |= UINT32_C(1) << row;
		return true;
	}
	session_reject_log(s, check, "reject", rcpt, code, enhanced, j->text);
	session_reply(s, code, enhanced, "%s", j->text);
	return false;
}

/* Checks of these stages, in the order of the table; the DNS is asked when the first one that wants it is reached. */
static bool run(struct session *s, struct check_facts *f, enum check_stage from, enum check_stage to, const char *rcpt)
{
	struct check_asking k = { .callout = &s->policy.callout };
	struct judgement j;
	for (size_t i = 0; i < check_count; i++) {
		const struct check_row *row = &check_table[i];
		enum check_action action = check_action(s->settings, row);
		if (row->stage < from || row->stage > to || action == ACTION_OFF)
			continue;
		decide(s, f, row, &k, &j);
		if ((j.finding == CHECK_UNSURE || j.finding == CHECK_FAILED) && !carry_out(s, i, action, &j, rcpt))
			return false;
	}
	return true;
}

/* ---- the stages */

void policy_name(struct session *s)
{
	if (!s->settings->clientnames || !policy_is_stranger(s))
		return;
	struct check_facts f = { .client = s->peer->addr };
	check_learn(&(struct settings){ 0 }, &f, true, &s->policy.answers, deadline_in(clock_monotonic_ms(), s->settings->checktimeout * SECOND_MS));
	adopt_name(s, &f);
}

/* What is there already counts even without a delay; an end of file is no word: a load balancer asks so whether the port is open. */
static bool spoke_early(const struct session *s)
{
	deadline_t until = deadline_in(clock_monotonic_ms(), s->settings->bannerdelay * SECOND_MS);
	int ready, octets = 0;
	do
		ready = io_wait_readable(s->in, until);
	while (ready < 0 && errno == EINTR && (s->stop == NULL || *s->stop == 0));
	return ready > 0 && ioctl(s->in, FIONREAD, &octets) == 0 && octets > 0;
}

bool policy_connect(struct session *s)
{
	bool on = any_is_on(s->settings, STAGE_AT_CONNECT, STAGE_AT_CONNECT);
	if (!policy_is_stranger(s) || (!on && s->settings->bannerdelay == 0))
		return true;
	struct check_facts f = { .client = s->peer->addr };
	f.early = spoke_early(s);
	if (run(s, &f, STAGE_AT_CONNECT, STAGE_AT_CONNECT, NULL))
		return true;
	s->end = END_REFUSED;
	return false;
}

bool policy_helo(struct session *s, struct bytes name)
{
	struct check_facts f;
	char helo[HELO_MAX + 1];
	if (!policy_is_stranger(s) || !is_early(s) || !any_is_on(s->settings, STAGE_AT_HELO, STAGE_AT_HELO))
		return true;
	gather(s, &f);
	command_helo_text(name, helo);
	f.helo = bytes_of(helo);
	f.sender = NULL;
	return run(s, &f, STAGE_AT_HELO, STAGE_AT_HELO, NULL);
}

bool policy_mail(struct session *s, const struct mailaddr *sender)
{
	struct check_facts f;
	s->policy.logged = 0;
	calloutask_forget_unknown(&s->policy.callout);
	if (s->policy.answers.count > 0)
		answers_drop_temporary(&s->policy.answers);
	if (!policy_is_stranger(s) || !is_early(s) || !any_is_on(s->settings, STAGE_AT_MAIL, STAGE_AT_MAIL))
		return true;
	gather(s, &f);
	f.sender = sender;
	return run(s, &f, STAGE_AT_MAIL, STAGE_AT_MAIL, NULL);
}

bool policy_rcpt(struct session *s, const struct mailaddr *rcpt)
{
	struct check_facts f;
	char to[ADDRESS_MAX + 1];
	enum check_stage from = is_early(s) ? STAGE_AT_RCPT : STAGE_AT_HELO;
	if (!policy_is_stranger(s) || !any_is_on(s->settings, from, STAGE_AT_RCPT) || check_spares_recipient(s->settings, rcpt))
		return true;
	if (!bytes_to_cstring(rcpt->text, to, sizeof to))
		return true;
	gather(s, &f);
	return run(s, &f, from, STAGE_AT_RCPT, to);
}
