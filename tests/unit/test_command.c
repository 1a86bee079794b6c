/* test_command - every state with every command, as golden tables (tests/golden/command; command_roles for listeners, TLS and AUTH); and
 * that replies do not depend on how the input was cut. Nothing is read or written: the dialog does no I/O. */
#include "unit.h"
#include "smtpd/door/role.h"
#include "smtpd/session/command.h"

static struct bytes local_domains[] = { { "local.test", 10 } };
static struct bytes users[] = { { "=joe:joe:4711:4711:/nonexistent:::", 34 } };
static struct settings settings;
static struct access access_rules;

static int prepare(void **state)
{
	(void)state;
	if (freopen("/dev/null", "w", stderr) == NULL)   /* the sessions' log */
		return -1;
	settings = (struct settings){
		.me = LIT("mx.test"), .locals = { .at = local_domains, .count = 1 }, .users = { .at = users, .count = 1 },
		.databytes = 1000, .maxrcpt = 2, .maxhops = 10, .maxerrors = 1000, .maxcommands = 100000, .timeoutsmtpd = 300,
	};
	return access_init(&access_rules, &settings) ? 0 : -1;
}

static void begin(struct session *s, struct enqueuer *e)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]" };
	enqueuer_init(e);
	assert_true(session_init(s, &(struct session_start){ .access = &access_rules, .enqueuer = e, .peer = &peer, .in = -1, .out = -1 }));
}

static void feed(struct session *s, struct bytes in, size_t step, struct str *replies)
{
	while (in.len > 0 && s->end == END_NOT) {
		size_t room;
		char *at = linein_space(&s->lines, &room);
		size_t n = step < in.len ? step : in.len;
		n = n < room ? n : room;
		memcpy(at, in.at, n);
		linein_fed(&s->lines, n);
		in = bytes_slice(in, n, in.len);
		bool more = true;
		while (more) {
			more = session_process(s);
			str_add(replies, str_bytes(&s->replies));
			str_clear(&s->replies);
		}
	}
}

static const char *state_name(const struct session *s)
{
	switch (s->state) {
	case ST_START: return "start";
	case ST_GREETED: return "greeted";
	case ST_MAIL: return "mail";
	case ST_RCPT: return "rcpt";
	case ST_DATA: return "data";
	case ST_AUTH: return "auth";
	case ST_BDAT: return "bdat";
	case ST_CHUNK: return "chunk";
	}
	return "?";
}

/* What leads to each state. */
static const char *const ways[] = { "", "EHLO c.test\r\n", "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\n",
	"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<joe@local.test>\r\n", "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<joe@local.test>\r\nBDAT 0\r\n" };

static const char *const lines[] = {
	"HELO c.test", "HELO", "EHLO c.test", "EHLO", "MAIL FROM:<a@b.test>", "MAIL FROM:<>", "MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME",
	"MAIL FROM:<a@b.test> SIZE=1001", "MAIL FROM:<a@b.test> X=1", "MAIL FROM:<a@b.test> RET=HDRS ENVID=x", "MAIL FROM:<a@b.test> RET=ALL", "MAIL FROM:<\xc3\xa9@b.test>", "MAIL FROM:<\xc3\xa9@b.test> SMTPUTF8", "MAIL FROM:<a@b.test", "MAIL <a@b.test>", "MAIL", "RCPT TO:<joe@local.test>",
	"RCPT TO:<jim@local.test>", "RCPT TO:<joe@else.test>", "RCPT TO:<>", "RCPT TO:<\xc3\xa9@local.test>", "RCPT TO:<joe@local.test> X=1", "RCPT TO:<joe@local.test> NOTIFY=NEVER", "RCPT TO:<joe@local.test> NOTIFY=X", "RCPT", "DATA", "DATA x", "RSET", "RSET x",
	"NOOP", "NOOP x", "VRFY joe", "VRFY", "HELP", "HELP x", "QUIT", "QUIT x", "EXPN x", "TURN", "ETRN x", "SEND FROM:<a@b.test>", "SOML", "SAML",
	"STARTTLS", "XCLIENT ADDR=192.0.2.9", "XFORWARD IDENT=x", "AUTH PLAIN", "BDAT 0", "BDAT 2", "BDAT 2 LAST", "BDAT", "BDAT -1", "BDAT 1 FIRST", "FOO", "",
};

static const char *end_name(const struct session *s)
{
	return s->end == END_NOT ? state_name(s) : s->end == END_QUIT ? "end" : "dropped";
}

/* What the line leads to, and its replies, in one line of the table. */
static void say_line(struct str *out, struct session *s, const char *line)
{
	struct str replies = STR_INIT(1 << 16);
	feed(s, bytes_of(line), 1000, &replies);
	feed(s, LIT("\r\n"), 1000, &replies);
	str_addf(out, " -> %-8s", end_name(s));
	for (struct bytes rest = str_bytes(&replies); rest.len > 0;) {
		struct bytes reply = bytes_cut(&rest, '\n');
		str_addf(out, " %.*s%s", (int)reply.len - 1, reply.at, rest.len > 0 ? " /" : "");
	}
	str_add_c(out, "\n");
	str_free(&replies);
}

static void show(struct str *out, const char *way, const char *line)
{
	struct session s;
	struct enqueuer e;
	struct str ignored = STR_INIT(1 << 16);
	begin(&s, &e);
	feed(&s, bytes_of(way), 1000, &ignored);
	str_addf(out, "%-8s %-50s", state_name(&s), line);
	say_line(out, &s, line);
	str_free(&ignored);
	session_free(&s);
	enqueuer_free(&e);
}

static void test_matrix(void **state)
{
	struct str out = STR_INIT(1 << 20);
	(void)state;
	str_add_c(&out, "# state   command                                               state    reply\n");
	for (size_t w = 0; w < COUNT(ways); w++)
		for (size_t l = 0; l < COUNT(lines); l++)
			show(&out, ways[w], lines[l]);
	unit_golden("command", &out);
	str_free(&out);
}

/* ---- listeners, TLS, AUTH */

static const struct standing { const char *name; enum smtpd_role role; bool tls; const char *login; enum session_state state; } standings[] = {
	{ "relay", ROLE_RELAY, false, "", ST_START }, { "relay", ROLE_RELAY, false, "", ST_GREETED },
	{ "relay tls", ROLE_RELAY, true, "", ST_START }, { "relay tls", ROLE_RELAY, true, "", ST_GREETED }, { "relay tls", ROLE_RELAY, true, "", ST_AUTH },
	{ "relay tls login", ROLE_RELAY, true, "joe", ST_GREETED }, { "relay login", ROLE_RELAY, false, "joe", ST_GREETED },
	{ "submission", ROLE_SUBMISSION, false, "", ST_START }, { "submission", ROLE_SUBMISSION, false, "", ST_GREETED },
	{ "submission tls", ROLE_SUBMISSION, true, "", ST_START }, { "submission tls", ROLE_SUBMISSION, true, "", ST_GREETED },
	{ "submission tls", ROLE_SUBMISSION, true, "", ST_AUTH }, { "submission tls login", ROLE_SUBMISSION, true, "joe", ST_GREETED },
	{ "submission tls login", ROLE_SUBMISSION, true, "joe", ST_MAIL }, { "submission tls login", ROLE_SUBMISSION, true, "joe", ST_RCPT },
};

/* No line among them reaches tlsd or auth: the STARTTLS that would is in a group. The ones in the state auth are answers. */
static const char *const standing_lines[] = {
	"EHLO c.test", "HELO c.test", "MAIL FROM:<joe@local.test>", "MAIL FROM:<joe@local.test> AUTH=<>", "RCPT TO:<joe@local.test>", "RCPT TO:<joe@else.test>",
	"DATA", "BDAT 0", "RSET", "NOOP", "VRFY joe", "HELP", "QUIT", "ETRN", "XCLIENT ADDR=192.0.2.9", "STARTTLS x", "STARTTLS\r\nNOOP",
	"AUTH", "AUTH FOO", "AUTH PLAIN a b", "AUTH SCRAM-SHA-256-PLUS", "*", "FOO", "",
};

static void stand(struct session *s, const struct standing *at)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]", .is_socket = true };
	static const char *const way[] = { "MAIL FROM:<joe@local.test>\r\n", "RCPT TO:<joe@else.test>\r\n" };
	struct str ignored = STR_INIT(1 << 16);
	s->peer = &peer;
	s->role = at->role;
	s->tls.on = at->tls;
	s->may_relay = at->login[0] != '\0';
	bytes_to_cstring(bytes_of(at->login), s->login, sizeof s->login);
	if (at->state != ST_START)
		feed(s, LIT("EHLO c.test\r\n"), 1000, &ignored);
	if (at->state == ST_AUTH)
		s->state = ST_AUTH;
	for (size_t i = 0; i < (at->state == ST_MAIL ? 1u : at->state == ST_RCPT ? 2u : 0u); i++)
		feed(s, bytes_of(way[i]), 1000, &ignored);
	assert_int_equal(s->state, at->state);
	str_free(&ignored);
}

static void show_standing(struct str *out, const struct standing *at, const char *line)
{
	struct session s;
	struct enqueuer e;
	begin(&s, &e);
	stand(&s, at);
	str_addf(out, "%-20s %-8s %-40.*s", at->name, state_name(&s), (int)strcspn(line, "\r"), line);
	say_line(out, &s, line);
	session_free(&s);
	enqueuer_free(&e);
}

static void test_roles(void **state)
{
	static struct bytes certificates[] = { { "a b", 3 } }, mechanisms[] = { { "PLAIN", 5 }, { "LOGIN", 5 }, { "SCRAM-SHA-256", 13 } };
	struct settings before = settings;
	struct str out = STR_INIT(1 << 20);
	(void)state;
	settings.starttls = settings.authrelay = true;
	settings.tlscertificates = (struct lines){ .at = certificates, .count = 1 };
	settings.authmechanisms = (struct lines){ .at = mechanisms, .count = COUNT(mechanisms) };
	settings.authbackend = LIT("own");
	str_add_c(&out, "# listener           state    command                                     state    reply\n");
	for (size_t i = 0; i < COUNT(standings); i++)
		for (size_t l = 0; l < COUNT(standing_lines); l++)
			show_standing(&out, &standings[i], standing_lines[l]);
	unit_golden("command_roles", &out);
	str_free(&out);
	settings = before;
}

/* ---- cuts */

static const char dialog[] =
	"EHLO c.test\r\nNOOP\r\nFOO\nQUIT\r\nMAIL FROM:<a@b.test> SIZE=20 RET=FULL ENVID=a+2Bb\r\nRCPT TO:<joe@local.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+3Db\r\nRCPT TO:<jim@local.test>\r\n"
	"RCPT TO:<joe@local.test>\r\nRCPT TO:<joe@local.test>\r\nDATA\r\nSubject: x\r\n\r\n..\r\nbare\nhere\r\n.\r\nRSET\r\n"
	"BDAT 6\r\nQUIT\r\nMAIL FROM:<a@b.test>\r\nBDAT 2 LAST\r\n\r\nRCPT TO:<joe@local.test>\r\nBDAT 3\r\nX: BDAT 0\r\nDATA\r\nBDAT 4 LAST\r\na\nb\rBDAT 1\r\nxNOOP\r\n\r\nVRFY x\rx\r\nHELP\r\nQUIT\r\n";

static void test_every_cut(void **state)
{
	struct session s;
	struct enqueuer e;
	struct str whole = STR_INIT(1 << 16), cut = STR_INIT(1 << 16);
	struct bytes in = { dialog, sizeof dialog - 1 };
	(void)state;
	begin(&s, &e);
	feed(&s, in, in.len, &whole);
	assert_int_equal(s.end, END_QUIT);
	session_free(&s);
	enqueuer_free(&e);
	for (size_t i = 1; i < in.len; i++) {
		str_clear(&cut);
		begin(&s, &e);
		feed(&s, bytes_slice(in, 0, i), in.len, &cut);
		feed(&s, bytes_slice(in, i, in.len), i == 1 ? 1 : in.len, &cut);   /* the first time octet by octet */
		assert_true(bytes_equal(str_bytes(&whole), str_bytes(&cut)));
		session_free(&s);
		enqueuer_free(&e);
	}
	str_free(&whole);
	str_free(&cut);
}

/* The table's own promises. */
static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < command_rows; i++) {
		const struct command_row *row = &command_table[i];
		assert_int_equal(row->argument == ARG_PATH, row->keyword != NULL);
		assert_false(row->legal & (ST_DATA | ST_CHUNK));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(row->verb, command_table[j].verb);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_table), cmocka_unit_test(test_matrix), cmocka_unit_test(test_roles), cmocka_unit_test(test_every_cut) };
	return cmocka_run_group_tests(tests, prepare, NULL);
}
