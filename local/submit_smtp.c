/*
 * submit_smtp - the second way of submit.h: one message by SMTP to the smtpd of this host, for callers whose set-uid programs
 * have no effect (NoNewPrivileges). All recipients or none: a refused one ends it before DATA.
 */
#include "submit.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/linein.h"

#define REPLY_TIMEOUT_MS (5 * MINUTE_MS)      /* RFC 5321 4.5.3.2 */
#define FINAL_TIMEOUT_MS (10 * MINUTE_MS)
#define LINE_MAX_OCTETS 4000u

struct smtp {
	int fd;
	struct linein in;
	struct str out;          /* the command being sent */
	struct str reply;        /* last line of the last reply */
	bool has_8bit, has_utf8, has_dsn;
};

static void note_keyword(struct smtp *s, struct bytes line)
{
	struct bytes rest = bytes_slice(line, 4, line.len), word = bytes_cut(&rest, ' ');

	s->has_8bit = s->has_8bit || bytes_equal_nocase(word, LIT("8BITMIME"));
	s->has_utf8 = s->has_utf8 || bytes_equal_nocase(word, LIT("SMTPUTF8"));
	s->has_dsn = s->has_dsn || bytes_equal_nocase(word, LIT("DSN"));
}

/* The next line of the server: 1, or -1 when there is none. */
static int read_line(struct smtp *s, deadline_t deadline, struct bytes *line_r)
{
	for (;;) {
		enum line_result got = linein_next_lenient(&s->in, LINE_MAX_OCTETS, line_r);
		size_t room;
		char *space;
		ssize_t n;

		if (got == LINE_OK)
			return 1;
		if (got != LINE_MORE)
			return -1;
		space = linein_space(&s->in, &room);
		n = io_read_some(s->fd, space, room, deadline);
		if (n <= 0)
			return -1;
		linein_fed(&s->in, (size_t)n);
	}
}

/* A whole reply: its code, or 0 when the server went away or speaks something else. */
static unsigned read_reply(struct smtp *s, uint64_t timeout_ms)
{
	deadline_t deadline = deadline_in(clock_monotonic_ms(), timeout_ms);
	struct bytes line;
	uint64_t code;

	for (;;) {
		if (read_line(s, deadline, &line) < 0 || line.len < 3 || !bytes_to_u64(bytes_slice(line, 0, 3), 599, &code))
			return 0;
		note_keyword(s, line);
		str_clear(&s->reply);
		str_add(&s->reply, line);
		if (line.len == 3 || line.at[3] != '-')
			return (unsigned)code;
	}
}

static unsigned command(struct smtp *s, uint64_t timeout_ms)
{
	deadline_t deadline = deadline_in(clock_monotonic_ms(), timeout_ms);

	str_add_c(&s->out, "\r\n");
	if (s->out.failed || io_write_by(s->fd, s->out.at, s->out.len, deadline) != 0)
		return 0;
	return read_reply(s, timeout_ms);
}

/* LF or CRLF text to CRLF, dots doubled (RFC 5321 4.5.2). */
struct stuffing { bool line_start, after_cr; };

static void stuff(struct stuffing *st, struct bytes in, struct str *out)
{
	for (size_t i = 0; i < in.len; i++) {
		char c = in.at[i];

		if (c == '\n' && !st->after_cr)
			str_add_char(out, '\r');
		if (c == '.' && st->line_start)
			str_add_char(out, '.');
		str_add_char(out, c);
		st->line_start = c == '\n';
		st->after_cr = c == '\r';
	}
}

static bool send_body(struct smtp *s, int message)
{
	struct str out = STR_INIT(1 << 18);
	struct stuffing st = { .line_start = true };
	char data[65536];
	ssize_t n;
	bool good = true;

	while (good && (n = io_read_full(message, data, sizeof(data))) != 0) {
		str_clear(&out);
		if (n > 0)
			stuff(&st, (struct bytes){ data, (size_t)n }, &out);
		good = n > 0 && !out.failed && io_write_by(s->fd, out.at, out.len, deadline_in(clock_monotonic_ms(), REPLY_TIMEOUT_MS)) == 0;
	}
	str_free(&out);
	str_clear(&s->out);
	str_add_c(&s->out, st.line_start ? "." : "\r\n.");
	return good;
}

static void add_parameter(struct str *out, const char *name, struct bytes value)
{
	if (value.len == 0)
		return;
	str_add_c(out, name);
	str_add(out, value);
}

static bool say_mail(struct smtp *s, const struct envelope *envelope)
{
	str_clear(&s->out);
	str_add_c(&s->out, "MAIL FROM:<");
	str_add(&s->out, envelope->sender.text);
	str_add_char(&s->out, '>');
	if (envelope->body_type != BODY_7BIT && s->has_8bit)
		str_add_c(&s->out, " BODY=8BITMIME");
	if (envelope->smtputf8 && s->has_utf8)
		str_add_c(&s->out, " SMTPUTF8");
	if (s->has_dsn) {
		add_parameter(&s->out, " RET=", envelope->ret);
		add_parameter(&s->out, " ENVID=", envelope->envid);
	}
	return command(s, REPLY_TIMEOUT_MS) == 250;
}

static bool say_recipients(struct smtp *s, const struct envelope *envelope)
{
	struct envelope_cursor cursor = { 0 };
	struct envelope_rcpt rcpt;

	while (envelope_next(envelope, &cursor, &rcpt)) {
		unsigned code;

		str_clear(&s->out);
		str_add_c(&s->out, "RCPT TO:<");
		str_add(&s->out, rcpt.addr.text);
		str_add_char(&s->out, '>');
		if (s->has_dsn) {
			add_parameter(&s->out, " NOTIFY=", rcpt.notify);
			add_parameter(&s->out, " ORCPT=", rcpt.orcpt);
		}
		code = command(s, REPLY_TIMEOUT_MS);
		if (code != 250 && code != 251)
			return false;
	}
	return true;
}

/* The dialogue up to the final reply. False: the last reply (or none) says why. *rcpt_r: it was a recipient that failed. */
static bool speak(struct smtp *s, int message, const struct envelope *envelope, struct bytes helo, bool *rcpt_r)
{
	if (read_reply(s, REPLY_TIMEOUT_MS) != 220)
		return false;
	str_add_c(&s->out, "EHLO ");
	str_add(&s->out, helo);
	if (command(s, REPLY_TIMEOUT_MS) != 250 || !say_mail(s, envelope))
		return false;
	*rcpt_r = true;
	if (!say_recipients(s, envelope))
		return false;
	*rcpt_r = false;
	str_clear(&s->out);
	str_add_c(&s->out, "DATA");
	if (command(s, REPLY_TIMEOUT_MS) != 354 || !send_body(s, message)) {
		str_clear(&s->reply);
		return false;
	}
	return command(s, FINAL_TIMEOUT_MS) == 250;
}

static int connect_local(const struct netaddr *to)
{
	struct sockaddr_storage address;
	socklen_t len = netaddr_to_sockaddr(to, &address);
	int fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, len) == 0 && io_set_nonblocking(fd, true) == 0)
		return fd;
	close(fd);
	return -1;
}

static void judge(struct smtp *s, bool good, bool at_rcpt, const struct netaddr *to, struct submit_answer *answer)
{
	bool perm = s->reply.len > 0 && s->reply.at[0] == '5';

	answer->verdict = good ? V_OK : perm ? V_PERM : V_TEMP;
	answer->bad_address = perm && at_rcpt;
	if (good)
		return;
	str_addf(&answer->text, "smtpd on port %u ", to->port);
	if (s->reply.len == 0)
		str_add_c(&answer->text, "went away before the message was taken");
	else
		str_addf(&answer->text, "answered: %s", str_c(&s->reply));
}

void submit_smtp(int message, const struct envelope *envelope, struct bytes helo, const struct netaddr *to, struct submit_answer *answer)
{
	char ip[NETADDR_TEXT];
	struct smtp s = { .out = STR_INIT(8192), .reply = STR_INIT(LINE_MAX_OCTETS) };
	bool at_rcpt = false, good;

	s.fd = connect_local(to);
	if (s.fd < 0 || !linein_init(&s.in, 8192)) {
		answer->verdict = V_TEMP;
		netaddr_format(to, ip);
		str_addf(&answer->text, "enqueue cannot reach the spool (set-uid has no effect here?), and no smtpd answers on %s port %u", ip, to->port);
		if (s.fd >= 0)
			close(s.fd);
		return;
	}
	good = speak(&s, message, envelope, helo, &at_rcpt);
	judge(&s, good, at_rcpt, to, answer);
	str_clear(&s.out);
	str_add_c(&s.out, "QUIT");
	(void)command(&s, 2 * SECOND_MS);   /* its answer changes nothing, but closing on it would reset the connection */
	close(s.fd);
	linein_free(&s.in);
	str_free(&s.out);
	str_free(&s.reply);
}
