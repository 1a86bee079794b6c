/* test_checks - each check over facts, settings and answers, row by row; exemptions, lists and their sum, and which questions are asked. */
#include "unit.h"
#include "smtpd/policy/inside.h"

static struct bytes local_domains[] = { { "ours.example", 12 } }, taken_domains[] = { { ".backup.example", 15 } }, own_addresses[] = { { "198.51.100.5", 12 } };
static struct settings settings;
static struct mailaddr sender;

static int prepare(void **state)
{
	(void)state;
	settings = (struct settings){
		.me = LIT("mx.example"), .locals = { .at = local_domains, .count = 1 }, .rcpthosts = { .at = taken_domains, .count = 1 },
		.ownaddresses = { .at = own_addresses, .count = 1 }, .dnslistsscore = 2, .dnslistsreply = LIT("$what blocked using $list; $reason"),
	};
	return 0;
}

static struct check_facts facts_of(const char *ip, const char *helo, const char *from)
{
	struct check_facts f = { .helo = bytes_of(helo), .recipient = 1 };
	if (ip != NULL)
		assert_true(netaddr_parse(bytes_of(ip), &f.client));
	assert_true(netaddr_parse(LIT("203.0.113.9"), &f.server));
	if (from != NULL) {
		assert_int_equal(mailaddr_parse(bytes_of(from), &sender), ADDR_OK);
		f.sender = &sender;
	}
	return f;
}

static const struct check_row *row_of(const char *name)
{
	for (size_t i = 0; i < check_count; i++)
		if (strcmp(check_table[i].name, name) == 0)
			return &check_table[i];
	fail_msg("no check %s", name);
	return NULL;
}

static struct answer *answer_add(struct answers *a, enum dns_kind kind, const char *name, enum dns_status status)
{
	answers_want(a, kind, bytes_of(name));
	struct answer *one = (struct answer *)(uintptr_t)answers_find(a, kind, bytes_of(name));
	assert_non_null(one);
	one->answered = true;
	one->status = status;
	return one;
}

static void expect(const char *check, const struct check_facts *f, const struct answers *a, enum check_finding finding, unsigned code, const char *enhanced, const char *part)
{
	struct judgement j;
	check_judge(&settings, f, a, row_of(check), &j);
	if (j.finding != finding)
		fail_msg("%s: finding %d, expected %d: %s", check, j.finding, finding, j.text);
	if (finding != CHECK_FAILED && finding != CHECK_UNSURE)
		return;
	assert_int_equal(j.code, code);
	assert_string_equal(j.enhanced, enhanced);
	if (strstr(j.text, part) == NULL)
		fail_msg("%s: \"%s\" without \"%s\"", check, j.text, part);
}

static void test_helo(void **state)
{
	static const struct { const char *ip, *helo, *fault; } cases[] = {
		{ "192.0.2.1", "mail.example.org", NULL }, { "192.0.2.1", "xn--bcher-kva.example", NULL }, { "192.0.2.1", "[192.0.2.1]", NULL }, { "192.0.2.1", "[10.0.0.1]", NULL },
		{ "2001:db8::1", "[IPv6:2001:db8::1]", NULL }, { "192.0.2.1", "a.b.c.d.e.f.example", NULL },
		{ "192.0.2.1", "192.0.2.1", "in brackets" }, { "192.0.2.1", "2001:db8::1", "in brackets" }, { "192.0.2.1", "my_pc.example.org", "not a host name" },
		{ "192.0.2.1", "localhost", "not localhost" }, { "192.0.2.1", "LocalHost.LocalDomain", "not localhost" }, { "192.0.2.1", "a.localhost", "not localhost" },
		{ "192.0.2.1", "friend", "full name" }, { "192.0.2.1", "mx.example", "our own name" }, { "192.0.2.1", "MX.Example", "our own name" }, { "192.0.2.1", "ours.example", "our own name" },
		{ "192.0.2.1", "[198.51.100.5]", "our own address" }, { "192.0.2.1", "[203.0.113.9]", "our own address" }, { "192.0.2.1", "[127.0.0.1]", "our own address" },
		{ "2001:db8::1", "[IPv6:::1]", "our own address" }, { "192.0.2.1", "[192.0.2.1", "not an address literal" }, { "192.0.2.1", "[]", "not an address literal" },
		{ "192.0.2.1", "[mail.example.org]", "not an address literal" }, { "192.0.2.1", "mail.example.org.", "not a host name" }, { "192.0.2.1", ".example.org", "not a host name" },
		{ "192.0.2.1", "1.2.3.4.5", "not a host name" }, { "192.0.2.1", "300.2.3.4", "not a host name" }, { "192.0.2.1", "a?b.example", "not a host name" }, { "192.0.2.1", "-x.example", "not a host name" },
		{ "127.0.0.1", "localhost", NULL }, { "127.0.0.1", "mx.example", NULL }, { "::1", "[127.0.0.1]", NULL }, { "127.0.0.1", "friend", "full name" }, { NULL, "mx.example", NULL },
		{ "192.0.2.1", "", "not a host name" },
	};
	struct answers none = { 0 };
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct check_facts f = facts_of(cases[i].ip, cases[i].helo, NULL);
		const char *fault = helo_fault(&settings, &f);
		if ((fault != NULL) != (cases[i].fault != NULL) || (fault != NULL && strstr(fault, cases[i].fault) == NULL))
			fail_msg("%s from %s: %s", cases[i].helo, cases[i].ip, fault);
		expect("checkhelo", &f, &none, cases[i].fault != NULL ? CHECK_FAILED : CHECK_FINE, 550, "5.7.1", "Helo command rejected");
	}
}

static void test_without_dns(void **state)
{
	struct answers none = { 0 };
	struct check_facts f = facts_of("192.0.2.1", "a.example", "joe@else.example");
	(void)state;
	expect("checkearly", &f, &none, CHECK_FINE, 0, "", "");
	expect("checkpipelining", &f, &none, CHECK_FINE, 0, "", "");
	expect("checkours", &f, &none, CHECK_FINE, 0, "", "");
	f.early = f.hasty = true;
	expect("checkearly", &f, &none, CHECK_FAILED, 521, "5.5.1", "before the greeting");
	expect("checkpipelining", &f, &none, CHECK_FAILED, 554, "5.5.0", "pipelining");
	f = facts_of("192.0.2.1", "a.example", "joe@ours.example");
	expect("checkours", &f, &none, CHECK_FAILED, 553, "5.7.1", "<joe@ours.example>");
	f = facts_of("192.0.2.1", "a.example", "joe@x.backup.example");
	expect("checkours", &f, &none, CHECK_FAILED, 553, "5.7.1", "<joe@x.backup.example>");
	f = facts_of("192.0.2.1", "a.example", "");
	expect("checkours", &f, &none, CHECK_FINE, 0, "", "");
	expect("checkbounce", &f, &none, CHECK_FINE, 0, "", "");
	f.recipient = 2;
	expect("checkbounce", &f, &none, CHECK_FAILED, 550, "5.5.3", "one recipient");
	f = facts_of("192.0.2.1", "a.example", "joe@else.example");
	f.recipient = 2;
	expect("checkbounce", &f, &none, CHECK_FINE, 0, "", "");
}

static void test_names(void **state)
{
	static const struct { const char *check; enum dns_kind kind; const char *name; enum dns_status status; bool client, unsure; enum check_finding finding; unsigned code; const char *enhanced, *part; } cases[] = {
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_OK, true, false, CHECK_FINE, 0, "", "" },
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_OK, false, false, CHECK_FAILED, 550, "5.7.1", "not that of your address" },
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_NO_DOMAIN, false, false, CHECK_FAILED, 550, "5.7.1", "Host not found" },
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_NO_DATA, false, false, CHECK_FAILED, 550, "5.7.1", "Host not found" },
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_TEMPORARY, false, false, CHECK_UNSURE, 450, "4.4.3", "now" },
		{ "checkhelodns", DNS_ADDRESS, "a.example", DNS_BOGUS, false, false, CHECK_UNSURE, 450, "4.7.5", "now" },
		{ "checkreverse", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_OK, false, false, CHECK_FINE, 0, "", "" },
		{ "checkreverse", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_NO_DOMAIN, false, false, CHECK_FAILED, 550, "5.7.25", "[192.0.2.1] has no name" },
		{ "checkreverse", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_TEMPORARY, false, false, CHECK_UNSURE, 450, "4.4.3", "[192.0.2.1]" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_OK, true, false, CHECK_FINE, 0, "", "" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_OK, true, true, CHECK_FINE, 0, "", "" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_OK, false, false, CHECK_FAILED, 550, "5.7.25", "like host.example" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_OK, false, true, CHECK_UNSURE, 450, "4.4.3", "now" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_NO_DATA, false, false, CHECK_FAILED, 550, "5.7.25", "no name" },
		{ "checkforward", DNS_REVERSE, "1.2.0.192.in-addr.arpa", DNS_BOGUS, false, false, CHECK_UNSURE, 450, "4.7.5", "now" },
		{ "checksender", DNS_MAIL, "else.example", DNS_OK, false, false, CHECK_FINE, 0, "", "" },
		{ "checksender", DNS_MAIL, "else.example", DNS_NO_DOMAIN, false, false, CHECK_FAILED, 550, "5.1.8", "Domain not found" },
		{ "checksender", DNS_MAIL, "else.example", DNS_NO_DATA, false, false, CHECK_FAILED, 550, "5.1.8", "no host takes mail" },
		{ "checksender", DNS_MAIL, "else.example", DNS_MX_UNRESOLVED, false, false, CHECK_FAILED, 550, "5.1.8", "no host takes mail" },
		{ "checksender", DNS_MAIL, "else.example", DNS_NULL_MX, false, false, CHECK_FAILED, 550, "5.7.27", "null MX" },
		{ "checksender", DNS_MAIL, "else.example", DNS_TEMPORARY, false, false, CHECK_UNSURE, 450, "4.4.3", "<joe@else.example>" },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct answers a = { 0 };
		struct check_facts f = facts_of("192.0.2.1", "a.example", "joe@else.example");
		struct answer *one = answer_add(&a, cases[i].kind, cases[i].name, cases[i].status);
		one->has_client = cases[i].client;
		one->unsure = cases[i].unsure;
		memcpy(one->host, "host.example", sizeof "host.example");
		expect(cases[i].check, &f, &a, cases[i].finding, cases[i].code, cases[i].enhanced, cases[i].part);
		answers_free(&a);
	}
}

/* What needs no answer. */
static void test_names_without_dns(void **state)
{
	struct answers none = { 0 };
	struct check_facts f = facts_of("192.0.2.1", "[192.0.2.1]", "");
	(void)state;
	expect("checkhelodns", &f, &none, CHECK_FINE, 0, "", "");
	expect("checksender", &f, &none, CHECK_FINE, 0, "", "");
	f = facts_of("192.0.2.1", "[192.0.2.2]", "joe@[192.0.2.1]");
	expect("checkhelodns", &f, &none, CHECK_FAILED, 550, "5.7.1", "not your address");
	expect("checksender", &f, &none, CHECK_FINE, 0, "", "");
	f = facts_of("192.0.2.1", "a?b", "joe@ours.example");
	expect("checkhelodns", &f, &none, CHECK_FAILED, 550, "5.7.1", "Host not found");
	expect("checksender", &f, &none, CHECK_FINE, 0, "", "");
	/* No answer at all is the DNS's failure. */
	f = facts_of("192.0.2.1", "a.example", "joe@else.example");
	expect("checksender", &f, &none, CHECK_UNSURE, 450, "4.4.3", "now");
	expect("checkforward", &f, &none, CHECK_UNSURE, 450, "4.4.3", "now");
}

static void set_lines(struct lines *to, struct bytes *at, uint32_t *number, const char *const *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		at[i] = bytes_of(lines[i]);
		number[i] = (uint32_t)(10 + i);
	}
	*to = (struct lines){ .at = at, .number = number, .count = count };
}

static void test_exempt(void **state)
{
	static const char *const lines[] = { "192.0.2.0/24 checkearly", "2001:db8::/32", ".friend.example checkhelodns checksender", "client.example" };
	struct bytes at[COUNT(lines)];
	uint32_t number[COUNT(lines)];
	struct answers a = { 0 };
	struct judgement j;
	(void)state;
	set_lines(&settings.checkexempt, at, number, lines, COUNT(lines));
	struct check_facts f = facts_of("192.0.2.7", "friend", "joe@a.friend.example");
	f.early = f.hasty = true;
	expect("checkearly", &f, &a, CHECK_EXEMPT, 0, "", "");
	expect("checkpipelining", &f, &a, CHECK_FAILED, 554, "5.5.0", "");
	expect("checkhelo", &f, &a, CHECK_FAILED, 550, "5.7.1", "");
	expect("checksender", &f, &a, CHECK_EXEMPT, 0, "", "");
	expect("checkhelodns", &f, &a, CHECK_FAILED, 550, "5.7.1", "");
	check_judge(&settings, &f, &a, row_of("checksender"), &j);
	assert_int_equal(j.exempt_line, 12);
	f.helo = LIT("x.friend.example");
	expect("checkhelodns", &f, &a, CHECK_EXEMPT, 0, "", "");
	f.helo = LIT("friend.example");
	expect("checkhelodns", &f, &a, CHECK_FAILED, 550, "5.7.1", "");
	/* The verified name of the client exempts from everything, one that is only said from nothing. */
	struct answer *one = answer_add(&a, DNS_REVERSE, "7.2.0.192.in-addr.arpa", DNS_OK);
	memcpy(one->host, "client.example", sizeof "client.example");
	expect("checkpipelining", &f, &a, CHECK_FAILED, 554, "5.5.0", "");
	expect("checkforward", &f, &a, CHECK_EXEMPT, 0, "", "");
	one->has_client = true;
	expect("checkpipelining", &f, &a, CHECK_EXEMPT, 0, "", "");
	answers_free(&a);
	f = facts_of("2001:db8::5", "friend", "");
	expect("checkhelo", &f, &a, CHECK_EXEMPT, 0, "", "");
	settings.checkexempt = (struct lines){ 0 };
}

/* The answer by which somebody is exempt is kept, though it makes the check's own question needless: asked twice, as by check_learn, and at each recipient. */
static void test_exempt_by_own_answer(void **state)
{
	static const struct { const char *line; bool has_client; const char *check; struct bytes *setting; } cases[] = {
		{ "example.org", true, "checkreverse", &settings.checkreverse }, { "bad.example checkforward", false, "checkforward", &settings.checkforward },
		{ "example.org", true, "checksender", &settings.checksender }, { "example.org checkhelo", true, "checkhelo", &settings.checkhelo },
	};
	struct check_facts f = facts_of("192.0.2.7", "friend", "joe@else.example");
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bytes at[1];
		uint32_t number[1];
		struct answers a = { 0 };
		*cases[i].setting = LIT("reject");
		set_lines(&settings.checkexempt, at, number, &cases[i].line, 1);
		assert_true(check_exempts_by_name(&settings, row_of(cases[i].check)));
		assert_int_equal(check_exempts_by_name(&settings, row_of("checkours")), strchr(cases[i].line, ' ') == NULL);
		/* No resolver answers here: nobody is refused for good whom the name might exempt. */
		assert_true(check_learn(&settings, &f, false, &a, 1) > 0);
		expect(cases[i].check, &f, &a, CHECK_UNSURE, i == 3 ? 550 : 450, i == 3 ? "5.7.1" : "4.4.3", "");
		answers_free(&a);
		struct answer *one = answer_add(&a, DNS_REVERSE, "7.2.0.192.in-addr.arpa", DNS_OK);
		one->has_client = cases[i].has_client;
		snprintf(one->host, sizeof one->host, "%s", cases[i].has_client ? "example.org" : "bad.example");
		for (int rcpt = 0; rcpt < 2; rcpt++) {
			assert_int_equal(check_learn(&settings, &f, false, &a, 1), 0);
			expect(cases[i].check, &f, &a, CHECK_EXEMPT, 0, "", "");
		}
		answers_free(&a);
		*cases[i].setting = (struct bytes){ 0 };
	}
	settings.checkexempt = (struct lines){ 0 };
}

static void test_lists(void **state)
{
	static const char *const lines[] = { "bad.example 2", "wide.example =127.0.0.10-11 1", "wide.example =127.0.0.2 1", "good.example -1", "dom.example 1 helo sender", "rev.example 3 reverse" };
	static const struct { struct { const char *name, *value, *value2; } listed[3]; bool refused; const char *text; } cases[] = {
		{ { { NULL, NULL, NULL } }, false, "" },
		{ { { "1.2.0.192.bad.example", "127.0.0.2", NULL } }, true, "Client host [192.0.2.1] blocked using bad.example; because of bad.example" },
		{ { { "1.2.0.192.wide.example", "127.0.0.2", NULL } }, false, "" },
		{ { { "1.2.0.192.wide.example", "127.0.0.2", "127.0.0.11" } }, true, "blocked using wide.example" },
		{ { { "1.2.0.192.wide.example", "127.0.0.5", NULL } }, false, "" },
		{ { { "1.2.0.192.bad.example", "127.0.0.2", NULL }, { "1.2.0.192.good.example", "127.0.0.9", NULL } }, false, "" },
		{ { { "1.2.0.192.bad.example", "127.255.255.254", NULL } }, false, "" },
		{ { { "1.2.0.192.bad.example", "192.0.2.80", NULL } }, false, "" },
		{ { { "1.2.0.192.bad.example", "127.0.0.2", "192.0.2.80" } }, false, "" },
		{ { { "a.example.dom.example", "127.0.0.2", NULL } }, false, "" },
		{ { { "a.example.dom.example", "127.0.0.2", NULL }, { "else.example.dom.example", "127.0.0.2", NULL } }, true, "Helo name a.example blocked using dom.example" },
		{ { { "else.example.dom.example", "127.0.0.2", NULL }, { "1.2.0.192.wide.example", "127.0.0.2", NULL } }, true, "Client host [192.0.2.1] blocked using wide.example" },
	};
	struct bytes at[COUNT(lines)];
	uint32_t number[COUNT(lines)];
	(void)state;
	set_lines(&settings.dnslists, at, number, lines, COUNT(lines));
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct answers a = { 0 };
		struct check_facts f = facts_of("192.0.2.1", "a.example", "joe@else.example");
		for (size_t k = 0; k < 3 && cases[i].listed[k].name != NULL; k++) {
			struct answer *one = answer_add(&a, DNS_LIST, cases[i].listed[k].name, DNS_OK);
			assert_true(netaddr_parse(bytes_of(cases[i].listed[k].value), &one->value[one->values++]));
			if (cases[i].listed[k].value2 != NULL)
				assert_true(netaddr_parse(bytes_of(cases[i].listed[k].value2), &one->value[one->values++]));
			snprintf(one->text, sizeof one->text, "because of %s", strstr(one->name, "bad") != NULL ? "bad.example" : "it");
		}
		expect("checklists", &f, &a, cases[i].refused ? CHECK_FAILED : CHECK_FINE, 554, "5.7.1", cases[i].text);
		answers_free(&a);
	}
	settings.dnslists = (struct lines){ 0 };
}

/* Which questions the checks that are on ask; without one there is none. */
static void test_wants(void **state)
{
	static const char *const lines[] = { "bad.example 1", "bad.example =127.0.0.3 5", "dom.example 1 helo sender", "rev.example 1 reverse" };
	struct bytes at[COUNT(lines)];
	uint32_t number[COUNT(lines)];
	struct answers a = { 0 };
	struct check_facts f = facts_of("2001:db8::1", "a.example", "joe@else.example");
	(void)state;
	for (size_t i = 0; i < check_count; i++)
		assert_int_equal(check_action(&settings, &check_table[i]), ACTION_OFF);
	assert_int_equal(check_learn(&settings, &f, false, &a, 1), 0);
	assert_int_equal(a.count, 0);
	assert_null(a.at);
	set_lines(&settings.dnslists, at, number, lines, COUNT(lines));
	want_lists(&settings, &f, &a);
	assert_int_equal(a.count, 4);   /* a zone on two lines is asked once; by name not before the name is known */
	assert_non_null(answers_find(&a, DNS_LIST, LIT("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad.example")));
	assert_non_null(answers_find(&a, DNS_LIST, LIT("a.example.dom.example")));
	assert_non_null(answers_find(&a, DNS_LIST, LIT("else.example.dom.example")));
	struct answer *one = answer_add(&a, DNS_REVERSE, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", DNS_OK);
	one->has_client = true;
	memcpy(one->host, "host.example", sizeof "host.example");
	want_lists(&settings, &f, &a);
	assert_int_equal(a.count, 5);
	assert_non_null(answers_find(&a, DNS_LIST, LIT("host.example.rev.example")));
	/* Other facts: what belongs to the client stays. */
	f = facts_of("2001:db8::1", "b.example", "ann@other.example");
	answers_forget_wants(&a);
	want_lists(&settings, &f, &a);
	answers_drop_unwanted(&a);
	assert_null(answers_find(&a, DNS_LIST, LIT("a.example.dom.example")));
	assert_non_null(answers_find(&a, DNS_LIST, LIT("b.example.dom.example")));
	assert_true(answers_find(&a, DNS_REVERSE, bytes_of("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"))->answered);
	answers_free(&a);
	settings.dnslists = (struct lines){ 0 };
}

static void test_spared(void **state)
{
	static const struct { const char *rcpt; bool spared; } cases[] = {
		{ "postmaster@ours.example", true }, { "Abuse@ours.example", true }, { "postmaster@x.backup.example", true }, { "joe@ours.example", false }, { "postmaster@else.example", false },
		{ "abuse-x@ours.example", false },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mailaddr rcpt;
		assert_int_equal(mailaddr_parse(bytes_of(cases[i].rcpt), &rcpt), ADDR_OK);
		assert_int_equal(check_spares_recipient(&settings, &rcpt), cases[i].spared);
	}
}

static void test_callout(void **state)
{
	static struct bytes exempt[] = { { "friend.example checkcallout", 27 } };
	static uint32_t number[] = { 3 };
	struct callout_said said = { .verdict = CALLOUT_EXISTS, .host = "mx.else.example[192.0.2.9]", .text = "550 5.1.1 nobody" };
	struct answers none = { 0 };
	struct check_facts f = facts_of("192.0.2.1", "x.example", "joe@else.example");
	struct judgement j;
	(void)state;
	expect("checkcallout", &f, &none, CHECK_UNASKED, 0, "", "");
	f.callout = &said;
	expect("checkcallout", &f, &none, CHECK_FINE, 0, "", "");
	said.verdict = CALLOUT_UNASKED;
	expect("checkcallout", &f, &none, CHECK_FINE, 0, "", "");
	said.verdict = CALLOUT_NOBODY;
	expect("checkcallout", &f, &none, CHECK_FAILED, 550, "5.1.7", "<joe@else.example>: Sender address rejected: no such address; mx.else.example[192.0.2.9] says: 550 5.1.1 nobody");
	said.verdict = CALLOUT_NO_BOUNCES;
	expect("checkcallout", &f, &none, CHECK_FAILED, 550, "5.1.8", "takes no reports");
	said = (struct callout_said){ .verdict = CALLOUT_UNKNOWN, .text = "no time" };
	expect("checkcallout", &f, &none, CHECK_UNSURE, 450, "4.1.8", "cannot be verified now; no time");
	settings.calloutunknown = LIT("pass");
	check_judge(&settings, &f, &none, row_of("checkcallout"), &j);
	assert_true(j.finding == CHECK_UNSURE && j.passes);
	f = facts_of("192.0.2.1", "x.example", "joe@friend.example");
	f.callout = &said;
	settings.checkexempt = (struct lines){ .at = exempt, .count = 1, .number = number };
	expect("checkcallout", &f, &none, CHECK_EXEMPT, 0, "", "");
	/* Nobody is asked about these: no answer, and no socket that is missed. */
	static const char *const never[] = { "", "joe@ours.example", "joe@a.backup.example", "joe@[198.51.100.5]", "joe@[192.0.2.1]", "joe@friend.example" };
	for (size_t i = 0; i < COUNT(never); i++) {
		struct calloutask ask = { 0 };
		f = facts_of("192.0.2.1", "x.example", never[i]);
		check_decide(&settings, &f, &none, row_of("checkcallout"), &(struct check_asking){ .callout = &ask }, &j);
		assert_true(f.callout == NULL && !ask.asked);
		assert_true(j.finding == CHECK_FINE || j.finding == CHECK_EXEMPT);
	}
	settings.checkexempt = (struct lines){ 0 };
	settings.calloutunknown = (struct bytes){ 0 };
}

/* The table's promise: cheap first, and last what costs others something. */
static void test_order(void **state)
{
	(void)state;
	assert_string_equal(check_table[check_count - 1].name, "checkcallout");
	for (size_t i = 1; i < check_count - 1; i++)
		assert_true(check_table[i - 1].want == NULL || check_table[i].want != NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_helo), cmocka_unit_test(test_without_dns), cmocka_unit_test(test_names), cmocka_unit_test(test_names_without_dns), cmocka_unit_test(test_exempt), cmocka_unit_test(test_exempt_by_own_answer),
		cmocka_unit_test(test_lists), cmocka_unit_test(test_wants), cmocka_unit_test(test_spared), cmocka_unit_test(test_callout), cmocka_unit_test(test_order),
	};
	return cmocka_run_group_tests_name("checks", tests, prepare, NULL);
}
