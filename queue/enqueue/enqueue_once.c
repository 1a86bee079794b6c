/*
 * enqueue_once - enqueue's one shot: qmail-queue's contract, message on fd 0, then the envelope on fd 1. Room: queue (enqueue).
 */
#include "enqueue.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"

#define CHUNK 16384u                      /* its lines, at worst twice as long, fit the parcel's buffer */
#define LIFE_MS (24u * 60u * MINUTE_MS)   /* a caller who stalls is given up after a day, as qmail-queue does */

/* ---- one shot: octets in ---- */

/* A read that honours the deadline and leaves the caller's descriptor as it is, blocking or not. */
static ssize_t read_some(int fd, char *at, size_t n, deadline_t deadline) {
	for (;;) {
		int ready = io_wait_readable(fd, deadline);
		if (ready == 0)
			errno = ETIMEDOUT;
		if (ready <= 0)
			return -1;
		ssize_t got = read(fd, at, n);
		if (got >= 0 || (errno != EINTR && errno != EAGAIN))
			return got;
	}
}

static enum enqueue_exit read_fault(void) {
	return errno == ETIMEDOUT ? ENQ_TIMEOUT : ENQ_READ_ERROR;
}

/* Line ends become CRLF: what stands between two bare LF goes on as it is. *last is the octet before. */
static void body_lines(struct parcel *p, struct bytes octets, char *last) {
	size_t from = 0;
	for (size_t i = 0; i < octets.len; i++) {
		if (octets.at[i] == '\n' && (i > 0 ? octets.at[i - 1] : *last) != '\r') {
			parcel_body(p, bytes_slice(octets, from, i));
			parcel_body(p, LIT("\r\n"));
			from = i + 1;
		}
	}
	parcel_body(p, bytes_slice(octets, from, octets.len));
	if (octets.len > 0)
		*last = octets.at[octets.len - 1];
}

static enum enqueue_exit read_message(struct parcel *p, deadline_t deadline, uint32_t *id_offset_r) {
	char octets[CHUNK], last = '\n';
	for (;;) {
		ssize_t got = read_some(0, octets, sizeof(octets), deadline);
		if (got < 0)
			return read_fault();
		if (got == 0)
			break;
		body_lines(p, (struct bytes){ octets, (size_t)got }, &last);
		if (*id_offset_r == 0)
			*id_offset_r = received_id_offset(parcel_start(p));
		if (p->fault != ENQ_OK)
			return p->fault;
	}
	if (last == '\r')
		parcel_body(p, LIT("\n"));
	else if (last != '\n')
		parcel_body(p, LIT("\r\n"));
	return p->fault;
}

static enum enqueue_exit read_envelope(struct str *envelope, deadline_t deadline) {
	for (;;) {
		char octets[CHUNK];
		ssize_t got = read_some(1, octets, sizeof(octets), deadline);
		if (got < 0)
			return read_fault();
		if (got == 0)
			return ENQ_OK;
		if (!str_add(envelope, (struct bytes){ octets, (size_t)got }))
			return envelope->len + (size_t)got > envelope->max ? ENQ_REFUSED : ENQ_OUT_OF_MEMORY;
	}
}

uint32_t received_id_offset(struct bytes start) {
	static const char want[] = "id " MSGID_PLACEHOLDER;
	if (!bytes_starts_nocase(start, LIT("Received:")))
		return 0;
	for (size_t i = 9; i + sizeof(want) - 1 <= start.len; i++) {
		if (start.at[i] == '\n' && start.at[i + 1] != ' ' && start.at[i + 1] != '\t')
			return 0;
		if (memcmp(start.at + i, want, sizeof(want) - 1) == 0)
			return (uint32_t)(i + 3);
	}
	return 0;
}

/* ---- one shot: the whole of it ---- */

static enum enqueue_exit take_one(const struct caller *caller, struct parcel *p, struct str *given, struct str *envelope) {
	deadline_t deadline = deadline_in(clock_monotonic_ms(), LIFE_MS);
	uint32_t id_offset = 0;
	msgid_t id;
	parcel_begin(p);
	enum enqueue_exit code = p->fault == ENQ_OK ? read_message(p, deadline, &id_offset) : p->fault;
	if (code == ENQ_OK)
		code = read_envelope(given, deadline);
	if (code == ENQ_OK)
		code = caller_envelope(caller, str_bytes(given), true, envelope);
	if (code != ENQ_OK)
		return code;
	return parcel_send(p, str_bytes(envelope), id_offset, &id);
}

enum enqueue_exit enqueue_once(const struct caller *caller) {
	static struct parcel parcel;
	struct str given = STR_INIT(ENVELOPE_MAX), envelope = STR_INIT(ENVELOPE_MAX);
	parcel_init(&parcel, caller->uid, true);
	enum enqueue_exit code = take_one(caller, &parcel, &given, &envelope);
	parcel_close(&parcel);
	str_free(&given);
	str_free(&envelope);
	return code;
}
