/*
 * test_check - a store is damaged by hand, one thing at a time: the checker names that and nothing else.
 */
#include <inttypes.h>

#include "checked.h"

#include "common/crc32c.h"
#include "common/io.h"
#include "queue/intakefile.h"
#include "queue/store/check_track.h"
#include "queue/store/msglog_inside.h"

#include <lmdb.h>

/* Three messages, of which the second has had an attempt and a delivery; two segments; nothing is open. */
struct queue { struct spool sp; msgid_t id[3]; char text[3][MSGID_TEXT + 1]; struct row_message row[3]; };

static void read_rows(struct queue *q)
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

static void queue_begin(struct queue *q)
{
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
}

static void queue_end(struct queue *q)
{
	spool_end(&q->sp);
}

static void expect(struct queue *q, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void expect(struct queue *q, const char *format, ...)
{
	char expected[2000];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(expected, sizeof expected, format, arguments);
	va_end(arguments);
	checked_is(q->sp.dir, q->sp.now, expected);
}

/* ---- files ---- */

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

static void flip(const char *path, uint64_t at)
{
	char octet;
	int fd = open_file(path);
	assert_int_equal(io_pread_full(fd, &octet, 1, at), 1);
	octet ^= 0x40;
	assert_int_equal(io_pwrite_full(fd, &octet, 1, at), 0);
	close(fd);
}

static void write_file(const char *path, const void *octets, size_t n)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, octets, n), 0);
	close(fd);
}

static void flip_in_segment(uint64_t segment, uint64_t at)
{
	char path[PLACE_MAX];
	place_segment(segment, path);
	flip(path, at);
}

/* ---- clean ---- */

static void test_clean(void **state)
{
	struct queue q;
	struct checked c;
	(void)state;
	queue_begin(&q);
	c = checked_run(q.sp.dir, q.sp.now);
	assert_string_equal(str_c(&c.lines), "");
	assert_int_equal(c.check.sums.messages, 4);
	assert_int_equal(c.check.sums.recipients, 5);
	/* Two log_start, four messages, two results. */
	assert_int_equal(c.check.sums.records, 8);
	assert_int_equal(c.check.sums.behind, 0);
	assert_int_equal(c.check.sums.segments, 3);      /* the next one is ready */
	str_free(&c.lines);
	queue_end(&q);
}

static void test_never_used(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	checked_is(sp.dir, sp.now, "");
	int fd = open("index/data.mdb", O_CREAT | O_RDWR, 0640);      /* killed while it made its first index */
	close(fd);
	checked_is(sp.dir, sp.now, "");
	spool_end(&sp);
}

/* Killed behind the sync and before the commit: the index is behind. */
static void test_behind(void **state)
{
	struct spool sp;
	struct spool copy;
	struct checked c;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_accept_sync(&sp, "s@a.example r@b.example");
	spool_tick(&sp);
	sp.now += 5000;
	spool_tick(&sp);
	spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crashed_copy(&sp, &copy);
	c = checked_run(copy.dir, copy.now);
	assert_string_equal(str_c(&c.lines), "");
	assert_int_equal(c.check.sums.messages, 1);
	assert_int_equal(c.check.sums.behind, 2);
	str_free(&c.lines);
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	spool_end(&sp);
}

/* ---- the log ---- */

static void test_damaged_body(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	flip_in_segment(q.row[1].segment, q.row[1].body_offset);
	expect(&q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", q.row[1].segment, q.row[1].segment, q.text[1]);
	queue_end(&q);
}

static void test_damaged_head(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	flip_in_segment(q.row[0].segment, q.row[0].record_offset + 3);
	expect(&q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", q.row[0].segment, q.row[0].segment, q.text[0]);
	queue_end(&q);
}

/* The last record: no later one proves that it was synced, but the index knows it. */
static void test_damaged_last(void **state)
{
	struct queue q;
	struct str error = STR_INIT(500);
	struct row_message row;
	msgid_t last;
	char text[MSGID_TEXT + 1];
	(void)state;
	queue_begin(&q);
	struct index *ix = index_open("index", 0, true, &error);
	assert_true(index_read_begin(ix));
	assert_int_equal(index_next_message(ix, q.id[2] + 1, &last, &row), INDEX_OK);
	uint64_t segment = row.segment, at = row.body_offset;
	index_read_end(ix);
	index_close(ix);
	msgid_format(last, text);
	flip_in_segment(segment, at);
	expect(&q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", segment, segment, text);
	queue_end(&q);
}

static void test_damaged_header(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	flip_in_segment(q.row[0].segment, MSGLOG_HEAD + 2);
	expect(&q, "log-damaged log/%016" PRIx64 " -\n", q.row[0].segment);
	queue_end(&q);
}

static void test_missing_segment(void **state)
{
	struct queue q;
	char path[PLACE_MAX];
	(void)state;
	queue_begin(&q);
	place_segment(q.row[0].segment, path);
	assert_int_equal(unlink(path), 0);
	expect(&q, "log-missing %s %s\nlog-missing %s %s\n", path, q.text[0], path, q.text[1]);
	queue_end(&q);
}

static void test_cut_segment(void **state)
{
	struct queue q;
	char path[PLACE_MAX];
	(void)state;
	queue_begin(&q);
	place_segment(q.row[2].segment, path);
	assert_int_equal(truncate(path, (off_t)(q.row[2].record_offset + 8)), 0);
	struct checked c = checked_run(q.sp.dir, q.sp.now);
	assert_true(bytes_starts_nocase(str_bytes(&c.lines), LIT("log-damaged ")));
	assert_int_equal(c.check.count[CHECK_LOG_DAMAGED], 1);
	assert_int_equal(c.check.count[CHECK_MESSAGE_DAMAGED], 2);
	assert_int_equal(c.check.count[CHECK_INDEX_LOG] + c.check.count[CHECK_INDEX_ROWS] + c.check.count[CHECK_INDEX_DAMAGED], 0);
	str_free(&c.lines);
	queue_end(&q);
}

/* A record with valid checksums that means nothing, in the place of a message's. */
static void test_foreign_record(void **state)
{
	struct queue q;
	char octets[MSGLOG_HEAD + 16] = { 0 }, path[PLACE_MAX];
	struct msglog_head head;
	(void)state;
	queue_begin(&q);
	place_segment(q.row[0].segment, path);
	int fd = open_file(path);
	assert_int_equal(io_pread_full(fd, octets, MSGLOG_HEAD, q.row[0].record_offset), MSGLOG_HEAD);
	assert_true(msglog_head_decode(octets, &head));
	head.length = 16;
	head.payload_crc = crc32c(0, octets + MSGLOG_HEAD, 16);
	msglog_head_encode(&head, octets);
	assert_int_equal(io_pwrite_full(fd, octets, sizeof octets, q.row[0].record_offset), 0);
	close(fd);
	struct checked c = checked_run(q.sp.dir, q.sp.now);
	assert_int_equal(c.check.count[CHECK_LOG_RECORD], 1);
	assert_int_equal(c.check.count[CHECK_LOG_DAMAGED], 1);       /* what is left of the message behind it */
	assert_int_equal(c.check.count[CHECK_INDEX_ROWS], 0);
	str_free(&c.lines);
	queue_end(&q);
}

/* ---- the index ---- */

static struct index *edit(struct queue *q)
{
	struct str error = STR_INIT(500);
	assert_int_equal(chdir(q->sp.dir), 0);
	struct index *ix = index_open("index", q->sp.settings.indexsize, false, &error);
	assert_non_null(ix);
	return ix;
}

static void done(struct index *ix)
{
	assert_int_equal(index_commit(ix), INDEX_OK);
	index_close(ix);
}

static struct row_rcpt rcpt(struct index *ix, msgid_t id, uint32_t n)
{
	struct row_rcpt r;
	assert_int_equal(index_get_rcpt(ix, id, n, &r), INDEX_OK);
	return r;
}

static const char *only(struct queue *q, enum check_kind kind, uint64_t count)
{
	static char lines[8000];
	struct checked c = checked_run(q->sp.dir, q->sp.now);
	snprintf(lines, sizeof lines, "%s", str_c(&c.lines));
	for (unsigned k = 0; k < CHECK_NOTE; k++)
		assert_int_equal(c.check.count[k], k == kind ? count : 0);
	str_free(&c.lines);
	return lines;
}

static void test_due_row_lost(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	struct row_rcpt r = rcpt(ix, q.id[0], 0);
	assert_int_equal(index_delete_due(ix, r.destination, (struct due){ r.next_try_ms, q.id[0], 0 }), INDEX_OK);
	done(ix);
	expect(&q, "index-rows index/data.mdb %s\n", q.text[0]);
	queue_end(&q);
}

static void test_due_row_dangles(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	struct row_rcpt r = rcpt(ix, q.id[0], 0);
	assert_int_equal(index_put_due(ix, r.destination, (struct due){ r.next_try_ms + 1, q.id[0], 0 }), INDEX_OK);
	assert_int_equal(index_put_due(ix, LIT("r:nowhere.example"), (struct due){ 1, 77, 3 }), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_ROWS, 3);       /* and nothing wakes nowhere.example */
	queue_end(&q);
}

static void test_rcpt_row_lost_and_dangling(void **state)
{
	struct queue q;
	struct row_rcpt r;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	r = rcpt(ix, q.id[1], 0);            /* the delivered one */
	assert_int_equal(index_put_rcpt(ix, q.id[2] + 100, 0, &r), INDEX_OK);
	assert_int_equal(index_put_rcpt(ix, UINT64_MAX, 0, &r), INDEX_OK);
	assert_int_equal(index_delete_rcpt(ix, q.id[1], 0), INDEX_OK);
	done(ix);
	struct checked c = checked_run(q.sp.dir, q.sp.now);
	/* Its number, its count, two of nobody; and the envelope in the log has one more. */
	assert_int_equal(c.check.count[CHECK_INDEX_ROWS], 4);
	assert_int_equal(c.check.count[CHECK_INDEX_LOG], 1);
	str_free(&c.lines);
	queue_end(&q);
}

static void test_wakes(void **state)
{
	struct queue q;
	struct row_destination d;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_get_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	assert_int_equal(index_delete_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	assert_int_equal(index_put_wake(ix, 5, LIT("r:z.example")), INDEX_OK);
	done(ix);
	assert_string_equal(only(&q, CHECK_INDEX_ROWS, 2), "index-rows index/data.mdb -\nindex-rows index/data.mdb -\n");
	queue_end(&q);
}

static void test_woken_too_late(void **state)
{
	struct queue q;
	struct row_destination d;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_get_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	assert_int_equal(index_delete_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	d.wake_ms = q.sp.now + 3600000;
	assert_int_equal(index_put_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	assert_int_equal(index_put_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_ROWS, 1);
	queue_end(&q);
}

static void test_bounce_rows(void **state)
{
	struct queue q;
	struct row_message m;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_put_bounce(ix, 5, q.id[0]), INDEX_OK);
	assert_int_equal(index_get_message(ix, q.id[1], &m), INDEX_OK);
	m.bounce_due_ms = 9;
	assert_int_equal(index_put_message(ix, q.id[1], &m), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_ROWS, 3);
	queue_end(&q);
}

static void test_sums(void **state)
{
	struct queue q;
	struct row_status s;
	struct row_segment seg = { 7, 7, 0 };
	struct row_finished f = { .how = FINISHED_DELIVERED };
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_get_status(ix, &s), INDEX_OK);
	s.held = 3;
	assert_int_equal(index_put_status(ix, &s), INDEX_OK);
	assert_int_equal(index_put_segment(ix, q.row[0].segment, &seg), INDEX_OK);
	assert_int_equal(index_put_finished(ix, q.id[0], &f), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_ROWS, 3);
	queue_end(&q);
}

static void test_row_does_not_decode(void **state)
{
	struct queue q;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi db;
	unsigned char key[8];
	(void)state;
	queue_begin(&q);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
	assert_int_equal(mdb_env_open(env, "index", 0, 0640), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, "messages", 0, &db), 0);
	for (unsigned i = 0; i < 8; i++)
		key[i] = (unsigned char)(q.id[1] >> (8 * (7 - i)));
	assert_int_equal(mdb_put(txn, db, &(MDB_val){ 8, key }, &(MDB_val){ 5, (char[]){ "hello" } }, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	assert_string_equal(only(&q, CHECK_INDEX_DAMAGED, 1), "index-damaged index/data.mdb -\n");
	queue_end(&q);
}

/* ---- the index and the log ---- */

static void test_wrong_place(void **state)
{
	struct queue q;
	struct row_message m;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_get_message(ix, q.id[0], &m), INDEX_OK);
	m.record_offset += 8;
	m.body_offset += 8;
	assert_int_equal(index_put_message(ix, q.id[0], &m), INDEX_OK);
	done(ix);
	char expected[100];
	snprintf(expected, sizeof expected, "index-log log/%016" PRIx64 " %s\n", q.row[0].segment, q.text[0]);
	assert_string_equal(only(&q, CHECK_INDEX_LOG, 1), expected);
	queue_end(&q);
}

static void test_other_body(void **state)
{
	struct queue q;
	struct row_message m;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	assert_int_equal(index_get_message(ix, q.id[2], &m), INDEX_OK);
	m.body_offset += 1;
	m.body_size -= 1;
	assert_int_equal(index_put_message(ix, q.id[2], &m), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_LOG, 1);
	queue_end(&q);
}

static void test_other_recipient(void **state)
{
	struct queue q;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	struct row_rcpt r = rcpt(ix, q.id[2], 0);
	r.address = LIT("thief@e.example");
	assert_int_equal(index_put_rcpt(ix, q.id[2], 0, &r), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_LOG, 1);
	queue_end(&q);
}

/* The rows agree with each other, but a delivery that the log has is not in them. */
static void test_result_not_known(void **state)
{
	struct queue q;
	struct row_message m;
	struct row_status s;
	(void)state;
	queue_begin(&q);
	struct index *ix = edit(&q);
	struct row_rcpt r = rcpt(ix, q.id[1], 0);
	assert_int_equal(r.state, RCPT_DELIVERED);
	r.state = RCPT_WAITING;
	assert_int_equal(index_put_rcpt(ix, q.id[1], 0, &r), INDEX_OK);
	r = rcpt(ix, q.id[1], 0);
	assert_int_equal(index_put_due(ix, LIT("r:d.example"), (struct due){ r.next_try_ms, q.id[1], 0 }), INDEX_OK);
	r = rcpt(ix, q.id[1], 0);
	r.destination = LIT("r:d.example");
	assert_int_equal(index_put_rcpt(ix, q.id[1], 0, &r), INDEX_OK);
	assert_int_equal(index_get_message(ix, q.id[1], &m), INDEX_OK);
	m.unfinished++;
	m.delivered--;
	assert_int_equal(index_put_message(ix, q.id[1], &m), INDEX_OK);
	assert_int_equal(index_get_status(ix, &s), INDEX_OK);
	s.recipients++;
	assert_int_equal(index_put_status(ix, &s), INDEX_OK);
	done(ix);
	only(&q, CHECK_INDEX_LOG, 1);
	queue_end(&q);
}

/* Every trace of it is gone from the index, sums included. */
static void forget_last(struct queue *q)
{
	struct row_message m;
	struct row_segment seg;
	struct row_status s;
	uint64_t segment;
	struct index *ix = edit(q);
	struct row_rcpt r = rcpt(ix, q->id[2], 0);
	assert_int_equal(index_delete_due(ix, r.destination, (struct due){ r.next_try_ms, q->id[2], 0 }), INDEX_OK);
	assert_int_equal(index_get_message(ix, q->id[2], &m), INDEX_OK);
	assert_int_equal(index_next_segment(ix, m.segment, &segment, &seg), INDEX_OK);
	seg.live_messages--;
	seg.live_bytes -= m.record_size;
	assert_int_equal(index_put_segment(ix, segment, &seg), INDEX_OK);
	assert_int_equal(index_delete_rcpt(ix, q->id[2], 0), INDEX_OK);
	assert_int_equal(index_delete_message(ix, q->id[2]), INDEX_OK);
	assert_int_equal(index_get_status(ix, &s), INDEX_OK);
	s.messages--;
	s.recipients--;
	assert_int_equal(index_put_status(ix, &s), INDEX_OK);
	done(ix);
}

static void test_message_lost(void **state)
{
	struct queue q;
	char expected[100];
	(void)state;
	queue_begin(&q);
	forget_last(&q);
	snprintf(expected, sizeof expected, "index-log log/%016" PRIx64 " %s\n", q.row[2].segment, q.text[2]);
	assert_string_equal(only(&q, CHECK_INDEX_LOG, 1), expected);
	queue_end(&q);
}

/* ---- a file that is no LMDB file any more ---- */

static uint64_t chance_state;

static uint32_t chance(uint32_t n)
{
	chance_state = chance_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(chance_state >> 33) % n;
}

/* Whatever stands in the index's file, the checker ends, says so or finds nothing, and judges the log. */
static void test_garbage_index(void **state)
{
	struct queue q;
	struct stat st;
	(void)state;
	queue_begin(&q);
	assert_int_equal(chdir(q.sp.dir), 0);
	assert_int_equal(stat("index/data.mdb", &st), 0);
	size_t size = (size_t)st.st_size;
	char *whole = malloc(size), *broken = malloc(size);
	int fd = open_file("index/data.mdb");
	assert_int_equal(io_pread_full(fd, whole, size, 0), size);
	close(fd);
	unsigned told = 0;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		chance_state = seed;
		memcpy(broken, whole, size);
		for (unsigned i = 0, n = 1 + chance(40); i < n; i++)
			broken[8192 + chance((uint32_t)size - 8192)] = (char)chance(256);
		if (seed % 3 == 0)
			memset(broken + 8192 + 4096 * chance((uint32_t)size / 4096 - 2), (int)chance(256), 4096);
		write_file("index/data.mdb", broken, seed % 10 == 0 ? 8192 + chance((uint32_t)size - 8192) : size);
		struct checked c = checked_run(q.sp.dir, q.sp.now);
		told += c.check.count[CHECK_INDEX_DAMAGED] + c.check.count[CHECK_INDEX_ROWS] + c.check.count[CHECK_INDEX_LOG] > 0;
		/* The log is sound, whoever says what of it. */
		assert_int_equal(c.check.count[CHECK_LOG_RECORD], 0);
		str_free(&c.lines);
	}
	assert_true(told > 30);
	free(whole);
	free(broken);
	queue_end(&q);
}

static void test_index_is_no_index(void **state)
{
	struct queue q;
	static char octets[8192];
	(void)state;
	queue_begin(&q);
	memset(octets, 'x', sizeof octets);
	write_file("index/data.mdb", octets, sizeof octets);
	assert_string_equal(only(&q, CHECK_INDEX_DAMAGED, 1), "index-damaged index/data.mdb -\n");
	queue_end(&q);
}

/* ---- large bodies and intake/ ---- */

#define LARGE (200u << 10)

/* An intake file; ADOPT has its checksum. */
static void make_intake(const char *path, enum intake_state how, struct bytes envelope, uint32_t id_offset)
{
	static char octets[INTAKE_HEAD + LARGE + 4096];
	struct intake_head head = { .state = how, .token_a = 5, .token_b = 6, .body_size = LARGE, .envelope_size = (uint32_t)envelope.len, .id_offset = id_offset };
	memset(octets, 'b', sizeof octets);
	memcpy(octets + INTAKE_HEAD + 100, MSGID_PLACEHOLDER, MSGID_TEXT);
	memcpy(octets + INTAKE_HEAD + LARGE, envelope.at, envelope.len);
	if (how == INTAKE_ADOPT)
		head.checksum = crc32c(0, octets + INTAKE_HEAD, LARGE + envelope.len);
	intake_head_encode(&head, octets);
	write_file(path, octets, INTAKE_HEAD + LARGE + envelope.len);
}

#define NAME "0123456789abcdefghjkmnpqrs"

struct large { struct spool sp; struct spool copy; msgid_t id; char text[MSGID_TEXT + 1], path[PLACE_MAX]; };

static void large_begin(struct large *l)
{
	struct str raw = STR_INIT(4096);
	struct envelope env;
	spool_begin(&l->sp);
	spool_open(&l->sp);
	spool_accept_sync(&l->sp, "s@a.example other@b.example");
	spool_envelope(&raw, "s@a.example r@b.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	make_intake("intake/" NAME, INTAKE_ADOPT, str_bytes(&raw), 100);
	struct store_new in = { .envelope = &env, .large_file = NAME, .body_offset = INTAKE_HEAD, .body_size = LARGE, .id_offset = 100, .token_a = 5, .token_b = 6 };
	assert_int_equal(store_accept(l->sp.st, &in, l->sp.now, &l->id), STORE_OK);
	assert_int_equal(store_sync(l->sp.st), STORE_OK);
	l->sp.now += 5000;
	spool_tick(&l->sp);
	msgid_format(l->id, l->text);
	place_large(l->id, l->path);
	str_free(&raw);
	spool_crashed_copy(&l->sp, &l->copy);
	assert_int_equal(chdir(l->copy.dir), 0);
}

static void large_is(struct large *l, const char *kind)
{
	char expected[200] = "";
	if (kind)
		snprintf(expected, sizeof expected, "%s %s %s\n", kind, l->path, strcmp(kind, "large-orphan") == 0 ? "-" : l->text);
	checked_is(l->copy.dir, l->copy.now, expected);
	assert_int_equal(chdir(l->copy.dir), 0);
}

static void large_end(struct large *l)
{
	spool_end(&l->copy);
	assert_int_equal(chdir(l->sp.dir), 0);
	spool_end(&l->sp);
}

static void test_large(void **state)
{
	struct large l;
	char found[MSGID_TEXT];
	(void)state;
	large_begin(&l);
	large_is(&l, NULL);
	int fd = open_file(l.path);       /* the id was put into it, and its checksum is right all the same */
	assert_int_equal(io_pread_full(fd, found, sizeof found, INTAKE_HEAD + 100), sizeof found);
	assert_memory_equal(found, l.text, MSGID_TEXT);
	close(fd);
	flip(l.path, INTAKE_HEAD + 5000);
	large_is(&l, "large-damaged");
	flip(l.path, INTAKE_HEAD + 5000);
	flip(l.path, INTAKE_HEAD + LARGE + 3);
	large_is(&l, "large-damaged");
	flip(l.path, INTAKE_HEAD + LARGE + 3);
	flip(l.path, 20);
	large_is(&l, "large-damaged");
	flip(l.path, 20);
	large_is(&l, NULL);
	assert_int_equal(truncate(l.path, LARGE), 0);
	large_is(&l, "large-damaged");
	assert_int_equal(unlink(l.path), 0);
	large_is(&l, "large-missing");
	large_end(&l);
}

static void test_large_second_name(void **state)
{
	struct large l;
	char elsewhere[128];
	(void)state;
	large_begin(&l);
	snprintf(elsewhere, sizeof elsewhere, "%s.link", l.copy.dir);
	assert_int_equal(link(l.path, elsewhere), 0);
	large_is(&l, "large-damaged");
	assert_int_equal(unlink(elsewhere), 0);
	large_end(&l);
}

static void test_large_orphan(void **state)
{
	struct large l;
	char text[MSGID_TEXT + 1];
	(void)state;
	large_begin(&l);
	msgid_format(l.id - 1, text);
	snprintf(l.path, sizeof l.path, "large/%s", text);
	write_file(l.path, "x", 1);
	large_is(&l, "large-orphan");
	unlink(l.path);
	msgid_format(l.id + 1, text);      /* what a crash between rename and sync leaves */
	snprintf(l.path, sizeof l.path, "large/%s", text);
	write_file(l.path, "x", 1);
	large_is(&l, NULL);
	large_end(&l);
}

/* Ended behind the last commit: the file is gone, the index still has its message, and the log explains it. */
static void test_large_ended(void **state)
{
	struct large l;
	(void)state;
	large_begin(&l);
	spool_end(&l.copy);
	assert_int_equal(chdir(l.sp.dir), 0);
	while (spool_deliver(&l.sp, CHANNEL_REMOTE, V_OK))
		;
	assert_int_equal(store_sync(l.sp.st), STORE_OK);
	assert_int_equal(access(l.path, F_OK), -1);
	checked_crash(&l.sp);
	spool_end(&l.sp);
}

static void test_intake(void **state)
{
	struct queue q;
	struct str raw = STR_INIT(4096);
	struct checked c;
	(void)state;
	queue_begin(&q);
	spool_envelope(&raw, "s@a.example r@b.example");
	make_intake("intake/" NAME, INTAKE_ADOPT, str_bytes(&raw), 0);
	make_intake("intake/1123456789abcdefghjkmnpqrs", INTAKE_PENDING, str_bytes(&raw), 0);
	write_file("intake/2123456789abcdefghjkmnpqrs", "not yet", 7);
	c = checked_run(q.sp.dir, q.sp.now);
	assert_string_equal(str_c(&c.lines), "");
	assert_int_equal(c.check.sums.intake, 1);
	str_free(&c.lines);
	flip("intake/" NAME, INTAKE_HEAD + 77);
	expect(&q, "intake-damaged intake/" NAME " -\n");
	assert_int_equal(rename("intake/" NAME, "intake/" NAME ".bad"), 0);
	expect(&q, "set-aside intake/" NAME ".bad -\n");
	str_free(&raw);
	queue_end(&q);
}

static void test_unknown_files(void **state)
{
	static const char *const name[] = { "log/core", "log/0000000000000001x", "large/core", "intake/core", "index/core", "core" };
	struct queue q;
	char expected[100];
	(void)state;
	queue_begin(&q);
	for (size_t i = 0; i < COUNT(name); i++) {
		write_file(name[i], "x", 1);
		snprintf(expected, sizeof expected, "unknown-file %s -\n", name[i]);
		expect(&q, "%s", expected);
		unlink(name[i]);
	}
	write_file("log/quarantine-0000000000000001-00000040", "x", 1);
	write_file("log/making", "x", 1);
	write_file("log/spare-0000000000000007", "x", 1);
	expect(&q, "set-aside log/quarantine-0000000000000001-00000040 -\n");
	queue_end(&q);
}

/* ---- its lists ---- */

static void test_track(void **state)
{
	struct track t = { .room = 0 };
	size_t i = 0;
	(void)state;
	for (msgid_t id = 1; id <= 50000; id++)
		assert_true(track_add(&t, id << 16, (struct place){ 1, id }, 2));
	for (msgid_t id = 1; id <= 50000; id++)
		track_end(&t, id << 16, id % 2 ? 1 : UINT32_MAX);
	assert_int_equal(t.count, 25000);
	for (msgid_t id = 1; id < 50000; id += 2)
		track_end(&t, id << 16, 1);
	assert_int_equal(t.count, 0);
	assert_null(track_next(&t, &i));
	track_end(&t, 4, 1);
	assert_true(track_add(&t, 9, (struct place){ 3, 4 }, 1));
	assert_int_equal(track_clear(&t), 1);
	i = 0;
	assert_null(track_next(&t, &i));
	track_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean), cmocka_unit_test(test_never_used), cmocka_unit_test(test_behind), cmocka_unit_test(test_damaged_body),
		cmocka_unit_test(test_damaged_head), cmocka_unit_test(test_damaged_last), cmocka_unit_test(test_damaged_header),
		cmocka_unit_test(test_missing_segment), cmocka_unit_test(test_cut_segment), cmocka_unit_test(test_foreign_record),
		cmocka_unit_test(test_due_row_lost), cmocka_unit_test(test_due_row_dangles), cmocka_unit_test(test_rcpt_row_lost_and_dangling),
		cmocka_unit_test(test_wakes), cmocka_unit_test(test_woken_too_late), cmocka_unit_test(test_bounce_rows), cmocka_unit_test(test_sums),
		cmocka_unit_test(test_row_does_not_decode), cmocka_unit_test(test_wrong_place), cmocka_unit_test(test_other_body),
		cmocka_unit_test(test_other_recipient), cmocka_unit_test(test_result_not_known), cmocka_unit_test(test_message_lost),
		cmocka_unit_test(test_garbage_index), cmocka_unit_test(test_index_is_no_index), cmocka_unit_test(test_large),
		cmocka_unit_test(test_large_second_name), cmocka_unit_test(test_large_orphan), cmocka_unit_test(test_large_ended), cmocka_unit_test(test_intake),
		cmocka_unit_test(test_unknown_files), cmocka_unit_test(test_track),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
