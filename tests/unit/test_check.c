/*
 * test_check - a store's log is damaged by hand, one thing at a time: the checker names that and nothing else.
 */
#include "damaged.h"

#include "common/crc32c.h"
#include "queue/store/check_track.h"
#include "queue/store/msglog_inside.h"

/* ---- clean ---- */

static void test_clean(void **state)
{
	struct queue *q = *state;
	struct checked c;
	c = checked_run(q->sp.dir, q->sp.now);
	assert_string_equal(str_c(&c.lines), "");
	assert_int_equal(c.check.sums.messages, 4);
	assert_int_equal(c.check.sums.recipients, 5);
	/* Two log_start, four messages, two results. */
	assert_int_equal(c.check.sums.records, 8);
	assert_int_equal(c.check.sums.behind, 0);
	assert_in_range(c.check.sums.segments, 2, 3);    /* the next one is there as soon as its thread has made it */
	str_free(&c.lines);
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

static void flip_in_segment(uint64_t segment, uint64_t at)
{
	char path[PLACE_MAX];
	place_segment(segment, path);
	flip(path, at);
}

static void test_damaged_body(void **state)
{
	struct queue *q = *state;
	flip_in_segment(q->row[1].segment, q->row[1].body_offset);
	expect(q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", q->row[1].segment, q->row[1].segment, q->text[1]);
}

static void test_damaged_head(void **state)
{
	struct queue *q = *state;
	flip_in_segment(q->row[0].segment, q->row[0].record_offset + 3);
	expect(q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", q->row[0].segment, q->row[0].segment, q->text[0]);
}

/* The last record: no later one proves that it was synced, but the index knows it. */
static void test_damaged_last(void **state)
{
	struct queue *q = *state;
	struct str error = STR_INIT(500);
	struct row_message row;
	msgid_t last;
	char text[MSGID_TEXT + 1];
	struct index *ix = index_open("index", 0, true, &error);
	assert_true(index_read_begin(ix));
	assert_int_equal(index_next_message(ix, q->id[2] + 1, &last, &row), INDEX_OK);
	uint64_t segment = row.segment, at = row.body_offset;
	index_read_end(ix);
	index_close(ix);
	msgid_format(last, text);
	flip_in_segment(segment, at);
	expect(q, "log-damaged log/%016" PRIx64 " -\nmessage-damaged log/%016" PRIx64 " %s\n", segment, segment, text);
}

static void test_damaged_header(void **state)
{
	struct queue *q = *state;
	flip_in_segment(q->row[0].segment, MSGLOG_HEAD + 2);
	expect(q, "log-damaged log/%016" PRIx64 " -\n", q->row[0].segment);
}

static void test_missing_segment(void **state)
{
	struct queue *q = *state;
	char path[PLACE_MAX];
	place_segment(q->row[0].segment, path);
	assert_int_equal(unlink(path), 0);
	expect(q, "log-missing %s %s\nlog-missing %s %s\n", path, q->text[0], path, q->text[1]);
}

static void test_cut_segment(void **state)
{
	struct queue *q = *state;
	char path[PLACE_MAX];
	place_segment(q->row[2].segment, path);
	assert_int_equal(truncate(path, (off_t)(q->row[2].record_offset + 8)), 0);
	struct checked c = checked_run(q->sp.dir, q->sp.now);
	assert_true(bytes_starts_nocase(str_bytes(&c.lines), LIT("log-damaged ")));
	assert_int_equal(c.check.count[CHECK_LOG_DAMAGED], 1);
	assert_int_equal(c.check.count[CHECK_MESSAGE_DAMAGED], 2);
	assert_int_equal(c.check.count[CHECK_INDEX_LOG] + c.check.count[CHECK_INDEX_ROWS] + c.check.count[CHECK_INDEX_DAMAGED], 0);
	str_free(&c.lines);
}

/* A record with valid checksums that means nothing, in the place of a message's. */
static void test_foreign_record(void **state)
{
	struct queue *q = *state;
	char octets[MSGLOG_HEAD + 16] = { 0 }, path[PLACE_MAX];
	struct msglog_head head;
	place_segment(q->row[0].segment, path);
	int fd = open_file(path);
	assert_int_equal(io_pread_full(fd, octets, MSGLOG_HEAD, q->row[0].record_offset), MSGLOG_HEAD);
	assert_true(msglog_head_decode(octets, &head));
	head.length = 16;
	head.payload_crc = crc32c(0, octets + MSGLOG_HEAD, 16);
	msglog_head_encode(&head, octets);
	assert_int_equal(io_pwrite_full(fd, octets, sizeof octets, q->row[0].record_offset), 0);
	close(fd);
	struct checked c = checked_run(q->sp.dir, q->sp.now);
	assert_int_equal(c.check.count[CHECK_LOG_RECORD], 1);
	assert_int_equal(c.check.count[CHECK_LOG_DAMAGED], 1);       /* what is left of the message behind it */
	assert_int_equal(c.check.count[CHECK_INDEX_ROWS], 0);
	str_free(&c.lines);
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
		ON_A_QUEUE(test_clean), cmocka_unit_test(test_never_used), cmocka_unit_test(test_behind), ON_A_QUEUE(test_damaged_body),
		ON_A_QUEUE(test_damaged_head), ON_A_QUEUE(test_damaged_last), ON_A_QUEUE(test_damaged_header), ON_A_QUEUE(test_missing_segment),
		ON_A_QUEUE(test_cut_segment), ON_A_QUEUE(test_foreign_record), cmocka_unit_test(test_track),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
