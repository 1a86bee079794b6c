/*
 * damaged - for tests of the checker: a small queue that nobody has open, what damages its files, and what is found then.
 */
#ifndef TESTS_DAMAGED_H
#define TESTS_DAMAGED_H

#include <inttypes.h>

#include "checked.h"

#include "common/io.h"

/* Three messages, of which the second has had an attempt and a delivery; two segments; nothing is open. */
struct queue { struct spool sp; msgid_t id[3]; char text[3][MSGID_TEXT + 1]; struct row_message row[3]; };

static inline void read_rows(struct queue *q)
{
	struct str error = STR_INIT(500);
	assert_int_equal(chdir(q->sp.dir), 0);
	struct index *ix = index_open("index", 0, true, &error);
	assert_non_null(ix);
	assert_true(index_read_begin(ix));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(index_get_message(ix, q->id[i], &q->row[i]), INDEX_OK);
		msgid_format(q->id[i], q->text[i]);
	}
	index_read_end(ix);
	index_close(ix);
}

static inline int queue_setup(void **state)
{
	static struct queue room;
	struct queue *q = &room;
	room = (struct queue){ .id = { 0 } };
	*state = q;
	spool_begin(&q->sp);
	spool_open(&q->sp);
	q->id[0] = spool_accept_sync(&q->sp, "s@a.example r@b.example");
	q->id[1] = spool_accept_sync(&q->sp, "s@a.example one@c.example two@d.example");
	assert_true(spool_deliver(&q->sp, CHANNEL_REMOTE, V_TEMP));      /* the first */
	assert_true(spool_deliver(&q->sp, CHANNEL_REMOTE, V_OK));        /* one@ */
	assert_int_equal(store_sync(q->sp.st), STORE_OK);
	spool_reopen(&q->sp);
	q->id[2] = spool_accept_sync(&q->sp, "s@a.example r@e.example");
	spool_accept_sync(&q->sp, "s@a.example r@e.example");
	store_close(q->sp.st);
	q->sp.st = NULL;
	read_rows(q);
	return 0;
}

static inline int queue_teardown(void **state)
{
	struct queue *q = *state;
	spool_end(&q->sp);
	return 0;
}

#define ON_A_QUEUE(test) cmocka_unit_test_setup_teardown(test, queue_setup, queue_teardown)

static inline void expect(struct queue *q, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void expect(struct queue *q, const char *format, ...)
{
	char expected[2000];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(expected, sizeof expected, format, arguments);
	va_end(arguments);
	checked_is(q->sp.dir, q->sp.now, expected);
}

/* The lines found, which are `count` of one kind; valid until the next call. */
static inline const char *only(struct queue *q, enum check_kind kind, uint64_t count)
{
	static char lines[8000];
	struct checked c = checked_run(q->sp.dir, q->sp.now);
	snprintf(lines, sizeof lines, "%s", str_c(&c.lines));
	for (unsigned k = 0; k < CHECK_NOTE; k++)
		assert_int_equal(c.check.count[k], k == kind ? count : 0);
	str_free(&c.lines);
	return lines;
}

/* ---- files ---- */

static inline int open_file(const char *path)
{
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

static inline void flip(const char *path, uint64_t at)
{
	char octet;
	int fd = open_file(path);
	assert_int_equal(io_pread_full(fd, &octet, 1, at), 1);
	octet ^= 0x40;
	assert_int_equal(io_pwrite_full(fd, &octet, 1, at), 0);
	close(fd);
}

static inline void write_file(const char *path, const void *octets, size_t n)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, octets, n), 0);
	close(fd);
}

#endif
