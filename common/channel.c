/*
 * channel - framing, encoding and decoding of every record of records.def. Room: common.
 *
 * The three functions of a record are generated; what they call stands above them. Nothing here trusts an octet it reads:
 * a decoder takes each field through take(), which fails once and for all when the payload is too short, and the record is
 * refused unless its payload was used up exactly.
 */
#include "channel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "wire.h"

#define FILL_OCTETS 16384u
#define READER_MAX (2u * RECORD_MAX)
#define PRINT_OCTETS 200u

/* ---- writing ---- */

struct writing { char *at; };

static void write_number(struct writing *w, uint64_t value, size_t octets)
{
	wire_put(w->at, value, octets);
	w->at += octets;
}

static void write_bytes(struct writing *w, struct bytes b)
{
	write_number(w, b.len, 2);
	if (b.len > 0)
		memcpy(w->at, b.at, b.len);
	w->at += b.len;
}

/* Make room for one record of `size` octets and write its head; false leaves `out` as it was, its failed flag included, so
 * that a full buffer of a record_writer can be emptied and used again. */
static bool write_begin(struct str *out, unsigned type, size_t size, struct writing *w_r)
{
	if (out->failed || size > RECORD_MAX || out->len > out->max || size > out->max - out->len)
		return false;
	char *room = str_reserve(out, size);
	if (!room) {
		out->failed = false;
		return false;
	}
	w_r->at = room;
	write_number(w_r, size, 4);
	write_number(w_r, type, 2);
	write_number(w_r, RECORD_MAGIC, 2);
	return true;
}

/* UNSAFE: the first pass over the fields counts exactly the octets that the second one writes. */
#define RECORD(number, name, ...) \
	static bool name##_size(const struct name *record, size_t *size_r) { \
		size_t size = RECORD_HEAD; \
		__VA_ARGS__ \
		*size_r = size; \
		return true; \
	}
#define U8(n) (void)record->n; size += 1;
#define U16(n) (void)record->n; size += 2;
#define U32(n) (void)record->n; size += 4;
#define U64(n) (void)record->n; size += 8;
#define BYTES(n, limit) if (record->n.len > (limit)) return false; size += 2 + record->n.len;
#include "records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

#define RECORD(number, name, ...) \
	bool name##_encode(const struct name *record, struct str *out) { \
		size_t size; \
		struct writing w; \
		if (!name##_size(record, &size) || !write_begin(out, number, size, &w)) \
			return false; \
		__VA_ARGS__ \
		str_grew(out, size); \
		return true; \
	}
#define U8(n) write_number(&w, record->n, 1);
#define U16(n) write_number(&w, record->n, 2);
#define U32(n) write_number(&w, record->n, 4);
#define U64(n) write_number(&w, record->n, 8);
#define BYTES(n, limit) write_bytes(&w, record->n);
#include "records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

/* ---- reading ---- */

struct reading { struct bytes left; bool ok; };

static struct bytes take(struct reading *in, size_t n)
{
	if (!in->ok || n > in->left.len) {
		in->ok = false;
		return (struct bytes){ NULL, 0 };
	}
	struct bytes got = { in->left.at, n };
	in->left.at += n;
	in->left.len -= n;
	return got;
}

static uint64_t take_number(struct reading *in, size_t octets)
{
	struct bytes got = take(in, octets);
	return in->ok ? wire_get(got.at, octets) : 0;
}

static struct bytes take_bytes(struct reading *in, size_t limit)
{
	size_t len = (size_t)take_number(in, 2);
	if (len > limit)
		in->ok = false;
	return take(in, len);
}

#define RECORD(number, name, ...) \
	bool name##_decode(struct bytes payload, struct name *record_r) { \
		struct reading in = { payload, true }; \
		__VA_ARGS__ \
		if (in.ok && in.left.len == 0) \
			return true; \
		memset(record_r, 0, sizeof *record_r); \
		return false; \
	}
#define U8(n) record_r->n = (uint8_t)take_number(&in, 1);
#define U16(n) record_r->n = (uint16_t)take_number(&in, 2);
#define U32(n) record_r->n = (uint32_t)take_number(&in, 4);
#define U64(n) record_r->n = take_number(&in, 8);
#define BYTES(n, limit) record_r->n = take_bytes(&in, limit);
#include "records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

/* ---- printing ---- */

/* Every octet that is not a visible ASCII character, and the backslash, as \xNN: a field is one word of the trace. */
static void print_bytes(struct str *out, struct bytes b)
{
	struct bytes shown = bytes_slice(b, 0, PRINT_OCTETS);
	for (size_t i = 0; i < shown.len; i++) {
		unsigned char c = (unsigned char)shown.at[i];
		if (c > 32 && c < 127 && c != '\\')
			str_add_char(out, (char)c);
		else
			str_addf(out, "\\x%02x", (unsigned)c);
	}
	if (shown.len < b.len)
		str_add_c(out, "...");
}

#define RECORD(number, name, ...) \
	void name##_print(const struct name *record, struct str *out) { \
		str_add_c(out, #name); \
		__VA_ARGS__ \
	}
#define PRINT_NUMBER(n) str_add_c(out, " " #n "="); str_add_u64(out, record->n);
#define U8(n) PRINT_NUMBER(n)
#define U16(n) PRINT_NUMBER(n)
#define U32(n) PRINT_NUMBER(n)
#define U64(n) PRINT_NUMBER(n)
#define BYTES(n, limit) str_add_c(out, " " #n "="); print_bytes(out, record->n);
#include "records.def"
#undef RECORD
#undef PRINT_NUMBER
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

const char *record_name(unsigned type)
{
	switch (type) {
#define RECORD(number, name, ...) case number: return #name;
#include "records.def"
#undef RECORD
	default: return "?";
	}
}

/* ---- framing ---- */

enum record_result record_take(struct bytes in, struct record *record_r, size_t *used_r)
{
	if (in.len < RECORD_HEAD)
		return RECORD_MORE;
	const char *head = in.at;
	size_t size = (size_t)wire_get(head, 4);
	if (wire_get(head + 6, 2) != RECORD_MAGIC || size < RECORD_HEAD || size > RECORD_MAX)
		return RECORD_BAD;
	if (in.len < size)
		return RECORD_MORE;
	record_r->type = (unsigned)wire_get(head + 4, 2);
	record_r->payload = (struct bytes){ in.at + RECORD_HEAD, size - RECORD_HEAD };
	*used_r = size;
	return RECORD_OK;
}

/* ---- a reader of one descriptor ---- */

void record_reader_init(struct record_reader *r, int fd)
{
	r->fd = fd;
	r->taken = 0;
	str_init(&r->buffer, READER_MAX);
}

void record_reader_free(struct record_reader *r)
{
	str_free(&r->buffer);
	r->taken = 0;
	r->fd = -1;
}

struct bytes record_reader_rest(const struct record_reader *r)
{
	return bytes_slice(str_bytes(&r->buffer), r->taken, r->buffer.len);
}

void record_reader_take(struct record_reader *r, size_t n)
{
	size_t left = r->buffer.len - r->taken;
	r->taken += n < left ? n : left;
}

/* How many octets the next read may bring: a good piece, or what the announced record still lacks. */
static size_t fill_size(const struct record_reader *r)
{
	size_t want = FILL_OCTETS;
	if (r->buffer.len >= RECORD_HEAD) {
		size_t size = (size_t)wire_get(r->buffer.at, 4);
		if (size <= RECORD_MAX && size > r->buffer.len && size - r->buffer.len > want)
			want = size - r->buffer.len;
	}
	size_t room = r->buffer.max - r->buffer.len;
	return want < room ? want : room;
}

ssize_t record_reader_fill(struct record_reader *r)
{
	if (r->taken > 0) {
		str_remove_front(&r->buffer, r->taken);
		r->taken = 0;
	}
	size_t want = fill_size(r);
	if (want == 0) {
		errno = ENOBUFS;
		return -1;
	}
	char *room = str_reserve(&r->buffer, want);
	if (!room) {
		r->buffer.failed = false;
		errno = ENOMEM;
		return -1;
	}
	ssize_t got;
	do
		got = read(r->fd, room, want);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		str_grew(&r->buffer, (size_t)got);
	return got;
}

enum record_result record_reader_next(struct record_reader *r, struct record *record_r)
{
	size_t used = 0;
	enum record_result result = record_take(record_reader_rest(r), record_r, &used);
	if (result == RECORD_OK)
		r->taken += used;
	return result;
}

static int reader_fail(int error)
{
	errno = error;
	return -1;
}

int record_reader_wait(struct record_reader *r, struct record *record_r, deadline_t deadline)
{
	for (;;) {
		enum record_result result = record_reader_next(r, record_r);
		if (result == RECORD_OK)
			return 1;
		if (result == RECORD_BAD)
			return reader_fail(EPROTO);
		int ready = io_wait_readable(r->fd, deadline);
		if (ready <= 0)
			return ready == 0 ? reader_fail(ETIMEDOUT) : -1;
		ssize_t got = record_reader_fill(r);
		if (got == 0)
			return record_reader_rest(r).len == 0 ? 0 : reader_fail(EPROTO);
		if (got < 0 && errno != EAGAIN)
			return -1;
	}
}

/* ---- a writer of one descriptor ---- */

void record_writer_init(struct record_writer *w, int fd, size_t max_buffer)
{
	w->fd = fd;
	w->sent = 0;
	str_init(&w->buffer, max_buffer);
}

void record_writer_free(struct record_writer *w)
{
	str_free(&w->buffer);
	w->sent = 0;
	w->fd = -1;
}

bool record_writer_pending(const struct record_writer *w)
{
	return w->sent < w->buffer.len;
}

int record_writer_push(struct record_writer *w)
{
	while (record_writer_pending(w)) {
		ssize_t n = write(w->fd, w->buffer.at + w->sent, w->buffer.len - w->sent);
		if (n >= 0) {
			w->sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -1;
		/* What is sent must not count against the buffer's maximum for long. */
		if (w->sent > w->buffer.len / 2) {
			str_remove_front(&w->buffer, w->sent);
			w->sent = 0;
		}
		return 1;
	}
	str_clear(&w->buffer);
	w->sent = 0;
	return 0;
}
