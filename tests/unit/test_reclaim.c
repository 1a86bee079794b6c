/*
 * test_reclaim - the log's space: dead segments come back, survivors are copied whole, nothing is recycled that somebody reads.
 */
#include <dirent.h>
#include <errno.h>

#include "spool.h"

#include "common/io.h"
#include "queue/body.h"
#include "queue/store/prepare.h"

static size_t segments(const struct spool *sp)
{
	size_t n = 0;
	char path[128];
	struct dirent *e;
	snprintf(path, sizeof path, "%s/log", sp->dir);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		n += strlen(e->d_name) == 16;
	closedir(dir);
	return n;
}

static size_t all_files(const struct spool *sp)
{
	size_t n = 0;
	char path[128];
	struct dirent *e;
	snprintf(path, sizeof path, "%s/log", sp->dir);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static struct bytes body_of(unsigned i, char *out, size_t n)
{
	for (size_t k = 0; k < n; k++)
		out[k] = (char)(unsigned char)(i * 31 + k * 7);
	return (struct bytes){ out, n };
}

static msgid_t accept_body(struct spool *sp, const char *words, unsigned i)
{
	static char body[3000];
	msgid_t id;
	assert_int_equal(spool_try_accept(sp, words, body_of(i, body, sizeof body), &id), STORE_OK);
	return id;
}

/* The body that the job of this message names is the one that was accepted as number i. */
static void assert_body(struct spool *sp, msgid_t id, unsigned i)
{
	static char expected[3000], got[3000];
	char path[PLACE_MAX];
	struct row_message m;
	assert_int_equal(index_get_message(sp->st->ix, id, &m), INDEX_OK);
	assert_int_equal(m.body_size, sizeof got);
	place_segment(m.segment, path);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(io_pread_full(fd, got, sizeof got, m.body_offset), sizeof got);
	close(fd);
	body_of(i, expected, sizeof expected);
	assert_memory_equal(got, expected, sizeof got);
}

static void work_off(struct spool *sp, unsigned ticks)
{
	for (unsigned i = 0; i < ticks; i++) {
		sp->now += 300;
		spool_tick(sp);
	}
}

static void pass_traffic(struct spool *sp, uint64_t to_segment)
{
	for (unsigned i = 0; msglog_end(sp->st->log).segment < to_segment; i++) {
		accept_body(sp, "s@a.example alice@local.example", i);
		while (spool_deliver(sp, CHANNEL_LOCAL, V_OK))
			;
		sp->now += 100;
		spool_tick(sp);
	}
}

/* 30 segments of mail go through: a few files are left. */
static void test_traffic_leaves_few_segments(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	unsigned i = 0;
	while (msglog_end(sp.st->log).segment < 30) {
		for (unsigned k = 0; k < 10; k++)
			accept_body(&sp, "s@a.example r@b.example", i++);
		assert_int_equal(store_sync(sp.st), STORE_OK);
		while (spool_deliver(&sp, CHANNEL_REMOTE, V_OK))
			;
		sp.now += 300;
		spool_tick(&sp);
		assert_true(segments(&sp) <= 6);
	}
	work_off(&sp, 3);
	assert_true(segments(&sp) <= 2);        /* the current one and the next */
	usleep(20000);
	assert_true(all_files(&sp) <= 2 + PREPARE_SPARES + 1);
	spool_check(&sp);
	spool_end(&sp);
}

/* Some messages stay for days while traffic goes on: they are copied forward, whole, and the log stays small. */
static void test_survivors(void **state)
{
	struct spool sp, copy;
	msgid_t stay[20];
	size_t stays = 0;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	for (unsigned i = 0; msglog_end(sp.st->log).segment < 40; i++) {
		bool slow = i % 30 == 5 && stays < COUNT(stay);
		msgid_t id = accept_body(&sp, slow ? "s@a.example r@slow.example" : "s@a.example alice@local.example", (unsigned)(slow ? stays : i));
		if (slow)
			stay[stays++] = id;
		assert_int_equal(store_sync(sp.st), STORE_OK);
		while (spool_deliver(&sp, CHANNEL_LOCAL, V_OK))
			;
		sp.now += 100;
		spool_tick(&sp);
	}
	work_off(&sp, 20);
	assert_int_equal(stays, COUNT(stay));
	assert_true(segments(&sp) <= 9);
	for (unsigned k = 0; k < stays; k++)
		assert_body(&sp, stay[k], k);
	spool_check(&sp);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crashed_copy(&sp, &copy);
	spool_open(&copy);
	spool_assert_same(sp.st, copy.st);
	for (unsigned k = 0; k < stays; k++)
		assert_body(&copy, stay[k], k);
	unsigned n = 0;
	while (spool_deliver(&copy, CHANNEL_REMOTE, V_OK))
		n++;
	assert_int_equal(n, stays);
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	spool_end(&sp);
}

/* The copy was synced, the index not committed, the crash comes: the message is where the copy is, and nothing is there twice. */
static void test_crash_between_copy_and_commit(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = accept_body(&sp, "s@a.example r@slow.example", 3);
	for (unsigned i = 0; msglog_end(sp.st->log).segment < 6; i++) {
		accept_body(&sp, "s@a.example alice@local.example", i);
		while (spool_deliver(&sp, CHANNEL_LOCAL, V_OK))
			;
	}
	assert_int_equal(store_sync(sp.st), STORE_OK);
	bool busy = true;
	struct row_message m;
	while (busy)
		assert_int_equal(reclaim_some(sp.st, &busy), INDEX_OK);
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	assert_true(m.segment >= 6);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_body(&sp, id, 3);
	spool_check(&sp);
	work_off(&sp, 5);
	assert_body(&sp, id, 3);
	assert_true(segments(&sp) <= 5);
	spool_end(&sp);
}

/* A job reads from the segment that its message has left: the file stays until the job is over. */
static void test_flying_job_pins(void **state)
{
	struct spool sp;
	struct store_job job;
	char path[PLACE_MAX];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	accept_body(&sp, "s@a.example r@slow.example", 3);
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	place_segment(job.job.segment, path);
	pass_traffic(&sp, 10);
	work_off(&sp, 5);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(spool_report(&sp, number, 0, V_OK), STORE_OK);
	spool_done(&sp, number, false);
	work_off(&sp, 5);
	assert_int_not_equal(access(path, F_OK), 0);
	spool_end(&sp);
}

/* A delivery goes on while queued starts anew, which knows nothing of it: what it reads stays what it was until it closes it. */
static void test_reader_outlives_a_restart(void **state)
{
	static char expected[3000], got[3000];
	struct spool sp;
	struct row_message m;
	struct body body;
	char path[PLACE_MAX];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = accept_body(&sp, "s@a.example r@slow.example", 3);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	struct body_place place = { .id = id, .segment = m.segment, .offset = m.body_offset, .size = m.body_size, .record = m.record_offset };
	place_segment(place.segment, path);
	assert_int_equal(body_open(&body, &place), 0);
	assert_int_equal(body_prove(&body, &place), 0);
	spool_reopen(&sp);
	pass_traffic(&sp, 20);
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	assert_true(m.segment > place.segment);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(body_read(&body, got, sizeof got), sizeof got);
	body_of(3, expected, sizeof expected);
	assert_memory_equal(got, expected, sizeof got);
	body_close(&body);
	pass_traffic(&sp, 21);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(body_open(&body, &place), -1);
	assert_int_equal(errno, ENOENT);
	spool_end(&sp);
}

/* No segment goes before the commit: a crash replays from the place of the last one. */
static void test_not_before_the_commit(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	for (unsigned i = 0; msglog_end(sp.st->log).segment < 8; i++) {
		accept_body(&sp, "s@a.example alice@local.example", i);
		while (spool_deliver(&sp, CHANNEL_LOCAL, V_OK))
			;
	}
	assert_true(segments(&sp) >= 8);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_int_equal(sp.st->apply.status.messages, 0);
	assert_true(segments(&sp) >= 8);
	accept_body(&sp, "s@a.example alice@local.example", 1);
	work_off(&sp, 2);
	assert_true(segments(&sp) <= 3);
	spool_end(&sp);
}

/* A survivor's record is damaged: the segment is left alone, and the others go on. */
static void test_damaged_survivor(void **state)
{
	struct spool sp;
	char path[PLACE_MAX];
	struct row_message m;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t bad = accept_body(&sp, "s@a.example r@slow.example", 1), good = accept_body(&sp, "s@a.example r@slow.example", 2);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_int_equal(index_get_message(sp.st->ix, bad, &m), INDEX_OK);
	uint64_t segment = m.segment;
	place_segment(segment, path);
	int fd = open(path, O_WRONLY);
	assert_int_equal(io_pwrite_full(fd, "!!!!", 4, m.body_offset + 100), 0);
	close(fd);
	pass_traffic(&sp, 10);
	work_off(&sp, 10);
	assert_int_equal(access(path, F_OK), 0);
	assert_body(&sp, good, 2);
	assert_int_equal(index_get_message(sp.st->ix, good, &m), INDEX_OK);
	assert_true(m.segment > segment);
	assert_int_equal(index_get_message(sp.st->ix, bad, &m), INDEX_OK);
	assert_int_equal(m.segment, segment);
	spool_end(&sp);
}

/* Restarts, each with mail that stays: segments do not pile up. */
static void test_restarts_do_not_pile_up(void **state)
{
	struct spool sp;
	msgid_t id[30];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	for (unsigned i = 0; i < COUNT(id); i++) {
		id[i] = accept_body(&sp, "s@a.example r@slow.example", i);
		work_off(&sp, 4);
		if (i % 2)
			spool_crash(&sp);
		else
			spool_reopen(&sp);
	}
	work_off(&sp, 10);
	assert_true(segments(&sp) <= 8);
	for (unsigned i = 0; i < COUNT(id); i++)
		assert_body(&sp, id[i], i);
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traffic_leaves_few_segments),
		cmocka_unit_test(test_survivors),
		cmocka_unit_test(test_crash_between_copy_and_commit),
		cmocka_unit_test(test_flying_job_pins),
		cmocka_unit_test(test_reader_outlives_a_restart),
		cmocka_unit_test(test_not_before_the_commit),
		cmocka_unit_test(test_damaged_survivor),
		cmocka_unit_test(test_restarts_do_not_pile_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
