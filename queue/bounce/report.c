/* report - room: queue (bounce). See report.h. */
#include "report.h"

#include <inttypes.h>

#include "common/envelope.h"
#include "common/verdict.h"
#include "clean.h"

#define FIELD_OCTETS 900u     /* RFC 5322 2.1.1: a line has at most 998 */

/* ---- survey ---- */

void survey_init(struct survey *s, const char *boundary) {
	*s = (struct survey){ .boundary = boundary, .line_is_empty = true };
}

/* '=' stands at the boundary's beginning and nowhere else in it, so a mismatch can only begin anew. */
static void match_boundary(struct survey *s, char c) {
	if (c != s->boundary[s->matched])
		s->matched = 0;
	if (c == s->boundary[s->matched])
		s->matched++;
	if (s->boundary[s->matched] == 0) {
		s->has_boundary = true;
		s->matched = 0;
	}
}

static void follow_header(struct survey *s, char c) {
	if (c == '\n' && s->line_is_empty) {
		s->header_ended = true;
		return;
	}
	if (c == '\n')
		s->header_size = s->size;
	if (c != '\r')
		s->line_is_empty = c == '\n';
	if ((unsigned char)c > 127)
		s->eight_bit_header = true;
}

void survey_feed(struct survey *s, struct bytes octets) {
	for (size_t i = 0; i < octets.len; i++) {
		char c = octets.at[i];
		s->size++;
		match_boundary(s, c);
		if ((unsigned char)c > 127)
			s->eight_bit = true;
		if (!s->header_ended)
			follow_header(s, c);
	}
}

/* ---- what kind ---- */

static uint32_t count_action(const struct report *r, enum dsn_action action) {
	uint32_t count = 0;
	for (uint32_t i = 0; i < r->begin->rcpt_count; i++)
		count += r->rcpts[i].action == action;
	return count;
}

bool report_has_failure(const struct report *r) {
	return count_action(r, DSN_FAILED) > 0;
}

enum report_original report_choice(const struct report *r, uint64_t max_bytes) {
	if (r->begin->body_size > max_bytes || bytes_equal_nocase(r->begin->ret, LIT("HDRS")) || !report_has_failure(r))
		return ORIGINAL_HEADER;
	return ORIGINAL_WHOLE;
}

bool report_is_utf8(const struct report *r) {
	return r->begin->smtputf8 || mailaddr_is_utf8(&r->to);
}

bool report_is_8bit(const struct report *r) {
	return r->eight_bit || report_is_utf8(r);
}

/* ---- the pieces ---- */

static void add_boundary(const struct report *r, struct str *out, const char *end) {
	str_add_c(out, "\r\n--");
	str_add_c(out, r->boundary);
	str_add_c(out, end);
	str_add_c(out, "\r\n");
}

static void add_date(struct str *out, const char *field, wall_ms_t at) {
	str_add_c(out, field);
	clock_rfc5322(at, out);
	str_add_c(out, "\r\n");
}

static void add_id(struct str *out, msgid_t id) {
	char text[MSGID_TEXT + 1];
	msgid_format(id, text);
	str_add_c(out, text);
}

static void add_message_id(const struct report *r, struct str *out) {
	str_add_char(out, '<');
	add_id(out, r->begin->id);
	str_addf(out, ".%" PRIu32 ".bounce@", r->begin->batch);
	str_add(out, r->from_host);
	str_add_char(out, '>');
}

static const char *subject(const struct report *r) {
	if (r->is_double)
		return "Undelivered mail of this system";
	if (report_has_failure(r))
		return "Your mail was not delivered";
	if (count_action(r, DSN_DELAYED) > 0)
		return "Your mail is delayed";
	return count_action(r, DSN_RELAYED) > 0 ? "Your mail was passed on" : "Your mail was delivered";
}

static void add_header(const struct report *r, struct str *out) {
	add_date(out, "Date: ", r->now);
	str_add_c(out, "From: Mail Delivery System <");
	clean_text(out, r->from_local, false);
	str_add_char(out, '@');
	str_add(out, r->from_host);
	str_add_c(out, ">\r\nTo: <");
	str_add(out, r->to.text);
	str_add_c(out, ">\r\nSubject: ");
	str_add_c(out, subject(r));
	str_add_c(out, "\r\nMessage-ID: ");
	add_message_id(r, out);
	str_add_c(out, "\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"");
	str_add_c(out, r->boundary);
	str_add_c(out, "\"\r\n");
	if (report_is_8bit(r))
		str_add_c(out, "Content-Transfer-Encoding: 8bit\r\n");
	str_add_c(out, "\r\nThis is a delivery report in MIME format (RFC 3464).\r\n");
}

/* ---- the part for people ---- */

/* An address as a person reads it. */
static void add_address(const struct report *r, struct str *out, struct bytes address) {
	clean_text(out, address, report_is_utf8(r));
}

static bool starts_with_code(struct bytes text, unsigned code) {
	uint64_t n;
	return text.len >= 3 && bytes_to_u64(bytes_slice(text, 0, 3), 999, &n) && n == code;
}

/* The reply's code, unless its text has it. */
static void add_code(struct str *line, const struct bounce_rcpt *rcpt) {
	if (rcpt->code != 0 && !starts_with_code(rcpt->text, rcpt->code))
		str_addf(line, "%03u ", (unsigned)rcpt->code);
}

/* "host said: reply" or our own reason, folded and indented. */
static void add_reason(const struct report *r, struct str *out, const struct bounce_rcpt *rcpt) {
	struct str line = STR_INIT(4096);
	if (rcpt->code != 0 && rcpt->host.len > 0) {
		clean_text(&line, rcpt->host, false);
		str_add_c(&line, " said: ");
	}
	add_code(&line, rcpt);
	if (rcpt->text.len > 0)
		clean_text(&line, rcpt->text, report_is_utf8(r));
	else
		str_add_c(&line, "no reason is known");
	str_add_c(out, "    ");
	clean_fold(out, str_bytes(&line), 4, "    ");
	str_add_c(out, "\r\n");
	str_free(&line);
}

static void add_opening(const struct report *r, struct str *out) {
	str_add_c(out, "This is the mail server at ");
	str_add(out, r->me);
	if (r->is_double)
		str_add_c(out, ".\r\n\r\nA message without a return path, which came on ");
	else
		str_add_c(out, ".\r\n\r\nYour message, which came on ");
	clock_rfc5322(r->begin->arrival_ms, out);
	str_add_c(out, ",\r\n");
}

/* The recipients of one kind, and before them what became of the message. `first`: the sentence was begun by add_opening. */
static void add_people(const struct report *r, struct str *out, enum dsn_action action, bool first) {
	static const char *const said[DSN_ACTIONS][2] = {
		[DSN_FAILED] = { "could not be delivered to the address", ", and will not be tried again.\r\n" },
		[DSN_DELIVERED] = { "was delivered to the address", ". You asked to be told.\r\n" },
		[DSN_DELAYED] = { "could not be delivered yet to the address", ".\r\nThis is only a warning: you need do nothing, and should not send it again.\r\nIt is tried until " },
		[DSN_RELAYED] = { "was passed on, for the address", ", to a server that gives no reports.\r\nYou will not hear from it when it delivers the message.\r\n" },
	};
	uint32_t count = count_action(r, action);
	if (count == 0)
		return;
	str_add_c(out, first ? "" : "\r\nIt ");
	str_add_c(out, said[action][0]);
	str_add_c(out, count > 1 ? "es below" : " below");
	str_add_c(out, said[action][1]);
	if (action == DSN_DELAYED)
		add_date(out, "", r->retry_until);
	for (uint32_t i = 0; i < r->begin->rcpt_count; i++) {
		if (r->rcpts[i].action != action)
			continue;
		str_add_c(out, "\r\n<");
		add_address(r, out, r->rcpts[i].address);
		str_add_c(out, ">:\r\n");
		add_reason(r, out, &r->rcpts[i]);
	}
}

static void add_closing(const struct report *r, struct str *out) {
	str_add_c(out, "\r\nIts number here was ");
	add_id(out, r->begin->id);
	str_add_c(out, ". The postmaster of ");
	str_add(out, r->me);
	str_add_c(out, "\r\ncan find it by that. Details for programs follow");
	if (r->original == ORIGINAL_WHOLE)
		str_add_c(out, ", then the message.\r\n");
	else if (r->original == ORIGINAL_HEADER)
		str_add_c(out, ", then its header.\r\n");
	else
		str_add_c(out, ". The message\r\nitself could not be read any more.\r\n");
}

static void add_text_part(const struct report *r, struct str *out) {
	bool utf8 = report_is_utf8(r);
	add_boundary(r, out, "");
	str_add_c(out, utf8 ? "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
		: "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
	add_opening(r, out);
	size_t begin = out->len;
	for (unsigned action = 0; action < DSN_ACTIONS; action++)
		add_people(r, out, (enum dsn_action)action, out->len == begin);
	add_closing(r, out);
}

/* ---- the part for programs ---- */

static bool is_ascii(struct bytes b) {
	for (size_t i = 0; i < b.len; i++)
		if ((unsigned char)b.at[i] > 127)
			return false;
	return true;
}

/* RFC 3464 2.3.2; RFC 6533 3: an address with UTF-8 has the type utf-8, raw in a message/global-delivery-status and as xtext else. One whose
 * xtext would be longer than a line may be is written with question marks, as one that is no UTF-8. */
static void add_final_recipient(const struct report *r, struct str *out, struct bytes address) {
	size_t begin = out->len;
	bool utf8 = !is_ascii(address);
	str_add_c(out, utf8 ? "Final-Recipient: utf-8; " : "Final-Recipient: rfc822; ");
	if (!utf8 || report_is_utf8(r))
		add_address(r, out, address);
	else if (!clean_utf8_xtext(out, address) || out->len - begin > FIELD_OCTETS) {
		str_truncate(out, begin);
		str_add_c(out, "Final-Recipient: rfc822; ");
		add_address(r, out, address);
	}
	str_add_c(out, "\r\n");
}

static bool is_atom(struct bytes b) {
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] <= ' ' || b.at[i] > '~' || b.at[i] == ';' || b.at[i] == ':')
			return false;
	return b.len > 0;
}

/* RFC 3461 6.3 (c): the ORCPT value as it was before it became xtext. One that cannot stand in a field is left out. */
static void add_original_recipient(const struct report *r, struct str *out, struct bytes orcpt) {
	size_t begin = out->len;
	struct bytes type = bytes_cut(&orcpt, ';');
	if (!is_atom(type) || orcpt.len == 0)
		return;
	str_add_c(out, "Original-Recipient: ");
	str_add(out, type);
	str_add_c(out, "; ");
	if (clean_from_xtext(out, orcpt, report_is_utf8(r)))
		str_add_c(out, "\r\n");
	else
		str_truncate(out, begin);
}

/* RFC 3464 2.3.6: "smtp; 550 5.1.1 ..." for what another host said, our own words under a type of our own. */
static void add_diagnostic(const struct report *r, struct str *out, const struct bounce_rcpt *rcpt) {
	struct str line = STR_INIT(4096);
	if ((rcpt->code == 0 && rcpt->text.len == 0) || rcpt->action == DSN_DELIVERED)
		return;
	str_add_c(&line, rcpt->code != 0 ? "smtp; " : "X-Tappal; ");
	add_code(&line, rcpt);
	clean_text(&line, rcpt->text, report_is_utf8(r));
	str_add_c(out, "Diagnostic-Code: ");
	clean_fold(out, bytes_trim(str_bytes(&line)), 17, "    ");
	str_add_c(out, "\r\n");
	str_free(&line);
}

static void add_recipient(const struct report *r, struct str *out, const struct bounce_rcpt *rcpt) {
	struct enhanced e = { .class = rcpt->e_class, .subject = rcpt->e_subject, .detail = rcpt->e_detail };
	bool delayed = rcpt->action == DSN_DELAYED;
	/* What was put off in spite of a 5xx, like one to the greeting, is no failure yet. */
	if (delayed && e.class != 4)
		e.class = 0;
	str_add_c(out, "\r\n");
	add_original_recipient(r, out, rcpt->orcpt);
	add_final_recipient(r, out, rcpt->address);
	str_addf(out, "Action: %s\r\nStatus: ", dsn_action_name(rcpt->action));
	enhanced_format(enhanced_or_default(e, rcpt->action == DSN_FAILED ? V_PERM : delayed ? V_TEMP : V_OK), out);
	str_add_c(out, "\r\n");
	if (is_atom(rcpt->host)) {
		str_add_c(out, "Remote-MTA: dns; ");
		str_add(out, rcpt->host);
		str_add_c(out, "\r\n");
	}
	add_diagnostic(r, out, rcpt);
	if (rcpt->last_try_ms > 0)
		add_date(out, "Last-Attempt-Date: ", rcpt->last_try_ms);
	if (delayed)
		add_date(out, "Will-Retry-Until: ", r->retry_until);
}

static void add_status_part(const struct report *r, struct str *out) {
	size_t begin;
	add_boundary(r, out, "");
	str_add_c(out, report_is_utf8(r) ? "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
		: "Content-Type: message/delivery-status\r\n\r\n");
	begin = out->len;
	str_add_c(out, "Original-Envelope-Id: ");
	if (r->begin->envid.len > 0 && clean_from_xtext(out, r->begin->envid, false))
		str_add_c(out, "\r\n");
	else
		str_truncate(out, begin);
	str_add_c(out, "Reporting-MTA: dns; ");
	str_add(out, r->me);
	str_add_c(out, "\r\n");
	add_date(out, "Arrival-Date: ", r->begin->arrival_ms);
	str_add_c(out, "X-Tappal-Queue-Id: ");
	add_id(out, r->begin->id);
	str_add_c(out, "\r\n");
	for (uint32_t i = 0; i < r->begin->rcpt_count; i++)
		add_recipient(r, out, &r->rcpts[i]);
}

/* ---- the part that holds the original ---- */

static void add_original_head(const struct report *r, struct str *out) {
	bool utf8 = r->begin->smtputf8;
	add_boundary(r, out, "");
	str_add_c(out, "Content-Description: ");
	if (!report_has_failure(r))
		str_add_c(out, "Header of the message\r\nContent-Type: ");
	else
		str_add_c(out, r->original == ORIGINAL_WHOLE ? "Undelivered message\r\nContent-Type: " : "Header of the undelivered message\r\nContent-Type: ");
	if (r->original == ORIGINAL_WHOLE)
		str_add_c(out, utf8 ? "message/global\r\n" : "message/rfc822\r\n");
	else
		str_add_c(out, utf8 ? "message/global-headers\r\n" : "text/rfc822-headers\r\n");
	if (r->eight_bit)
		str_add_c(out, "Content-Transfer-Encoding: 8bit\r\n");
	str_add_c(out, "\r\n");
}

bool report_begin(const struct report *r, struct str *out) {
	add_header(r, out);
	add_text_part(r, out);
	add_status_part(r, out);
	if (r->original != ORIGINAL_NONE)
		add_original_head(r, out);
	return !out->failed;
}

bool report_end(const struct report *r, struct str *out) {
	add_boundary(r, out, "--");
	return !out->failed;
}

bool report_envelope(const struct report *r, struct str *out) {
	static const struct mailaddr nobody = { .kind = ADDR_NULL };
	char id[MSGID_TEXT + 1];
	struct str batch = STR_INIT(40), message_id = STR_INIT(ENVELOPE_VALUE_MAX);
	msgid_format(r->begin->id, id);
	add_message_id(r, &message_id);
	str_addf(&batch, "%s %" PRIu32, id, r->begin->batch);
	bool ok = !batch.failed && envelope_begin(out, &nobody);
	if (ok && report_is_8bit(r))
		ok = envelope_add(out, 'B', LIT(""));
	if (ok && report_is_utf8(r))
		ok = envelope_add(out, 'U', LIT(""));
	if (ok && message_id.len <= ENVELOPE_ID_MAX)
		ok = envelope_add(out, 'M', str_bytes(&message_id));
	ok = ok && envelope_add(out, 'X', str_bytes(&batch)) && envelope_add_rcpt(out, &r->to) && envelope_end(out);
	str_free(&batch);
	str_free(&message_id);
	return ok && !out->failed;
}
