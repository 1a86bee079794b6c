/* checks - smtpd's room: what a client says and is, held against the settings. See checks.h. */
#include "inside.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/domain.h"
#include "common/route.h"

#define SHOWN(b) (int)((b).len < 200 ? (b).len : 200), (b).at

typedef void want_fn(const struct settings *settings, const struct check_facts *facts, struct answers *a);
typedef void judge_fn(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j);
typedef struct bytes subject_fn(const struct check_facts *facts, const struct answers *a);
static judge_fn judge_early, judge_pipelining, judge_helo, judge_ours, judge_bounce, judge_helodns, judge_reverse, judge_forward, judge_sender;
static want_fn want_helo, want_sender;
static subject_fn subject_helo, subject_name, subject_sender;

#define SETTING(name) #name, offsetof(struct settings, name)
const struct check_row check_table[] = {
/*                             stage             DNS               check             whose name */
	{ SETTING(checkearly),      STAGE_AT_CONNECT, NULL,             judge_early,      NULL },
	{ SETTING(checkpipelining), STAGE_AT_MAIL,    NULL,             judge_pipelining, NULL },
	{ SETTING(checkhelo),       STAGE_AT_HELO,    NULL,             judge_helo,       subject_helo },
	{ SETTING(checkours),       STAGE_AT_MAIL,    NULL,             judge_ours,       subject_sender },
	{ SETTING(checkbounce),     STAGE_AT_RCPT,    NULL,             judge_bounce,     NULL },
	{ SETTING(checkhelodns),    STAGE_AT_HELO,    want_helo,        judge_helodns,    subject_helo },
	{ SETTING(checkreverse),    STAGE_AT_HELO,    want_client_name, judge_reverse,    NULL },
	{ SETTING(checkforward),    STAGE_AT_HELO,    want_client_name, judge_forward,    subject_name },
	{ SETTING(checksender),     STAGE_AT_MAIL,    want_sender,      judge_sender,     subject_sender },
	{ SETTING(checklists),      STAGE_AT_MAIL,    want_lists,       judge_lists,      NULL },
	{ SETTING(checkcallout),    STAGE_AT_MAIL,    NULL,             judge_callout,    subject_sender },
};
#undef SETTING
const size_t check_count = sizeof check_table / sizeof *check_table;

enum check_action check_action(const struct settings *settings, const struct check_row *row)
{
	static const char *const words[] = { [ACTION_LOG] = "log", [ACTION_DEFER] = "defer", [ACTION_REJECT] = "reject" };
	const struct bytes *word = (const void *)((const char *)settings + row->setting);
	for (enum check_action a = ACTION_LOG; a <= ACTION_REJECT; a++)
		if (bytes_equal(*word, bytes_of(words[a])))
			return a;
	return ACTION_OFF;
}

void judgement_fail(struct judgement *j, unsigned code, const char *enhanced, const char *format, ...)
{
	va_list args;
	j->finding = CHECK_FAILED;
	j->code = code;
	j->enhanced = enhanced;
	va_start(args, format);
	(void)vsnprintf(j->text, sizeof j->text, format, args);
	va_end(args);
}

/* RFC 3463: 4.4.3 the directory server fails, 4.7.5 a signature does. */
static const char *unsure_code(const struct answer *one)
{
	return one != NULL && one->status == DNS_BOGUS ? "4.7.5" : "4.4.3";
}

#define UNSURE(j, one, ...) (judgement_fail(j, 450, unsure_code(one), __VA_ARGS__), (j)->finding = CHECK_UNSURE)

/* ---- without the DNS */

static void judge_early(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	(void)settings;
	(void)a;
	if (facts->early)
		judgement_fail(j, 521, "5.5.1", "Protocol error: you spoke before the greeting");
}

/* RFC 2920 3.1. */
static void judge_pipelining(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	(void)settings;
	(void)a;
	if (facts->hasty)
		judgement_fail(j, 554, "5.5.0", "Client host rejected: improper use of SMTP command pipelining");
}

static void judge_helo(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	const char *fault = helo_fault(settings, facts);
	(void)a;
	if (fault != NULL)
		judgement_fail(j, 550, "5.7.1", "<%.*s>: Helo command rejected: %s", SHOWN(facts->helo), fault);
}

static bool is_ours(const struct settings *settings, const struct check_facts *facts)
{
	return facts->sender != NULL && facts->sender->kind != ADDR_NULL && route_is_ours(settings, facts->sender);
}

static void judge_ours(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	(void)a;
	if (is_ours(settings, facts))
		judgement_fail(j, 553, "5.7.1", "<%.*s>: Sender address rejected: its domain is ours, and you have not logged in", SHOWN(facts->sender->text));
}

/* A report goes to the one who sent the message (RFC 5321 4.5.5). */
static void judge_bounce(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	(void)settings;
	(void)a;
	if (facts->sender != NULL && facts->sender->kind == ADDR_NULL && facts->recipient > 1)
		judgement_fail(j, 550, "5.5.3", "<>: Sender address rejected: a message without a sender has one recipient");
}

/* ---- with it */

struct bytes helo_domain(const struct check_facts *facts)
{
	return domain_valid(facts->helo, false) ? facts->helo : (struct bytes){ 0 };
}

struct bytes sender_domain(const struct check_facts *facts)
{
	return facts->sender != NULL && facts->sender->kind == ADDR_MAILBOX ? facts->sender->domain : (struct bytes){ 0 };
}

bool client_reverse_name(const struct check_facts *facts, char name_r[DNS_NAME_MAX + 1])
{
	return dns_reverse_name(&facts->client, (struct bytes){ 0 }, name_r);
}

static const struct answer *client_answer(const struct check_facts *facts, const struct answers *a)
{
	char name[DNS_NAME_MAX + 1];
	return client_reverse_name(facts, name) ? answers_find(a, DNS_REVERSE, bytes_of(name)) : NULL;
}

const char *check_client_name(const struct check_facts *facts, const struct answers *a)
{
	const struct answer *one = client_answer(facts, a);
	return one != NULL && one->status == DNS_OK && one->has_client ? one->host : NULL;
}

void want_client_name(const struct settings *settings, const struct check_facts *facts, struct answers *a)
{
	char name[DNS_NAME_MAX + 1];
	(void)settings;
	if (client_reverse_name(facts, name))
		answers_want(a, DNS_REVERSE, bytes_of(name));
}

static void want_helo(const struct settings *settings, const struct check_facts *facts, struct answers *a)
{
	(void)settings;
	answers_want(a, DNS_ADDRESS, helo_domain(facts));
}

static void want_sender(const struct settings *settings, const struct check_facts *facts, struct answers *a)
{
	if (!is_ours(settings, facts))
		answers_want(a, DNS_MAIL, sender_domain(facts));
}

static void judge_helodns(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	const struct answer *one = answers_find(a, DNS_ADDRESS, helo_domain(facts));
	struct netaddr literal;
	(void)settings;
	if (netaddr_parse_literal(facts->helo, &literal)) {
		if (!netaddr_equal(&literal, &facts->client))
			judgement_fail(j, 550, "5.7.1", "<%.*s>: Helo command rejected: not your address", SHOWN(facts->helo));
	} else if (one == NULL || (one->status != DNS_OK && !answer_is_temporary(one))) {
		judgement_fail(j, 550, "5.7.1", "<%.*s>: Helo command rejected: Host not found", SHOWN(facts->helo));
	} else if (answer_is_temporary(one)) {
		UNSURE(j, one, "<%.*s>: Helo command rejected: the name cannot be looked up now", SHOWN(facts->helo));
	} else if (!one->has_client) {
		judgement_fail(j, 550, "5.7.1", "<%.*s>: Helo command rejected: the name is not that of your address", SHOWN(facts->helo));
	}
}

/* True: there is a name. RFC 7372: 5.7.25. */
static bool judge_has_name(const struct check_facts *facts, const struct answer *one, const char *ip, struct judgement *j)
{
	if (facts->client.family == 0)
		return false;
	if (one == NULL || answer_is_temporary(one))
		UNSURE(j, one, "Client host rejected: the name of [%s] cannot be looked up now", ip);
	else if (one->status != DNS_OK)
		judgement_fail(j, 550, "5.7.25", "Client host rejected: the address [%s] has no name in the DNS", ip);
	return one != NULL && one->status == DNS_OK;
}

static void judge_reverse(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	char ip[NETADDR_TEXT];
	(void)settings;
	netaddr_format(&facts->client, ip);
	(void)judge_has_name(facts, client_answer(facts, a), ip, j);
}

static void judge_forward(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	const struct answer *one = client_answer(facts, a);
	char ip[NETADDR_TEXT];
	(void)settings;
	netaddr_format(&facts->client, ip);
	if (!judge_has_name(facts, one, ip, j) || one->has_client)
		return;
	if (one->unsure)
		UNSURE(j, one, "Client host rejected: the names of [%s] cannot be looked up now", ip);
	else
		judgement_fail(j, 550, "5.7.25", "Client host rejected: no name of [%s], like %.200s, has that address", ip, one->host);
}

/* RFC 7505 4.2: 5.7.27. */
static void judge_sender(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	const struct answer *one = answers_find(a, DNS_MAIL, sender_domain(facts));
	if (sender_domain(facts).len == 0 || is_ours(settings, facts) || (one != NULL && one->status == DNS_OK))
		return;
	if (one == NULL || answer_is_temporary(one))
		UNSURE(j, one, "<%.*s>: Sender address rejected: its domain cannot be looked up now", SHOWN(facts->sender->text));
	else if (one->status == DNS_NULL_MX)
		judgement_fail(j, 550, "5.7.27", "<%.*s>: Sender address rejected: its domain takes no mail (null MX)", SHOWN(facts->sender->text));
	else if (one->status == DNS_NO_DOMAIN)
		judgement_fail(j, 550, "5.1.8", "<%.*s>: Sender address rejected: Domain not found", SHOWN(facts->sender->text));
	else
		judgement_fail(j, 550, "5.1.8", "<%.*s>: Sender address rejected: no host takes mail for its domain", SHOWN(facts->sender->text));
}

/* ---- exemptions */

static struct bytes subject_helo(const struct check_facts *facts, const struct answers *a)
{
	(void)a;
	return facts->helo;
}

/* Unverified: whoever exempts it knows that it does not match. */
static struct bytes subject_name(const struct check_facts *facts, const struct answers *a)
{
	const struct answer *one = client_answer(facts, a);
	return bytes_of(one != NULL ? one->host : NULL);
}

static struct bytes subject_sender(const struct check_facts *facts, const struct answers *a)
{
	(void)a;
	return sender_domain(facts);
}

static bool is_exempt_by(const struct exemption *e, const struct check_facts *facts, const struct answers *a, const struct check_row *row)
{
	struct bytes name = bytes_of(check_client_name(facts, a)), subject = row->subject != NULL ? row->subject(facts, a) : (struct bytes){ 0 };
	if (!exemption_is_of(e, bytes_of(row->name)))
		return false;
	if (e->of_network)
		return facts->client.family != 0 && netblock_contains(&e->network, &facts->client);
	return (name.len > 0 && domain_matches(name, e->domain)) || (subject.len > 0 && domain_matches(subject, e->domain));
}

bool check_exempts_by_name(const struct settings *settings, const struct check_row *row)
{
	struct exemption e;
	for (size_t i = 0; i < settings->checkexempt.count; i++)
		if (exemption_parse(settings->checkexempt.at[i], &e) && !e.of_network && exemption_is_of(&e, bytes_of(row->name)))
			return true;
	return false;
}

static bool is_exempt(const struct settings *settings, const struct check_facts *facts, const struct answers *a, const struct check_row *row,
	uint32_t *line_r)
{
	struct exemption e;
	for (size_t i = 0; i < settings->checkexempt.count; i++)
		if (exemption_parse(settings->checkexempt.at[i], &e) && is_exempt_by(&e, facts, a, row)) {
			*line_r = settings->checkexempt.number != NULL ? settings->checkexempt.number[i] : 0;
			return true;
		}
	return false;
}

/* ---- all of them */

static void want_all(const struct settings *settings, const struct check_facts *facts, bool name, struct answers *a)
{
	const struct answer *known = client_answer(facts, a);
	uint32_t line;
	answers_forget_wants(a);
	/* What is known of the name stays: whom it exempts is exempt by it alone. */
	if (name || (known != NULL && known->answered))
		want_client_name(settings, facts, a);
	for (size_t i = 0; i < check_count; i++) {
		const struct check_row *row = &check_table[i];
		if (check_action(settings, row) == ACTION_OFF || is_exempt(settings, facts, a, row, &line))
			continue;
		if (row->want != NULL)
			row->want(settings, facts, a);
		if (check_exempts_by_name(settings, row))
			want_client_name(settings, facts, a);
	}
	answers_drop_unwanted(a);
}

/* Twice: what is looked up by the client's name can be asked only when that is known. */
size_t check_learn(const struct settings *settings, const struct check_facts *facts, bool name, struct answers *a, deadline_t deadline)
{
	size_t asked = 0;
	for (int round = 0; round < 2; round++) {
		want_all(settings, facts, name, a);
		asked += answers_ask(a, &facts->client, deadline);
	}
	return asked;
}

static bool name_is_unsure(const struct check_facts *facts, const struct answers *a)
{
	const struct answer *one = client_answer(facts, a);
	return one != NULL && (answer_is_temporary(one) || (one->unsure && !one->has_client));
}

void check_judge(const struct settings *settings, const struct check_facts *facts, const struct answers *a, const struct check_row *row,
	struct judgement *j_r)
{
	*j_r = (struct judgement){ .finding = CHECK_FINE };
	if (is_exempt(settings, facts, a, row, &j_r->exempt_line)) {
		j_r->finding = CHECK_EXEMPT;
		return;
	}
	row->judge(settings, facts, a, j_r);
	if (j_r->finding == CHECK_FAILED && check_exempts_by_name(settings, row) && name_is_unsure(facts, a))
		j_r->finding = CHECK_UNSURE;
}

static void learn_and_judge(const struct settings *settings, const struct check_facts *facts, struct answers *a, const struct check_row *row,
	struct check_asking *k, struct judgement *j_r)
{
	k->asked += check_learn(settings, facts, settings->clientnames, a, deadline_in(clock_monotonic_ms(), settings->checktimeout * SECOND_MS));
	k->learned = true;
	check_judge(settings, facts, a, row, j_r);
}

void check_decide(const struct settings *settings, struct check_facts *facts, struct answers *a, const struct check_row *row, struct check_asking *k,
	struct judgement *j_r)
{
	if (row->want != NULL && !k->learned)
		learn_and_judge(settings, facts, a, row, k, j_r);
	else
		check_judge(settings, facts, a, row, j_r);
	if (j_r->finding > CHECK_EXEMPT && !k->learned && check_exempts_by_name(settings, row))
		learn_and_judge(settings, facts, a, row, k, j_r);
	if (j_r->finding != CHECK_UNASKED || k->callout == NULL)
		return;
	facts->callout = calloutask(k->callout, settings, facts->sender->text);
	check_judge(settings, facts, a, row, j_r);
}

bool check_spares_recipient(const struct settings *settings, const struct mailaddr *rcpt)
{
	return (bytes_equal_nocase(rcpt->local, LIT("postmaster")) || bytes_equal_nocase(rcpt->local, LIT("abuse"))) && route_is_ours(settings, rcpt);
}
