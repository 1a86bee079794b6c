/* guardask - smtpd's room: asking guard. See guardask.h. */
#include "guardask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guardreply.h"
#include "seldom.h"
#include "smtpd/session/session.h"

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/sibling.h"

#define QUESTION_MAX 2048u

static bool is_needed(const struct session *s, enum guard_event event)
{
	return s->guard != NULL && guard_needs_event(&s->access->guard, s->login[0] != '\0', s->may_relay, event);
}

/* ---- the socket */

void guardask_init(struct guardask *g)
{
	*g = (struct guardask){ .fd = -1 };
}

static void hang_up(struct guardask *g)
{
	if (g->fd < 0)
		return;
	record_reader_free(&g->in);
	close(g->fd);
	g->fd = -1;
	g->told = false;
}

void guardask_free(struct guardask *g)
{
	hang_up(g);
}

/* No answer is to be had. */
static void away(struct guardask *g, const char *why)
{
	hang_up(g);
	if (seldom("guard", (struct bytes){ NULL, 0 }))
		log_warn("guard %s: sessions go on without limits, bans and greylisting", why);
}

static bool connect_to_guard(struct guardask *g)
{
	g->fd = sibling_connect(SOCKET_GUARD, ACCOUNT_GUARD, GUARDASK_TIMEOUT_MS);
	if (g->fd >= 0 && io_set_nonblocking(g->fd, true) == 0) {
		record_reader_init(&g->in, g->fd);
		return true;
	}
	int error = errno;
	if (g->fd >= 0)
		close(g->fd);
	g->fd = -1;
	if (error == EAGAIN)
		g->away_until = deadline_in(clock_monotonic_ms(), GUARDASK_PAUSE_MS);
	away(g, error == EPERM ? "has a socket that belongs to somebody else" : strerror(error));
	return false;
}

static void fill_in(const struct session *s, enum guard_event event, struct guard_ask *ask)
{
	ask->event = (uint8_t)event;
	ask->relay = s->may_relay;
	ask->errors = s->errors - s->guard->errors_told;
	ask->octets = s->octets - s->guard->octets_told;
	ask->client = s->peer->addr.family != 0 ? bytes_of(s->peer->ip) : (struct bytes){ NULL, 0 };
	ask->name = strcmp(s->peer->name, "unknown") != 0 ? bytes_of(s->peer->name) : (struct bytes){ NULL, 0 };
	ask->login = bytes_of(s->login);
}

static bool send_question(struct guardask *g, const struct guard_ask *ask, deadline_t deadline)
{
	struct str text = STR_INIT(QUESTION_MAX);
	bool sent = guard_ask_encode(ask, &text) && io_write_by(g->fd, text.at, text.len, deadline) == 0;
	str_free(&text);
	return sent;
}

static void note_told(struct session *s)
{
	s->guard->told = true;
	s->guard->errors_told = s->errors;
	s->guard->octets_told = s->octets;
}

static bool take_answer(struct guardask *g, const struct record *record, struct guard_answer *answer_r)
{
	bool good = guardreply_take(record, answer_r);
	if (!good)
		away(g, "answered nonsense");
	return good;
}

/* True: an answer. A socket from a session before may have lost its guard: the question is put to the next one then, once. */
static bool ask(struct session *s, struct guard_ask *question, struct guard_answer *answer_r)
{
	struct guardask *g = s->guard;
	struct record record;
	deadline_t now = clock_monotonic_ms(), deadline = deadline_in(now, GUARDASK_TIMEOUT_MS);
	if (g->away_until != 0 && !deadline_passed(g->away_until, now))
		return false;
	g->away_until = 0;
	for (bool kept = g->fd >= 0;; kept = false) {
		if (g->fd < 0 && !connect_to_guard(g))
			return false;
		int got = send_question(g, question, deadline) ? record_reader_wait(&g->in, &record, deadline) : errno == ETIMEDOUT ? -1 : 0;
		while (got < 0 && errno == EINTR)
			got = record_reader_wait(&g->in, &record, deadline);
		if (got == 1) {
			note_told(s);
			return take_answer(g, &record, answer_r);
		}
		bool slow = got < 0 && errno == ETIMEDOUT;
		if (slow)
			g->away_until = deadline_in(clock_monotonic_ms(), GUARDASK_PAUSE_MS);
		if (slow || !kept) {
			away(g, slow ? "does not answer in time" : "went away");
			return false;
		}
		hang_up(g);
	}
}

/* ---- refusals */

/* guard is not told of a refusal of its own as an error of the client's: he would be refused for having been refused. */
static void refuse(struct session *s, const char *check, const char *rcpt, unsigned code, const char *enhanced, const char *text)
{
	session_reject_log(s, check, "reject", rcpt, code, enhanced, text);
	session_reply(s, code, enhanced, "%s", text);
	s->guard->errors_told++;
}

static void send_away(struct session *s, const char *check, const char *text)
{
	char whole[400];
	snprintf(whole, sizeof whole, "%.*s %s", (int)s->settings->me.len, s->settings->me.at, text);
	refuse(s, check, NULL, 421, "4.7.0", whole);
	s->end = END_REFUSED;
}

/* True: go on. */
static bool carry_out(struct session *s, enum guard_event event, const char *rcpt, const struct guard_answer *a)
{
	struct str text = STR_INIT(300);
	struct guard_reply r;
	bool refused = guardreply_of(event, a, &r, &text) && !r.only_logged;
	if (refused && r.ends_session)
		send_away(s, r.check, str_c(&text));
	else if (refused)
		refuse(s, r.check, rcpt, r.code, r.enhanced, str_c(&text));
	else if (text.len > 0)
		session_reject_log(s, r.check, "reject_warning", rcpt, r.code, r.enhanced, str_c(&text));
	str_free(&text);
	return !refused;
}

/* ---- the session's questions */

bool guardask_connect(struct session *s)
{
	struct guard_ask question = { 0 };
	struct guard_answer answer;
	if (s->guard != NULL) {   /* a new session, or another client (XCLIENT): what was done before is not his */
		s->guard->errors_told = s->errors;
		s->guard->octets_told = s->octets;
	}
	if (!is_needed(s, GUARD_CONNECT))
		return true;
	fill_in(s, GUARD_CONNECT, &question);
	return !ask(s, &question, &answer) || carry_out(s, GUARD_CONNECT, NULL, &answer);
}

bool guardask_mail(struct session *s, const struct mailaddr *sender)
{
	struct guard_ask question = { .sender = sender->text };
	struct guard_answer answer;
	if (!is_needed(s, GUARD_MAIL))
		return true;
	fill_in(s, GUARD_MAIL, &question);
	return !ask(s, &question, &answer) || carry_out(s, GUARD_MAIL, NULL, &answer);
}

bool guardask_rcpt(struct session *s, const struct mailaddr *rcpt)
{
	struct guard_ask question = { .sender = str_bytes(&s->mail.sender_text), .recipient = rcpt->text };
	struct guard_answer answer;
	char to[ADDRESS_MAX + 1];
	if (!is_needed(s, GUARD_RCPT) || !bytes_to_cstring(rcpt->text, to, sizeof to))
		return true;
	fill_in(s, GUARD_RCPT, &question);
	return !ask(s, &question, &answer) || carry_out(s, GUARD_RCPT, to, &answer);
}

/* A client that leaves meanwhile keeps no process. */
static void wait_with(const struct session *s, uint64_t ms)
{
	struct pollfd client = { .fd = s->peer->is_socket ? s->in : -1, .events = POLLRDHUP };
	deadline_t now = clock_monotonic_ms(), until = deadline_in(now, ms);
	while (!deadline_passed(until, now) && (s->stop == NULL || *s->stop == 0)) {
		if (poll(&client, 1, deadline_poll_ms(until, now)) > 0)
			return;
		now = clock_monotonic_ms();
	}
}

void guardask_unknown(struct session *s)
{
	struct guard_ask question = { 0 };
	struct guard_answer answer;
	if (!is_needed(s, GUARD_UNKNOWN))
		return;
	fill_in(s, GUARD_UNKNOWN, &question);
	if (!ask(s, &question, &answer) || !carry_out(s, GUARD_UNKNOWN, NULL, &answer) || answer.verdict != GUARD_TARPIT)
		return;
	log_info("tarpit: RCPT from %s answered %u ms late; %llu unknown recipients within %us (tarpitafter %llu)", s->peer->text, answer.delay_ms,
		(unsigned long long)answer.count, answer.window_s, (unsigned long long)answer.limit);
	wait_with(s, answer.delay_ms);
}

void guardask_end(struct session *s)
{
	struct guard_ask question = { 0 };
	if (s->guard == NULL || !s->guard->told || s->guard->fd < 0)
		return;
	fill_in(s, GUARD_END, &question);
	s->guard->told = false;
	/* No waiting here: a guard that does not take it is told by the end of the socket. */
	if (!send_question(s->guard, &question, clock_monotonic_ms()))
		hang_up(s->guard);
}
