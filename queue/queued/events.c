/* events - room: queue (queued). See events.h. */
#include "events.h"

#include <inttypes.h>

#include "common/log.h"

#define PROGRAM "queued"

/* ---- a message came ---- */

static void tell_origin(const struct store_event *e) {
	const struct row_message *m = e->message;
	if (m->client.len == 0) {
		log_program("pickup");
		log_msg(e->id, "uid=%" PRIu32 " from=<%s>", m->uid, log_text(m->sender));
		return;
	}
	log_program("smtpd");
	if (m->login.len > 0)
		log_msg(e->id, "client=%s, sasl_username=%s", log_text(m->client), log_text(m->login));
	else
		log_msg(e->id, "client=%s", log_text(m->client));
}

static void tell_accepted(const struct store_event *e) {
	const struct row_message *m = e->message;
	tell_origin(e);
	log_program("cleanup");
	log_msg(e->id, "message-id=%s", m->message_id.len > 0 ? log_text(m->message_id) : "<>");
	log_program("qmgr");
	log_msg(e->id, "from=<%s>, size=%" PRIu64 ", nrcpt=%" PRIu32 " (queue %s)", log_text(m->sender), m->body_size, m->rcpt_count, m->held_ms != 0 ? "hold" : "active");
	if (m->held_ms != 0)
		log_msg(e->id, "held by %s: %s", log_text(m->held_by), log_text(m->held_reason));
}

/* ---- a recipient's attempt ended ---- */

/* Postfix's way: whole seconds from 100 on, else two figures that say something. */
static void add_seconds(struct str *out, uint64_t ms) {
	if (ms >= 100 * SECOND_MS)
		str_addf(out, "%" PRIu64, ms / SECOND_MS);
	else if (ms >= 10 * SECOND_MS || ms % SECOND_MS == 0)
		str_addf(out, "%" PRIu64, (ms + 500) / SECOND_MS);
	else if (ms >= SECOND_MS)
		str_addf(out, "%" PRIu64 ".%" PRIu64, ms / SECOND_MS, ms % SECOND_MS / 100);
	else
		str_addf(out, "0.%02" PRIu64, ms / 10);
}

static uint64_t since(wall_ms_t from, wall_ms_t to) {
	return to > from ? to - from : 0;
}

static void add_delays(struct str *out, const struct events *ev, const struct store_event *e) {
	wall_ms_t arrival = e->message->arrival_ms, handed = ev->handed ? ev->handed : ev->now;
	str_add_c(out, "delay=");
	add_seconds(out, since(arrival, ev->now));
	str_add_c(out, ", delays=0/");
	add_seconds(out, since(arrival, handed));
	str_add_c(out, "/0/");
	add_seconds(out, since(handed, ev->now));
}

/* The port that a relay of smtproutes names stands behind its name in the destination; an MX has the usual one. */
static uint64_t port_of(const struct events *ev, struct bytes destination) {
	size_t colon = bytes_find_last(destination, ':');
	uint64_t number;
	if (colon > 1 && colon < destination.len && bytes_to_u64(bytes_slice(destination, colon + 1, destination.len), 65535, &number))
		return number;
	return ev->settings->remoteport;
}

static void add_relay(struct str *out, const struct events *ev, const struct store_event *e) {
	if (e->channel == CHANNEL_LOCAL)
		str_add_c(out, "relay=local");
	else if (e->row->host.len == 0)
		str_add_c(out, "relay=none");
	else
		str_addf(out, "relay=%s[%s]:%" PRIu64, log_text(e->row->host), log_text(e->row->ip), port_of(ev, e->row->destination));
}

static void add_dsn(struct str *out, const struct row_rcpt *row) {
	struct enhanced given = { row->e_class, row->e_subject, row->e_detail };
	enum verdict verdict = row->verdict == V_OK ? V_OK : row->verdict == V_PERM ? V_PERM : V_TEMP;
	str_add_c(out, ", dsn=");
	enhanced_format(enhanced_or_default(given, verdict), out);
}

static const char *status_of(const struct store_event *e) {
	if (e->kind == EVENT_EXPIRED)
		return "expired";
	switch (e->row->verdict) {
	case V_OK: return "sent";
	case V_PERM: return "bounced";
	default: return "deferred";
	}
}

static void tell_recipient(const struct events *ev, const struct store_event *e) {
	struct str line = STR_INIT(2000);
	str_addf(&line, "to=<%s>, ", log_text(e->row->address));
	add_relay(&line, ev, e);
	str_add_c(&line, ", ");
	add_delays(&line, ev, e);
	add_dsn(&line, e->row);
	str_addf(&line, ", status=%s (%s)", status_of(e), log_text(e->row->text));
	log_program(e->channel == CHANNEL_LOCAL ? "local" : "smtp");
	log_msg(e->id, "%s", str_c(&line));
	str_free(&line);
}

/* ---- the rest ---- */

static void tell_bounced(const struct store_event *e) {
	char bounce[MSGID_TEXT + 1];
	const char *kind = e->action == DSN_FAILED ? "non-delivery" : e->action == DSN_DELAYED ? "delay" : "delivery status";
	msgid_format(e->bounce, bounce);
	log_program("bounce");
	log_msg(e->id, "sender %s notification: %s", kind, bounce);
}

static void tell_queue(msgid_t id, const char *what, struct bytes text) {
	log_program("qmgr");
	log_msg(id, "%s%s%s", what, text.len > 0 ? ": " : "", log_text(text));
}

void events_write(void *context, const struct store_event *event) {
	const struct events *ev = context;
	switch (event->kind) {
	case EVENT_ACCEPTED: tell_accepted(event); break;
	case EVENT_RESULT:
	case EVENT_EXPIRED: tell_recipient(ev, event); break;
	case EVENT_BOUNCED: tell_bounced(event); break;
	case EVENT_DROPPED: tell_queue(event->id, "failed recipients dropped, nobody is to be told", event->text); break;
	case EVENT_OPERATED: tell_queue(event->id, "operator", event->text); break;
	case EVENT_FINISHED: tell_queue(event->id, "removed", (struct bytes){ 0 }); break;
	case EVENT_QUARANTINED: log_error("a damaged record of the message log was set aside: %s", log_text(event->text)); break;
	}
	log_program(PROGRAM);
}
