/*
 * test_channel - every record of records.def there and back, and everything that must be refused. The tests of a record are made
 * from records.def, so none can be forgotten; the encoder here (raw_*) is a second one, which knows no limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/channel.h"
#include "common/io.h"

/* ---- values ---- */

enum fill { FILL_EMPTY, FILL_FULL, FILL_RANDOM, FILL_RANDOM2, FILL_COUNT };

static uint64_t seed;
static char pool[70000];

static uint64_t random_number(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 11 ^ seed << 40;
}

static uint64_t number_for(enum fill fill)
{
	return fill == FILL_EMPTY ? 0 : fill == FILL_FULL ? UINT64_MAX : random_number();
}

static struct bytes bytes_for(enum fill fill, size_t limit)
{
	size_t len = fill == FILL_EMPTY ? 0 : fill == FILL_FULL ? limit : (size_t)(random_number() % (limit + 1));
	return (struct bytes){ pool + random_number() % (sizeof pool - len), len };
}

#define RECORD(number, name, ...) \
	static void fill_##name(struct name *r, enum fill fill) { __VA_ARGS__ }
#define U8(n) r->n = (uint8_t)number_for(fill);
#define U16(n) r->n = (uint16_t)number_for(fill);
#define U32(n) r->n = (uint32_t)number_for(fill);
#define U64(n) r->n = number_for(fill);
#define BYTES(n, limit) r->n = bytes_for(fill, limit);
#include "common/records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

#define RECORD(number, name, ...) \
	static void same_##name(const struct name *a, const struct name *b) { __VA_ARGS__ }
#define SAME(n) assert_true(a->n == b->n);
#define U8(n) SAME(n)
#define U16(n) SAME(n)
#define U32(n) SAME(n)
#define U64(n) SAME(n)
#define BYTES(n, limit) assert_true(bytes_equal(a->n, b->n));
#include "common/records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

/* ---- the second encoder: payload only; the BYTES field number `grow` gets one octet more than it may have ---- */

static void raw_number(struct str *out, uint64_t value, int octets)
{
	for (int i = 0; i < octets; i++)
		assert_true(str_add_char(out, (char)(value >> (8 * i))));
}

static void raw_bytes(struct str *out, struct bytes b, size_t limit, int *field, int grow)
{
	if ((*field)++ == grow)
		b = (struct bytes){ pool, limit + 1 };
	raw_number(out, b.len, 2);
	assert_true(str_add(out, b));
}

/* Returns how many BYTES fields there are. */
#define RECORD(number, name, ...) \
	static int raw_##name(const struct name *r, struct str *out, int grow) { int field = 0; (void)grow; __VA_ARGS__ return field; }
#define U8(n) raw_number(out, r->n, 1);
#define U16(n) raw_number(out, r->n, 2);
#define U32(n) raw_number(out, r->n, 4);
#define U64(n) raw_number(out, r->n, 8);
#define BYTES(n, limit) raw_bytes(out, r->n, limit, &field, grow);
#include "common/records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

/* A record whose BYTES field number `grow` is one octet too long must not be encoded. */
#define RECORD(number, name, ...) \
	static void grow_##name(struct name *r, int grow) { int field = 0; (void)grow; (void)field; (void)r; __VA_ARGS__ }
#define U8(n)
#define U16(n)
#define U32(n)
#define U64(n)
#define BYTES(n, limit) if (field++ == grow) r->n = (struct bytes){ pool, (size_t)(limit) + 1 };
#include "common/records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

/* ---- the tests of one record ---- */

/* What a decoder gets stands in memory of exactly its size, so that the address sanitizer sees every octet too many. */
static char *exact(struct bytes b)
{
	char *copy = malloc(b.len > 0 ? b.len : 1);
	assert_non_null(copy);
	if (b.len > 0)
		memcpy(copy, b.at, b.len);
	return copy;
}

/* Every length for short payloads; for long ones the ends and steps. */
static size_t next_cut(size_t n, size_t len)
{
	return len < 3000 || n < 600 || len - n < 600 ? n + 1 : n + 487;
}

#define RECORD(number, name, ...) \
	static void round_trip_##name(enum fill fill) { \
		struct str out = STR_INIT(RECORD_MAX), raw = STR_INIT(RECORD_MAX), shown = STR_INIT(300000); \
		struct name in, got; \
		struct record record; \
		size_t used; \
		memset(&in, 0, sizeof in); \
		fill_##name(&in, fill); \
		assert_true(name##_encode(&in, &out)); \
		assert_int_equal(record_take(str_bytes(&out), &record, &used), RECORD_OK); \
		assert_int_equal(used, out.len); \
		assert_int_equal(record.type, number); \
		raw_##name(&in, &raw, -1); \
		assert_true(bytes_equal(record.payload, str_bytes(&raw))); \
		assert_true(name##_decode(record.payload, &got)); \
		same_##name(&in, &got); \
		name##_print(&got, &shown); \
		assert_true(bytes_starts_nocase(str_bytes(&shown), LIT(#name))); \
		for (size_t i = 0; i < shown.len; i++) \
			assert_in_range((unsigned char)shown.at[i], 32, 126); \
		for (size_t n = 0; n < raw.len; n = next_cut(n, raw.len)) { \
			char *cut = exact(bytes_slice(str_bytes(&raw), 0, n)); \
			assert_false(name##_decode((struct bytes){ cut, n }, &got)); \
			free(cut); \
		} \
		assert_true(str_add_char(&raw, 0)); \
		assert_false(name##_decode(str_bytes(&raw), &got)); \
		str_free(&out); \
		str_free(&raw); \
		str_free(&shown); \
	} \
	static void over_max_##name(void) { \
		struct str out = STR_INIT(2 * RECORD_MAX), raw = STR_INIT(2 * RECORD_MAX); \
		struct name in, got; \
		memset(&in, 0, sizeof in); \
		int fields = raw_##name(&in, &raw, -1); \
		for (int i = 0; i < fields; i++) { \
			memset(&in, 0, sizeof in); \
			str_clear(&raw); \
			raw_##name(&in, &raw, i); \
			assert_false(name##_decode(str_bytes(&raw), &got)); \
			grow_##name(&in, i); \
			assert_false(name##_encode(&in, &out)); \
			assert_int_equal(out.len, 0); \
			assert_false(out.failed); \
		} \
		str_free(&out); \
		str_free(&raw); \
	}
#include "common/records.def"
#undef RECORD

static void every_record(void **state)
{
	(void)state;
	for (enum fill fill = FILL_EMPTY; fill < FILL_COUNT; fill++) {
		seed = 4711 + fill;
#define RECORD(number, name, ...) round_trip_##name(fill);
#include "common/records.def"
#undef RECORD
	}
#define RECORD(number, name, ...) over_max_##name();
#include "common/records.def"
#undef RECORD
}

/* fifo records of more than one writer must be whole in the pipe: at most PIPE_BUF. */
static void shared_fifos(void **state)
{
	(void)state;
	struct str out = STR_INIT(RECORD_MAX);
	struct offer offer;
	struct adopt adopt;
	struct operate operate;
	memset(&offer, 0, sizeof offer);
	memset(&adopt, 0, sizeof adopt);
	memset(&operate, 0, sizeof operate);
	fill_offer(&offer, FILL_FULL);
	fill_adopt(&adopt, FILL_FULL);
	fill_operate(&operate, FILL_FULL);
	assert_true(offer_encode(&offer, &out));
	assert_in_range(out.len, 1, 4096);
	str_clear(&out);
	assert_true(adopt_encode(&adopt, &out));
	assert_in_range(out.len, 1, 4096);
	str_clear(&out);
	assert_true(operate_encode(&operate, &out));
	assert_in_range(out.len, 1, 4096);
	str_free(&out);
}

static void names(void **state)
{
	(void)state;
#define RECORD(number, name, ...) assert_string_equal(record_name(number), #name);
#include "common/records.def"
#undef RECORD
	assert_string_equal(record_name(0), "?");
	assert_string_equal(record_name(65535), "?");
}

static void printed(void **state)
{
	(void)state;
	struct str out = STR_INIT(1000);
	struct adopt a = { .name = LIT("a b\\c\x1b\n\xff") };
	adopt_print(&a, &out);
	assert_string_equal(str_c(&out), "adopt name=a\\x20b\\x5cc\\x1b\\x0a\\xff");
	str_free(&out);
}

/* ---- framing ---- */

static enum record_result take_head(uint32_t size, uint16_t type, uint16_t magic)
{
	struct str raw = STR_INIT(100);
	struct record record;
	size_t used;
	raw_number(&raw, size, 4);
	raw_number(&raw, type, 2);
	raw_number(&raw, magic, 2);
	enum record_result result = record_take(str_bytes(&raw), &record, &used);
	str_free(&raw);
	return result;
}

static void framing(void **state)
{
	(void)state;
	assert_int_equal(take_head(8, 1, RECORD_MAGIC), RECORD_OK);
	assert_int_equal(take_head(9, 1, RECORD_MAGIC), RECORD_MORE);
	assert_int_equal(take_head(7, 1, RECORD_MAGIC), RECORD_BAD);
	assert_int_equal(take_head(0, 1, RECORD_MAGIC), RECORD_BAD);
	assert_int_equal(take_head(RECORD_MAX, 1, RECORD_MAGIC), RECORD_MORE);
	assert_int_equal(take_head(RECORD_MAX + 1, 1, RECORD_MAGIC), RECORD_BAD);
	assert_int_equal(take_head(UINT32_MAX, 1, RECORD_MAGIC), RECORD_BAD);
	assert_int_equal(take_head(8, 1, RECORD_MAGIC + 1), RECORD_BAD);
}

/* A full buffer refuses a record and is as good as before when it has been emptied. */
static void full_buffer(void **state)
{
	(void)state;
	struct str out = STR_INIT(60);
	struct adopt a = { .name = LIT("0123456789012345678901234") };
	assert_true(adopt_encode(&a, &out));
	size_t len = out.len;
	assert_false(adopt_encode(&a, &out));
	assert_int_equal(out.len, len);
	assert_false(out.failed);
	str_clear(&out);
	assert_true(adopt_encode(&a, &out));
	str_free(&out);
}

/* ---- reader and writer ---- */

static void make_pipe(int fds[2])
{
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
}

/* One of every record, as one stream. */
static void make_stream(struct str *stream)
{
#define RECORD(number, name, ...) { \
		struct name r; \
		memset(&r, 0, sizeof r); \
		fill_##name(&r, number % 2 ? FILL_RANDOM : FILL_EMPTY); \
		assert_true(name##_encode(&r, stream)); \
	}
#include "common/records.def"
#undef RECORD
}

static bool decodes(const struct record *record)
{
	switch (record->type) {
#define RECORD(number, name, ...) case number: { struct name r; return name##_decode(record->payload, &r); }
#include "common/records.def"
#undef RECORD
	default: return false;
	}
}

static size_t drain(struct record_reader *reader)
{
	struct record record;
	size_t count = 0;
	for (;;) {
		enum record_result result = record_reader_next(reader, &record);
		assert_int_not_equal(result, RECORD_BAD);
		if (result == RECORD_MORE)
			return count;
		assert_true(decodes(&record));
		count++;
	}
}

static size_t feed(struct bytes stream, size_t piece)
{
	struct record_reader reader;
	int fds[2];
	size_t count = 0;
	make_pipe(fds);
	record_reader_init(&reader, fds[0]);
	for (size_t at = 0; at < stream.len; at += piece) {
		struct bytes part = bytes_slice(stream, at, at + piece);
		assert_int_equal(io_write_full(fds[1], part.at, part.len), 0);
		for (size_t got = 0; got < part.len;) {
			ssize_t n = record_reader_fill(&reader);
			assert_true(n > 0);
			got += (size_t)n;
			count += drain(&reader);
		}
	}
	assert_int_equal(record_reader_rest(&reader).len, 0);
	errno = 0;
	assert_int_equal(record_reader_fill(&reader), -1);
	assert_int_equal(errno, EAGAIN);
	close(fds[1]);
	assert_int_equal(record_reader_fill(&reader), 0);
	close(fds[0]);
	record_reader_free(&reader);
	return count;
}

static void reader_in_pieces(void **state)
{
	(void)state;
	struct str stream = STR_INIT(4u << 20);
	size_t records = 0;
#define RECORD(number, name, ...) records++;
#include "common/records.def"
#undef RECORD
	seed = 99;
	make_stream(&stream);
	static const size_t pieces[] = { 1, 2, 3, 7, 8, 9, 100, 4096, 65536 };
	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
		assert_int_equal(feed(str_bytes(&stream), pieces[i]), records);
	str_free(&stream);
}

/* Octets that follow the records raw, as a message body does. */
static void reader_rest(void **state)
{
	(void)state;
	struct record_reader reader;
	struct record record;
	struct str stream = STR_INIT(1000);
	struct adopt a = { .name = LIT("x") };
	int fds[2];
	make_pipe(fds);
	record_reader_init(&reader, fds[0]);
	adopt_encode(&a, &stream);
	str_add_c(&stream, "From: me\r\n");
	assert_int_equal(io_write_full(fds[1], stream.at, stream.len), 0);
	assert_int_equal(record_reader_fill(&reader), stream.len);
	assert_int_equal(record_reader_next(&reader, &record), RECORD_OK);
	assert_true(bytes_equal(record_reader_rest(&reader), LIT("From: me\r\n")));
	record_reader_take(&reader, 6);
	assert_true(bytes_equal(record_reader_rest(&reader), LIT("me\r\n")));
	record_reader_take(&reader, 100);
	assert_int_equal(record_reader_rest(&reader).len, 0);
	record_reader_free(&reader);
	str_free(&stream);
	close(fds[0]);
	close(fds[1]);
}

static void reader_full(void **state)
{
	(void)state;
	struct record_reader reader;
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	record_reader_init(&reader, fd);
	while ((n = record_reader_fill(&reader)) > 0)
		;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ENOBUFS);
	record_reader_free(&reader);
	close(fd);
}

static void reader_wait(void **state)
{
	(void)state;
	struct record_reader reader;
	struct record record;
	struct str out = STR_INIT(1000);
	struct adopt a = { .name = LIT("one") };
	int fds[2];
	make_pipe(fds);
	record_reader_init(&reader, fds[0]);
	assert_int_equal(record_reader_wait(&reader, &record, deadline_in(clock_monotonic_ms(), 1)), -1);
	assert_int_equal(errno, ETIMEDOUT);
	adopt_encode(&a, &out);
	assert_int_equal(io_write_full(fds[1], out.at, out.len), 0);
	assert_int_equal(record_reader_wait(&reader, &record, 0), 1);
	assert_true(decodes(&record));
	assert_int_equal(io_write_full(fds[1], out.at, 5), 0);
	close(fds[1]);
	assert_int_equal(record_reader_wait(&reader, &record, 0), -1);
	assert_int_equal(errno, EPROTO);
	record_reader_free(&reader);
	close(fds[0]);
	make_pipe(fds);
	record_reader_init(&reader, fds[0]);
	assert_int_equal(io_write_full(fds[1], "\0\0\0\0\0\0\0\0", 8), 0);
	assert_int_equal(record_reader_wait(&reader, &record, 0), -1);
	assert_int_equal(errno, EPROTO);
	record_reader_free(&reader);
	record_reader_init(&reader, fds[0]);
	close(fds[1]);
	assert_int_equal(record_reader_wait(&reader, &record, 0), 0);
	record_reader_free(&reader);
	close(fds[0]);
	str_free(&out);
}

/* More than the pipe holds: pushed in turns, nothing lost, nothing twice. */
static void writer(void **state)
{
	(void)state;
	struct record_writer w;
	struct record_reader r;
	struct body_part part = { .octets = { pool, 20000 } };
	int fds[2], pushed = 1;
	size_t sent = 0, got = 0;
	make_pipe(fds);
	record_writer_init(&w, fds[1], 200000);
	record_reader_init(&r, fds[0]);
	assert_false(record_writer_pending(&w));
	assert_int_equal(record_writer_push(&w), 0);
	while (sent < 40 || record_writer_pending(&w)) {
		while (sent < 40 && body_part_encode(&part, &w.buffer))
			sent++;
		pushed = record_writer_push(&w);
		assert_in_range(pushed, 0, 1);
		assert_int_equal(pushed == 1, record_writer_pending(&w));
		while (record_reader_fill(&r) > 0)
			got += drain(&r);
	}
	assert_int_equal(got, 40);
	close(fds[0]);
	assert_true(body_part_encode(&part, &w.buffer));
	assert_int_equal(record_writer_push(&w), -1);
	assert_int_equal(errno, EPIPE);
	close(fds[1]);
	record_writer_free(&w);
	record_reader_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record),
		cmocka_unit_test(shared_fifos),
		cmocka_unit_test(names),
		cmocka_unit_test(printed),
		cmocka_unit_test(framing),
		cmocka_unit_test(full_buffer),
		cmocka_unit_test(reader_in_pieces),
		cmocka_unit_test(reader_rest),
		cmocka_unit_test(reader_full),
		cmocka_unit_test(reader_wait),
		cmocka_unit_test(writer),
	};
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof pool; i++)
		pool[i] = (char)(i * 7 + i / 256);
	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
