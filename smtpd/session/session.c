/* session - smtpd's room: one connection. See session.h. */
#include "session.h"

#include "authenticate.h"
#include "chunk.h"
#include "command.h"
#include "gate.h"
#include "smtpd/door/proxy.h"
#include "receive.h"
#include "smtpd/door/role.h"
#include "starttls.h"
#include "xclient.h"

#include "common/envelope.h"
#include "common/io.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define REPLIES_MAX 65536u
#define REPLY_TEXT 496
/* A message must come at this pace in the long run, however many chunks it has, or who sends one octet every few minutes holds a session for days. */
#define DATA_OCTETS_PER_SECOND 64u
#define LINES_KEPT 16384u
#define LINGER_MS 1000u
#define LINGER_OCTETS (1u << 20)
#define IDLE_COMMANDS_DEFAULT 1000u   /* maxcommands 0 */

bool session_init(struct session *s, const struct session_start *start)
{
	*s = (struct session){
		.settings = start->access->settings, .access = start->access, .enqueuer = start->enqueuer, .guard = start->guard, .content = start->content, .stop = start->stop, .peer = start->peer,
		.connected = start->peer->addr,
		.may_relay = start->may_relay, .relay_suffix = start->relay_suffix, .in = start->in, .out = start->out, .kept = start->lines,
		.prepared = start->prepared, .role = start->role, .tls_call = { .control = -1, .plain = -1 },
		.state = ST_START, .verb = "CONNECT", .replies = STR_INIT(REPLIES_MAX), .head = STR_INIT(RECEIVE_HEAD_MAX), .filtered = STR_INIT(2 * SESSION_READ),
		.mail = { .sender_text = STR_INIT(ADDRESS_MAX), .recipients = STR_INIT(ENVELOPE_MAX) },
	};
	authask_init(&s->auth);
	if (s->kept == NULL || s->kept->buffer == NULL)
		return linein_init(&s->lines, SESSION_READ);
	s->lines = *s->kept;
	*s->kept = (struct linein){ 0 };
	return true;
}

void session_begin_anew(struct session *s)
{
	xforward_reset(s);
	s->state = ST_START;
	s->extended = false;
	s->helo[0] = '\0';
	s->progress = true;
}

void session_become(struct session *s, const struct peer *client)
{
	s->told = *client;
	s->peer = &s->told;
	s->may_relay = access_client_may_relay(s->access, &client->addr);
	s->relay_suffix = (struct bytes){ 0 };
	/* What was found out so far was found out of the other one. */
	policy_free(&s->policy);
	s->policy = (struct policy){ 0 };
	s->hasty = false;
}

/* The next client's session must not find an octet of this one's; and memory that one long message has touched is given back. */
static void give_lines_back(struct session *s)
{
	if (s->kept == NULL || s->lines.touched > LINES_KEPT) {
		linein_free(&s->lines);
		return;
	}
	linein_reset(&s->lines);
	*s->kept = s->lines;
	s->lines = (struct linein){ 0 };
}

void session_free(struct session *s)
{
	authask_close(&s->auth);
	xforward_reset(s);
	give_lines_back(s);
	str_free(&s->replies);
	str_free(&s->head);
	str_free(&s->filtered);
	str_free(&s->mail.sender_text);
	str_free(&s->mail.recipients);
	policy_free(&s->policy);
}

const char *session_protocol(const struct session *s)
{
	static const char *const names[2][2][2] = {   /* SMTPUTF8, TLS, a login */
		{ { "ESMTP", "ESMTPA" }, { "ESMTPS", "ESMTPSA" } }, { { "UTF8SMTP", "UTF8SMTPA" }, { "UTF8SMTPS", "UTF8SMTPSA" } },
	};
	if (!s->extended && !s->mail.smtputf8)
		return "SMTP";
	return names[s->mail.smtputf8][s->tls.on][s->login[0] != '\0'];
}

/* A long list of recipients gives its memory back: the next message has one. */
void session_end_transaction(struct session *s)
{
	struct transaction *mail = &s->mail;
	if (s->state == ST_BDAT)
		receive_abandon(s);
	if (s->state & ST_TRANSACTION)
		gate_reset(s);
	str_clear(&mail->sender_text);
	if (mail->recipients.room > 4096)
		str_free(&mail->recipients);
	str_clear(&mail->recipients);
	mail->sender = (struct mailaddr){ 0 };
	mail->rcpt_count = mail->rcpt_refused = mail->rcpt_over = 0;
	mail->body = BODY_7BIT;
	mail->smtputf8 = false;
	mail->ret[0] = mail->envid[0] = '\0';
	if (s->state != ST_START)
		s->state = ST_GREETED;
}

/* ---- replies */

/* RFC 5321 4.5.3.1.5: 512 octets with code and CRLF. Put together by hand: most replies are a constant, and printf for them was a
 * fifth of a session's instructions. */
static void put_reply(struct session *s, unsigned code, char separator, const char *enhanced, const char *format, va_list args)
{
	char text[REPLY_TEXT];
	const char head[] = { (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10), separator };
	struct str *out = &s->replies;
	struct bytes line = bytes_of(format);
	if (bytes_find(line, '%') < line.len) {
		vsnprintf(text, sizeof text, format, args);
		line = bytes_of(text);
	}
	str_add(out, (struct bytes){ head, sizeof head });
	if (enhanced != NULL) {
		str_add_c(out, enhanced);
		str_add_char(out, ' ');
	}
	str_add(out, line);
	if (!str_add(out, LIT("\r\n")))
		s->end = END_MEMORY;
	s->code = code;
}

void session_reply_more(struct session *s, unsigned code, const char *enhanced, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	put_reply(s, code, '-', enhanced, format, args);
	va_end(args);
}

void session_reply(struct session *s, unsigned code, const char *enhanced, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	put_reply(s, code, ' ', enhanced, format, args);
	va_end(args);
	if (code >= 400)
		s->errors++;
}

void session_reject_log(const struct session *s, const char *check, const char *event, const char *rcpt, unsigned code, const char *enhanced, const char *text)
{
	char to[ADDRESS_MAX + 8] = "";
	if (rcpt != NULL)
		snprintf(to, sizeof to, " to=<%s>", rcpt);
	log_msg(0, "%s: %s from %s: %u %s %s; from=<%s>%s proto=%s helo=<%s>%s%s%s", event, s->verb, s->peer->text, code, enhanced, text,
		log_text(s->mail.sender.text), to, session_protocol(s), s->helo, check != NULL ? " check=" : "", check != NULL ? check : "", xforward_words(s));
}

void session_reject(struct session *s, const char *rcpt, unsigned code, const char *enhanced, const char *format, ...)
{
	char text[REPLY_TEXT];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	session_reject_log(s, NULL, "reject", rcpt, code, enhanced, text);
	session_reply(s, code, enhanced, "%s", text);
}

void session_no_command(struct session *s)
{
	session_reply(s, 502, "5.5.1", "Command not implemented");
}

void session_dismiss(struct session *s, enum session_end end, const char *enhanced, const char *text)
{
	session_reply(s, 421, enhanced, "%.*s %s", (int)s->settings->me.len, s->settings->me.at, text);
	s->end = end;
}

void session_greet(struct session *s)
{
	struct bytes text = s->settings->smtpgreeting, me = s->settings->me;
	if (text.len > 0)
		session_reply(s, 220, NULL, "%.*s", (int)text.len, text.at);
	else
		session_reply(s, 220, NULL, "%.*s ESMTP", (int)me.len, me.at);
}

/* ---- the dialog */

void session_data_ended(struct session *s)
{
	s->octets += s->message.size;
	if (s->code < 400)
		s->count[s->kind].ok++;
	session_end_transaction(s);
	xforward_reset(s);
	s->progress = true;
}

static void check_patience(struct session *s)
{
	uint64_t idle_max = s->settings->maxcommands > 0 ? s->settings->maxcommands : IDLE_COMMANDS_DEFAULT;
	if (s->end != END_NOT)
		return;
	if (s->errors >= s->settings->maxerrors) {
		log_info("too many errors after %s from %s", s->verb, s->peer->text);
		session_dismiss(s, END_ERRORS, "4.7.0", "Error: too many errors");
	} else if (s->idle_commands > idle_max) {
		log_info("too many commands after %s from %s", s->verb, s->peer->text);
		session_dismiss(s, END_COMMANDS, "4.7.0", "Error: too many commands without mail");
	}
}

/* AUTH and its answers may be longer than other lines (RFC 4954 4). */
static size_t line_max(const struct session *s)
{
	return s->state == ST_AUTH || authenticate_offered(s) ? AUTHASK_LINE_MAX - 2 : COMMAND_PATH_LINE_MAX - 2;
}

/* A bare LF ends no line (RFC 5321 2.3.8), so the line that was refused for it goes on to its CRLF: none of it is carried out. */
static enum line_result next_line(struct session *s, struct bytes *line_r)
{
	for (;;) {
		struct bytes before = linein_rest(&s->lines);
		enum line_result result = linein_next(&s->lines, line_max(s), line_r);
		size_t used = before.len - linein_rest(&s->lines).len;
		bool was_skipping = s->skip_to_crlf;
		if (result == LINE_MORE)
			return result;
		s->skip_to_crlf = result == LINE_BARE && (used < 2 || before.at[used - 2] != '\r');
		if (!was_skipping)
			return result;
	}
}

static bool process_line(struct session *s)
{
	struct bytes line;
	switch (next_line(s, &line)) {
	case LINE_MORE:
		return false;
	case LINE_OK:
		if (s->state == ST_AUTH)
			authenticate_line(s, line);
		else
			command_line(s, line);
		break;
	case LINE_LONG:
		command_not_a_line(s, "Line too long");
		break;
	default:
		command_not_a_line(s, "Lines end with CR LF, and hold no other CR, LF or NUL");
	}
	s->progress = true;
	check_patience(s);
	return true;
}

bool session_process(struct session *s)
{
	while (s->end == END_NOT && s->replies.len < SESSION_REPLIES) {
		if (s->state == ST_DATA) {
			if (linein_rest(&s->lines).len == 0)
				return false;
			receive_data(s);
			if (s->state != ST_DATA)
				check_patience(s);
		} else if (s->state == ST_CHUNK) {
			if (s->chunk.left > 0 && linein_rest(&s->lines).len == 0)
				return false;
			chunk_data(s);
			if (s->state != ST_CHUNK)
				check_patience(s);
		} else if (!process_line(s)) {
			return false;
		}
	}
	return s->end == END_NOT;
}

/* ---- the connection */

/* Blocking sockets with the kernel's own timeouts: one system call per read. A pipe is polled first. */
void session_prepare_socket(int fd, const struct settings *settings)
{
	struct timeval timeout = { .tv_sec = (time_t)settings->timeoutsmtpd };
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static bool has_timeout(int fd, int option, uint64_t seconds)
{
	struct timeval timeout = { 0 };
	socklen_t len = sizeof timeout;
	return getsockopt(fd, SOL_SOCKET, option, &timeout, &len) == 0 && timeout.tv_sec == (time_t)seconds;
}

bool session_is_prepared(int fd, const struct settings *settings)
{
	int on = 0;
	socklen_t len = sizeof on;
	return has_timeout(fd, SO_RCVTIMEO, settings->timeoutsmtpd) && has_timeout(fd, SO_SNDTIMEO, settings->timeoutsmtpd)
		&& getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on != 0;
}

static void prepare_connection(const struct session *s)
{
	if (!s->peer->is_socket || s->prepared)
		return;
	session_prepare_socket(s->in, s->settings);
	if (s->out != s->in)
		session_prepare_socket(s->out, s->settings);
}

static uint64_t timeout_ms(const struct session *s)
{
	return s->settings->timeoutsmtpd * SECOND_MS;
}

static bool stopping(const struct session *s)
{
	return s->stop != NULL && *s->stop != 0;
}

/* How much of the replies one write may take without blocking past the deadline: a pipe takes PIPE_BUF when it polls writable. The reply to
 * QUIT waits for end_output(), and leaves in one segment with the end of the connection. */
static ssize_t write_some(struct session *s, const char *at, size_t n, deadline_t deadline)
{
	if (s->peer->is_socket)
		return send(s->out, at, n, MSG_NOSIGNAL | (s->end == END_QUIT ? MSG_MORE : 0));
	int ready = io_wait_writable(s->out, deadline);
	if (ready == 0)
		errno = EAGAIN;
	return ready > 0 ? write(s->out, at, n < PIPE_BUF ? n : PIPE_BUF) : -1;
}

static bool write_replies(struct session *s)
{
	deadline_t now = clock_monotonic_ms(), deadline = deadline_in(now, timeout_ms(s));
	size_t done = 0;
	while (done < s->replies.len) {
		ssize_t n = write_some(s, s->replies.at + done, s->replies.len - done, deadline);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (done > 0 && deadline_passed(deadline, clock_monotonic_ms()))) {
			if (s->end == END_NOT)
				s->end = n < 0 && errno != EAGAIN && errno != EWOULDBLOCK ? END_LOST : END_TIMEOUT;
			str_remove_front(&s->replies, done);
			return false;
		}
		done += (size_t)n;
	}
	str_clear(&s->replies);
	return true;
}

/* When the wait that goes on now is over, in spite of octets that keep dripping in. */
static bool waited_too_long(const struct session *s, deadline_t now)
{
	uint64_t came = s->state == ST_CHUNK && !s->chunk.wanted ? s->chunk.size - s->chunk.left : s->message.size;
	if (s->state & (ST_DATA | ST_CHUNK))
		return deadline_passed(deadline_in(s->data_began, timeout_ms(s) + came / DATA_OCTETS_PER_SECOND * SECOND_MS), now);
	return deadline_passed(deadline_in(s->wait_from, timeout_ms(s)), now);
}

static ssize_t read_some(struct session *s, char *at, size_t n, deadline_t now)
{
	if (!s->peer->is_socket) {
		int ready = io_wait_readable(s->in, deadline_in(now, timeout_ms(s)));
		if (ready == 0)
			errno = EAGAIN;
		if (ready <= 0)
			return -1;
	}
	return read(s->in, at, n);
}

/* Read once. False: the session is over (s->end). */
static bool fill(struct session *s)
{
	size_t room;
	char *at = linein_space(&s->lines, &room);
	deadline_t now = clock_monotonic_ms();
	if (s->progress)
		s->wait_from = now;
	s->progress = false;
	for (;;) {
		if (stopping(s) && !(s->state & (ST_DATA | ST_CHUNK)))
			s->end = END_STOPPED;
		else if (waited_too_long(s, now))
			s->end = END_TIMEOUT;
		if (s->end != END_NOT)
			return false;
		ssize_t n = read_some(s, at, room, now);
		if (n > 0) {
			linein_fed(&s->lines, (size_t)n);
			return true;
		}
		if (n < 0 && errno == EINTR) {
			now = clock_monotonic_ms();
			continue;
		}
		s->end = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? END_TIMEOUT : END_LOST;
	}
}

static void dialog(struct session *s)
{
	if (!gate_connect(s))
		return;
	session_greet(s);
	s->progress = true;
	for (;;) {
		bool more = session_process(s);
		if (!write_replies(s) || s->end != END_NOT)
			return;
		if (s->tls_call.control >= 0) {
			if (!starttls_finish(s))
				return;
			prepare_connection(s);
		}
		if (more)
			continue;
		if (s->wants_enqueuer)
			enqueuer_warm(s->enqueuer);
		s->wants_enqueuer = false;
		if (!fill(s))
			return;
	}
}

static void end_output(const struct session *s)
{
	if (s->peer->is_socket)
		shutdown(s->out, SHUT_WR);
}

/* A close with unread input would make the kernel throw away our last reply on its way. The line buffer has no other use any more. */
static void linger(struct session *s)
{
	deadline_t until = deadline_in(clock_monotonic_ms(), LINGER_MS);
	size_t total = 0;
	if (!s->peer->is_socket || shutdown(s->out, SHUT_WR) < 0)
		return;
	while (total < LINGER_OCTETS && io_wait_readable(s->in, until) > 0) {
		size_t room;
		linein_take(&s->lines, linein_rest(&s->lines).len);
		char *at = linein_space(&s->lines, &room);
		ssize_t n = recv(s->in, at, room, MSG_DONTWAIT);
		if (n <= 0)
			return;
		linein_fed(&s->lines, (size_t)n);
		total += (size_t)n;
	}
}

static void say_good_bye(struct session *s)
{
	switch (s->end) {
	case END_LOST:
		log_info("lost connection after %s from %s", s->verb, s->peer->text);
		return;
	case END_TIMEOUT:
		log_info("timeout after %s from %s", s->verb, s->peer->text);
		session_dismiss(s, END_TIMEOUT, "4.4.2", "Error: timeout exceeded");
		break;
	case END_STOPPED:
		session_dismiss(s, END_STOPPED, "4.3.2", "Service shutting down");
		break;
	case END_MEMORY:
		log_warn("out of memory after %s from %s", s->verb, s->peer->text);
		break;
	default:
		break;
	}
	/* After a timeout the client may not read either: what fits at once, no waiting. */
	if (s->replies.len > 0 && s->peer->is_socket)
		(void)!send(s->out, s->replies.at, s->replies.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	else if (s->replies.len > 0)
		write_replies(s);
}

/* "=2", or "=2/3" when not all were taken. */
static void add_count(struct str *out, uint32_t ok, uint32_t all)
{
	str_add_char(out, '=');
	str_add_u64(out, ok);
	if (ok == all)
		return;
	str_add_char(out, '/');
	str_add_u64(out, all);
}

static void log_disconnect(const struct session *s)
{
	struct str text = STR_INIT(1024);
	uint32_t ok = 0, all = 0;
	for (size_t i = 0; i <= command_rows; i++) {
		const struct command_count *c = &s->count[i];
		if (c->all == 0)
			continue;
		str_add_char(&text, ' ');
		for (const char *v = i < command_rows ? command_table[i].verb : "unknown"; *v != '\0'; v++)
			str_add_char(&text, (char)(*v | 0x20));
		add_count(&text, c->ok, c->all);
		ok += c->ok;
		all += c->all;
	}
	str_add_c(&text, " commands");
	add_count(&text, ok, all);
	log_info("disconnect from %s%s", s->peer->text, str_c(&text));
	str_free(&text);
}

static void session_run(struct session *s)
{
	prepare_connection(s);
	if (!proxy_begin(s))
		return;
	gate_name(s);
	log_info("connect from %s", s->peer->text);
	if (!role_row(s->role)->tls_at_once || starttls_at_once(s)) {
		if (s->tls.on)
			prepare_connection(s);
		dialog(s);
	}
	if (s->end == END_QUIT)
		end_output(s);
	receive_abandon(s);
	tls_call_abandon(&s->tls_call);
	if (s->state & ST_TRANSACTION)
		gate_reset(s);
	say_good_bye(s);
	gate_end(s);
	if (s->end != END_QUIT && s->end != END_LOST)
		linger(s);
	log_disconnect(s);
}

void session_serve(const struct session_start *start)
{
	static const char no_memory[] = "421 4.3.0 Out of memory\r\n";
	struct session *s = calloc(1, sizeof *s);
	if (s != NULL && session_init(s, start)) {
		session_run(s);
	} else {
		log_warn("out of memory for a session with %s", start->peer->text);
		(void)!write(start->out, no_memory, sizeof no_memory - 1);
	}
	if (s != NULL)
		session_free(s);
	free(s);
}
