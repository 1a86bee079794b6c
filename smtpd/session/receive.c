/* receive - smtpd's room: a message from DATA to its answer. See receive.h. */
#include "receive.h"

#include "smtpd/ask/filterask.h"
#include "smtpd/content/content.h"
#include "starttls.h"
#include "submission.h"
#include "xclient.h"

#include "common/envelope.h"
#include "common/exits.h"
#include "common/log.h"

#include <string.h>

#define TRACE_MAX (4096u + LETTER_HEAD_MAX)   /* fields of milters may stand before it */

/* ---- what goes before the message */

static void add_all(struct str *out, const char *const *texts)
{
	for (; *texts != NULL; texts++)
		str_add_c(out, *texts);
}

/* RFC 5321 4.4. The id is not known yet: its placeholder is as wide, queued puts it in. One recipient is named, several are
 * not: they may be hidden from each other. Everything of the client's in here was reduced to harmless octets before. */
static bool write_trace(const struct session *s, struct str *out, size_t *id_offset_r)
{
	if (s->content != NULL && !content_front(s->content, out))
		return false;
	const struct peer *p = s->peer;
	const char *from[] = { "from ", s->helo[0] ? s->helo : "unknown", " (", p->info, p->info[0] ? "@" : "", p->name,
		p->addr.family == AF_INET6 ? " [IPv6:" : " [", p->ip, "])\r\n\t", NULL };
	const char *with[] = { " with ", session_protocol(s), " id ", NULL };
	const char *one[] = { "\r\n\tfor <", s->mail.only_rcpt, ">", NULL };
	str_add_c(out, "Received: ");
	if (s->login[0] == '\0' || !s->settings->authhideclient) {
		add_all(out, from);
		starttls_trace(s, out);
	}
	str_add_c(out, "by ");
	str_add(out, s->settings->me);
	add_all(out, with);
	*id_offset_r = out->len;
	str_add_c(out, MSGID_PLACEHOLDER);
	if (s->mail.rcpt_count == 1)
		add_all(out, one);
	str_add_c(out, ";\r\n\t");
	clock_rfc5322(clock_wall_ms(), out);
	return str_add_c(out, "\r\n");
}

static bool write_envelope(const struct session *s, struct str *out)
{
	const struct transaction *mail = &s->mail;
	struct bytes message_id = bytes_of(s->message.message_id);
	return envelope_begin(out, &mail->sender)
		&& envelope_add_body_type(out, mail->body)
		&& (!mail->smtputf8 || envelope_add(out, 'U', (struct bytes){ 0 }))
		&& (mail->ret[0] == '\0' || envelope_add(out, 'R', bytes_of(mail->ret)))
		&& (mail->envid[0] == '\0' || envelope_add(out, 'E', bytes_of(mail->envid)))
		&& envelope_add(out, 'C', bytes_of(s->peer->text))
		&& (s->helo[0] == '\0' || envelope_add(out, 'H', bytes_of(s->helo)))
		&& envelope_add(out, 'P', bytes_of(session_protocol(s)))
		&& (s->login[0] == '\0' || envelope_add(out, 'A', bytes_of(s->login)))
		&& (message_id.len == 0 || envelope_add(out, 'M', message_id))
		&& (s->content == NULL || s->content->hold.len == 0 || envelope_add(out, 'Q', str_bytes(&s->content->hold)))
		&& str_add(out, str_bytes(&mail->recipients))
		&& envelope_end(out);
}

/* ---- begin */

void receive_start(struct session *s)
{
	s->data_began = clock_monotonic_ms();
	s->handed_over = s->no_memory = false;
	str_clear(&s->head);
	message_begin(&s->message, s->settings->databytes, s->settings->maxhops);
	s->message.binary = s->mail.body == BODY_BINARYMIME;
	authres_begin(&s->authres, s->settings->me);
	s->authres.over = xclient_is_trusted(s);
}

void receive_begin(struct session *s)
{
	receive_start(s);
	s->state = ST_DATA;
	session_reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
}

static void begin_message(struct session *s, bool traced, const struct str *trace, size_t id_offset)
{
	struct str envelope = STR_INIT(ENVELOPE_MAX);
	s->handed_over = true;
	if (!traced || !write_envelope(s, &envelope))
		s->no_memory = true;
	else
		enqueuer_begin(s->enqueuer, str_bytes(&envelope), str_bytes(trace), id_offset);
	str_free(&envelope);
}

/* The envelope carries the Message-ID, so it leaves when the header has been seen: usually with the first read, and at the
 * latest when so much of the message has come that it must move on. */
static void hand_over(struct session *s, bool header_is_whole)
{
	struct str trace = STR_INIT(TRACE_MAX);
	size_t id_offset = 0;
	bool traced = write_trace(s, &trace, &id_offset) && (s->login[0] == '\0' || !header_is_whole || submission_headers(s, &trace));
	if (s->message.headless)
		traced = traced && str_add_c(&trace, "\r\n");
	begin_message(s, traced, &trace, id_offset);
	str_free(&trace);
	if (s->head.len > 0 && !s->no_memory)
		enqueuer_body(s->enqueuer, &(struct bytes){ s->head.at, s->head.len }, 1);
	str_clear(&s->head);
}

/* ---- the data */

/* Small pieces before the end of the header are kept here; the rest goes on without being copied. */
static void forward(struct session *s, const struct bytes *spans, size_t count, bool ended)
{
	size_t total = 0;
	for (size_t i = 0; i < count; i++)
		total += spans[i].len;
	if (s->content != NULL) {
		content_octets(s, spans, count);
		return;
	}
	if (!s->handed_over && s->message.in_header && !ended && s->head.len + total <= RECEIVE_HEAD_MAX) {
		for (size_t i = 0; i < count; i++)
			if (!str_add(&s->head, spans[i]))
				s->no_memory = true;
		return;
	}
	if (!s->handed_over)
		hand_over(s, ended || !s->message.in_header);
	if (!s->no_memory)
		enqueuer_body(s->enqueuer, spans, count);
}

/* While the header lasts: what stays of it, in one piece, then what is behind it. */
static void filter(struct session *s, const struct bytes *spans, size_t count, bool ended)
{
	struct bytes rest = { NULL, 0 };
	size_t i = 0;
	str_clear(&s->filtered);
	for (; i < count && !s->authres.over; i++) {
		size_t used = authres_feed(&s->authres, spans[i], &s->filtered);
		rest = bytes_slice(spans[i], used, spans[i].len);
	}
	if (ended)
		authres_end(&s->authres, &s->filtered);
	if (s->filtered.failed) {
		s->no_memory = true;
		return;
	}
	struct bytes header = str_bytes(&s->filtered);
	bool more = rest.len > 0 || i < count;
	forward(s, &header, header.len > 0, ended && !more);
	if (rest.len > 0)
		forward(s, &rest, 1, ended && i == count);
	if (i < count)
		forward(s, spans + i, count - i, ended);
	if (s->authres.over)
		str_free(&s->filtered);
}

static void pass_on(struct session *s, const struct bytes *spans, size_t count, bool ended)
{
	if (s->no_memory || s->message.faults != 0)
		return;
	if (s->authres.over)
		forward(s, spans, count, ended);
	else
		filter(s, spans, count, ended);
}

/* A message that is already lost need not be carried to its end. */
static void drop_if_lost(struct session *s)
{
	if ((s->message.faults == 0 && !s->no_memory) || !s->handed_over)
		return;
	enqueuer_abort(s->enqueuer);
	s->handed_over = false;
	str_clear(&s->head);
}

void receive_octets(struct session *s, struct bytes octets, bool ended)
{
	pass_on(s, &octets, octets.len > 0, ended);
	drop_if_lost(s);
}

/* ---- the answer */

static void refuse_fault(struct session *s, enum message_fault fault)
{
	switch (fault) {
	case MESSAGE_BARE:
		session_reject(s, NULL, 554, "5.5.2", "The message has a CR or LF on its own: lines end with CR LF");
		break;
	case MESSAGE_NUL:
		session_reject(s, NULL, 554, "5.5.2", "The message has a NUL octet");
		break;
	case MESSAGE_LINE_LONG:
		session_reject(s, NULL, 554, "5.5.2", "The message has a line of more than %u octets", MESSAGE_LINE_MAX);
		break;
	case MESSAGE_LOOPS:
		session_reject(s, NULL, 554, "5.4.6", "Too many hops: the message goes round in a circle");
		break;
	default:
		session_reject(s, NULL, 552, "5.3.4", "Message size exceeds the limit of %llu octets", (unsigned long long)s->settings->databytes);
	}
}

static void answer_result(struct session *s, int result, msgid_t id)
{
	char text[MSGID_TEXT + 1];
	if (result == ENQ_OK && id == 0) {
		session_reply(s, 250, "2.0.0", "Ok: queued");
	} else if (result == ENQ_OK) {
		msgid_format(id, text);
		session_reply(s, 250, "2.0.0", "Ok: queued as %s", text);
	} else {
		struct outcome o = outcome_of_enqueue(result);
		char enhanced[16];
		struct str code = STR_INIT(sizeof enhanced - 1);
		enhanced_format(o.enhanced, &code);
		session_reject(s, NULL, o.code, str_c(&code), "%.*s", (int)o.text.len, o.text.at);
		str_free(&code);
	}
}

static void commit(struct session *s)
{
	msgid_t id = 0;
	int result = enqueuer_commit(s->enqueuer, &id);
	s->handed_over = false;
	if (result == ENQ_OK)
		s->idle_commands = 0;
	if (result == ENQ_OK && s->forwarded != NULL)
		log_msg(id, "forwarded by %s;%s", s->peer->text, xforward_words(s));
	if (result == ENQ_OK && s->authres.removed > 0)
		log_msg(id, "removed from the header: %u Authentication-Results: in our name; client %s", s->authres.removed, s->peer->text);
	answer_result(s, result, id);
}

/* It was kept aside and has passed its milters. What filters see is what goes to the queue, octet for octet. */
static void queue_judged(struct session *s)
{
	struct str trace = STR_INIT(TRACE_MAX);
	size_t id_offset = 0;
	bool traced = write_trace(s, &trace, &id_offset);
	if (!traced || filterask(s, str_bytes(&trace))) {
		begin_message(s, traced, &trace, id_offset);
		if (!s->no_memory && content_give(s->content, s->enqueuer)) {
			commit(s);
		} else {
			receive_abandon(s);
			session_reject(s, NULL, 451, "4.3.0", "The message cannot be kept now");
		}
	}
	str_free(&trace);
}

static void answer(struct session *s)
{
	enum message_fault fault = message_fault(&s->message);
	if (fault != MESSAGE_FINE) {
		refuse_fault(s, fault);
	} else if (s->no_memory) {
		session_dismiss(s, END_MEMORY, "4.3.0", "Out of memory");
	} else if (s->content == NULL) {
		commit(s);
	} else if (content_judge(s)) {
		queue_judged(s);
	}
	if (s->content != NULL)
		content_whole(s);
}

void receive_end(struct session *s)
{
	drop_if_lost(s);
	s->state = ST_GREETED;
	answer(s);
	session_data_ended(s);
}

void receive_data(struct session *s)
{
	struct bytes in = linein_rest(&s->lines), spans[ENQUEUER_SPANS];
	enum scan_result result = SCAN_PART;
	size_t taken = 0, count = 0;
	while (result == SCAN_PART && count < ENQUEUER_SPANS) {
		size_t used;
		result = message_scan(&s->message, bytes_slice(in, taken, in.len), &spans[count], &used);
		taken += used;
		if (spans[count].len > 0)
			count++;
	}
	pass_on(s, spans, count, result == SCAN_END);
	linein_take(&s->lines, taken);
	if (result == SCAN_END)
		receive_end(s);
	else
		drop_if_lost(s);
}

void receive_abandon(struct session *s)
{
	if ((s->content != NULL || (s->state & (ST_DATA | ST_CHUNK | ST_BDAT))) && s->handed_over)
		enqueuer_abort(s->enqueuer);
	s->handed_over = false;
}
