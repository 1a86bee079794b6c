/* intake - room: queue (queued). See intake.h. */
#include "intake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define GATHER_MAX 4      /* more gained nothing */
#define COMPANY 16u       /* senders that are busy at a time: then a sync is worth waiting for its share of them, at most GATHER_MAX naps */
#define SHARE 4u
#define NAP_NS 250000
#define STEPS_MAX (4 * INTAKE_TURN)   /* records and reads in one turn, whatever they are */

static void keep_spare(struct intake *in) {
	if (in->spare < 0)
		in->spare = fcntl(in->fifo, F_DUPFD_CLOEXEC, 3);
}

static void drop_spare(struct intake *in) {
	if (in->spare >= 0)
		close(in->spare);
	in->spare = -1;
}

bool intake_open(struct intake *in, struct taking *taking, int dir) {
	memset(in, 0, sizeof(*in));
	in->taking = taking;
	in->keep = in->place = in->spare = -1;
	senders_init(&in->senders, taking, dir);
	in->fifo = io_open_fifo_read(AT_FDCWD, FIFO_INTAKE);
	if (in->fifo >= 0)
		in->keep = io_open_fifo_write(AT_FDCWD, FIFO_INTAKE);
	keep_spare(in);
	record_reader_init(&in->in, in->fifo);
	return in->keep >= 0;
}

void intake_close(struct intake *in) {
	senders_free(&in->senders);
	record_reader_free(&in->in);
	drop_spare(in);
	if (in->keep >= 0)
		close(in->keep);
	if (in->fifo >= 0)
		close(in->fifo);
}

void intake_prepare(struct intake *in, struct turn *turn) {
	in->place = turn_watch(turn, in->fifo, POLLIN);
	if (in->more)
		turn_until(turn, turn->now);
}

/* ---- one offer ---- */

static const struct intake_recent *find_recent(const struct intake *in, const struct offer *offer) {
	size_t count = in->recents < INTAKE_RECENT ? in->recents : INTAKE_RECENT;
	for (size_t i = 0; i < count; i++)
		if (in->recent[i].token_a == offer->token_a && in->recent[i].token_b == offer->token_b)
			return &in->recent[i];
	return NULL;
}

/* Was it taken already, by this queued or, with its answer lost, by the one before? */
static bool taken_before(const struct intake *in, const struct offer *offer, struct ack *ack) {
	const struct intake_recent *recent = find_recent(in, offer);
	if (!recent && !store_token_seen(in->taking->store, offer->token_a, offer->token_b))
		return false;
	ack->result = ENQ_OK;
	ack->id = recent ? recent->id : 0;
	return true;
}

static bool head_agrees(const struct intake_head *head, const struct offer *offer) {
	return head->state == INTAKE_PENDING && head->token_a == offer->token_a && head->token_b == offer->token_b
		&& intake_size(head) == offer->file_size;
}

static void take(struct intake *in, struct sender *sender, const struct offer *offer, wall_ms_t now, struct intake_answer *answer) {
	struct intake_head head;
	msgid_t id = 0;
	answer->ack.result = ENQ_BUG;
	if (sender->file < 0 || !taking_read(in->taking, sender->file, offer->file_size, &head) || !head_agrees(&head, offer))
		return;
	enum enqueue_exit code = taking_accept(in->taking, sender->file, sender->name, &head, now, &id);
	if (code == ENQ_READ_ERROR || code == ENQ_OUT_OF_MEMORY)
		log_warn("cannot read intake/%s: %s", sender->name, strerror(errno));
	answer->ack.result = (uint8_t)code;
	answer->ack.id = id;
	answer->last |= head.body_size >= INTAKE_LARGE;
	if (code == ENQ_OK)
		in->recent[in->recents++ % INTAKE_RECENT] = (struct intake_recent){ offer->token_a, offer->token_b, id };
}

/* An answer at once, by a descriptor that is not kept: there is none left but the spare, or the message was offered again and its file is
 * not there (it was large, and the queued before had renamed it and came to grief). */
static void refuse(struct intake *in, const struct offer *offer, const char *name) {
	struct ack ack = { .token_a = offer->token_a, .token_b = offer->token_b, .result = ENQ_QUEUE_ERROR };
	struct str octets = STR_INIT(PIPE_BUF);
	char ack_name[INTAKE_ACK_NAME + 1];
	taken_before(in, offer, &ack);
	intake_ack_name(name, ack_name);
	drop_spare(in);
	int fd = ack_encode(&ack, &octets) ? io_open_fifo_write(in->senders.dir, ack_name) : -1;
	if (fd >= 0) {
		(void)!write(fd, octets.at, octets.len);
		close(fd);
	}
	keep_spare(in);
	str_free(&octets);
}

/* An offer without a file or a fifo behind it: its sender has gone (ENXIO, ENOENT), or lies, or the system is at fault. */
static void no_sender(struct intake *in, const struct offer *offer, const char *name, int error) {
	bool lie = error == EPERM || error == EINVAL || error == ELOOP;
	if (error != ENXIO && error != ENOENT)
		log_warn("cannot open what enqueue offers, intake/%s: %s", name, strerror(error));
	if (error == ENOENT ? offer->flags & OFFER_AGAIN : error != ENXIO && !lie)
		refuse(in, offer, name);
}

/* An answer is prepared only for one who still waits: without him the message is worth nothing and is not taken. */
static void take_offer(struct intake *in, const struct offer *offer, const struct turn *turn, wall_ms_t now) {
	char name[INTAKE_NAME + 1];
	bytes_to_cstring(offer->name, name, sizeof(name));
	struct sender *sender = senders_find(&in->senders, name);
	if (!sender) {
		no_sender(in, offer, name, errno);
		return;
	}
	senders_count(&in->senders, sender, turn->now);
	struct intake_answer *answer = &in->answer[in->answers++];
	*answer = (struct intake_answer){ .sender = sender, .ack = { .token_a = offer->token_a, .token_b = offer->token_b },
		.last = offer->flags & OFFER_ONCE };
	if (!(offer->flags & OFFER_AGAIN) || !taken_before(in, offer, &answer->ack))
		take(in, sender, offer, now, answer);
}

/* ---- the fifo ---- */

static bool take_record(struct intake *in, const struct record *record, const struct turn *turn, wall_ms_t now) {
	struct offer offer;
	struct adopt adopt;
	switch (record->type) {
	case REC_offer:
		if (!offer_decode(record->payload, &offer) || !intake_name_valid(offer.name))
			return false;
		take_offer(in, &offer, turn, now);
		return true;
	case REC_adopt:
		in->adopt = true;
		return adopt_decode(record->payload, &adopt) && intake_name_valid(adopt.name);
	default:
		return false;
	}
}

static void complain(struct intake *in, deadline_t now) {
	if (turn_may_say(&in->complained, now))
		log_warn("garbage in %s is skipped", FIFO_INTAKE);
}

/* Writers are many and their records whole, so behind garbage the next record begins somewhere. What is lost is offered again. */
static void skip_garbage(struct intake *in) {
	struct bytes rest = record_reader_rest(&in->in);
	struct record record;
	size_t used, skip = 1;
	while (skip < rest.len && (record_take(bytes_slice(rest, skip, rest.len), &record, &used) != RECORD_OK
			|| (record.type != REC_offer && record.type != REC_adopt)))
		skip++;
	record_reader_take(&in->in, skip < rest.len ? skip : rest.len);
}

/* What each writer writes comes as a whole: so when the fifo is empty no record is half there. */
static bool fill(struct intake *in) {
	if (record_reader_fill(&in->in) > 0)
		return true;
	in->more = record_reader_rest(&in->in).len > 0;
	if (in->more)
		skip_garbage(in);
	return false;
}

static void take_waiting(struct intake *in, const struct turn *turn, wall_ms_t now) {
	struct record record;
	in->more = true;
	for (size_t steps = 0; steps < STEPS_MAX && in->more && in->answers < INTAKE_TURN && !in->taking->fatal; steps++) {
		enum record_result got = record_reader_next(&in->in, &record);
		bool bad = got == RECORD_BAD;
		if (bad)
			skip_garbage(in);
		else if (got == RECORD_OK)
			bad = !take_record(in, &record, turn, now);
		else if (!fill(in))
			bad = in->more;
		if (bad)
			complain(in, turn->now);
	}
}

void intake_run(struct intake *in, const struct turn *turn, wall_ms_t now) {
	in->senders.turn++;
	if (in->more || turn_events(turn, in->place))
		take_waiting(in, turn, now);
}

void intake_gather(struct intake *in, const struct turn *turn, wall_ms_t now) {
	const struct timespec nap = { .tv_nsec = NAP_NS };
	uint32_t busy = senders_busy(&in->senders, turn->now);
	size_t had = 0, share = busy < COMPANY ? 0 : busy / SHARE;
	for (int i = 0; i < GATHER_MAX && in->answers > 0 && in->answers < INTAKE_TURN && !in->taking->fatal; i++) {
		if (in->answers < share)
			nanosleep(&nap, NULL);
		else if (share == 0 && in->answers > had)
			sched_yield();
		else
			return;
		had = in->answers;
		take_waiting(in, turn, now);
	}
}

/* ---- answers ---- */

static void write_ack(const struct intake_answer *answer, struct str *octets) {
	str_clear(octets);
	if (ack_encode(&answer->ack, octets))
		(void)!write(answer->sender->ack, octets->at, octets->len);   /* refused: he has gone, or does not read; he was told nothing */
}

void intake_answer_all(struct intake *in, bool lost) {
	struct str octets = STR_INIT(PIPE_BUF);
	for (size_t i = 0; i < in->answers; i++) {
		struct intake_answer *answer = &in->answer[i];
		if (lost) {
			answer->ack.result = ENQ_QUEUE_ERROR;
			answer->ack.id = 0;
		}
		write_ack(answer, &octets);
	}
	/* Only now: one sender may have two answers in a turn (an offer made again). */
	for (size_t i = 0; i < in->answers; i++)
		if (in->answer[i].last && in->answer[i].sender->name[0])
			senders_forget(&in->senders, in->answer[i].sender);
	in->answers = 0;
	str_free(&octets);
}
