/*
 * enqueue_session - many messages of one smtpd, in records (10 to 18 of common/records.def). Room: queue (enqueue).
 *
 *   mail_begin  envelope_part*  body_part*  (mail_commit | mail_abort)
 *   mail_begin  envelope_part*  body_part*  mail_offer  (mail_answered | mail_unanswered)
 *
 * Every commit gets one mail_result, an abort none. A message that fails is still read to its commit, so that the answer comes where
 * it is waited for. The order is a table; what does not fit it ends the session, and so does the end of file anywhere.
 *
 * If fd 1 is a socket, the ack fifo's read end goes with each mail_result: who has it may say mail_offer, and read queued's answer himself.
 * Then there is a mail_result only if nothing was offered, or after mail_unanswered. smtpd/ask/enqueuer.h says how the wait changes hands; what it
 * rests on here is that a message which was offered is left as it is, file and all, until the caller says one of the two.
 */
#include "enqueue.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/io.h"
#include "common/passing.h"

_Static_assert(MAIL_OFFER_MAX < INTAKE_LARGE, "queued renames what it may be asked about");

struct session {
	const struct caller *caller;
	struct parcel *parcel;
	struct record_reader reader;
	struct str given;          /* the envelope as it comes */
	struct str envelope;       /* as it goes on */
	struct str answer;
	enum { IDLE = 1, OPEN = 2 /* between begin and commit */, OFFERED = 4 /* queued's answer goes to the caller */ } state;
	bool lends;                /* fd 1 can carry a descriptor */
	enum enqueue_exit fault;   /* of this message, before the parcel's */
	uint32_t id_offset;
};

static bool on_begin(struct session *s, struct bytes payload) {
	struct mail_begin begin;
	if (!mail_begin_decode(payload, &begin))
		return false;
	str_clear(&s->given);
	s->state = OPEN;
	s->fault = ENQ_OK;
	s->id_offset = begin.id_offset;
	parcel_begin(s->parcel);
	return true;
}

static bool on_envelope(struct session *s, struct bytes payload) {
	struct envelope_part part;
	if (!envelope_part_decode(payload, &part))
		return false;
	if (s->fault == ENQ_OK && !str_add(&s->given, part.octets))
		s->fault = s->given.len + part.octets.len > s->given.max ? ENQ_REFUSED : ENQ_OUT_OF_MEMORY;
	return true;
}

static bool on_body(struct session *s, struct bytes payload) {
	struct body_part part;
	if (!body_part_decode(payload, &part))
		return false;
	parcel_body(s->parcel, part.octets);
	return true;
}

/* An answer. With it goes the ack fifo that is kept: the next one's answer need not come through here. */
static bool answer(struct session *s, enum enqueue_exit code, msgid_t id) {
	struct mail_result result = { .result = (uint8_t)code, .id = id };
	s->state = IDLE;
	str_clear(&s->answer);
	if (!mail_result_encode(&result, &s->answer))
		return false;
	int ack = s->lends ? parcel_lend_ack(s->parcel) : -1;
	if (ack < 0)
		return io_write_full(1, s->answer.at, s->answer.len) == 0;
	bool good = passing_send(1, str_bytes(&s->answer), &ack, 1, 0);
	close(ack);
	return good;
}

/* The message is whole: is it what it claims to be? Its envelope, as it goes on, is in s->envelope. */
static enum enqueue_exit judge(struct session *s, uint64_t body_size) {
	enum enqueue_exit code = s->parcel->fault != ENQ_OK ? s->parcel->fault : s->fault;
	if (code == ENQ_OK && body_size != s->parcel->body_size)
		code = ENQ_READ_ERROR;
	if (code == ENQ_OK)
		code = caller_envelope(s->caller, str_bytes(&s->given), false, &s->envelope);
	if (code != ENQ_OK)
		parcel_drop(s->parcel);
	return code;
}

static bool on_commit(struct session *s, struct bytes payload) {
	struct mail_commit record;
	msgid_t id = 0;
	if (!mail_commit_decode(payload, &record))
		return false;
	enum enqueue_exit code = judge(s, record.body_size);
	if (code == ENQ_OK)
		code = parcel_send(s->parcel, str_bytes(&s->envelope), s->id_offset, &id);
	return answer(s, code, id);
}

/* Answered here only if nothing could be offered, or if queued may rename the file. */
static bool on_offer(struct session *s, struct bytes payload) {
	struct mail_offer record;
	msgid_t id = 0;
	if (!mail_offer_decode(payload, &record))
		return false;
	enum enqueue_exit code = judge(s, record.body_size);
	if (code != ENQ_OK)
		return answer(s, code, 0);
	bool offered = parcel_offer(s->parcel, str_bytes(&s->envelope), s->id_offset, record.token_b);
	if (offered && record.body_size <= MAIL_OFFER_MAX) {
		s->state = OFFERED;
		return true;
	}
	code = offered ? parcel_wait(s->parcel, &id) : s->parcel->fault;
	return answer(s, code, id);
}

/* In IDLE this has crossed our own answer on its way. */
static bool on_unanswered(struct session *s, struct bytes payload) {
	struct mail_unanswered record;
	msgid_t id = 0;
	if (!mail_unanswered_decode(payload, &record))
		return false;
	if (s->state == IDLE)
		return true;
	enum enqueue_exit code = parcel_wait(s->parcel, &id);
	return answer(s, code, id);
}

/* Believed only with what stood in the answer: he who could begin his next message while queued reads this one could put an envelope into the
 * file that nobody has judged. In IDLE it was meant for an enqueue before this one. */
static bool on_answered(struct session *s, struct bytes payload) {
	struct mail_answered record;
	if (!mail_answered_decode(payload, &record) || (s->state == OFFERED && !parcel_was_answered(s->parcel, record.token_a)))
		return false;
	s->state = IDLE;
	return true;
}

static bool on_abort(struct session *s, struct bytes payload) {
	struct mail_abort record;
	s->state = IDLE;
	parcel_drop(s->parcel);
	return mail_abort_decode(payload, &record);
}

static const struct verb {
	unsigned type;
	unsigned legal;                                    /* a set of states */
	bool (*act)(struct session *s, struct bytes payload);
} verbs[] = {
	{ REC_mail_begin, IDLE, on_begin },
	{ REC_envelope_part, OPEN, on_envelope },
	{ REC_body_part, OPEN, on_body },
	{ REC_mail_commit, OPEN, on_commit },
	{ REC_mail_offer, OPEN, on_offer },
	{ REC_mail_abort, OPEN, on_abort },
	{ REC_mail_unanswered, IDLE | OFFERED, on_unanswered },
	{ REC_mail_answered, IDLE | OFFERED, on_answered },
};

static bool act(struct session *s, const struct record *record) {
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (verbs[i].type == record->type)
			return (verbs[i].legal & s->state) && verbs[i].act(s, record->payload);
	return false;
}

static enum enqueue_exit serve(struct session *s) {
	struct record record;
	for (;;) {
		enum record_result got = record_reader_next(&s->reader, &record);
		if (got == RECORD_BAD || (got == RECORD_OK && !act(s, &record)))
			return ENQ_BAD_ENVELOPE;
		if (got == RECORD_OK)
			continue;
		ssize_t octets = record_reader_fill(&s->reader);
		if (octets == 0)
			return s->state == OPEN ? ENQ_READ_ERROR : ENQ_OK;
		if (octets < 0 && errno != EINTR)
			return ENQ_READ_ERROR;
	}
}

enum enqueue_exit enqueue_session(const struct caller *caller) {
	static struct parcel parcel;
	struct stat st;
	struct session s = { .caller = caller, .parcel = &parcel, .state = IDLE, .lends = fstat(1, &st) == 0 && S_ISSOCK(st.st_mode), .given = STR_INIT(ENVELOPE_MAX), .envelope = STR_INIT(ENVELOPE_MAX),
		.answer = STR_INIT(RECORD_MAX) };
	parcel_init(&parcel, caller->uid, false);
	record_reader_init(&s.reader, 0);
	enum enqueue_exit code = serve(&s);
	parcel_close(&parcel);
	record_reader_free(&s.reader);
	str_free(&s.given);
	str_free(&s.envelope);
	str_free(&s.answer);
	return code;
}
