/* client - the opening and closing of an SMTP connection as a client; transactions are in transaction.c. Room: remote, bytes from strangers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client_parts.h"

/* RFC 5321 4.5.3.2, in seconds. */
static const unsigned wait_seconds[STEP_COUNT] = {
	[STEP_GREETING] = 300, [STEP_HELO] = 300, [STEP_RSET] = 300, [STEP_MAIL] = 300, [STEP_RCPT] = 300,
	[STEP_DATA] = 120, [STEP_BLOCK] = 180, [STEP_FINAL] = 600, [STEP_QUIT] = 2,
};
static const char *const step_words[STEP_COUNT] = {
	[STEP_GREETING] = "the greeting", [STEP_HELO] = "the reply to EHLO", [STEP_RSET] = "the reply to RSET", [STEP_MAIL] = "the reply to MAIL FROM",
	[STEP_RCPT] = "the reply to RCPT TO", [STEP_DATA] = "the reply to DATA", [STEP_BLOCK] = "the server to take the message",
	[STEP_FINAL] = "the reply to the end of the message", [STEP_QUIT] = "the reply to QUIT",
};
static const enum stage step_stages[STEP_COUNT] = {
	[STEP_GREETING] = STAGE_GREETING, [STEP_HELO] = STAGE_HELO, [STEP_RSET] = STAGE_MAIL, [STEP_MAIL] = STAGE_MAIL, [STEP_RCPT] = STAGE_RCPT,
	[STEP_DATA] = STAGE_DATA, [STEP_BLOCK] = STAGE_DATA, [STEP_FINAL] = STAGE_FINAL, [STEP_QUIT] = STAGE_FINAL,
};

void client_init(struct client *c, const struct settings *settings)
{
	memset(c, 0, sizeof *c);
	c->settings = settings;
	conn_init(&c->conn);
}

void client_free(struct client *c)
{
	conn_free(&c->conn);
}

void client_set_end(struct client *c, deadline_t end)
{
	c->end = end;
}

bool client_is_open(const struct client *c)
{
	return conn_is_open(&c->conn);
}

bool client_is_quiet(const struct client *c)
{
	return conn_is_quiet(&c->conn);
}

struct job_host client_where(const struct client *c)
{
	return (struct job_host){ bytes_of(c->host), bytes_of(c->ip), bytes_of(c->source_ip) };
}

deadline_t client_wait(const struct client *c, enum step step)
{
	uint64_t seconds = c->settings->timeoutremote != 0 ? c->settings->timeoutremote : wait_seconds[step];

	return deadline_earlier(deadline_in(clock_monotonic_ms(), seconds * SECOND_MS), c->end);
}

static struct outcome failure(struct client *c, enum step step, const char *enhanced, int error, const char *what)
{
	struct outcome o;

	if (error != 0)
		(void)snprintf(c->text, sizeof c->text, "%s while waiting for %s: %s", what, step_words[step], strerror(error));
	else
		(void)snprintf(c->text, sizeof c->text, "%s while waiting for %s", what, step_words[step]);
	o = outcome_make(V_TEMP, step_stages[step], enhanced, bytes_of(c->text));
	o.error = error;
	return o;
}

struct outcome client_failure(struct client *c, enum step step, enum conn_result result)
{
	switch (result) {
	case CONN_TIMEOUT:
		return failure(c, step, "4.4.2", 0, "time ran out");
	case CONN_GARBAGE:
		return outcome_make(V_TEMP, step_stages[step], "4.5.0", reply_text(&c->conn.reply));
	case CONN_LOST:
		return failure(c, step, "4.4.2", c->conn.error, "the connection was lost");
	default:
		return outcome_make(V_TEMP, step_stages[step], "4.5.0", LIT("the server answers what it was not asked"));
	}
}

/* ---- what EHLO offers ---- */

/* RFC 9422 4.1: "NAME=VALUE NAME=VALUE"; what is not understood is no limit. */
static void take_limits(struct client *c, struct bytes limits)
{
	while (limits.len > 0) {
		struct bytes value = bytes_cut(&limits, ' '), name = bytes_cut(&value, '=');
		uint64_t number = 0;

		if (!bytes_to_u64(value, 999999, &number))
			continue;
		if (bytes_equal_nocase(name, LIT("RCPTMAX")))
			c->rcpt_limit = number;
		else if (bytes_equal_nocase(name, LIT("MAILMAX")))
			c->mail_limit = number;
	}
}

static void take_size(struct client *c, struct bytes value)
{
	uint64_t limit = 0;

	c->size = true;
	c->size_limit = bytes_to_u64(bytes_trim(value), UINT64_MAX, &limit) ? limit : 0;
}

/* RFC 5321 4.1.1.1: the reply's first word is the server's name. */
static void take_name(void *context, struct bytes line)
{
	struct client *c = context;
	struct bytes rest = bytes_trim(line), name = bytes_cut(&rest, ' ');

	if (c->conn.reply.lines == 1)
		c->is_us = !c->relay && name.len > 0 && bytes_equal_nocase(name, c->settings->me);
}

static void take_keyword(void *context, struct bytes line)
{
	struct client *c = context;
	struct bytes rest = bytes_trim(line);
	struct bytes keyword;

	take_name(c, line);
	if (c->conn.reply.lines == 1)
		return;
	keyword = bytes_cut(&rest, ' ');
	if (bytes_equal_nocase(keyword, LIT("PIPELINING")))
		c->pipelining = true;
	else if (bytes_equal_nocase(keyword, LIT("8BITMIME")))
		c->eight_bit = true;
	else if (bytes_equal_nocase(keyword, LIT("BINARYMIME")))
		c->binary = true;
	else if (bytes_equal_nocase(keyword, LIT("CHUNKING")))
		c->chunking = true;
	else if (bytes_equal_nocase(keyword, LIT("SMTPUTF8")))
		c->utf8 = true;
	else if (bytes_equal_nocase(keyword, LIT("DSN")))
		c->dsn = true;
	else if (bytes_equal_nocase(keyword, LIT("SIZE")))
		take_size(c, rest);
	else if (bytes_equal_nocase(keyword, LIT("LIMITS")))
		take_limits(c, rest);
}

static void forget_extensions(struct client *c)
{
	c->esmtp = c->pipelining = c->eight_bit = c->binary = c->chunking = c->utf8 = c->dsn = c->size = false;
	c->size_limit = c->rcpt_limit = c->mail_limit = 0;
}

static enum conn_result say_hello(struct client *c, struct bytes verb, conn_line_fn *each)
{
	forget_extensions(c);
	conn_say(&c->conn, verb);
	conn_say(&c->conn, c->settings->helohost);
	conn_say(&c->conn, LIT("\r\n"));
	return conn_reply_lines(&c->conn, client_wait(c, STEP_HELO), each, c);
}

/* EHLO, and HELO when the server refuses it for good (RFC 5321 3.2) - but not after 521 or 554, by which a server sends everybody away
 * (RFC 7504). */
static bool hello(struct client *c, struct outcome *o_r)
{
	enum conn_result result = say_hello(c, LIT("EHLO "), take_keyword);
	uint16_t code = c->conn.reply.code;

	c->esmtp = result == CONN_OK && code / 100 == 2;
	if (result == CONN_OK && code / 100 == 5 && code != 521 && code != 554)
		result = say_hello(c, LIT("HELO "), take_name);
	*o_r = result == CONN_OK ? reply_outcome(&c->conn.reply, STAGE_HELO, '2') : client_failure(c, STEP_HELO, result);
	if (o_r->verdict == V_OK && c->is_us)
		*o_r = outcome_make(V_PERM, STAGE_HELO, "5.4.6", LIT("the mail comes back to this host: the server has its name, and it does not take this domain's mail"));
	return o_r->verdict == V_OK;
}

static bool greeting(struct client *c, struct outcome *o_r)
{
	enum conn_result result = conn_reply(&c->conn, client_wait(c, STEP_GREETING));

	*o_r = result == CONN_OK ? reply_outcome(&c->conn.reply, STAGE_GREETING, '2') : client_failure(c, STEP_GREETING, result);
	return o_r->verdict == V_OK;
}

static bool connected(struct client *c, const struct netaddr *to, struct outcome *o_r)
{
	struct bytes wish = to->family == AF_INET6 ? c->settings->outgoingip6 : c->settings->outgoingip;
	uint64_t wait_ms = c->settings->timeoutconnect * SECOND_MS;
	struct netaddr from = { 0 };

	if (wish.len > 0 && !netaddr_parse(wish, &from))
		from = (struct netaddr){ 0 };
	if (conn_open(&c->conn, to, &from, deadline_earlier(deadline_in(clock_monotonic_ms(), wait_ms), c->end)))
		return true;
	(void)snprintf(c->text, sizeof c->text, "cannot connect to %.255s[%s] port %u: %s", c->host, c->ip, to->port, strerror(c->conn.error));
	*o_r = outcome_make(V_TEMP, STAGE_CONNECT, "4.4.1", bytes_of(c->text));
	o_r->error = c->conn.error;
	return false;
}

bool client_open(struct client *c, const struct dns_address *server, uint16_t port, bool relay, struct outcome *o_r)
{
	struct netaddr to = server->addr;
	bool ready;

	conn_close(&c->conn);
	c->used = c->must_reset = c->is_us = false;
	c->relay = relay;
	c->mails = 0;
	to.port = port;
	(void)bytes_to_cstring(bytes_of(server->name), c->host, sizeof c->host);
	netaddr_format(&to, c->ip);
	c->source_ip[0] = '\0';
	if (!connected(c, &to, o_r))
		return false;
	netaddr_format(&c->conn.source, c->source_ip);
	ready = greeting(c, o_r) && hello(c, o_r);
	if (!ready && (o_r->code != 0 || c->is_us))
		client_quit(c);
	if (!ready)
		conn_close(&c->conn);
	return ready;
}

/* The text of an outcome may stand in the reply that QUIT's would overwrite, so the reply to QUIT is only waited for, not parsed:
 * its end is the server's close. */
void client_quit(struct client *c)
{
	deadline_t now = clock_monotonic_ms();

	if (!conn_is_open(&c->conn))
		return;
	conn_say(&c->conn, LIT("QUIT\r\n"));
	conn_hang_up(&c->conn, deadline_in(now, wait_seconds[STEP_QUIT] * SECOND_MS));
}
