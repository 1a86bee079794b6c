/* flight - room: queue (spawn). See flight.h. */
#include "flight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "queue/places.h"

#define RESULT_MAX 1700u     /* the longest result record, and some */
#define RCPT_MAX 1600u
#define JOB_MAX 2000u
#define CODE_MAX 999u

/* ---- lists ---- */

void flights_init(struct flights *list) {
	*list = (struct flights){ NULL, NULL, 0 };
	list->end = &list->first;
}

void flights_push(struct flights *list, struct flight *f) {
	f->next = NULL;
	*list->end = f;
	list->end = &f->next;
	list->count++;
}

void flights_push_front(struct flights *list, struct flight *f) {
	f->next = list->first;
	list->first = f;
	if (!f->next)
		list->end = &f->next;
	list->count++;
}

struct flight *flights_pop(struct flights *list) {
	struct flight *f = list->first;
	if (!f)
		return NULL;
	list->first = f->next;
	if (!list->first)
		list->end = &list->first;
	list->count--;
	f->next = NULL;
	return f;
}

void flights_append(struct flights *list, struct flights *tail) {
	if (!tail->first)
		return;
	*list->end = tail->first;
	list->end = tail->end;
	list->count += tail->count;
	flights_init(tail);
}

void flights_free(struct flights *list) {
	for (struct flight *f; (f = flights_pop(list)) != NULL;)
		flight_free(f);
}

/* ---- a flight ---- */

static bool job_makes_sense(const struct job *job) {
	return job->id != 0 && job->id <= MSGID_MAX && job->rcpt_count > 0 && job->rcpt_count <= FLIGHT_RCPT_MAX && job->destination.len > 0;
}

struct flight *flight_begin(const struct job *job) {
	if (!job_makes_sense(job)) {
		errno = EPROTO;
		return NULL;
	}
	struct flight *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->body = (struct body)BODY_INIT;
	f->job = *job;
	f->rcpts = calloc(job->rcpt_count, sizeof *f->rcpts);
	str_init(&f->orders, JOB_MAX + (size_t)job->rcpt_count * RCPT_MAX);
	str_init(&f->results, (size_t)(job->rcpt_count + 2) * RESULT_MAX);
	if (!f->rcpts || !job_encode(job, &f->orders)) {
		flight_free(f);
		errno = ENOMEM;
		return NULL;
	}
	return f;
}

void flight_free(struct flight *f) {
	if (!f)
		return;
	body_close(&f->body);
	str_free(&f->orders);
	str_free(&f->results);
	free(f->rcpts);
	free(f->box);
	free(f);
}

static struct flight_rcpt *find_rcpt(struct flight *f, uint32_t index) {
	for (uint32_t i = 0; i < f->have; i++)
		if (f->rcpts[i].index == index)
			return &f->rcpts[i];
	return NULL;
}

bool flight_add_rcpt(struct flight *f, const struct job_rcpt *rcpt) {
	if (rcpt->job != f->job.job || f->have == f->job.rcpt_count || rcpt->index >= FLIGHT_INDEX_MAX)
		return false;
	if (find_rcpt(f, rcpt->index) || !job_rcpt_encode(rcpt, &f->orders))
		return false;
	f->rcpts[f->have++].index = rcpt->index;
	return true;
}

/* While recipients are added, orders may move: only now do the views get their last place. */
bool flight_is_whole(struct flight *f) {
	struct record record;
	size_t used;
	if (f->have < f->job.rcpt_count)
		return false;
	return record_take(str_bytes(&f->orders), &record, &used) == RECORD_OK && job_decode(record.payload, &f->job);
}

int flight_open_body(struct flight *f) {
	struct body_place place = { .id = f->job.id, .segment = f->job.segment, .large = f->job.large != 0,
		.offset = f->job.body_offset, .size = f->job.body_size, .record = f->job.record_offset };
	body_close(&f->body);
	if (body_open(&f->body, &place) < 0) {
		/* It stays until the message has ended, which one in flight has not. Were it another's, of a queued that has gone, nobody minds. */
		errno = errno == ENOENT && place.large ? EBADMSG : errno;
		return -1;
	}
	if (body_prove(&f->body, &place) == 0)
		return 0;
	int error = errno;
	body_close(&f->body);
	errno = error;
	return -1;
}

void flight_damaged(struct flight *f) {
	char id[MSGID_TEXT + 1], path[PLACE_MAX], text[200];
	msgid_format(f->job.id, id);
	if (f->job.large)
		place_large(f->job.id, path);
	else
		place_segment(f->job.segment, path);
	snprintf(text, sizeof text, "it is damaged in %s, which is %s", path, access(path, F_OK) == 0 ? "not what was accepted" : "not there");
	log_error("%s: not delivered, and to be held: %s", id, text);
	struct damaged record = { .job = f->job.job, .text = bytes_of(text) };
	damaged_encode(&record, &f->results);
}

static const char *result_fault(const struct result *r) {
	if (r->verdict > V_PERM)
		return "unknown verdict";
	if (r->stage >= STAGE_COUNT)
		return "unknown stage";
	if (r->code > CODE_MAX || r->e_subject > CODE_MAX || r->e_detail > CODE_MAX)
		return "code out of range";
	if (r->e_class != 0 && r->e_class != 2 && r->e_class != 4 && r->e_class != 5)
		return "enhanced code out of range";
	return NULL;
}

const char *flight_take_result(struct flight *f, const struct result *result) {
	const char *fault = result_fault(result);
	if (fault)
		return fault;
	if (result->job != f->job.job)
		return "a result of another job";
	struct flight_rcpt *rcpt = find_rcpt(f, result->index);
	if (!rcpt)
		return "a result of a recipient that is not in its job";
	if (rcpt->answered)
		return "a second result of one recipient";
	rcpt->answered = true;
	f->answered++;
	/* Should memory be short, the result is missing, and queued takes that for a temporary failure. */
	result_encode(result, &f->results);
	return NULL;
}

void flight_answer_rest(struct flight *f, const struct outcome *outcome) {
	struct result r = { .job = f->job.job, .verdict = (uint8_t)outcome->verdict, .stage = (uint8_t)outcome->stage, .code = outcome->code,
		.e_class = outcome->enhanced.class, .e_subject = outcome->enhanced.subject, .e_detail = outcome->enhanced.detail,
		.error = (uint32_t)outcome->error, .text = bytes_slice(outcome->text, 0, 1000) };
	for (uint32_t i = 0; i < f->have; i++) {
		if (f->rcpts[i].answered)
			continue;
		r.index = f->rcpts[i].index;
		result_encode(&r, &f->results);
		f->rcpts[i].answered = true;
		f->answered++;
	}
}

void flight_finish(struct flight *f, bool destination_failed, bool reusable) {
	struct job_done done = { .job = f->job.job, .destination_failed = destination_failed, .reusable = reusable };
	body_close(&f->body);
	job_done_encode(&done, &f->results);
}

bool flight_encode_inflight(const struct flight *f, struct str *out) {
	unsigned char map[FLIGHT_INDEX_MAX / 8 + 1] = { 0 };
	uint32_t first = UINT32_MAX, last = 0;
	for (uint32_t i = 0; i < f->have; i++) {
		uint32_t index = f->rcpts[i].index;
		first = index < first ? index : first;
		last = index > last ? index : last;
	}
	for (uint32_t i = 0; i < f->have; i++) {
		uint32_t bit = f->rcpts[i].index - first;
		map[bit / 8] |= (unsigned char)(1u << (bit % 8));
	}
	struct inflight in = { .job = f->job.job, .id = f->job.id, .segment = f->job.segment, .first_index = first, .rcpt_count = f->have,
		.destination = f->job.destination, .indexes = { (const char *)map, (last - first) / 8 + 1 } };
	return inflight_encode(&in, out);
}
