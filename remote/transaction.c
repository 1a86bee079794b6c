/*
 * transaction - one message over an open connection: MAIL, RCPT..., DATA or BDAT, the body, and which verdict each recipient gets from
 * which reply. Room: remote, bytes from strangers.
 *
 *   MAIL refused                    all get MAIL's reply (later replies of a pipelined group are read and dropped)
 *   RCPT refused                    that one gets it; the others go on
 *   DATA refused                    the accepted ones get it
 *   354 although all were refused   a lone dot ends it (RFC 2920 3.1), its reply changes nothing
 *   reply to the final dot or BDAT  the accepted ones get it
 *   connection lost, time over,     those without a verdict get a temporary failure of the stage it came to; the connection is closed
 *   garbage, a reply too many
 *
 * Where the server takes fewer recipients at a time than there are (LIMITS), they come in groups. What is about the message, and what ends
 * the connection, is the answer for those of later groups, too; all else is for its group alone.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/envelope.h"
#include "client_parts.h"
#include "dotstuff.h"
#include "sevenbit.h"

#define BLOCK 32768u     /* octets of body in one write */

struct transaction {
	struct client *c;
	struct delivery *d;
	uint32_t from, to;       /* these recipients, not the last one */
	size_t accepted;         /* recipients */
	bool data_ok;            /* 354 came */
	bool binary;             /* it goes as BINARYMIME, by BDAT */
	bool undeclared;         /* nobody said that it has 8-bit data, and it has, or could not be looked at */
	struct sevenbit sevenbit;
	struct dotstuff stuff;
};

/* ---- words ---- */

/* A parameter's value that came from elsewhere goes on only if it cannot end the parameter (RFC 3461 4: xtext and the like). */
static bool value_is_clean(struct bytes value, bool utf8)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.at[i];

		if (c <= ' ' || c == 127 || (c > 127 && !utf8))
			return false;
	}
	return value.len > 0;
}

/* `utf8`: an ORCPT may be UTF-8 where SMTPUTF8 was said (RFC 6533 3). */
static void say_value(struct conn *k, struct bytes name, struct bytes value, bool utf8)
{
	if (!value_is_clean(value, utf8))
		return;
	conn_say(k, name);
	conn_say(k, value);
}

static void say_size(struct client *c, uint64_t size)
{
	char digits[24];
	size_t at = sizeof digits;

	if (!c->size)
		return;
	do
		digits[--at] = (char)('0' + size % 10);
	while ((size /= 10) > 0);
	conn_say(&c->conn, LIT(" SIZE="));
	conn_say(&c->conn, (struct bytes){ digits + at, sizeof digits - at });
}

static void say_body_type(const struct transaction *t)
{
	if (t->binary)
		conn_say(&t->c->conn, LIT(" BODY=BINARYMIME"));
	else if (t->c->eight_bit && (t->d->job.body_type != BODY_7BIT || t->undeclared))
		conn_say(&t->c->conn, LIT(" BODY=8BITMIME"));
}

/* As it goes out, when that is known: a server must not be told less than comes (RFC 1870 6.2). */
static uint64_t size_of(const struct transaction *t)
{
	return t->sevenbit.size_known ? t->sevenbit.size : t->d->job.body_size;
}

static void say_mail(const struct transaction *t)
{
	struct client *c = t->c;
	const struct job *job = &t->d->job;

	conn_say(&c->conn, LIT("MAIL FROM:<"));
	conn_say(&c->conn, job->sender);
	conn_say(&c->conn, LIT(">"));
	if (t->sevenbit.converter == NULL || t->sevenbit.size_known)
		say_size(c, size_of(t));
	say_body_type(t);
	if (t->d->needs_utf8 && c->utf8)
		conn_say(&c->conn, LIT(" SMTPUTF8"));
	if (c->dsn) {
		say_value(&c->conn, LIT(" RET="), job->ret, false);
		say_value(&c->conn, LIT(" ENVID="), job->envid, false);
	}
	conn_say(&c->conn, LIT("\r\n"));
}

static void say_rcpt(const struct transaction *t, size_t n)
{
	struct client *c = t->c;
	const struct job_rcpt *rcpt = &t->d->rcpts[n].rcpt;

	conn_say(&c->conn, LIT("RCPT TO:<"));
	conn_say(&c->conn, rcpt->address);
	conn_say(&c->conn, LIT(">"));
	if (c->dsn) {
		say_value(&c->conn, LIT(" NOTIFY="), rcpt->notify, false);
		say_value(&c->conn, LIT(" ORCPT="), rcpt->orcpt, t->d->needs_utf8 && c->utf8);
	}
	conn_say(&c->conn, LIT("\r\n"));
}

static void say_group(const struct transaction *t)
{
	say_mail(t);
	for (uint32_t i = t->from; i < t->to; i++)
		say_rcpt(t, i);
	if (!t->binary)
		conn_say(&t->c->conn, LIT("DATA\r\n"));
}

/* ---- verdicts ---- */

static void report(const struct transaction *t, size_t n, const struct outcome *o)
{
	struct job_host where = client_where(t->c);

	job_report(t->d, n, o, &where);
}

static void report_rest(const struct transaction *t, const struct outcome *o)
{
	for (uint32_t i = t->from; i < t->to; i++)
		report(t, i, o);
}

/* For those of later groups, too. */
static void report_all(const struct transaction *t, const struct outcome *o)
{
	struct job_host where = client_where(t->c);

	job_report_rest(t->d, o, &where);
}

/* The dialogue cannot go on. */
static enum client_end give_up(const struct transaction *t, enum step step, enum conn_result result)
{
	struct outcome o = client_failure(t->c, step, result);

	report_all(t, &o);
	conn_close(&t->c->conn);
	return CLIENT_DONE;
}

/* RFC 5321 4.5.3.1.10: 552 for one recipient too many means 452. Not for a full mailbox (5.2.2), and not for the first one. */
static void soften_552(const struct transaction *t, struct outcome *o)
{
	bool too_many = o->enhanced.class == 0 || (o->enhanced.subject == 5 && o->enhanced.detail == 3);

	if (o->code != 552 || !too_many || t->accepted == 0)
		return;
	o->verdict = V_TEMP;
	o->enhanced = (struct enhanced){ 4, 5, 3 };
}

static void take_rcpt(struct transaction *t, size_t n)
{
	struct outcome o = reply_outcome(&t->c->conn.reply, STAGE_RCPT, '2');

	if (o.verdict == V_OK) {
		t->d->rcpts[n].accepted = true;
		t->accepted++;
		return;
	}
	soften_552(t, &o);
	report(t, n, &o);
}

static enum conn_result reply(const struct transaction *t, enum step step)
{
	return conn_reply(&t->c->conn, client_wait(t->c, step));
}

/* 421 says that the connection is about to be closed (RFC 5321 3.8). After a reply that cannot belong to the command, replies and
 * commands do not match any more. */
static bool must_part(const struct client *c, char want)
{
	uint16_t code = c->conn.reply.code;

	return code == 421 || (code < 400 && code / 100 != want - '0');
}

/* The reply that decides for all of the group. */
static void settle(const struct transaction *t, const struct outcome *o, char want)
{
	if (!must_part(t->c, want)) {
		report_rest(t, o);
		return;
	}
	report_all(t, o);
	conn_close(&t->c->conn);
}

/* ---- the envelope ---- */

/* MAIL's reply: CLIENT_STALE when a kept connection turned out to be dead. *go_on_r: the server took the sender. */
static enum client_end take_mail(const struct transaction *t, enum conn_result result, bool kept, bool *go_on_r)
{
	struct outcome o;

	*go_on_r = false;
	if (kept && (result == CONN_LOST || (result == CONN_OK && t->c->conn.reply.code == 421))) {
		conn_close(&t->c->conn);
		return CLIENT_STALE;
	}
	if (result != CONN_OK)
		return give_up(t, STEP_MAIL, result);
	o = reply_outcome(&t->c->conn.reply, STAGE_MAIL, '2');
	*go_on_r = o.verdict == V_OK;
	if (o.verdict != V_OK)
		report_all(t, &o);
	else
		t->c->must_reset = true;
	if (must_part(t->c, '2'))
		conn_close(&t->c->conn);
	return CLIENT_DONE;
}

static bool data_wanted(const struct transaction *t)
{
	return (t->c->pipelining && !t->binary) || t->accepted > 0;
}

/* A recipient's reply by which the dialogue ends: it is the answer for all who have none. */
static bool part(const struct transaction *t)
{
	struct outcome o = reply_outcome(&t->c->conn.reply, STAGE_RCPT, '2');

	report_all(t, &o);
	conn_close(&t->c->conn);
	return false;
}

/* The recipients' replies, and in a pipelined group also those after a refused MAIL, which count no more. False: the connection is
 * closed. */
static bool rcpts_run(struct transaction *t, bool mail_ok)
{
	for (uint32_t i = t->from; i < t->to; i++) {
		enum conn_result result;

		if (!t->c->pipelining)
			say_rcpt(t, i);
		result = reply(t, STEP_RCPT);
		if (result != CONN_OK) {
			(void)give_up(t, STEP_RCPT, result);
			return false;
		}
		if (must_part(t->c, '2'))
			return part(t);
		if (mail_ok)
			take_rcpt(t, i);
	}
	return true;
}

/* DATA's reply. False: the connection is closed. */
static bool data_run(struct transaction *t)
{
	enum conn_result result;
	struct outcome o;

	if (!t->c->pipelining)
		conn_say(&t->c->conn, LIT("DATA\r\n"));
	result = reply(t, STEP_DATA);
	if (result != CONN_OK) {
		(void)give_up(t, STEP_DATA, result);
		return false;
	}
	o = reply_outcome(&t->c->conn.reply, STAGE_DATA, '3');
	t->data_ok = o.verdict == V_OK;
	/* After a 2xx instead of 354 nobody knows whether the server takes data or commands. */
	if (!t->data_ok)
		settle(t, &o, '3');
	return conn_is_open(&t->c->conn);
}

/* ---- the body ---- */

/* The server spoke before the end of the data: a refusal counts, everything else is nonsense. */
static enum client_end take_early(const struct transaction *t)
{
	enum conn_result result = reply(t, STEP_BLOCK);
	struct outcome o;

	if (result != CONN_OK)
		return give_up(t, STEP_BLOCK, result);
	o = reply_outcome(&t->c->conn.reply, STAGE_DATA, '3');
	if (o.code < 400)
		return give_up(t, STEP_FINAL, CONN_EARLY);
	report_all(t, &o);
	conn_close(&t->c->conn);
	return CLIENT_DONE;
}

static enum client_end take_final(const struct transaction *t)
{
	enum conn_result result = reply(t, STEP_FINAL);
	struct outcome o;

	if (result != CONN_OK)
		return give_up(t, STEP_FINAL, result);
	o = reply_outcome(&t->c->conn.reply, STAGE_FINAL, '2');
	if (o.verdict == V_OK && t->c->dsn)
		o.stage = STAGE_FINAL_DSN;
	t->c->must_reset = false;
	settle(t, &o, '2');
	return CLIENT_DONE;
}

static bool is_binary(const struct delivery *d)
{
	return d->job.body_type == BODY_BINARYMIME;
}

/* It cannot be converted for this server, or not now. */
static struct outcome unconverted(const struct transaction *t, enum sevenbit_result result, enum stage stage)
{
	struct client *c = t->c;

	if (result == SEVENBIT_MEMORY)
		return outcome_make(V_TEMP, stage, "4.3.0", LIT("no memory to convert the message for this server"));
	(void)snprintf(c->text, sizeof c->text, "the message %s, and it cannot be converted: %s",
		is_binary(t->d) ? "is binary, the server takes none (no BINARYMIME)" : "has 8-bit data, the server takes none (no 8BITMIME)",
		sevenbit_why(&t->sevenbit));
	return outcome_make(V_PERM, stage, "5.6.3", bytes_of(c->text));
}

/* The data cannot be ended but by the end of the connection. */
static enum client_end break_off(const struct transaction *t, enum sevenbit_result result)
{
	struct outcome o = unconverted(t, result, STAGE_DATA);

	report_all(t, &o);
	conn_close(&t->c->conn);
	return CLIENT_DONE;
}

/* All of it in one chunk, whose size is known: nothing in it can end it, and no octet is touched. */
static enum conn_result chunk_begin(struct transaction *t)
{
	char line[40];
	int n = snprintf(line, sizeof line, "BDAT %" PRIu64 " LAST\r\n", t->d->job.body_size);

	return conn_send(&t->c->conn, (struct bytes){ line, (size_t)n }, client_wait(t->c, STEP_BLOCK));
}

/* The end goes out with the last octets, and conn_send sends it only when the server is silent until then. */
static enum conn_result data_send(struct transaction *t, struct bytes body, bool last)
{
	enum conn_result result;
	char wire[DOTSTUFF_ROOM(BLOCK) + DOTSTUFF_END];

	do {
		struct bytes block = bytes_slice(body, 0, BLOCK);
		size_t n = dotstuff_add(&t->stuff, block, wire);

		body = bytes_slice(body, block.len, body.len);
		if (last && body.len == 0)
			n += dotstuff_end(&t->stuff, wire + n);
		result = conn_send(&t->c->conn, (struct bytes){ wire, n }, client_wait(t->c, STEP_BLOCK));
	} while (body.len > 0 && result == CONN_OK);
	return result;
}

static enum conn_result block_send(struct transaction *t, struct bytes block, bool begun, bool last)
{
	enum conn_result result = CONN_OK;

	if (!t->binary)
		return data_send(t, block, last);
	if (!begun)
		result = chunk_begin(t);
	return result == CONN_OK ? conn_send(&t->c->conn, block, client_wait(t->c, STEP_BLOCK)) : result;
}

/* The message, block by block. */
static enum client_end body_send(struct transaction *t)
{
	char raw[BLOCK];
	bool begun = false, last = false;

	while (!last) {
		ssize_t got = job_body(t->d, raw, sizeof raw);
		struct bytes block = { raw, got > 0 ? (size_t)got : 0 };
		enum sevenbit_result converted = SEVENBIT_OK;
		enum conn_result result;

		if (got == -1) {
			conn_close(&t->c->conn);
			return CLIENT_BROKEN;
		}
		last = t->d->body_left == 0;
		if (t->sevenbit.converter != NULL)
			converted = sevenbit_block(&t->sevenbit, block, last, &block);
		if (converted != SEVENBIT_OK)
			return break_off(t, converted);
		result = block_send(t, block, begun, last);
		begun = true;
		if (result == CONN_EARLY)
			return take_early(t);
		if (result != CONN_OK)
			return give_up(t, STEP_BLOCK, result);
	}
	return take_final(t);
}

/* Nobody is left, and yet the server wants data. */
static enum client_end lone_dot(const struct transaction *t)
{
	enum conn_result result;

	conn_say(&t->c->conn, LIT(".\r\n"));
	result = reply(t, STEP_FINAL);
	return result == CONN_OK ? CLIENT_DONE : give_up(t, STEP_FINAL, result);
}

/* ---- all of it ---- */

/* The body cannot be had: nothing is reported. */
static enum client_end starter_gone(const struct transaction *t)
{
	conn_close(&t->c->conn);
	return CLIENT_BROKEN;
}

/* For a server without SMTPUTF8. A message that was sent with it may be one that every server takes: no octet is above 127, in all of it or in the
 * beginning that can be looked at, which holds its header. */
static enum sevenbit_look utf8_look(const struct transaction *t)
{
	if (!t->d->needs_utf8 || t->c->utf8)
		return LOOK_ASCII;
	return t->d->utf8_address ? LOOK_8BIT : sevenbit_look(t->d);
}

/* What is clear before the first word. True: it ends here, as *end_r says. */
static bool refused_here(const struct transaction *t, enum client_end *end_r)
{
	const struct client *c = t->c;
	bool too_large = c->size_limit != 0 && size_of(t) > c->size_limit;
	enum sevenbit_look look = too_large ? LOOK_ASCII : utf8_look(t);
	struct outcome o;

	*end_r = look == LOOK_BROKEN ? starter_gone(t) : CLIENT_DONE;
	if (look == LOOK_BROKEN)
		return true;
	if (too_large)
		o = outcome_make(V_PERM, STAGE_MAIL, "5.3.4", LIT("the message is larger than the server's limit (SIZE)"));
	else if (look == LOOK_MEMORY)
		o = outcome_make(V_TEMP, STAGE_MAIL, "4.3.0", LIT("no memory to see whether the message needs SMTPUTF8, which the server has not"));
	else if (look == LOOK_8BIT)
		o = outcome_make(V_PERM, STAGE_MAIL, "5.6.7", LIT("the message needs internationalized addresses and the server knows none (no SMTPUTF8)"));
	else
		return false;
	report_all(t, &o);
	return true;
}

/* RFC 6152 3: 8-bit data is declared, and so is what could not be looked at. Not what is ASCII as far as it was looked at: the next host's next host may
 * have to convert or refuse what is declared. False: it ends here, as *end_r says. */
static bool declare_plan(struct transaction *t, enum client_end *end_r)
{
	enum sevenbit_look look = LOOK_ASCII;

	if (t->c->eight_bit && t->d->job.body_type == BODY_7BIT)
		look = sevenbit_look(t->d);
	t->undeclared = look == LOOK_8BIT || look == LOOK_MEMORY;
	if (look == LOOK_BROKEN)
		*end_r = starter_gone(t);
	return look != LOOK_BROKEN;
}

/* Whether the message has to be converted. False: it ends here, as *end_r says. */
static bool convert_plan(struct transaction *t, enum client_end *end_r)
{
	bool to_8bit = t->c->eight_bit || !t->c->settings->convert8bit;
	enum sevenbit_result result;
	struct outcome o;

	*end_r = CLIENT_DONE;
	t->binary = is_binary(t->d) && t->c->binary && t->c->chunking;
	if (t->binary)
		return true;
	if (to_8bit && !is_binary(t->d))
		return declare_plan(t, end_r);
	result = sevenbit_plan(&t->sevenbit, t->d, to_8bit);
	if (result == SEVENBIT_OK)
		return !refused_here(t, end_r);
	if (result == SEVENBIT_BROKEN) {
		*end_r = starter_gone(t);
		return false;
	}
	o = unconverted(t, result, STAGE_MAIL);
	report_all(t, &o);
	return false;
}

/* RFC 5321 4.1.1.5. A server that cannot even do that is not talked to any more: the caller opens a new connection. */
static bool reset(struct client *c)
{
	enum conn_result result;

	conn_say(&c->conn, LIT("RSET\r\n"));
	result = conn_reply(&c->conn, client_wait(c, STEP_RSET));
	c->must_reset = !(result == CONN_OK && c->conn.reply.code / 100 == 2);
	if (c->must_reset)
		conn_close(&c->conn);
	return !c->must_reset;
}

static enum client_end run(struct transaction *t, bool kept)
{
	enum conn_result result;
	enum client_end end;
	bool mail_ok;

	if (t->c->pipelining)
		say_group(t);
	else
		say_mail(t);
	result = reply(t, STEP_MAIL);
	end = take_mail(t, result, kept, &mail_ok);
	if (end != CLIENT_DONE || !conn_is_open(&t->c->conn) || (!mail_ok && !t->c->pipelining))
		return end;
	if (!rcpts_run(t, mail_ok) || !data_wanted(t))
		return CLIENT_DONE;
	if (!t->binary && (!data_run(t) || !t->data_ok))
		return CLIENT_DONE;
	return t->accepted > 0 ? body_send(t) : lone_dot(t);
}

static enum client_end deliver(struct transaction *t)
{
	struct client *c = t->c;
	bool kept = c->used, quiet = conn_is_quiet(&c->conn);
	enum client_end end;

	if (!quiet && !kept)
		return give_up(t, STEP_HELO, CONN_EARLY);
	if (refused_here(t, &end))
		return end;
	if (!convert_plan(t, &end))
		return end;
	if (!quiet || (c->must_reset && !reset(c))) {
		conn_close(&c->conn);
		return CLIENT_STALE;
	}
	c->used = true;
	c->mails++;
	return run(t, kept && t->from == 0);
}

/* ---- more recipients than the server takes at a time */

static bool had_enough(const struct client *c)
{
	return c->mail_limit != 0 && c->mails >= c->mail_limit;
}

/* The body is needed again. Where there is no memory for it, those that are too many come another time. */
static bool hold_body(struct client *c, struct delivery *d)
{
	if (job_ahead(d) || d->ahead.failed)
		return true;
	conn_close(&c->conn);
	return false;
}

static enum client_end leave_rest(const struct transaction *t)
{
	struct outcome o = outcome_make(V_TEMP, STAGE_RCPT, "4.5.3", LIT("more recipients than the server takes at a time (LIMITS); these come later"));

	report_all(t, &o);
	return CLIENT_DONE;
}

enum client_end client_deliver(struct client *c, struct delivery *d)
{
	uint32_t count = d->job.rcpt_count, most = c->rcpt_limit != 0 && c->rcpt_limit < count ? (uint32_t)c->rcpt_limit : count;

	if (had_enough(c)) {
		client_quit(c);
		return CLIENT_STALE;
	}
	if (most < count && !hold_body(c, d))
		return CLIENT_BROKEN;
	for (uint32_t from = 0; from < count; from += most) {
		struct transaction t = { .c = c, .d = d, .from = from, .to = count - from < most ? count : from + most };
		enum client_end end;

		/* An answer for all: the connection may be closed. */
		if (d->rcpts[from].reported)
			return CLIENT_DONE;
		if (from > 0 && (had_enough(c) || !job_again(d)))
			return leave_rest(&t);
		end = deliver(&t);
		sevenbit_free(&t.sevenbit);
		if (end == CLIENT_STALE && from > 0)
			return leave_rest(&t);
		if (end != CLIENT_DONE)
			return end;
	}
	return CLIENT_DONE;
}
