/*
 * tappal_session - `tappal session`: what smtpd would say to a client, without one. Room: queue, the operator's own uid.
 *
 * The decisions are smtpd's own objects (access, submission, policy/checks), in smtpd's order (checkwhen), and guard's answers to a question that it does not count.
 * The resolver, guard and callout answer root alone; for others what the DNS or a callout would say is a temporary failure. Milters are named and not asked.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/keylist.h"
#include "common/milterline.h"
#include "common/paths.h"
#include "common/route.h"
#include "foresee.h"
#include "show.h"
#include "smtpd/ask/guardreply.h"
#include "smtpd/session/access.h"
#include "smtpd/policy/checks.h"
#include "smtpd/session/submission.h"
#include "tappal.h"

#define STEPS_MAX 64u
#define LINE_WORDS 300

struct step {
	const char *what, *verdict;
	char by[LINE_WORDS];             /* the file and line that decided */
	char said[500];                  /* the reply, or the reason */
};

struct query {
	struct settings settings;
	struct access access;
	struct check_facts facts;
	struct str sender_text, rcpt_text;
	struct mailaddr sender, rcpt;
	const char *ip, *helo, *from, *to, *login;
	bool json, guard_away, early;    /* early: checkwhen */
	struct answers answers;
	struct calloutask callout;
	struct step step[STEPS_MAX];
	size_t steps;
	const struct step *refused;      /* the first that does: smtpd would have asked no further */
};

/* ---- the question */

static void take_option(struct query *q, int option)
{
	switch (option) {
	case 'i': q->ip = optarg; break;
	case 'h': q->helo = optarg; break;
	case 'f': q->from = optarg; break;
	case 't': q->to = optarg; break;
	case 'a': q->login = optarg; break;
	case 'j': q->json = true; break;
	default: tool_usage("there is no option %s, or it wants a value; see `tappal help`", show_text(bytes_of(optarg)));
	}
}

static void read_arguments(struct query *q, int argc, char **argv)
{
	static const struct option options[] = {
		{ "ip", required_argument, NULL, 'i' }, { "helo", required_argument, NULL, 'h' }, { "from", required_argument, NULL, 'f' },
		{ "to", required_argument, NULL, 't' }, { "auth", required_argument, NULL, 'a' }, { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 },
	};
	int option;

	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == ':' || option == '?')
			optarg = argv[optind - 1];
		take_option(q, option);
	}
	if (argv[optind] != NULL || q->ip == NULL || q->helo == NULL || q->from == NULL || q->to == NULL)
		tool_usage("tappal session --ip ADDRESS --helo NAME --from ADDRESS --to ADDRESS [--auth LOGIN] [--json]");
}

static void load(struct query *q)
{
	struct str faults = STR_INIT(1 << 20);

	if (!settings_load(&q->settings, path_etc, USED_TOOLS, &faults)) {
		fprintf(stderr, "%s", str_c(&faults));
		tool_usage("the settings have faults; correct them, or use `tappal config set`");
	}
	str_free(&faults);
	if (!access_init(&q->access, &q->settings))
		tool_stop("out of memory");
	q->early = bytes_equal(q->settings.checkwhen, LIT("early"));
}

/* As smtpd reads it from MAIL and RCPT: what guard and callout remember goes by that spelling. */
static bool read_address(const char *text, struct str *canonical, struct mailaddr *addr_r)
{
	struct str path = STR_INIT(PATH_MAX_OCTETS + 2);
	size_t used = 0;
	bool good = str_add_char(&path, '<') && str_add_c(&path, text) && str_add_char(&path, '>')
		&& mailaddr_parse_path(str_bytes(&path), true, canonical, addr_r, &used) == ADDR_OK && used == path.len && addr_r->kind != ADDR_BARE;

	str_free(&path);
	return good;
}

static void understand(struct query *q)
{
	str_init(&q->sender_text, ADDRESS_MAX);
	str_init(&q->rcpt_text, ADDRESS_MAX);
	if (!netaddr_parse(bytes_of(q->ip), &q->facts.client))
		tool_usage("--ip %s is no IP address", show_text(bytes_of(q->ip)));
	if (!read_address(q->from, &q->sender_text, &q->sender))
		tool_usage("--from %s is no address; write user@domain, or an empty word for a bounce", show_text(bytes_of(q->from)));
	if (!read_address(q->to, &q->rcpt_text, &q->rcpt) || q->rcpt.kind == ADDR_NULL)
		tool_usage("--to %s is no address; write user@domain", show_text(bytes_of(q->to)));
	q->facts.helo = bytes_of(q->helo);
	q->facts.sender = &q->sender;
	q->facts.recipient = 1;
}

/* ---- the steps */

static struct step *add(struct query *q, const char *what, const char *verdict)
{
	struct step *s = &q->step[q->steps < STEPS_MAX - 1 ? q->steps++ : q->steps];

	*s = (struct step){ .what = what, .verdict = verdict };
	return s;
}

/* Where a setting stands; line 0: the whole file. */
static void decided_by(struct step *s, const char *setting, uint32_t line)
{
	char path[LINE_WORDS];
	int n = snprintf(path, sizeof(path), "%s/%s", path_etc, setting);
	bool there = n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0;

	if (!there)
		snprintf(s->by, sizeof(s->by), "%.100s (default)", setting);
	else
		snprintf(s->by, sizeof(s->by), "%.250s:%u", path, line > 0 ? line : 1);
}

static void refuse(struct query *q, struct step *s, const char *reply)
{
	snprintf(s->said, sizeof(s->said), "%s", reply);
	if (q->refused == NULL)
		q->refused = s;
}

static uint32_t line_of(const struct lines *list, size_t i)
{
	return i < list->count && list->number != NULL ? list->number[i] : 0;
}

/* The block of a list like `clients` that has the client; 0: none. */
static uint32_t client_line(const struct query *q, const struct lines *blocks)
{
	struct netblock block;

	for (size_t i = 0; i < blocks->count; i++)
		if (netblock_parse(blocks->at[i], &block) && netblock_contains(&block, &q->facts.client))
			return line_of(blocks, i);
	return 0;
}

/* Once is enough to say so. */
static void step_guard_away(struct query *q)
{
	struct step *s = add(q, "guard", "away");

	q->guard_away = true;
	snprintf(s->said, sizeof(s->said), "%s", geteuid() != 0 ? "guard answers root alone" : "guard does not answer: sessions go on without limits, bans and greylisting");
}

/* What it remembers of network, sender and recipient. */
static void step_grey_memory(struct query *q, const struct guard_answer *a)
{
	bool waits = a->verdict != GUARD_GO;
	struct step *s = add(q, "greylist memory", a->count == 0 ? waits ? "new" : "exempt" : waits ? "waiting" : "known");

	decided_by(s, a->count == 0 && !waits ? "greylistexempt" : "greylist", 0);
	if (waits)
		snprintf(s->said, sizeof(s->said), a->count == 0 ? "its network has not sent from this sender to this recipient" : "it was told to come again");
	else if (a->count > 0)
		snprintf(s->said, sizeof(s->said), a->what == ROW_NETWORK ? "its network has come again often enough (greylistallow)" : "it has come again");
}

static void step_guard_refused(struct query *q, const char *what, const struct guard_peek *peek, const struct guard_answer *a, const struct guard_reply *r, struct str *text)
{
	struct step *s = add(q, what, r->only_logged ? "log" : r->ends_session ? "hang up" : "defer");
	char reply[440];

	snprintf(reply, sizeof(reply), "%u %s %.*s%s%s", r->code, r->enhanced, r->ends_session ? (int)q->settings.me.len : 0, q->settings.me.at, r->ends_session ? " " : "",
		str_c(text));
	decided_by(s, r->check, a->verdict == GUARD_OVER ? foresee_line(&q->settings.limits, peek, a) : 0);
	if (r->only_logged)
		snprintf(s->said, sizeof(s->said), "%s", reply);
	else
		refuse(q, s, reply);
}

static void step_guard(struct query *q, enum guard_event event, const char *what, bool may_relay)
{
	const char *name = check_client_name(&q->facts, &q->answers);
	bool has_login = q->login != NULL && event != GUARD_CONNECT;
	const struct guard_peek peek = { .event = (uint8_t)event, .relay = may_relay, .client = bytes_of(q->ip), .name = bytes_of(name), .sender = q->sender.text,
		.login = has_login ? bytes_of(q->login) : (struct bytes){ NULL, 0 }, .recipient = q->rcpt.text };
	struct str text = STR_INIT(400);
	struct guard_answer a;
	struct guard_reply r;
	bool greylists = event == GUARD_RCPT && q->login == NULL && !may_relay && !bytes_equal(q->settings.greylist, LIT("off"));

	if (q->guard_away || !guard_needs_event(&q->access.guard, has_login, may_relay, event))
		return;
	if (!foresee(&peek, &a)) {
		step_guard_away(q);
		return;
	}
	if (greylists && a.verdict != GUARD_OVER)
		step_grey_memory(q, &a);
	if (guardreply_of(event, &a, &r, &text))
		step_guard_refused(q, what, &peek, &a, &r, &text);
	else if (a.verdict == GUARD_TARPIT)
		snprintf(add(q, what, "late")->said, sizeof(q->step[0].said), "answered %u ms late (tarpitafter %llu)", a.delay_ms, (unsigned long long)a.limit);
	else
		snprintf(add(q, what, "pass")->said, sizeof(q->step[0].said), "nothing is over its limit");
	str_free(&text);
}

static void step_reports(struct query *q, bool may_relay)
{
	bool listed = access_in(&q->access.dsns, &q->facts.client);
	struct step *s = add(q, "reports", may_relay || listed ? "pass" : "none");

	if (may_relay) {
		snprintf(s->said, sizeof(s->said), "who may relay may ask for them (DSN)");
		return;
	}
	decided_by(s, "dsnfrom", listed ? client_line(q, &q->settings.dsnfrom) : 0);
	snprintf(s->said, sizeof(s->said), listed ? "the client may ask for them (DSN)" : "DSN is not announced; NOTIFY, ORCPT, RET and ENVID get 555 5.5.4");
}

static void step_sender(struct query *q)
{
	struct step *s;

	if (q->login == NULL)
		return;
	if (submission_owns(&q->settings, bytes_of(q->login), &q->sender)) {
		s = add(q, "sender's owner", "pass");
		snprintf(s->said, sizeof(s->said), "%.100s may send as it", q->login);
	} else {
		s = add(q, "sender's owner", "reject");
		refuse(q, s, "553 5.7.1 Sender address rejected: not owned by user");
	}
	decided_by(s, "senderlogins", 0);
}

static void decided_by_domain(const struct query *q, struct step *s)
{
	const struct settings *t = &q->settings;
	size_t local = keylist_find(&t->locals, q->rcpt.domain), virtual = keylist_find_domain(&t->virtualdomains, q->rcpt.domain);
	size_t taken = keylist_find_domain(&t->rcpthosts, q->rcpt.domain);

	if (local < t->locals.count)
		decided_by(s, "locals", line_of(&t->locals, local));
	else if (virtual < t->virtualdomains.count)
		decided_by(s, "virtualdomains", line_of(&t->virtualdomains, virtual));
	else
		decided_by(s, "rcpthosts", line_of(&t->rcpthosts, taken));
}

static void step_relay(struct query *q, bool may_relay)
{
	bool ours = route_is_ours(&q->settings, &q->rcpt);
	struct step *s = add(q, "relay", may_relay || ours ? "pass" : "reject");

	if (ours) {
		decided_by_domain(q, s);
		snprintf(s->said, sizeof(s->said), "mail for this domain is taken from anybody");
	} else if (q->login != NULL) {
		snprintf(s->by, sizeof(s->by), "login");
		snprintf(s->said, sizeof(s->said), "%.100s has logged in", q->login);
	} else if (may_relay) {
		decided_by(s, "clients", client_line(q, &q->settings.clients));
		snprintf(s->said, sizeof(s->said), "the client may relay anywhere");
	} else {
		decided_by(s, "rcpthosts", 0);
		refuse(q, s, "554 5.7.1 Relay access denied");
	}
}

/* False: there is none such, which guard counts. */
static bool step_recipient(struct query *q, bool may_relay)
{
	enum access_result result = access_check(&q->access, may_relay, &q->rcpt);
	struct step *s;

	if (result == ACCESS_RELAY)
		return true;
	s = add(q, "recipient", result == ACCESS_OK ? "pass" : result == ACCESS_UNKNOWN ? "reject" : "defer");
	if (result == ACCESS_UNKNOWN)
		refuse(q, s, "550 5.1.1 Recipient address rejected: User unknown");
	else if (result != ACCESS_OK)
		refuse(q, s, "451 4.3.0 Recipient address rejected: cannot look it up now");
	else
		snprintf(s->said, sizeof(s->said), "there is such a mailbox, or it goes to another host");
	return result != ACCESS_UNKNOWN;
}

static void step_failed(struct query *q, const struct check_row *row, const struct judgement *j)
{
	enum check_action action = check_action(&q->settings, row);
	bool temporary = j->finding == CHECK_UNSURE || action == ACTION_DEFER;
	bool logged = action == ACTION_LOG || j->passes;
	struct step *s = add(q, row->name, logged ? "log" : temporary ? "defer" : "reject");
	char reply[440];

	snprintf(reply, sizeof(reply), "%u %c%s %s", temporary ? 450 : j->code, temporary ? '4' : j->enhanced[0], j->enhanced + 1, j->text);
	decided_by(s, row->name, 0);
	if (logged)
		snprintf(s->said, sizeof(s->said), "%s", reply);
	else
		refuse(q, s, reply);
}

/* It looks at what a client does in time, which is not known here; j_r: what it would say to one that does it, CHECK_EXEMPT where it would not. What smtpd asks
 * for about such a one is not known of the others: they have no name by it. */
static bool depends_on_behaviour(const struct query *q, const struct check_row *row, struct judgement *j_r)
{
	struct check_facts badly = q->facts;
	struct check_asking asking = { 0 };
	struct answers answers = { 0 };

	badly.early = badly.hasty = true;
	check_judge(&q->settings, &badly, &q->answers, row, j_r);
	if (j_r->finding == CHECK_FINE)
		return false;
	check_decide(&q->settings, &badly, &answers, row, &asking, j_r);
	answers_free(&answers);
	return j_r->finding != CHECK_EXEMPT;
}

static void step_depends(struct query *q, const struct check_row *row, const struct judgement *j)
{
	enum check_action action = check_action(&q->settings, row);
	bool temporary = j->finding == CHECK_UNSURE || action == ACTION_DEFER;
	struct step *s = add(q, row->name, "depends");

	decided_by(s, row->name, 0);
	snprintf(s->said, sizeof(s->said), "on what the client does; if it does that, %s: %u %s %s",
		action == ACTION_LOG ? "the log has" : temporary ? "it gets a temporary failure" : "it gets", j->code, j->enhanced, j->text);
}

static void step_check(struct query *q, const struct check_row *row, struct check_asking *asking)
{
	struct judgement j;
	struct step *s;

	if (check_action(&q->settings, row) == ACTION_OFF) {
		decided_by(add(q, row->name, "off"), row->name, 0);
		return;
	}
	asking->callout = q->refused == NULL ? &q->callout : NULL;
	check_decide(&q->settings, &q->facts, &q->answers, row, asking, &j);
	if (j.finding == CHECK_FAILED || j.finding == CHECK_UNSURE) {
		step_failed(q, row, &j);
		return;
	}
	if (j.finding == CHECK_FINE && depends_on_behaviour(q, row, &j)) {
		step_depends(q, row, &j);
		return;
	}
	s = add(q, row->name, j.finding == CHECK_EXEMPT ? "exempt" : j.finding == CHECK_UNASKED ? "none" : "pass");
	if (j.finding == CHECK_UNASKED)
		snprintf(s->said, sizeof(s->said), "nobody is called for who is refused before");
	else if (q->facts.callout != NULL)   /* the last row's: no other one has it */
		snprintf(s->said, sizeof(s->said), "%.110s: %.300s", q->facts.callout->host, q->facts.callout->text);
	decided_by(s, j.finding == CHECK_EXEMPT ? "checkexempt" : row->name, j.exempt_line);
}

static void step_checks(struct query *q, enum check_stage from, enum check_stage to)
{
	struct check_asking asking = { 0 };

	for (size_t i = 0; i < check_count; i++)
		if (check_table[i].stage >= from && check_table[i].stage <= to)
			step_check(q, &check_table[i], &asking);
}

/* Why nothing of the client is checked but what is judged when it connects, whoever he says he is; NULL: it is. */
static const char *unchecked(const struct query *q, bool relays)
{
	if (relays)
		return "clients that may relay are not checked";
	if (q->login == NULL)
		return NULL;
	return q->early ? "who has logged in is not checked; a listener for submission checks nobody, one for relay judges EHLO before the login (checkwhen early)"
		: "who has logged in is not checked; a listener for submission checks nobody";
}

static void step_checks_at_rcpt(struct query *q, const char *unchecked)
{
	const char *why = unchecked == NULL && check_spares_recipient(&q->settings, &q->rcpt) ? "postmaster and abuse hear from everybody" : unchecked;

	if (why != NULL)
		snprintf(add(q, "checks", "none")->said, sizeof(q->step[0].said), "%s", why);
	else
		step_checks(q, q->early ? STAGE_AT_RCPT : STAGE_AT_HELO, STAGE_AT_RCPT);
}

static void step_milters(struct query *q)
{
	const struct lines *milters = &q->settings.milters;
	struct milter_line m;

	for (size_t i = 0; i < milters->count; i++) {
		if (!milter_line_parse(milters->at[i], &m))
			continue;
		struct step *s = add(q, "milter", "not asked");
		decided_by(s, "milters", line_of(milters, i));
		snprintf(s->said, sizeof(s->said), "smtpd asks %s from the connection to the end of the message; when it is away: %s", show_text(m.name),
			m.when_away == MILTER_ACCEPT ? "mail is accepted" : m.when_away == MILTER_REJECT ? "550 5.7.1" : "451 4.7.1");
	}
}

static void step_filters(struct query *q)
{
	const struct lines *filters = &q->settings.filters;

	for (size_t i = 0; i < filters->count; i++) {
		struct step *s = add(q, "filter", "not asked");
		decided_by(s, "filters", line_of(filters, i));
		snprintf(s->said, sizeof(s->said), "filterd runs %.200s when the message is whole; when it cannot: 451 4.3.0", show_text(filters->at[i]));
	}
}

static void decide(struct query *q)
{
	bool relays = access_client_may_relay(&q->access, &q->facts.client), may_relay = relays || q->login != NULL;
	const char *why = unchecked(q, relays);

	if (q->settings.clientnames && !relays)
		(void)check_learn(&(struct settings){ 0 }, &q->facts, true, &q->answers, deadline_in(clock_monotonic_ms(), q->settings.checktimeout * SECOND_MS));
	step_guard(q, GUARD_CONNECT, "guard at CONNECT", relays);
	if (!relays)
		step_checks(q, STAGE_AT_CONNECT, STAGE_AT_CONNECT);
	if (q->early && why == NULL)
		step_checks(q, STAGE_AT_HELO, STAGE_AT_HELO);
	step_reports(q, may_relay);
	step_sender(q);
	step_guard(q, GUARD_MAIL, "guard at MAIL", may_relay);
	if (q->early && why == NULL)
		step_checks(q, STAGE_AT_MAIL, STAGE_AT_MAIL);
	step_relay(q, may_relay);
	if (step_recipient(q, may_relay))
		step_guard(q, GUARD_RCPT, "guard at RCPT", may_relay);
	else
		step_guard(q, GUARD_UNKNOWN, "unknown recipient", may_relay);
	step_checks_at_rcpt(q, why);
	step_milters(q);
	step_filters(q);
}

/* ---- the answer */

static const char *status_name(enum dns_status status)
{
	static const char *const names[] = {
		[DNS_OK] = "found", [DNS_NO_DOMAIN] = "no such name", [DNS_NO_DATA] = "no such record", [DNS_NULL_MX] = "null MX",
		[DNS_TEMPORARY] = "temporary failure", [DNS_BOGUS] = "DNSSEC failure", [DNS_MX_UNRESOLVED] = "exchangers without addresses",
	};

	return names[status];
}

static const char *kind_name(enum dns_kind kind)
{
	static const char *const names[] = { [DNS_MAIL] = "MX", [DNS_ADDRESS] = "A, AAAA", [DNS_REVERSE] = "PTR", [DNS_LIST] = "list" };

	return names[kind];
}

static void write_details(const struct answer *a, struct str *out)
{
	char ip[NETADDR_TEXT];

	if (a->kind == DNS_REVERSE && a->status == DNS_OK)
		str_addf(out, "%s%s", a->host, a->has_client ? ", which has this address" : "");
	else if (a->kind == DNS_ADDRESS && a->status == DNS_OK)
		str_add_c(out, a->has_client ? "this address is among them" : "this address is not among them");
	for (size_t i = 0; i < a->values; i++) {
		netaddr_format(&a->value[i], ip);
		str_addf(out, "%s ", ip);
	}
	if (a->text[0] != '\0')
		str_add_c(out, a->text);
}

static void print_dns(const struct query *q)
{
	static const struct show_column columns[] = {
		{ "ASKED", 8, false, false }, { "NAME", 0.4, false, false }, { "ANSWER", 0.2, false, false }, { "", 0.4, false, false },
	};
	struct show_table *table = q->answers.count > 0 ? show_table_new(columns, 4, true) : NULL;
	struct str details = STR_INIT(2000);

	for (size_t i = 0; table != NULL && i < q->answers.count; i++) {
		const struct answer *a = &q->answers.at[i];

		str_clear(&details);
		write_details(a, &details);
		show_table_row(table, (struct bytes[4]){ bytes_of(kind_name(a->kind)), bytes_of(a->name), bytes_of(status_name(a->status)), str_bytes(&details) });
	}
	if (table != NULL) {
		putchar('\n');
		show_table_print(table);
	}
	str_free(&details);
}

static void print_steps(const struct query *q)
{
	static const struct show_column columns[] = {
		{ "STEP", 16, false, false }, { "VERDICT", 8, false, false }, { "DECIDED BY", 0.3, false, false }, { "WHY", 0.5, false, false },
	};
	struct show_table *table = show_table_new(columns, 4, true);

	if (table == NULL)
		tool_stop("out of memory");
	for (size_t i = 0; i < q->steps; i++) {
		const struct step *s = &q->step[i];

		show_table_row(table, (struct bytes[4]){ bytes_of(s->what), bytes_of(s->verdict), bytes_of(s->by), bytes_of(s->said) });
	}
	show_table_print(table);
	print_dns(q);
	printf("\n%s\n", q->refused != NULL ? show_text(bytes_of(q->refused->said)) : "250 2.1.5 Ok");
}

static json_t *json_dns(const struct answer *a)
{
	json_t *o = json_object();
	struct str details = STR_INIT(2000);

	write_details(a, &details);
	json_object_set_new(o, "asked", show_json(bytes_of(kind_name(a->kind))));
	json_object_set_new(o, "name", show_json(bytes_of(a->name)));
	json_object_set_new(o, "answer", show_json(bytes_of(status_name(a->status))));
	json_object_set_new(o, "details", show_json(str_bytes(&details)));
	str_free(&details);
	return o;
}

static void print_json(const struct query *q)
{
	json_t *o = json_object(), *steps = json_array(), *dns = json_array();

	for (size_t i = 0; i < q->steps; i++) {
		json_t *one = json_object();

		json_object_set_new(one, "step", show_json(bytes_of(q->step[i].what)));
		json_object_set_new(one, "verdict", show_json(bytes_of(q->step[i].verdict)));
		json_object_set_new(one, "decided_by", show_json(bytes_of(q->step[i].by)));
		json_object_set_new(one, "why", show_json(bytes_of(q->step[i].said)));
		json_array_append_new(steps, one);
	}
	for (size_t i = 0; i < q->answers.count; i++)
		json_array_append_new(dns, json_dns(&q->answers.at[i]));
	json_object_set_new(o, "steps", steps);
	json_object_set_new(o, "dns", dns);
	json_object_set_new(o, "reply", show_json(q->refused != NULL ? bytes_of(q->refused->said) : LIT("250 2.1.5 Ok")));
	json_object_set_new(o, "accepted", json_boolean(q->refused == NULL));
	show_json_line(o);
}

int command_session(int argc, char **argv)
{
	static struct query q;

	read_arguments(&q, argc, argv);
	understand(&q);
	load(&q);
	(void)signal(SIGPIPE, SIG_IGN);     /* a resolver that turns us away */
	decide(&q);
	if (geteuid() != 0 && (q.answers.count > 0 || q.callout.asked))
		tool_say("the resolver answers root alone, and callout: what they were asked counts as a temporary failure");
	if (q.json)
		print_json(&q);
	else
		print_steps(&q);
	answers_free(&q.answers);
	access_free(&q.access);
	str_free(&q.sender_text);
	str_free(&q.rcpt_text);
	settings_free(&q.settings);
	return q.refused == NULL ? EXIT_OK : EXIT_NOTHING;
}
