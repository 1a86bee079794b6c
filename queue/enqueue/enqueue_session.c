/*
 * enqueue_session - many messages of one smtpd, in records (10 to 15 of common/records.def). Room: queue (enqueue).
 *
 *   mail_begin  envelope_part*  body_part*  (mail_commit | mail_abort)
 *
 * Every commit gets one mail_result, an abort none. A message that fails is still read to its commit, so that the answer comes where
 * it is waited for. The order is a table; what does not fit it ends the session, and so does the end of file anywhere.
 */
#include "enqueue.h"

#include <errno.h>

#include "common/channel.h"
#include "common/io.h"

struct session {
	const struct caller *caller;
	struct parcel *parcel;
	struct record_reader reader;
	struct str given;          /* the envelope as it comes */
	struct str envelope;       /* as it goes on */
	struct str answer;
	bool open;                 /* between begin and commit */
	enum enqueue_exit fault;   /* of this message, before the parcel's */
	uint32_t id_offset;
};

static bool on_begin(struct session *s, struct bytes payload) {
	struct mail_begin begin;
	if (!mail_begin_decode(payload, &begin))
		return false;
	str_clear(&s->given);
	s->open = true;
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

static bool answer(struct session *s, enum enqueue_exit code, msgid_t id) {
	struct mail_result result = { .result = (uint8_t)code, .id = id };
	str_clear(&s->answer);
	return mail_result_encode(&result, &s->answer) && io_write_full(1, s->answer.at, s->answer.len) == 0;
}

static enum enqueue_exit commit(struct session *s, uint64_t body_size, msgid_t *id_r) {
	enum enqueue_exit code = s->parcel->fault != ENQ_OK ? s->parcel->fault : s->fault;
	if (code == ENQ_OK && body_size != s->parcel->body_size)
		code = ENQ_READ_ERROR;
	if (code == ENQ_OK)
		code = caller_envelope(s->caller, str_bytes(&s->given), false, &s->envelope);
	if (code == ENQ_OK)
		return parcel_send(s->parcel, str_bytes(&s->envelope), s->id_offset, id_r);
	parcel_drop(s->parcel);
	return code;
}

static bool on_commit(struct session *s, struct bytes payload) {
	struct mail_commit record;
	msgid_t id = 0;
	if (!mail_commit_decode(payload, &record))
		return false;
	s->open = false;
	enum enqueue_exit code = commit(s, record.body_size, &id);
	return answer(s, code, id);
}

static bool on_abort(struct session *s, struct bytes payload) {
	struct mail_abort record;
	s->open = false;
	parcel_drop(s->parcel);
	return mail_abort_decode(payload, &record);
}

static const struct verb {
	unsigned type;
	bool open;                                         /* legal within a message, else only between two */
	bool (*act)(struct session *s, struct bytes payload);
} verbs[] = {
	{ REC_mail_begin, false, on_begin },
	{ REC_envelope_part, true, on_envelope },
	{ REC_body_part, true, on_body },
	{ REC_mail_commit, true, on_commit },
	{ REC_mail_abort, true, on_abort },
};

static bool act(struct session *s, const struct record *record) {
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (verbs[i].type == record->type)
			return verbs[i].open == s->open && verbs[i].act(s, record->payload);
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
			return s->open ? ENQ_READ_ERROR : ENQ_OK;
		if (octets < 0 && errno != EINTR)
			return ENQ_READ_ERROR;
	}
}

enum enqueue_exit enqueue_session(const struct caller *caller) {
	static struct parcel parcel;
	struct session s = { .caller = caller, .parcel = &parcel, .given = STR_INIT(ENVELOPE_MAX), .envelope = STR_INIT(ENVELOPE_MAX),
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
