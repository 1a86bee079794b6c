/*
 * test_index - typed rows there and back, orders of ranges, what a crash and a reader see.
 */
#include "spool.h"

struct fixture { char dir[64]; struct index *ix; struct str error; };

static void begin(struct fixture *f)
{
	*f = (struct fixture){ .error = STR_INIT(1000) };
	snprintf(f->dir, sizeof f->dir, "/tmp/tappal-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->ix = index_open(f->dir, 1 << 26, false, &f->error);
	assert_non_null(f->ix);
}

static void end(struct fixture *f)
{
	index_close(f->ix);
	str_free(&f->error);
	spool_remove(f->dir);
}

static void test_message_row(void **state)
{
	struct fixture f;
	struct row_message in = { .arrival_ms = 5, .segment = 7, .rcpt_count = 3, .unfinished = 2, .large = 1, .sender = LIT("a@b"),
		.held_reason = LIT("because") }, out;
	msgid_t id;
	(void)state;
	begin(&f);
	assert_int_equal(index_get_message(f.ix, 9, &out), INDEX_NONE);
	assert_int_equal(index_put_message(f.ix, 9, &in), INDEX_OK);
	assert_int_equal(index_put_message(f.ix, 256, &in), INDEX_OK);
	assert_int_equal(index_get_message(f.ix, 9, &out), INDEX_OK);
	assert_int_equal(out.segment, 7);
	assert_int_equal(out.unfinished, 2);
	assert_bytes(out.sender, "a@b");
	assert_bytes(out.held_reason, "because");
	assert_int_equal(index_next_message(f.ix, 0, &id, &out), INDEX_OK);
	assert_int_equal(id, 9);
	assert_int_equal(index_next_message(f.ix, 10, &id, &out), INDEX_OK);
	assert_int_equal(id, 256);
	assert_int_equal(index_next_message(f.ix, 257, &id, &out), INDEX_NONE);
	assert_int_equal(index_delete_message(f.ix, 9), INDEX_OK);
	assert_int_equal(index_delete_message(f.ix, 9), INDEX_NONE);
	end(&f);
}

static void test_rcpts_of_one_message(void **state)
{
	struct fixture f;
	struct row_rcpt row = { .state = RCPT_FAILED, .address = LIT("x@y"), .text = LIT("550 no") }, out;
	uint32_t n;
	(void)state;
	begin(&f);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(index_put_rcpt(f.ix, 5, i, &row), INDEX_OK);
	assert_int_equal(index_put_rcpt(f.ix, 6, 0, &row), INDEX_OK);
	uint32_t count = 0;
	for (n = 0; index_next_rcpt(f.ix, 5, n, &n, &out) == INDEX_OK; n++)
		assert_int_equal(n, count++);
	assert_int_equal(count, 1000);
	assert_int_equal(index_get_rcpt(f.ix, 5, 999, &out), INDEX_OK);
	assert_bytes(out.text, "550 no");
	assert_int_equal(index_delete_rcpt(f.ix, 5, 999), INDEX_OK);
	assert_int_equal(index_next_rcpt(f.ix, 5, 999, &n, &out), INDEX_NONE);
	end(&f);
}

/* Of this process's memory, what is pages of files. */
static unsigned long mapped_kib(void)
{
	char line[200];
	unsigned long kib = 0;
	FILE *status = fopen("/proc/self/status", "re");
	assert_non_null(status);
	while (fgets(line, sizeof line, status))
		sscanf(line, "RssFile: %lu", &kib);
	fclose(status);
	return kib;
}

static unsigned read_all_messages(struct index *ix)
{
	struct row_message row;
	msgid_t id;
	unsigned count = 0;
	for (msgid_t n = 0; index_next_message(ix, n, &id, &row) == INDEX_OK; n = id + 1, count++)
		assert_int_equal(row.segment, id);
	return count;
}

/* A long index that was read does not stay in memory. */
static void test_pages_are_let_go_of(void **state)
{
	struct fixture f;
	struct row_message row = { .sender = LIT("somebody@example.org"), .held_reason = LIT("so that a row is as long as one of a message with a reason is") };
	(void)state;
	begin(&f);
	for (msgid_t id = 1; id <= 60000; id++) {
		row.segment = id;
		assert_int_equal(index_put_message(f.ix, id, &row), INDEX_OK);
	}
	assert_int_equal(index_commit(f.ix), INDEX_OK);
	read_all_messages(f.ix);
	unsigned long full = mapped_kib();
	for (int i = 0; i < 16; i++)
		assert_int_equal(index_commit(f.ix), INDEX_OK);
	assert_true(mapped_kib() + 8192 < full);
	read_all_messages(f.ix);
	end(&f);
}

/* Commits that need another page each seldom change the size of the file. */
static void test_file_grows_ahead(void **state)
{
	struct fixture f;
	struct stat st;
	struct row_message row = { .sender = LIT("somebody@example.org") };
	char path[128];
	off_t size = 0;
	unsigned grown = 0;
	(void)state;
	begin(&f);
	snprintf(path, sizeof path, "%s/data.mdb", f.dir);
	for (msgid_t id = 1; id <= 5000; id++) {
		row.segment = id;
		assert_int_equal(index_put_message(f.ix, id, &row), INDEX_OK);
		if (id % 50 != 0)
			continue;
		assert_int_equal(index_commit(f.ix), INDEX_OK);
		assert_int_equal(stat(path, &st), 0);
		grown += st.st_size != size;
		size = st.st_size;
	}
	assert_in_range(grown, 2, 10);     /* of 100 commits */
	index_close(f.ix);
	f.ix = index_open(f.dir, 1 << 26, false, &f.error);
	assert_non_null(f.ix);
	assert_int_equal(read_all_messages(f.ix), 5000);
	end(&f);
}

/* One destination's rows never run into those of a name that begins the same. */
static void test_due_order(void **state)
{
	struct fixture f;
	struct due due;
	(void)state;
	begin(&f);
	index_put_due(f.ix, LIT("r:a"), (struct due){ 300, 1, 0 });
	index_put_due(f.ix, LIT("r:a"), (struct due){ 200, 9, 0 });
	index_put_due(f.ix, LIT("r:a"), (struct due){ 200, 9, 256 });
	index_put_due(f.ix, LIT("r:a"), (struct due){ 200, 8, 70000 });
	index_put_due(f.ix, LIT("r:aa"), (struct due){ 1, 1, 0 });
	index_put_due(f.ix, LIT("r:b"), (struct due){ 1, 1, 0 });
	const struct due expected[] = { { 200, 8, 70000 }, { 200, 9, 0 }, { 200, 9, 256 }, { 300, 1, 0 } };
	struct due from = { 0, 0, 0 };
	for (size_t i = 0; i < COUNT(expected); i++) {
		assert_int_equal(index_next_due(f.ix, LIT("r:a"), from, &due), INDEX_OK);
		assert_int_equal(due.at, expected[i].at);
		assert_int_equal(due.id, expected[i].id);
		assert_int_equal(due.n, expected[i].n);
		from = due;
		from.n++;
	}
	assert_int_equal(index_next_due(f.ix, LIT("r:a"), from, &due), INDEX_NONE);
	assert_int_equal(index_delete_due(f.ix, LIT("r:a"), expected[0]), INDEX_OK);
	assert_int_equal(index_delete_due(f.ix, LIT("r:a"), expected[0]), INDEX_NONE);
	end(&f);
}

static void test_longest_destination(void **state)
{
	struct fixture f;
	char name[DESTINATION_MAX];
	struct due due;
	struct bytes got;
	wall_ms_t at;
	(void)state;
	begin(&f);
	memset(name, 'x', sizeof name);
	struct bytes b = { name, sizeof name };
	assert_int_equal(index_put_due(f.ix, b, (struct due){ 1, 2, 3 }), INDEX_OK);
	assert_int_equal(index_next_due(f.ix, b, (struct due){ 0, 0, 0 }, &due), INDEX_OK);
	assert_int_equal(due.n, 3);
	assert_int_equal(index_put_wake(f.ix, 7, b), INDEX_OK);
	assert_int_equal(index_next_wake(f.ix, 0, LIT(""), &at, &got), INDEX_OK);
	assert_true(bytes_equal(got, b));
	end(&f);
}

static void test_wake_order(void **state)
{
	struct fixture f;
	wall_ms_t at;
	struct bytes name;
	(void)state;
	begin(&f);
	index_put_wake(f.ix, 20, LIT("r:a"));
	index_put_wake(f.ix, 10, LIT("r:b"));
	index_put_wake(f.ix, 10, LIT("l:c"));
	assert_int_equal(index_next_wake(f.ix, 0, LIT(""), &at, &name), INDEX_OK);
	assert_bytes(name, "l:c");
	assert_int_equal(index_next_wake(f.ix, 10, LIT("l:d"), &at, &name), INDEX_OK);
	assert_bytes(name, "r:b");
	assert_int_equal(index_next_wake(f.ix, 11, LIT(""), &at, &name), INDEX_OK);
	assert_int_equal(at, 20);
	assert_int_equal(index_delete_wake(f.ix, 20, LIT("r:a")), INDEX_OK);
	assert_int_equal(index_next_wake(f.ix, 11, LIT(""), &at, &name), INDEX_NONE);
	end(&f);
}

static void test_other_rows(void **state)
{
	struct fixture f;
	struct row_destination d = { .failures = 3, .window = 7, .text = LIT("timeout") }, dr;
	struct row_finished fi = { .how = FINISHED_BOUNCED, .first_rcpt = LIT("x@y") }, fr;
	struct row_segment s = { 1, 2, 3 }, sr;
	struct row_status st = { .run = 5, .last_id = 77 }, str;
	struct bytes name;
	uint64_t n;
	msgid_t id;
	wall_ms_t due;
	(void)state;
	begin(&f);
	assert_int_equal(index_get_status(f.ix, &str), INDEX_NONE);
	assert_int_equal(index_put_status(f.ix, &st), INDEX_OK);
	assert_int_equal(index_get_status(f.ix, &str), INDEX_OK);
	assert_int_equal(str.last_id, 77);
	assert_int_equal(index_put_destination(f.ix, LIT("r:b"), &d), INDEX_OK);
	assert_int_equal(index_next_destination(f.ix, LIT(""), &name, &dr), INDEX_OK);
	assert_bytes(name, "r:b");
	assert_bytes(dr.text, "timeout");
	assert_int_equal(index_put_finished(f.ix, 4, &fi), INDEX_OK);
	assert_int_equal(index_next_finished(f.ix, 0, &id, &fr), INDEX_OK);
	assert_bytes(fr.first_rcpt, "x@y");
	assert_int_equal(index_count_finished(f.ix, &n), INDEX_OK);
	assert_int_equal(n, 1);
	assert_int_equal(index_put_segment(f.ix, 12, &s), INDEX_OK);
	assert_int_equal(index_next_segment(f.ix, 0, &n, &sr), INDEX_OK);
	assert_int_equal(n, 12);
	assert_int_equal(sr.used_bytes, 3);
	assert_int_equal(index_put_bounce(f.ix, 50, 4), INDEX_OK);
	assert_int_equal(index_next_bounce(f.ix, 0, 0, &due, &id), INDEX_OK);
	assert_int_equal(due, 50);
	assert_int_equal(index_delete_bounce(f.ix, 50, 4), INDEX_OK);
	assert_int_equal(index_next_bounce(f.ix, 0, 0, &due, &id), INDEX_NONE);
	end(&f);
}

/* A row over its field's limit is refused and never stored. */
static void test_field_too_long(void **state)
{
	struct fixture f;
	static char text[2000];
	struct row_rcpt row = { .text = { text, sizeof text } };
	(void)state;
	begin(&f);
	assert_int_equal(index_put_rcpt(f.ix, 1, 0, &row), INDEX_FATAL);
	end(&f);
}

static void test_commit_and_drop(void **state)
{
	struct fixture f;
	struct row_status st = { .run = 1 }, out;
	(void)state;
	begin(&f);
	index_put_status(f.ix, &st);
	assert_int_equal(index_commit(f.ix), INDEX_OK);
	st.run = 2;
	index_put_status(f.ix, &st);
	index_close(f.ix);      /* not committed */
	f.ix = index_open(f.dir, 1 << 26, false, &f.error);
	assert_non_null(f.ix);
	assert_int_equal(index_get_status(f.ix, &out), INDEX_OK);
	assert_int_equal(out.run, 1);
	end(&f);
}

/* A tool sees the last commit, and a row that changes meanwhile only in its next turn. */
static void test_reader(void **state)
{
	struct fixture f;
	struct row_status st = { .run = 1 }, out;
	(void)state;
	begin(&f);
	index_put_status(f.ix, &st);
	assert_int_equal(index_commit(f.ix), INDEX_OK);
	index_close(f.ix);
	struct index *reader = index_open(f.dir, 1 << 26, true, &f.error);
	assert_non_null(reader);
	assert_true(index_read_begin(reader));
	assert_int_equal(index_get_status(reader, &out), INDEX_OK);
	assert_int_equal(out.run, 1);
	index_read_end(reader);
	assert_true(index_read_begin(reader));
	struct row_message m;
	msgid_t id;
	assert_int_equal(index_next_message(reader, 0, &id, &m), INDEX_NONE);
	index_read_end(reader);
	index_close(reader);
	f.ix = NULL;
	end(&f);
}

static void test_reader_without_queue(void **state)
{
	struct str error = STR_INIT(200);
	(void)state;
	assert_null(index_open("/nonexistent/tappal", 1 << 20, true, &error));
	assert_true(error.len > 0);
	str_free(&error);
}

/* The first start ended while LMDB made its file. */
static void test_half_made(void **state)
{
	struct fixture f;
	char path[128];
	(void)state;
	begin(&f);
	index_close(f.ix);
	snprintf(path, sizeof path, "%s/data.mdb", f.dir);
	for (off_t size = 4096; size >= 0; size -= 2048) {
		assert_int_equal(truncate(path, size), 0);
		f.ix = index_open(f.dir, 1 << 26, false, &f.error);
		assert_non_null(f.ix);
		if (size > 0)
			index_close(f.ix);
	}
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_row),
		cmocka_unit_test(test_rcpts_of_one_message),
		cmocka_unit_test(test_due_order),
		cmocka_unit_test(test_longest_destination),
		cmocka_unit_test(test_wake_order),
		cmocka_unit_test(test_other_rows),
		cmocka_unit_test(test_field_too_long),
		cmocka_unit_test(test_commit_and_drop),
		cmocka_unit_test(test_reader),
		cmocka_unit_test(test_reader_without_queue),
		cmocka_unit_test(test_half_made),
		cmocka_unit_test(test_pages_are_let_go_of),
		cmocka_unit_test(test_file_grows_ahead),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
