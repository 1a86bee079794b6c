/*
 * test_check_index - a store's index is damaged by hand, or does not say what the log says: the checker names that and nothing else.
 */
#include "damaged.h"

#include <lmdb.h>

/* ---- rows ---- */

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

static void test_due_row_lost(void **state)
{
	struct queue *q = *state;
	struct index *ix = edit(q);
	struct row_rcpt r = rcpt(ix, q->id[0], 0);
	assert_int_equal(index_delete_due(ix, r.destination, (struct due){ r.next_try_ms, q->id[0], 0 }), INDEX_OK);
	done(ix);
	expect(q, "index-rows index/data.mdb %s\n", q->text[0]);
}

static void test_due_row_dangles(void **state)
{
	struct queue *q = *state;
	struct index *ix = edit(q);
	struct row_rcpt r = rcpt(ix, q->id[0], 0);
	assert_int_equal(index_put_due(ix, r.destination, (struct due){ r.next_try_ms + 1, q->id[0], 0 }), INDEX_OK);
	assert_int_equal(index_put_due(ix, LIT("r:nowhere.example"), (struct due){ 1, 77, 3 }), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_ROWS, 3);       /* and nothing wakes nowhere.example */
}

static void test_rcpt_row_lost_and_dangling(void **state)
{
	struct queue *q = *state;
	struct row_rcpt r;
	struct index *ix = edit(q);
	r = rcpt(ix, q->id[1], 0);            /* the delivered one */
	assert_int_equal(index_put_rcpt(ix, q->id[2] + 100, 0, &r), INDEX_OK);
	assert_int_equal(index_put_rcpt(ix, UINT64_MAX, 0, &r), INDEX_OK);
	assert_int_equal(index_delete_rcpt(ix, q->id[1], 0), INDEX_OK);
	done(ix);
	struct checked c = checked_run(q->sp.dir, q->sp.now);
	/* Its number, its count, two of nobody; and the envelope in the log has one more. */
	assert_int_equal(c.check.count[CHECK_INDEX_ROWS], 4);
	assert_int_equal(c.check.count[CHECK_INDEX_LOG], 1);
	str_free(&c.lines);
}

static void test_wakes(void **state)
{
	struct queue *q = *state;
	struct row_destination d;
	struct index *ix = edit(q);
	assert_int_equal(index_get_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	assert_int_equal(index_delete_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	assert_int_equal(index_put_wake(ix, 5, LIT("r:z.example")), INDEX_OK);
	done(ix);
	assert_string_equal(only(q, CHECK_INDEX_ROWS, 2), "index-rows index/data.mdb -\nindex-rows index/data.mdb -\n");
}

static void test_woken_too_late(void **state)
{
	struct queue *q = *state;
	struct row_destination d;
	struct index *ix = edit(q);
	assert_int_equal(index_get_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	assert_int_equal(index_delete_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	d.wake_ms = q->sp.now + 3600000;
	assert_int_equal(index_put_wake(ix, d.wake_ms, LIT("r:e.example")), INDEX_OK);
	assert_int_equal(index_put_destination(ix, LIT("r:e.example"), &d), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_ROWS, 1);
}

static void test_bounce_rows(void **state)
{
	struct queue *q = *state;
	struct row_message m;
	struct index *ix = edit(q);
	assert_int_equal(index_put_bounce(ix, 5, q->id[0]), INDEX_OK);
	assert_int_equal(index_get_message(ix, q->id[1], &m), INDEX_OK);
	m.bounce_due_ms = 9;
	assert_int_equal(index_put_message(ix, q->id[1], &m), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_ROWS, 3);
}

static void test_sums(void **state)
{
	struct queue *q = *state;
	struct row_status s;
	struct row_segment seg = { 7, 7, 0 };
	struct row_finished f = { .how = FINISHED_DELIVERED };
	struct index *ix = edit(q);
	assert_int_equal(index_get_status(ix, &s), INDEX_OK);
	s.held = 3;
	assert_int_equal(index_put_status(ix, &s), INDEX_OK);
	assert_int_equal(index_put_segment(ix, q->row[0].segment, &seg), INDEX_OK);
	assert_int_equal(index_put_finished(ix, q->id[0], &f), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_ROWS, 3);
}

static void test_row_does_not_decode(void **state)
{
	struct queue *q = *state;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi db;
	unsigned char key[8];
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
	assert_int_equal(mdb_env_open(env, "index", 0, 0640), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, "messages", 0, &db), 0);
	for (unsigned i = 0; i < 8; i++)
		key[i] = (unsigned char)(q->id[1] >> (8 * (7 - i)));
	assert_int_equal(mdb_put(txn, db, &(MDB_val){ 8, key }, &(MDB_val){ 5, (char[]){ "hello" } }, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	assert_string_equal(only(q, CHECK_INDEX_DAMAGED, 1), "index-damaged index/data.mdb -\n");
}

/* ---- the index and the log ---- */

static void test_wrong_place(void **state)
{
	struct queue *q = *state;
	struct row_message m;
	struct index *ix = edit(q);
	assert_int_equal(index_get_message(ix, q->id[0], &m), INDEX_OK);
	m.record_offset += 8;
	m.body_offset += 8;
	assert_int_equal(index_put_message(ix, q->id[0], &m), INDEX_OK);
	done(ix);
	char expected[100];
	snprintf(expected, sizeof expected, "index-log log/%016" PRIx64 " %s\n", q->row[0].segment, q->text[0]);
	assert_string_equal(only(q, CHECK_INDEX_LOG, 1), expected);
}

static void test_other_body(void **state)
{
	struct queue *q = *state;
	struct row_message m;
	struct index *ix = edit(q);
	assert_int_equal(index_get_message(ix, q->id[2], &m), INDEX_OK);
	m.body_offset += 1;
	m.body_size -= 1;
	assert_int_equal(index_put_message(ix, q->id[2], &m), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_LOG, 1);
}

static void test_other_recipient(void **state)
{
	struct queue *q = *state;
	struct index *ix = edit(q);
	struct row_rcpt r = rcpt(ix, q->id[2], 0);
	r.address = LIT("thief@e.example");
	assert_int_equal(index_put_rcpt(ix, q->id[2], 0, &r), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_LOG, 1);
}

/* The rows agree with each other, but a delivery that the log has is not in them. */
static void test_result_not_known(void **state)
{
	struct queue *q = *state;
	struct row_message m;
	struct row_status s;
	struct index *ix = edit(q);
	struct row_rcpt r = rcpt(ix, q->id[1], 0);
	assert_int_equal(r.state, RCPT_DELIVERED);
	r.state = RCPT_WAITING;
	assert_int_equal(index_put_rcpt(ix, q->id[1], 0, &r), INDEX_OK);
	r = rcpt(ix, q->id[1], 0);
	assert_int_equal(index_put_due(ix, LIT("r:d.example"), (struct due){ r.next_try_ms, q->id[1], 0 }), INDEX_OK);
	r = rcpt(ix, q->id[1], 0);
	r.destination = LIT("r:d.example");
	assert_int_equal(index_put_rcpt(ix, q->id[1], 0, &r), INDEX_OK);
	assert_int_equal(index_get_message(ix, q->id[1], &m), INDEX_OK);
	m.unfinished++;
	m.delivered--;
	assert_int_equal(index_put_message(ix, q->id[1], &m), INDEX_OK);
	assert_int_equal(index_get_status(ix, &s), INDEX_OK);
	s.recipients++;
	assert_int_equal(index_put_status(ix, &s), INDEX_OK);
	done(ix);
	only(q, CHECK_INDEX_LOG, 1);
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
	struct queue *q = *state;
	char expected[100];
	forget_last(q);
	snprintf(expected, sizeof expected, "index-log log/%016" PRIx64 " %s\n", q->row[2].segment, q->text[2]);
	assert_string_equal(only(q, CHECK_INDEX_LOG, 1), expected);
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
	struct queue *q = *state;
	struct stat st;
	assert_int_equal(chdir(q->sp.dir), 0);
	assert_int_equal(stat("index/data.mdb", &st), 0);
	size_t size = (size_t)st.st_size;
	char *whole = malloc(size), *broken = malloc(size);
	int fd = open_file("index/data.mdb");
	assert_int_equal(io_pread_full(fd, whole, size, 0), size);
	close(fd);
	while (whole[size - 1] == 0)      /* written ahead: nobody reads it */
		size--;
	size = (size + 4095) & ~(size_t)4095;
	unsigned told = 0;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		chance_state = seed;
		memcpy(broken, whole, size);
		for (unsigned i = 0, n = 1 + chance(40); i < n; i++)
			broken[8192 + chance((uint32_t)size - 8192)] = (char)chance(256);
		if (seed % 3 == 0)
			memset(broken + 8192 + 4096 * chance((uint32_t)size / 4096 - 2), (int)chance(256), 4096);
		write_file("index/data.mdb", broken, seed % 10 == 0 ? 8192 + chance((uint32_t)size - 8192) : size);
		struct checked c = checked_run(q->sp.dir, q->sp.now);
		told += c.check.count[CHECK_INDEX_DAMAGED] + c.check.count[CHECK_INDEX_ROWS] + c.check.count[CHECK_INDEX_LOG] > 0;
		/* The log is sound, whoever says what of it. */
		assert_int_equal(c.check.count[CHECK_LOG_RECORD], 0);
		str_free(&c.lines);
	}
	assert_true(told > 30);
	free(whole);
	free(broken);
}

static void test_index_is_no_index(void **state)
{
	struct queue *q = *state;
	static char octets[8192];
	memset(octets, 'x', sizeof octets);
	write_file("index/data.mdb", octets, sizeof octets);
	assert_string_equal(only(q, CHECK_INDEX_DAMAGED, 1), "index-damaged index/data.mdb -\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_A_QUEUE(test_due_row_lost), ON_A_QUEUE(test_due_row_dangles), ON_A_QUEUE(test_rcpt_row_lost_and_dangling),
		ON_A_QUEUE(test_wakes), ON_A_QUEUE(test_woken_too_late), ON_A_QUEUE(test_bounce_rows), ON_A_QUEUE(test_sums),
		ON_A_QUEUE(test_row_does_not_decode), ON_A_QUEUE(test_wrong_place), ON_A_QUEUE(test_other_body),
		ON_A_QUEUE(test_other_recipient), ON_A_QUEUE(test_result_not_known), ON_A_QUEUE(test_message_lost),
		ON_A_QUEUE(test_garbage_index), ON_A_QUEUE(test_index_is_no_index),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
