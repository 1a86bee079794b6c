/*
 * parcel - writes the intake file and hands it over. Room: queue (enqueue). See parcel.h, and docs/QUEUE.md for the states.
 *
 * The orders that matter:
 *   the head is written last (or with everything else in one write), so a whole head means a whole message;
 *   a large body is synced before it is offered, because queued renames the file instead of copying it;
 *   ADOPT is written, then file and directory are synced, then the caller hears 0.
 */
#include "parcel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/crc32c.h"
#include "common/io.h"
#include "common/paths.h"

#define WAIT_MS (20u * MINUTE_MS)   /* for the answer */
#define AGAIN_MS (5u * SECOND_MS)   /* between two offers of the same message */
#define NAME_TRIES 8

struct token { uint64_t a, b; };

static void path_of(const char *name, char out[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1]) {
	snprintf(out, sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1, SPOOL_INTAKE "/%s", name);
}

static void path_of_ack(const char *name, char out[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1]) {
	char ack[INTAKE_ACK_NAME + 1];
	intake_ack_name(name, ack);
	path_of(ack, out);
}

static enum enqueue_exit fault_of_errno(int error) {
	if (error == ENOSPC || error == EDQUOT)
		return ENQ_NO_SPACE;
	return error == ENOMEM ? ENQ_OUT_OF_MEMORY : ENQ_WRITE_ERROR;
}

static void note_fault(struct parcel *p, enum enqueue_exit fault) {
	if (p->fault == ENQ_OK)
		p->fault = fault;
}

/* ---- the file ---- */

/* Give the file up. `keep`: it is queued's now. */
static void leave_file(struct parcel *p, bool keep) {
	char path[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1];
	if (p->file < 0)
		return;
	if (!keep) {
		path_of(p->name, path);
		unlink(path);
	}
	path_of_ack(p->name, path);
	unlink(path);
	io_close(&p->file);
	io_close(&p->ack);
}

/* A file under a name that nobody had, locked. The lock comes after the making, so queued may have taken the file for a forgotten
 * one in between: then it has no name any more, and the caller tries another. */
static bool make_file(struct parcel *p, const char *path) {
	struct stat st;
	p->file = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0664);
	if (p->file < 0)
		return false;
	if (flock(p->file, LOCK_EX) == 0 && fstat(p->file, &st) == 0 && st.st_nlink == 1)
		return true;
	io_close(&p->file);
	errno = EEXIST;
	return false;
}

/* The ack fifo is opened for writing, too: so it is never at its end, whoever comes and goes. */
static bool make_ack(struct parcel *p) {
	char path[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1];
	path_of_ack(p->name, path);
	if (mkfifo(path, 0622) < 0)
		return false;
	p->ack = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	return p->ack >= 0;
}

static void make_pair(struct parcel *p) {
	char path[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1];
	uint8_t random[16];
	for (int tries = 0; tries < NAME_TRIES && p->file < 0; tries++) {
		if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
			break;
		intake_name_make(random, p->name);
		path_of(p->name, path);
		if (!make_file(p, path) && errno != EEXIST)
			break;
	}
	if (p->file >= 0 && make_ack(p))
		return;
	int error = errno;
	leave_file(p, false);
	note_fault(p, error == ENOSPC || error == EDQUOT ? ENQ_NO_SPACE : ENQ_NO_INTAKE);
}

/* ---- writing ---- */

static void put_buffer(struct parcel *p) {
	if (p->fault == ENQ_OK && io_pwrite_full(p->file, p->buffer, p->filled, p->written) < 0)
		note_fault(p, fault_of_errno(errno));
	p->written += p->filled;
	p->filled = 0;
}

/* A piece of a message that is longer than the buffer: its octets are summed up while they are here. */
static void flush(struct parcel *p) {
	size_t start = p->written == 0 ? INTAKE_HEAD : 0;
	p->checksum = crc32c(p->checksum, p->buffer + start, p->filled - start);
	put_buffer(p);
}

static void append(struct parcel *p, struct bytes octets) {
	while (octets.len > 0 && p->fault == ENQ_OK) {
		size_t n = PARCEL_BUFFER - p->filled;
		if (n > octets.len)
			n = octets.len;
		memcpy(p->buffer + p->filled, octets.at, n);
		p->filled += n;
		octets = bytes_slice(octets, n, octets.len);
		if (p->filled == PARCEL_BUFFER)
			flush(p);
	}
}

void parcel_init(struct parcel *p, uint32_t uid, bool once) {
	*p = (struct parcel){ .uid = uid, .once = once, .file = -1, .ack = -1, .fifo = -1 };
}

/* The buffer begins with the place of the head, zero: so the first write takes the head of the message before away. */
void parcel_begin(struct parcel *p) {
	p->fault = ENQ_OK;
	p->body_size = p->written = 0;
	p->checksum = 0;
	p->filled = INTAKE_HEAD;
	memset(p->buffer, 0, INTAKE_HEAD);
	if (p->file < 0)
		make_pair(p);
}

void parcel_body(struct parcel *p, struct bytes octets) {
	if (octets.len > INTAKE_BODY_MAX - p->body_size)
		note_fault(p, ENQ_REFUSED);
	if (p->fault != ENQ_OK)
		return;
	p->body_size += octets.len;
	append(p, octets);
}

struct bytes parcel_start(const struct parcel *p) {
	if (p->written > 0)
		return (struct bytes){ 0 };
	return (struct bytes){ p->buffer + INTAKE_HEAD, p->filled - INTAKE_HEAD };
}

static void put_head(struct parcel *p) {
	char octets[INTAKE_HEAD];
	intake_head_encode(&p->head, octets);
	if (p->fault == ENQ_OK && io_pwrite_full(p->file, octets, INTAKE_HEAD, 0) < 0)
		note_fault(p, fault_of_errno(errno));
}

/* Small messages are still whole in the buffer and go out in one write, head included; the log's record will have their checksum. */
static void write_rest(struct parcel *p, struct bytes envelope) {
	append(p, envelope);
	if (p->written == 0) {
		intake_head_encode(&p->head, p->buffer);
		put_buffer(p);
		return;
	}
	flush(p);
	p->head.summed = true;
	p->head.checksum = p->checksum;
	put_head(p);
	if (p->fault == ENQ_OK && p->head.body_size >= INTAKE_LARGE && fsync(p->file) < 0)
		note_fault(p, fault_of_errno(errno));
}

/* ---- the talk with queued ---- */

/* Is there an answer about this message? Answers about earlier ones that came too late are passed over. */
static bool take_answer(const struct parcel *p, struct token token, struct ack *ack_r) {
	char octets[PIPE_BUF];
	for (;;) {
		ssize_t got = read(p->ack, octets, sizeof(octets));
		if (got <= 0)
			return false;
		struct bytes rest = { octets, (size_t)got };
		struct record record;
		for (size_t used = 0; record_take(rest, &record, &used) == RECORD_OK; rest = bytes_slice(rest, used, rest.len))
			if (record.type == REC_ack && ack_decode(record.payload, ack_r) && ack_r->token_a == token.a && ack_r->token_b == token.b)
				return true;
	}
}

enum talk { TALK_SENT, TALK_ANSWERED, TALK_AWAY, TALK_TIMEOUT, TALK_NO_SPOOL, TALK_AGAIN };

static enum talk open_fifo(struct parcel *p) {
	if (p->fifo >= 0)
		return TALK_SENT;
	p->fifo = io_open_fifo_write(AT_FDCWD, FIFO_INTAKE);
	if (p->fifo >= 0)
		return TALK_SENT;
	return errno == ENXIO ? TALK_AWAY : TALK_NO_SPOOL;
}

/* One record of at most PIPE_BUF goes as a whole or not at all. */
static enum talk send_record(struct parcel *p, struct bytes record, deadline_t deadline) {
	for (;;) {
		if (write(p->fifo, record.at, record.len) == (ssize_t)record.len)
			return TALK_SENT;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return TALK_AWAY;
		if (io_wait_writable(p->fifo, deadline) <= 0)
			return TALK_TIMEOUT;
	}
}

/* Wait for the answer, for queued's end, or for the time to offer again. An answer that queued gave before it died counts. */
static enum talk await_answer(const struct parcel *p, struct token token, deadline_t deadline, struct ack *ack_r) {
	for (;;) {
		struct pollfd fds[2] = { { .fd = p->ack, .events = POLLIN }, { .fd = p->fifo } };
		deadline_t now = clock_monotonic_ms();
		int ready = poll(fds, 2, deadline_poll_ms(deadline, now));
		if (take_answer(p, token, ack_r))
			return TALK_ANSWERED;
		if (ready > 0 && fds[1].revents)
			return TALK_AWAY;
		if (deadline_passed(deadline, clock_monotonic_ms()))
			return TALK_AGAIN;
	}
}

static struct token token_of(const struct parcel *p) {
	return (struct token){ p->head.token_a, p->head.token_b };
}

static enum talk offer(struct parcel *p, unsigned flags) {
	struct offer offer = { .token_a = p->head.token_a, .token_b = p->head.token_b, .name = { p->name, INTAKE_NAME },
		.file_size = intake_size(&p->head), .flags = (uint8_t)(flags | (p->once ? OFFER_ONCE : 0)) };
	struct str record = STR_INIT(PIPE_BUF);
	enum talk talk = offer_encode(&offer, &record) ? open_fifo(p) : TALK_NO_SPOOL;
	p->offered = clock_monotonic_ms();
	if (!(flags & OFFER_AGAIN))
		p->end = deadline_in(p->offered, WAIT_MS);
	if (talk == TALK_SENT)
		talk = send_record(p, str_bytes(&record), p->end);
	str_free(&record);
	return talk;
}

/* After an offer. It is repeated: one that queued read and lost, because it died and was back before this process could see its fifo without
 * a reader, is told again to the next one. */
static enum talk wait_for_answer(struct parcel *p, struct ack *ack_r) {
	for (;;) {
		enum talk talk = await_answer(p, token_of(p), deadline_earlier(p->end, deadline_in(p->offered, AGAIN_MS)), ack_r);
		if (talk == TALK_AGAIN && deadline_passed(p->end, clock_monotonic_ms()))
			return TALK_TIMEOUT;
		if (talk == TALK_AGAIN)
			talk = offer(p, OFFER_AGAIN);
		if (talk != TALK_SENT)
			return talk;
	}
}

/* ---- queued is away ---- */

static void tell_adopt(struct parcel *p) {
	struct adopt adopt = { .name = { p->name, INTAKE_NAME } };
	struct str record = STR_INIT(PIPE_BUF);
	io_close(&p->fifo);
	if (open_fifo(p) == TALK_SENT && adopt_encode(&adopt, &record))
		(void)!write(p->fifo, record.at, record.len);   /* if it does not go, queued looks by itself */
	str_free(&record);
}

static bool seal_adopt(struct parcel *p) {
	char octets[INTAKE_HEAD];
	if (!p->head.summed && !intake_checksum(p->file, &p->head, &p->head.checksum))
		return false;
	p->head.summed = true;
	p->head.state = INTAKE_ADOPT;
	intake_head_encode(&p->head, octets);
	return io_pwrite_full(p->file, octets, INTAKE_HEAD, 0) == 0 && fsync(p->file) == 0 && io_sync_dir(AT_FDCWD, SPOOL_INTAKE) == 0;
}

/* Somebody unlinked the file, though this process lives: a new queued, which has the message in its log and answered, or which found it
 * half taken by the one before. Without an answer it counts as lost. */
static bool has_no_name(const struct parcel *p) {
	struct stat st;
	return fstat(p->file, &st) < 0 || st.st_nlink == 0;
}

/* The token stays the same, so that a message that did reach the log is not taken twice. */
static enum enqueue_exit leave_for_adoption(struct parcel *p, msgid_t *id_r) {
	struct ack ack;
	if (!seal_adopt(p))
		return fault_of_errno(errno);
	bool gone = has_no_name(p);
	if (take_answer(p, token_of(p), &ack) && ack.result == ENQ_OK) {
		*id_r = ack.id;
		leave_file(p, false);
		return ENQ_OK;
	}
	if (gone)
		return ENQ_QUEUE_ERROR;
	leave_file(p, true);
	tell_adopt(p);
	return ENQ_OK;
}

/* What the talk came to. Id 0 with success: queued knows the file no more by this name. */
static enum enqueue_exit conclude(struct parcel *p, enum talk talk, const struct ack *ack, msgid_t *id_r) {
	switch (talk) {
	case TALK_ANSWERED:
		*id_r = ack->id;
		note_fault(p, (enum enqueue_exit)ack->result);
		break;
	case TALK_AWAY:
		io_close(&p->fifo);
		note_fault(p, leave_for_adoption(p, id_r));
		break;
	case TALK_TIMEOUT:
		note_fault(p, ENQ_TIMEOUT);
		break;
	default:
		note_fault(p, ENQ_NO_SPOOL);
	}
	if (p->fault != ENQ_OK || p->head.body_size >= INTAKE_LARGE || *id_r == 0)
		leave_file(p, false);
	return p->fault;
}

/* ---- the way of a message ---- */

/* One call of the kernel for many tokens. */
static uint64_t random_number(struct parcel *p) {
	if (p->random_left == 0) {
		if (getrandom(p->random, sizeof(p->random), 0) == (ssize_t)sizeof(p->random))
			p->random_left = sizeof(p->random) / sizeof(p->random[0]);
		else
			note_fault(p, ENQ_BUG);
	}
	return p->random_left > 0 ? p->random[--p->random_left] : 0;
}

static bool pack(struct parcel *p, struct bytes envelope, uint32_t id_offset, uint64_t token_b) {
	p->head = (struct intake_head){ .state = INTAKE_PENDING, .uid = p->uid, .envelope_size = (uint32_t)envelope.len, .body_size = p->body_size,
		.id_offset = id_offset, .token_a = random_number(p), .token_b = token_b };
	if (envelope.len > ENVELOPE_MAX)
		note_fault(p, ENQ_BAD_ENVELOPE);
	if (p->fault == ENQ_OK)
		write_rest(p, envelope);
	return p->fault == ENQ_OK;
}

enum enqueue_exit parcel_wait(struct parcel *p, msgid_t *id_r) {
	struct ack ack;
	*id_r = 0;
	enum talk talk = wait_for_answer(p, &ack);
	return conclude(p, talk, &ack, id_r);
}

bool parcel_offer(struct parcel *p, struct bytes envelope, uint32_t id_offset, uint64_t token_b) {
	msgid_t id = 0;
	if (!pack(p, envelope, id_offset, token_b)) {
		leave_file(p, false);
		return false;
	}
	enum talk talk = offer(p, 0);
	if (talk != TALK_SENT)
		conclude(p, talk, NULL, &id);
	return talk == TALK_SENT;
}

enum enqueue_exit parcel_send(struct parcel *p, struct bytes envelope, uint32_t id_offset, msgid_t *id_r) {
	*id_r = 0;
	return parcel_offer(p, envelope, id_offset, random_number(p)) ? parcel_wait(p, id_r) : p->fault;
}

bool parcel_was_answered(const struct parcel *p, uint64_t token_a) {
	return p->head.token_a == token_a;
}

int parcel_lend_ack(const struct parcel *p) {
	char path[sizeof(SPOOL_INTAKE) + INTAKE_ACK_NAME + 1];
	if (p->file < 0)
		return -1;
	path_of_ack(p->name, path);
	return io_open_fifo_read(AT_FDCWD, path);
}

/* A file with nothing but a small message in it is kept for the next one. */
void parcel_drop(struct parcel *p) {
	if (p->written > 0 || p->fault != ENQ_OK)
		leave_file(p, false);
}

void parcel_close(struct parcel *p) {
	leave_file(p, false);
	io_close(&p->fifo);
}
