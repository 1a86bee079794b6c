/* test_guard - limits and their exceptions, bans, greylisting, connections at a time, and rows in bounded memory; with a clock of its own. */
#include "unit.h"
#include "smtpd/guard/counts.h"
#include "smtpd/guard/grey.h"
#include "smtpd/guard/present.h"

#include "common/log.h"

#define ROWS 2000u
#define HOUR ((wall_ms_t)3600 * SECOND_MS)

static struct {
	struct keys keys;
	struct table *table;
	struct rules rules;
	struct settings settings;
	struct counts counts;
	struct grey grey;
	uint64_t domain[DOMAINS_COUNTED];
	struct bytes line[16];
	uint32_t number[16];
} g;

static struct netaddr address(const char *text)
{
	struct netaddr a;
	assert_true(netaddr_parse(bytes_of(text), &a));
	return a;
}

/* A guard with these limits, lines ended by "\n". */
static void begin(const char *limits)
{
	struct bytes rest = bytes_of(limits);
	memset(&g, 0, sizeof g);
	g.settings = (struct settings){ .bantime = 3600, .unknownwindow = 600, .tarpitdelay = 5, .greylist = LIT("defer"), .greylistdelay = 300,
		.greylistwindow = 7200, .greylistlifetime = 86400, .greylistallow = 2, .limits = { .at = g.line, .number = g.number } };
	while (rest.len > 0)
		g.line[g.settings.limits.count++] = bytes_cut(&rest, '\n');
	g.table = table_new(ROWS);
	assert_non_null(g.table);
	assert_true(rules_init(&g.rules, &g.settings.limits));
	g.counts = (struct counts){ g.table, &g.keys, &g.rules, &g.settings, .peek = false };
	g.grey = (struct grey){ g.table, &g.keys, &g.settings };
}

static void end(void)
{
	rules_free(&g.rules);
	table_free(g.table);
}

static struct visitor visitor(const char *ip, const char *login)
{
	return (struct visitor){ .client = address(ip), .login = bytes_of(login), .domain = g.domain, .here_address = 1, .here_network = 1 };
}

static struct guard_answer event(const char *ip, const char *login, enum guard_event e, const char *domain, wall_ms_t now)
{
	struct visitor v = visitor(ip, login);
	if (e == GUARD_MAIL)
		memset(g.domain, 0, sizeof g.domain);
	return counts_event(&g.counts, &v, e, bytes_of(domain), now);
}

#define assert_goes(answer) assert_int_equal((answer).verdict, GUARD_GO)
#define assert_over(answer, s, w) do { struct guard_answer a_ = (answer); assert_int_equal(a_.verdict, GUARD_OVER); \
	assert_int_equal(a_.subject, s); assert_int_equal(a_.what, w); } while (0)

/* ---- the grammar */

static void test_grammar(void **state)
{
	static const char *const good[] = { "address connections 20", "network connections 100/1m", "login octets 10G/1d", "domain messages 5K/1w .example.org",
		"address errors none 2001:db8::/32", "address\tmessages  7/30s  192.0.2.1", "login recipients none news" };
	static const char *const bad[] = { "", "address", "address connections", "address connections 0", "address messages 20", "address messages 20/", "address messages 20/1",
		"address messages 20/0h", "address messages x/1h", "address messages 20/1h 192.0.2.1/24", "address messages 20/1h a b", "login connections 3", "domain errors 3/1h",
		"domain octets 3/1h", "host messages 3/1h", "address messages -1/1h", "address messages 18446744073709551615/1h", "address messages 3/99999w",
		"domain messages 3/1h a..b", "address messages none/1h", "address messages K/1h", "login messages 3/h" };
	struct limit l;
	const char *why;
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct bytes exact = unit_exact(bytes_of(good[i]));
		if (!limit_parse(exact, &l, &why))
			fail_msg("%s: %s", good[i], why);
		unit_free(exact);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct bytes exact = unit_exact(bytes_of(bad[i]));
		if (limit_parse(exact, &l, &why))
			fail_msg("\"%s\" was taken", bad[i]);
		unit_free(exact);
	}
	assert_true(limit_parse(LIT("login octets 10G/1d joe"), &l, &why));
	assert_int_equal(l.count, (uint64_t)10 << 30);
	assert_int_equal(l.window_s, 86400);
	assert_bytes(l.who, "joe");
}

static void test_clientlist(void **state)
{
	struct bytes at[] = { LIT("192.0.2.0/24"), LIT("example.org"), LIT(".example.net") };
	struct lines list = { .at = at, .count = COUNT(at) };
	struct netaddr in = address("192.0.2.7"), out = address("198.51.100.7"), none = { 0 };
	(void)state;
	assert_true(clientlist_has(&list, &in, (struct bytes){ NULL, 0 }));
	assert_false(clientlist_has(&list, &out, (struct bytes){ NULL, 0 }));
	assert_true(clientlist_has(&list, &out, LIT("example.org")));
	assert_false(clientlist_has(&list, &out, LIT("mx.example.org")));
	assert_true(clientlist_has(&list, &out, LIT("mx.example.net")));
	assert_false(clientlist_has(&list, &none, (struct bytes){ NULL, 0 }));
	assert_true(clientlist_line_valid(LIT("xn--p1ai")));
	assert_false(clientlist_line_valid(LIT("192.0.2.300")));
	assert_false(clientlist_line_valid(LIT("192.0.2.1/24")));
}

/* ---- limits */

static void test_window(void **state)
{
	struct guard_answer a;
	(void)state;
	begin("address messages 3/1h");
	for (int i = 0; i < 3; i++)
		assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1000));
	a = event("192.0.2.1", "", GUARD_MAIL, "", 1000 + HOUR / 2);
	assert_over(a, LIMIT_ADDRESS, LIMIT_MESSAGES);
	assert_int_equal(a.count, 4);
	assert_int_equal(a.limit, 3);
	assert_int_equal(a.window_s, 3600);
	assert_int_equal(a.wait_s, 1800);
	assert_over(event("192.0.2.1", "", GUARD_MAIL, "", 999 + HOUR), LIMIT_ADDRESS, LIMIT_MESSAGES);
	assert_goes(event("192.0.2.2", "", GUARD_MAIL, "", 1000));
	assert_goes(event("192.0.2.1", "joe", GUARD_MAIL, "", 1000));         /* who has told who he is */
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1000 + HOUR));     /* what was refused made it no longer */
	end();
}

static void test_subjects(void **state)
{
	(void)state;
	begin("network connections 2/1m\nlogin recipients 2/1d\ndomain messages 1/1h\ndomain recipients 3/1h");
	assert_goes(event("192.0.2.1", "", GUARD_CONNECT, "", 1));
	assert_goes(event("192.0.2.200", "", GUARD_CONNECT, "", 1));
	assert_over(event("192.0.2.3", "", GUARD_CONNECT, "", 1), LIMIT_NETWORK, LIMIT_CONNECTIONS);
	assert_goes(event("192.0.3.3", "", GUARD_CONNECT, "", 1));
	assert_goes(event("2001:db8::1", "", GUARD_CONNECT, "", 1));
	assert_goes(event("2001:db8::2", "", GUARD_CONNECT, "", 1));
	assert_over(event("2001:db8::3", "", GUARD_CONNECT, "", 1), LIMIT_NETWORK, LIMIT_CONNECTIONS);
	assert_goes(event("2001:db8:0:1::3", "", GUARD_CONNECT, "", 1));
	assert_goes(event("192.0.2.1", "joe", GUARD_MAIL, "", 1));
	assert_goes(event("192.0.2.1", "joe", GUARD_RCPT, "example.org", 1));
	assert_goes(event("192.0.2.1", "joe", GUARD_RCPT, "example.org", 1));    /* one message */
	assert_over(event("198.51.100.1", "joe", GUARD_RCPT, "example.net", 1), LIMIT_LOGIN, LIMIT_RECIPIENTS);
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1));
	assert_over(event("192.0.2.1", "", GUARD_RCPT, "example.org", 1), LIMIT_DOMAIN, LIMIT_MESSAGES);
	end();
	begin("domain recipients 2/1h");
	assert_goes(event("192.0.2.1", "", GUARD_RCPT, "example.org", 1));
	assert_goes(event("192.0.2.2", "", GUARD_RCPT, "example.org", 1));
	assert_over(event("192.0.2.3", "", GUARD_RCPT, "example.org", 1), LIMIT_DOMAIN, LIMIT_RECIPIENTS);
	end();
}

static void test_exceptions(void **state)
{
	(void)state;
	begin("address messages 1/1h\naddress messages 2/1h 192.0.2.0/24\naddress messages none 192.0.2.9\nlogin messages 1/1h\nlogin messages none news\n"
		"domain messages 1/1h\ndomain messages none .example.org");
	assert_goes(event("198.51.100.1", "", GUARD_MAIL, "", 1));
	assert_over(event("198.51.100.1", "", GUARD_MAIL, "", 1), LIMIT_ADDRESS, LIMIT_MESSAGES);
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1));
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1));
	assert_over(event("192.0.2.1", "", GUARD_MAIL, "", 1), LIMIT_ADDRESS, LIMIT_MESSAGES);
	for (int i = 0; i < 9; i++) {
		assert_goes(event("192.0.2.9", "", GUARD_MAIL, "", 1));
		assert_goes(event("192.0.2.1", "news", GUARD_MAIL, "", 1));
		assert_goes(event("192.0.2.1", "news", GUARD_RCPT, "mx.example.org", 1));
	}
	assert_goes(event("192.0.2.1", "joe", GUARD_MAIL, "", 1));
	assert_over(event("192.0.2.1", "joe", GUARD_MAIL, "", 1), LIMIT_LOGIN, LIMIT_MESSAGES);
	end();
}

/* Lines for somebody else alone hold for nobody else. */
static void test_nobody_fits(void **state)
{
	struct visitor v;
	(void)state;
	begin("domain messages 1/1h example.org\naddress messages 1/1h 192.0.2.0/24\nlogin messages 1/1h joe\naddress octets 1/1h 192.0.2.0/24");
	v = visitor("198.51.100.1", "");
	counts_charge(&g.counts, &v, 0, 1000, 1);
	for (int i = 0; i < 3; i++) {
		assert_goes(event("198.51.100.1", "", GUARD_MAIL, "", 1));
		assert_goes(event("198.51.100.1", "", GUARD_RCPT, "example.net", 1));
		assert_goes(event("198.51.100.1", "ann", GUARD_MAIL, "", 1));
	}
	end();
}

static void test_several_windows(void **state)
{
	(void)state;
	begin("address messages 2/1m\naddress messages 3/1h\naddress messages 2/1m");
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1));
	assert_goes(event("192.0.2.1", "", GUARD_MAIL, "", 1));
	assert_int_equal(event("192.0.2.1", "", GUARD_MAIL, "", 1).window_s, 60);
	assert_int_equal(event("192.0.2.1", "", GUARD_MAIL, "", 60 * SECOND_MS + 1).window_s, 3600);
	end();
}

static void test_charged(void **state)
{
	struct visitor v;
	(void)state;
	begin("address errors 5/10m\nlogin octets 1K/1h");
	v = visitor("192.0.2.1", "");
	counts_charge(&g.counts, &v, 4, 1u << 30, 1);
	assert_goes(event("192.0.2.1", "", GUARD_CONNECT, "", 1));
	counts_charge(&g.counts, &v, 1, 0, 1);
	assert_over(event("192.0.2.1", "", GUARD_CONNECT, "", 1), LIMIT_ADDRESS, LIMIT_ERRORS);
	assert_over(event("192.0.2.1", "", GUARD_MAIL, "", 1), LIMIT_ADDRESS, LIMIT_ERRORS);
	v = visitor("192.0.2.1", "joe");
	assert_goes(event("192.0.2.1", "joe", GUARD_MAIL, "", 1));
	counts_charge(&g.counts, &v, 100, 1024, 1);
	assert_over(event("198.51.100.1", "joe", GUARD_MAIL, "", 1), LIMIT_LOGIN, LIMIT_OCTETS);
	v.login = LIT("max");
	counts_charge(&g.counts, &v, 0, UINT64_MAX, 1);
	counts_charge(&g.counts, &v, 0, UINT64_MAX, 1);   /* no count begins anew for being great */
	assert_over(event("198.51.100.1", "max", GUARD_MAIL, "", 1), LIMIT_LOGIN, LIMIT_OCTETS);
	end();
}

static void test_spared(void **state)
{
	struct visitor v;
	(void)state;
	begin("address messages 1/1h\nlogin messages 1/1h");
	v = visitor("192.0.2.1", "");
	v.spared = true;
	for (int i = 0; i < 3; i++)
		assert_goes(counts_event(&g.counts, &v, GUARD_MAIL, LIT(""), 1));
	v.login = LIT("joe");
	assert_goes(counts_event(&g.counts, &v, GUARD_MAIL, LIT(""), 1));
	assert_over(counts_event(&g.counts, &v, GUARD_MAIL, LIT(""), 1), LIMIT_LOGIN, LIMIT_MESSAGES);
	end();
}

static void test_at_a_time(void **state)
{
	struct visitor v;
	(void)state;
	begin("address connections 2\nnetwork connections 3");
	v = visitor("192.0.2.1", "");
	v.here_address = 2;
	v.here_network = 3;
	assert_goes(counts_event(&g.counts, &v, GUARD_CONNECT, LIT(""), 1));
	v.here_network = 4;
	assert_over(counts_event(&g.counts, &v, GUARD_CONNECT, LIT(""), 1), LIMIT_NETWORK, LIMIT_CONNECTIONS);
	assert_goes(counts_event(&g.counts, &v, GUARD_MAIL, LIT(""), 1));   /* who is in is in */
	end();
}

static void test_present(void **state)
{
	struct present *p = present_new(8);
	struct netaddr a = address("192.0.2.1"), b = address("192.0.2.2"), c = address("2001:db8::1");
	(void)state;
	assert_non_null(p);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 4; i++)
			assert_true(present_enter(p, &a));
		assert_true(present_enter(p, &b));
		for (int i = 0; i < 3; i++)
			assert_true(present_enter(p, &c));
		assert_false(present_enter(p, &c));
		assert_int_equal(present_count(p, &a), 4);
		assert_int_equal(present_count_network(p, &a), 5);
		assert_int_equal(present_count_network(p, &c), 3);
		for (int i = 0; i < 4; i++)
			present_leave(p, &a);
		assert_int_equal(present_count(p, &a), 0);
		assert_int_equal(present_count_network(p, &a), 1);
		present_leave(p, &b);
		for (int i = 0; i < 3; i++)
			present_leave(p, &c);
		assert_int_equal(present_all(p), 0);
	}
	present_free(p);
}

/* ---- unknown recipients */

static void test_unknown(void **state)
{
	struct visitor v, other, six;
	(void)state;
	begin("");
	g.settings.tarpitafter = 2;
	g.settings.hangupafter = 3;
	g.settings.banafter = 5;
	v = visitor("192.0.2.1", "");
	assert_goes(counts_unknown(&g.counts, &v, 1));
	assert_int_equal(counts_unknown(&g.counts, &v, 1).delay_ms, 5000);
	assert_int_equal(counts_unknown(&g.counts, &v, 1).verdict, GUARD_HANGUP);
	assert_goes(counts_ban(&g.counts, &v, 1));
	assert_int_equal(counts_unknown(&g.counts, &v, 1).verdict, GUARD_HANGUP);
	assert_int_equal(counts_unknown(&g.counts, &v, 1).verdict, GUARD_BANNED);
	assert_int_equal(counts_ban(&g.counts, &v, 1).verdict, GUARD_BANNED);
	assert_int_equal(counts_ban(&g.counts, &v, HOUR).wait_s, 1);
	assert_goes(counts_ban(&g.counts, &v, HOUR + 1));
	assert_goes(counts_unknown(&g.counts, &v, HOUR + 1));
	other = visitor("192.0.2.2", "");
	assert_goes(counts_ban(&g.counts, &other, 1));
	six = visitor("2001:db8::1", "");
	for (int i = 0; i < 5; i++)
		(void)counts_unknown(&g.counts, &six, 1);
	other = visitor("2001:db8::ffff:2", "");
	assert_int_equal(counts_ban(&g.counts, &other, 1).verdict, GUARD_BANNED);   /* a /64 is one client's */
	end();
}

/* ---- greylisting */

static enum guard_verdict grey(const char *ip, const char *sender, const char *rcpt, wall_ms_t now)
{
	struct netaddr client = address(ip);
	return (enum guard_verdict)grey_check(&g.grey, &client, bytes_of(sender), bytes_of(rcpt), now).verdict;
}

static void test_grey(void **state)
{
	const wall_ms_t delay = 300 * SECOND_MS, window = 7200 * SECOND_MS, life = 24 * HOUR;
	struct netaddr client = address("192.0.2.1");
	(void)state;
	begin("");
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", 1000), GUARD_GREY);
	assert_int_equal(grey_check(&g.grey, &client, LIT("a@x"), LIT("b@y"), 1000 + delay - 60000).wait_s, 60);
	assert_int_equal(grey("192.0.2.200", "a@x", "b@y", 1000 + delay), GUARD_GO);     /* the network counts */
	assert_int_equal(grey("192.0.2.1", "", "b@y", 1000 + delay), GUARD_GREY);
	assert_int_equal(grey("192.0.3.1", "a@x", "b@y", 1000 + delay), GUARD_GREY);
	assert_int_equal(grey("192.0.3.1", "a@x", "b@y", 1000 + delay + delay + window), GUARD_GREY);   /* too late: it is new */
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", delay + life), GUARD_GO);        /* and remembered from then on */
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", delay + life + life), GUARD_GREY);
	end();
}

/* What a peek says is what would be, and nothing is counted by it. */
static void test_peek(void **state)
{
	struct netaddr client = address("192.0.2.1");
	struct visitor v;
	struct guard_answer a;
	size_t place;
	(void)state;
	begin("address messages 2/1h\ndomain messages 1/1h far.example");
	g.settings.banafter = 2;
	(void)event("192.0.2.1", "", GUARD_MAIL, "", 1000);
	(void)event("192.0.2.1", "", GUARD_MAIL, "", 1000);
	(void)event("192.0.2.1", "", GUARD_RCPT, "far.example", 1000);
	v = visitor("192.0.2.1", "");
	(void)counts_unknown(&g.counts, &v, 1000);
	(void)grey("192.0.2.1", "a@x", "b@y", 1000);
	while (table_changed_next(g.table, &place))
		;
	g.counts.peek = true;
	for (int i = 0; i < 3; i++) {
		a = event("192.0.2.1", "", GUARD_MAIL, "", 2000);
		assert_over(a, LIMIT_ADDRESS, LIMIT_MESSAGES);
		assert_int_equal(a.count, 3);
		assert_int_equal(a.wait_s, 3599);
		assert_goes(event("192.0.2.2", "", GUARD_MAIL, "", 2000));
		assert_over(event("192.0.2.2", "", GUARD_RCPT, "far.example", 2000), LIMIT_DOMAIN, LIMIT_MESSAGES);
		v = visitor("192.0.2.1", "");
		a = counts_unknown(&g.counts, &v, 2000);
		assert_int_equal(a.verdict, GUARD_BANNED);
		assert_int_equal(a.wait_s, 3600);
		assert_int_equal(counts_ban(&g.counts, &v, 2000).verdict, GUARD_GO);
		a = grey_peek(&g.grey, &client, LIT("a@x"), LIT("b@y"), 1000 + 60000);
		assert_int_equal(a.verdict, GUARD_GREY);
		assert_int_equal(a.wait_s, 240);
		assert_int_equal(a.count, 1);
		a = grey_peek(&g.grey, &client, LIT("new@x"), LIT("b@y"), 1000 + 60000);
		assert_int_equal(a.verdict, GUARD_GREY);
		assert_int_equal(a.count, 0);
		a = grey_peek(&g.grey, &client, LIT("a@x"), LIT("b@y"), 1000 + 300000);
		assert_goes(a);
		assert_int_equal(a.what, ROW_TRIPLET);
	}
	assert_false(table_changed_next(g.table, &place));
	end();
}

static void test_grey_network(void **state)
{
	const wall_ms_t later = 301 * SECOND_MS;
	(void)state;
	begin("");
	assert_int_equal(grey("192.0.2.1", "list+1@x", "b@y", 1), GUARD_GREY);
	assert_int_equal(grey("192.0.2.1", "list+22@x", "b@y", later), GUARD_GO);         /* numbers do not tell senders apart */
	assert_int_equal(grey("192.0.2.1", "c@x", "d@y", later), GUARD_GREY);
	assert_int_equal(grey("192.0.2.1", "c@x", "d@y", 2 * later), GUARD_GO);
	assert_int_equal(grey("192.0.2.1", "new@x", "new@y", 2 * later), GUARD_GO);       /* two came again: the network is let be */
	g.settings.greylistallow = 0;
	assert_int_equal(grey("192.0.2.1", "new@x", "new@y", 2 * later), GUARD_GREY);
	g.settings.greylist = LIT("log");
	assert_int_equal(grey("192.0.2.1", "new@x", "new@y", 2 * later), GUARD_GREY_LOG);
	end();
}

/* In a table where all rows stand side by side, what passes first and its network's row are two. */
static void test_grey_side_by_side(void **state)
{
	wall_ms_t later = 300 * SECOND_MS + 1;
	(void)state;
	begin("");
	table_free(g.table);
	g.grey.table = g.table = table_new(1);
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", 1), GUARD_GREY);
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", later), GUARD_GO);
	assert_int_equal(grey("192.0.2.1", "a@x", "b@y", later + 1), GUARD_GO);
	assert_int_equal(grey("192.0.2.1", "c@x", "d@y", later + 1), GUARD_GREY);     /* one has passed, not two */
	end();
}

/* ---- rows */

static size_t count_rows(wall_ms_t now)
{
	size_t n = 0;
	for (size_t i = 0; i < table_places(g.table); i++)
		n += table_at(g.table, i)->until > now;
	return n;
}

static void test_flood(void **state)
{
	struct visitor v;
	char ip[32];
	(void)state;
	begin("address messages 2/1h");
	g.settings.banafter = 1;
	v = visitor("198.51.100.1", "");
	(void)counts_unknown(&g.counts, &v, 1);
	for (int i = 0; i < 3; i++)
		(void)event("192.0.2.1", "", GUARD_MAIL, "", 1);
	assert_true(grey("203.0.113.1", "a@x", "b@y", 1) == GUARD_GREY && grey("203.0.113.1", "a@x", "b@y", HOUR) == GUARD_GO);
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(ip, sizeof ip, "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255);
		assert_goes(event(ip, "", GUARD_MAIL, "", 2));
	}
	assert_over(event("192.0.2.1", "", GUARD_MAIL, "", 2), LIMIT_ADDRESS, LIMIT_MESSAGES);   /* who came often, who is banned and */
	assert_int_equal(counts_ban(&g.counts, &v, 2).verdict, GUARD_BANNED);                    /* who came again are not pushed out */
	assert_int_equal(grey("203.0.113.1", "a@x", "b@y", HOUR), GUARD_GO);
	assert_in_range(count_rows(2), ROWS, table_places(g.table));
	assert_in_range(table_places(g.table), ROWS, ROWS * 2);
	end();
}

static void test_changes(void **state)
{
	size_t place, n = 0;
	(void)state;
	begin("address messages 2/1h");
	for (int i = 0; i < 5; i++)
		(void)event("192.0.2.1", "", GUARD_MAIL, "", 1);
	(void)event("192.0.2.2", "", GUARD_MAIL, "", 1);
	while (table_changed_next(g.table, &place))
		n++;
	assert_int_equal(n, 2);                                     /* each once */
	table_sweep(g.table, table_places(g.table), HOUR);
	assert_false(table_changed_next(g.table, &place));
	for (size_t i = 0; i < table_places(g.table); i += 100)     /* in steps */
		table_sweep(g.table, 100, HOUR + 1);
	for (n = 0; table_changed_next(g.table, &place); n++)
		assert_int_equal(table_at(g.table, place)->until, 0);
	assert_int_equal(n, 2);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar), cmocka_unit_test(test_clientlist), cmocka_unit_test(test_window), cmocka_unit_test(test_subjects),
		cmocka_unit_test(test_exceptions), cmocka_unit_test(test_nobody_fits), cmocka_unit_test(test_several_windows), cmocka_unit_test(test_charged), cmocka_unit_test(test_spared),
		cmocka_unit_test(test_at_a_time), cmocka_unit_test(test_present), cmocka_unit_test(test_unknown), cmocka_unit_test(test_grey), cmocka_unit_test(test_peek),
		cmocka_unit_test(test_grey_network), cmocka_unit_test(test_grey_side_by_side), cmocka_unit_test(test_flood), cmocka_unit_test(test_changes),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
