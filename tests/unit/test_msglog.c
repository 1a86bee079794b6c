/*
 * test_msglog - the message log: round trips over many segments, a torn tail at every octet, damage in the middle, leftovers of
 * recycled segments and of crashed runs.
 */
#include "spool.h"

#include "common/io.h"
#include "queue/store/msglog_inside.h"

struct fixture { char dir[64]; struct msglog *log; struct str error; };

static void begin(struct fixture *f)
{
	*f = (struct fixture){ .error = STR_INIT(1000) };
	snprintf(f->dir, sizeof f->dir, "/tmp/tappal-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
}

static void end(struct fixture *f)
{
	msglog_close(f->log);
	str_free(&f->error);
	spool_remove(f->dir);
}

static void open_log(struct fixture *f)
{
	f->log = msglog_open(f->dir, SEGMENT_TINY, &f->error);
	assert_non_null(f->log);
}

/* A record that says its number, with `extra` raw octets behind it. */
static void append(struct fixture *f, uint64_t number, size_t extra)
{
	struct str *out;
	struct log_dropped d = { .id = number, .at_ms = 1 };
	struct place place;
	uint32_t size;
	assert_int_equal(msglog_begin(f->log, 64 + extra, false, &out), MSGLOG_OK);
	assert_true(log_dropped_encode(&d, out));
	char *at = str_reserve(out, extra);
	assert_non_null(at);
	memset(at, (int)(number & 0xff), extra);
	str_grew(out, extra);
	assert_int_equal(msglog_finish(f->log, &place, &size, NULL), MSGLOG_OK);
	assert_int_equal(size % 8, 0);
}

static void append_sync(struct fixture *f, uint64_t number, size_t extra)
{
	append(f, number, extra);
	assert_int_equal(msglog_sync(f->log), MSGLOG_OK);
}

struct seen { uint64_t number[4000]; size_t count, damaged; uint64_t damaged_octets; struct place end; uint64_t run; };

static void take(struct seen *s, const struct msglog_entry *e)
{
	struct record record;
	struct log_dropped d;
	size_t used;
	if (e->damaged) {
		s->damaged++;
		s->damaged_octets += e->size;
		return;
	}
	assert_int_equal(record_take(e->payload, &record, &used), RECORD_OK);
	if (e->run > s->run)
		s->run = e->run;
	if (record.type != REC_log_dropped)
		return;
	assert_true(log_dropped_decode(record.payload, &d));
	for (size_t i = used; i < e->payload.len; i++)
		assert_int_equal((unsigned char)e->payload.at[i], d.id & 0xff);
	assert_true(s->count < COUNT(s->number));
	s->number[s->count++] = d.id;
}

static void scan_from(struct fixture *f, struct place from, struct seen *s)
{
	struct msglog_entry e;
	enum msglog_result r;
	memset(s, 0, sizeof *s);
	struct msglog_scan *scan = msglog_scan_open(f->log, from, 0);
	assert_non_null(scan);
	while ((r = msglog_scan_next(scan, &e)) == MSGLOG_OK)
		take(s, &e);
	assert_int_equal(r, MSGLOG_END);
	s->end = msglog_scan_place(scan);
	msglog_scan_close(scan);
}

static void scan(struct fixture *f, struct seen *s)
{
	scan_from(f, (struct place){ 0, 0 }, s);
}

static void start(struct fixture *f, uint64_t run)
{
	static struct seen s;
	open_log(f);
	scan(f, &s);
	assert_int_equal(msglog_start(f->log, s.end, run, 1), MSGLOG_OK);
}

static void reopen(struct fixture *f)
{
	msglog_close(f->log);
	open_log(f);
}

static void assert_numbers(const struct seen *s, uint64_t first, uint64_t last)
{
	assert_int_equal(s->count, last - first + 1);
	for (size_t i = 0; i < s->count; i++)
		assert_int_equal(s->number[i], first + i);
}

static struct seen seen;

/* ---- round trips ---- */

static void test_empty(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 0);
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 1);
	assert_int_equal(seen.end.segment, 1);
	end(&f);
}

static void test_many_segments_and_runs(void **state)
{
	struct fixture f;
	uint64_t n = 0;
	(void)state;
	begin(&f);
	for (uint64_t run = 1; run <= 5; run++) {
		start(&f, run << 32 | 17 * run);
		for (unsigned i = 0; i < 200; i++, n++) {
			append(&f, n + 1, (size_t)(n * 37 % 3000));
			if (i % 7 == 0)
				assert_int_equal(msglog_sync(f.log), MSGLOG_OK);
		}
		assert_int_equal(msglog_sync(f.log), MSGLOG_OK);
		assert_false(msglog_dirty(f.log));
		reopen(&f);
		scan(&f, &seen);
		assert_numbers(&seen, 1, n);
		assert_int_equal(seen.damaged, 0);
		msglog_close(f.log);
	}
	f.log = NULL;
	end(&f);
}

static void test_from_the_middle(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	for (uint64_t n = 1; n <= 100; n++)
		append_sync(&f, n, 1500);
	struct place from = msglog_end(f.log);
	for (uint64_t n = 101; n <= 200; n++)
		append_sync(&f, n, 1500);
	reopen(&f);
	scan_from(&f, from, &seen);
	assert_numbers(&seen, 101, 200);
	/* From its very end: nothing, and the end is known. */
	struct place last = seen.end;
	scan_from(&f, last, &seen);
	assert_int_equal(seen.count + seen.damaged, 0);
	assert_int_equal(seen.end.offset, last.offset);
	end(&f);
}

/* What was not synced is in the buffer only: a crash loses it, and nothing else. */
static void test_unsynced_is_lost(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 10);
	append(&f, 2, 10);
	assert_true(msglog_dirty(f.log));
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 1);
	end(&f);
}

static void test_record_too_long(void **state)
{
	struct fixture f;
	struct str *out;
	(void)state;
	begin(&f);
	start(&f, 1);
	assert_int_equal(msglog_begin(f.log, SEGMENT_TINY, true, &out), MSGLOG_FULL);
	append_sync(&f, 1, 1000);
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 1);
	end(&f);
}

static void test_cancel(void **state)
{
	struct fixture f;
	struct str *out;
	(void)state;
	begin(&f);
	start(&f, 1);
	append(&f, 1, 5);
	assert_int_equal(msglog_begin(f.log, 100, false, &out), MSGLOG_OK);
	assert_true(str_add_c(out, "half a record"));
	msglog_cancel(f.log);
	append_sync(&f, 2, 5);
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 2);
	end(&f);
}

/* ---- crashes ---- */

static void segment_path(const struct fixture *f, uint64_t segment, char out[128])
{
	char name[PREPARE_NAME_MAX];
	prepare_name(segment, name);
	snprintf(out, 128, "%s/%s", f->dir, name);
}

static void overwrite(const struct fixture *f, uint64_t segment, uint64_t at, const void *data, size_t n)
{
	char path[128];
	segment_path(f, segment, path);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(io_pwrite_full(fd, data, n, at), 0);
	close(fd);
}

static void read_octets(const struct fixture *f, uint64_t segment, uint64_t at, void *data, size_t n)
{
	char path[128];
	segment_path(f, segment, path);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(io_pread_full(fd, data, n, at), (ssize_t)n);
	close(fd);
}

/* The last sync was torn: its record is there up to octet k, for all k; zeros, or old octets of a recycled segment, stand behind it. */
static void test_torn_at_every_octet(void **state)
{
	struct fixture f;
	static char whole[512], torn[512];
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 100);
	append_sync(&f, 2, 100);
	struct place last = msglog_end(f.log);
	append_sync(&f, 3, 200);
	size_t size = (size_t)(msglog_end(f.log).offset - last.offset);
	assert_true(size <= sizeof whole);
	read_octets(&f, last.segment, last.offset, whole, size);
	for (size_t k = 0; k < size; k++) {
		for (unsigned fill = 0; fill < 2; fill++) {
			memcpy(torn, whole, k);
			memset(torn + k, fill ? 0x5a : 0, size - k);
			overwrite(&f, last.segment, last.offset, torn, size);
			reopen(&f);
			scan(&f, &seen);
			/* The tail of the last record is padding; losing only that loses nothing. */
			if (seen.count == 2)
				assert_int_equal(seen.end.offset, last.offset);
			else
				assert_true(k + 8 > size || memcmp(torn, whole, size) == 0);
			assert_int_equal(seen.damaged, 0);
		}
	}
	end(&f);
}

/* After a torn tail the next run appends elsewhere; what the torn run left behind never comes back. */
static void test_run_after_torn_tail(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 100);
	struct place tail = msglog_end(f.log);
	append(&f, 2, 100);
	append(&f, 3, 100);
	assert_int_equal(msglog_sync(f.log), MSGLOG_OK);
	overwrite(&f, tail.segment, tail.offset, "torn", 4);     /* 2 is torn, 3 is whole: both were in one sync */
	msglog_close(f.log);
	start(&f, 2);
	append_sync(&f, 4, 100);
	reopen(&f);
	scan(&f, &seen);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.number[0], 1);
	assert_int_equal(seen.number[1], 4);
	assert_int_equal(seen.damaged, 0);
	end(&f);
}

/* The octets between the damaged record and a later sync prove that it had been synced. */
static void damage_in_the_middle(uint64_t into)
{
	struct fixture f;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 100);
	struct place middle = msglog_end(f.log);
	append_sync(&f, 2, 100);
	append_sync(&f, 3, 100);
	overwrite(&f, middle.segment, middle.offset + into, "!!!!", 4);
	reopen(&f);
	scan(&f, &seen);
	assert_int_equal(seen.damaged, 1);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.number[1], 3);
	end(&f);
}

static void test_damaged_payload(void **state)
{
	(void)state;
	damage_in_the_middle(MSGLOG_HEAD + 50);
}

static void test_damaged_head(void **state)
{
	(void)state;
	for (uint64_t into = 0; into < MSGLOG_HEAD; into += 4)
		damage_in_the_middle(into);
}

/* Damage to the last records of a segment that is full: the next segment says where it ended. */
static void test_damaged_end_of_sealed_segment(void **state)
{
	struct fixture f;
	struct place last = { 0, 0 };
	uint64_t n = 0;
	(void)state;
	begin(&f);
	start(&f, 1);
	while (msglog_end(f.log).segment == 1) {
		last = msglog_end(f.log);
		append_sync(&f, ++n, 5000);
	}
	append_sync(&f, ++n, 100);
	/* `last` is where the record that went to the next segment would have stood; the one before it is 5,000 octets long. */
	overwrite(&f, 1, last.offset - 2000, "!!!!", 4);
	reopen(&f);
	scan(&f, &seen);
	assert_int_equal(seen.damaged, 1);
	assert_int_equal(seen.count, n - 1);
	end(&f);
}

/* The first record of a segment says its run; without it the rest is still found. */
static void test_damaged_start_record(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 100);
	append_sync(&f, 2, 100);
	overwrite(&f, 1, 10, "!!!!", 4);
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 2);
	assert_int_equal(seen.damaged, 1);
	end(&f);
}

static void test_set_aside(void **state)
{
	struct fixture f;
	char path[128], got[64];
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 0x41, 100);
	struct place end_place = msglog_end(f.log);
	reopen(&f);
	assert_int_equal(msglog_set_aside(f.log, (struct place){ 1, end_place.offset - 72 }, 64, "quarantine-x"), 0);
	snprintf(path, sizeof path, "%s/quarantine-x", f.dir);
	int fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, got, sizeof got), 64);
	close(fd);
	assert_int_equal(got[0], 0x41);
	end(&f);
}

/* ---- recycling ---- */

static void test_recycled_segment_shows_nothing_old(void **state)
{
	struct fixture f;
	uint64_t n = 0;
	(void)state;
	begin(&f);
	start(&f, 1);
	while (msglog_end(f.log).segment < 4)
		append_sync(&f, ++n, 3000);
	assert_int_equal(msglog_recycle(f.log, 1), MSGLOG_OK);
	assert_int_equal(msglog_recycle(f.log, 2), MSGLOG_OK);
	uint64_t first = n + 1;
	/* Through what 3 and 4 leave, into files that were 1 and 2. */
	while (msglog_end(f.log).segment < 7)
		append_sync(&f, ++n, 3000);
	append_sync(&f, ++n, 3000);
	reopen(&f);
	scan_from(&f, (struct place){ 5, 0 }, &seen);
	assert_int_equal(seen.damaged, 0);
	assert_int_equal(seen.number[seen.count - 1], n);
	assert_true(seen.number[0] >= first);
	for (size_t i = 1; i < seen.count; i++)
		assert_int_equal(seen.number[i], seen.number[i - 1] + 1);
	end(&f);
}

static size_t count_files(const char *dir)
{
	char command_path[128];
	size_t count = 0;
	for (unsigned i = 0; i < 64; i++) {
		char name[PREPARE_NAME_MAX];
		struct stat st;
		prepare_name(i, name);
		snprintf(command_path, sizeof command_path, "%s/%s", dir, name);
		count += stat(command_path, &st) == 0;
		prepare_spare_name(i, name);
		snprintf(command_path, sizeof command_path, "%s/%s", dir, name);
		count += stat(command_path, &st) == 0;
	}
	return count;
}

/* A restart takes a new segment each time; unused and dead ones are used again. */
static void test_restarts_reuse_files(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	for (uint64_t run = 1; run <= 20; run++) {
		start(&f, run);
		append_sync(&f, run, 100);
		if (run > 1)
			assert_int_equal(msglog_recycle(f.log, run - 1), MSGLOG_OK);
		msglog_close(f.log);
	}
	assert_true(count_files(f.dir) <= 2 + PREPARE_SPARES);
	f.log = NULL;
	end(&f);
}

/* On a full disk nothing new can be made: starts that come to nothing must not use up what is there. */
static void test_fruitless_starts(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f);
	start(&f, 1);
	append_sync(&f, 1, 100);
	for (unsigned run = 2; run < 8; run++) {
		msglog_close(f.log);
		start(&f, run);
		assert_int_equal(msglog_sync(f.log), MSGLOG_OK);
		assert_int_equal(msglog_end(f.log).segment, 2);
	}
	append_sync(&f, 2, 100);
	msglog_close(f.log);
	assert_true(count_files(f.dir) <= 4);
	start(&f, 9);
	append_sync(&f, 3, 100);
	reopen(&f);
	scan(&f, &seen);
	assert_numbers(&seen, 1, 3);
	assert_int_equal(seen.damaged, 0);
	assert_int_equal(seen.run, 9);
	end(&f);
}

/* A body that looks like a record: found only when the record around it is destroyed, and even then not believed. */
static void test_forged_record_in_body(void **state)
{
	struct fixture f;
	struct str *out, forged = STR_INIT(4096);
	struct log_dropped d = { .id = 666 };
	(void)state;
	begin(&f);
	start(&f, UINT64_C(1) << 32 | 12345);
	append_sync(&f, 1, 10);
	struct place at = msglog_end(f.log);
	str_reserve(&forged, MSGLOG_HEAD);
	str_grew(&forged, MSGLOG_HEAD);
	assert_true(log_dropped_encode(&d, &forged));
	struct msglog_head head = { .length = (uint32_t)(forged.len - MSGLOG_HEAD), .segment = 1, .run = UINT64_C(1) << 32 | 54321 };
	head.batch = 100;
	msglog_head_encode(&head, forged.at);
	assert_int_equal(msglog_begin(f.log, 1000, false, &out), MSGLOG_OK);
	d.id = 2;
	assert_true(log_dropped_encode(&d, out));
	while (out->len % 8 != 0)
		str_add_char(out, 0);
	str_add(out, str_bytes(&forged));
	assert_int_equal(msglog_finish(f.log, NULL, NULL, NULL), MSGLOG_OK);
	assert_int_equal(msglog_sync(f.log), MSGLOG_OK);
	append_sync(&f, 3, 10);
	overwrite(&f, at.segment, at.offset, "!!!!", 4);
	reopen(&f);
	scan(&f, &seen);
	assert_int_equal(seen.damaged, 1);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.number[1], 3);
	str_free(&forged);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_many_segments_and_runs),
		cmocka_unit_test(test_from_the_middle),
		cmocka_unit_test(test_unsynced_is_lost),
		cmocka_unit_test(test_record_too_long),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_torn_at_every_octet),
		cmocka_unit_test(test_run_after_torn_tail),
		cmocka_unit_test(test_damaged_payload),
		cmocka_unit_test(test_damaged_head),
		cmocka_unit_test(test_damaged_end_of_sealed_segment),
		cmocka_unit_test(test_damaged_start_record),
		cmocka_unit_test(test_set_aside),
		cmocka_unit_test(test_recycled_segment_shows_nothing_old),
		cmocka_unit_test(test_restarts_reuse_files),
		cmocka_unit_test(test_fruitless_starts),
		cmocka_unit_test(test_forged_record_in_body),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
