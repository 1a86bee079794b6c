/*
 * test_store - the queue behind its interface: mail in and out, failures of the disk.
 * The linker puts fallocate and fdatasync of this program here, so that a test can fill or break the disk.
 */
#include <errno.h>

#include "spool.h"

#include "common/io.h"
#include "queue/intakefile.h"
#include "queue/store/msglog_inside.h"

static int fallocate_error, fdatasync_error;

int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (fallocate_error) {
		errno = fallocate_error;
		return -1;
	}
	return __real_fallocate(fd, mode, offset, len);
}

int __wrap_fdatasync(int fd)
{
	if (fdatasync_error) {
		errno = fdatasync_error;
		return -1;
	}
	return __real_fdatasync(fd);
}

static struct row_message message(struct spool *sp, msgid_t id)
{
	struct row_message m;
	assert_int_equal(index_get_message(sp->st->ix, id, &m), INDEX_OK);
	return m;
}

static enum rcpt_state rcpt_state(struct spool *sp, msgid_t id, uint32_t n)
{
	struct row_rcpt r;
	assert_int_equal(index_get_rcpt(sp->st->ix, id, n, &r), INDEX_OK);
	return (enum rcpt_state)r.state;
}

static struct store_job claim(struct spool *sp, enum channel channel)
{
	struct store_job job;
	assert_int_equal(store_claim(sp->st, channel, sp->now, &job), STORE_OK);
	return job;
}

static void assert_nothing_due(struct spool *sp)
{
	struct store_job job;
	assert_int_equal(store_claim(sp->st, CHANNEL_REMOTE, sp->now, &job), STORE_NONE);
}

/* ---- in and out ---- */

static void test_one_message(void **state)
{
	struct spool sp;
	char body[64];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept(&sp, "s@a.example r@b.example");
	assert_true(store_dirty(sp.st));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_false(store_dirty(sp.st));
	struct store_job job = claim(&sp, CHANNEL_REMOTE);
	assert_int_equal(job.job.id, id);
	char path[PLACE_MAX];
	place_segment(job.job.segment, path);
	int fd = open(path, O_RDONLY);
	assert_int_equal(job.job.body_size, 24);
	assert_int_equal(io_pread_full(fd, body, 24, job.job.body_offset), 24);
	close(fd);
	assert_memory_equal(body, "Subject: test\r\n\r\nhello\r\n", 24);
	uint64_t number = job.job.job;
	assert_int_equal(spool_report(&sp, number, 0, V_OK), STORE_OK);
	assert_int_equal(spool_report(&sp, number, 0, V_OK), STORE_NONE);       /* twice */
	assert_int_equal(spool_report(&sp, number, 1, V_OK), STORE_NONE);       /* not of this job */
	assert_int_equal(spool_report(&sp, number + 1, 0, V_OK), STORE_NONE);   /* no such job */
	spool_done(&sp, number, false);
	assert_false(spool_exists(&sp, id));
	assert_string_equal(str_c(&sp.events), "accepted\nresult 0 r@b.example delivered\nfinished\n");
	struct row_finished f;
	assert_int_equal(index_get_finished(sp.st->ix, id, &f), INDEX_OK);
	assert_int_equal(f.how, FINISHED_DELIVERED);
	assert_bytes(f.first_rcpt, "r@b.example");
	assert_bytes(f.last_text, "said so");
	assert_bytes(f.sender, "s@a.example");
	spool_end(&sp);
}

static void test_id_in_received(void **state)
{
	struct spool sp;
	struct str raw = STR_INIT(4096);
	struct envelope env;
	char got[64], text[MSGID_TEXT + 1];
	msgid_t id;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_envelope(&raw, "s@a.example r@b.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	struct store_new in = { .envelope = &env, .body = LIT("Received: id ............;\r\n"), .id_offset = 13 };
	assert_int_equal(store_accept(sp.st, &in, sp.now, &id), STORE_OK);
	struct store_new wrong = in;
	wrong.id_offset = 3;       /* no placeholder there: nothing is touched */
	msgid_t id2;
	assert_int_equal(store_accept(sp.st, &wrong, sp.now, &id2), STORE_OK);
	assert_true(id2 > id);
	struct store_job job = claim(&sp, CHANNEL_REMOTE);
	char path[PLACE_MAX];
	place_segment(job.job.segment, path);
	int fd = open(path, O_RDONLY);
	io_pread_full(fd, got, in.body.len, job.job.body_offset);
	msgid_format(id, text);
	assert_memory_equal(got + 13, text, MSGID_TEXT);
	job = claim(&sp, CHANNEL_REMOTE);
	io_pread_full(fd, got, in.body.len, job.job.body_offset);
	assert_memory_equal(got, in.body.at, in.body.len);
	close(fd);
	str_free(&raw);
	spool_end(&sp);
}

/* A result of a job that has none for a recipient: a temporary failure of the worker. */
static void test_worker_without_result(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept(&sp, "s@a.example r1@b.example r2@b.example");
	struct store_job job = claim(&sp, CHANNEL_REMOTE);
	uint64_t number = job.job.job;
	assert_int_equal(job.job.rcpt_count, 2);
	assert_int_equal(spool_report(&sp, number, 1, V_OK), STORE_OK);
	spool_done(&sp, number, false);
	assert_int_equal(rcpt_state(&sp, id, 1), RCPT_DELIVERED);
	struct row_rcpt r;
	assert_int_equal(index_get_rcpt(sp.st->ix, id, 0, &r), INDEX_OK);
	assert_int_equal(r.state, RCPT_WAITING);
	assert_int_equal(r.attempts, 1);
	assert_true(r.next_try_ms > sp.now);
	spool_end(&sp);
}

static void test_ten_thousand_recipients(void **state)
{
	struct spool sp;
	struct str words = STR_INIT(1 << 20);
	(void)state;
	spool_begin(&sp);
	sp.segment_size = 4 << 20;
	sp.settings.destinationwindow = sp.settings.destinationstart = 1000;
	spool_open(&sp);
	str_add_c(&words, "s@a.example");
	for (unsigned i = 0; i < 10000; i++)
		str_addf(&words, " r%u@d%u.example", i, i % 7);
	struct place before = msglog_end(sp.st->log);
	msgid_t id = spool_accept_sync(&sp, str_c(&words));
	assert_true(msglog_end(sp.st->log).offset - before.offset < 400000);      /* one record */
	assert_int_equal(message(&sp, id).unfinished, 10000);
	unsigned jobs = 0;
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_OK))
		jobs++;
	assert_in_range(jobs, 100, 10000);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(sp.st->apply.status.recipients, 0);
	str_free(&words);
	spool_end(&sp);
}

static void test_ids_never_come_again(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	sp.now -= 3600000;      /* and the clock went back */
	msgid_t b = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_true(b > a);
	spool_reopen(&sp);
	assert_true(spool_accept(&sp, "s@a.example r@b.example") > b);
	spool_end(&sp);
}

static void test_finished_ring(void **state)
{
	struct spool sp;
	uint64_t n;
	(void)state;
	spool_begin(&sp);
	sp.settings.finishedkeep = 10;
	spool_open(&sp);
	msgid_t last = 0;
	for (unsigned i = 0; i < 50; i++) {
		last = spool_accept(&sp, "s@a.example r@b.example");
		assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
		assert_int_equal(index_count_finished(sp.st->ix, &n), INDEX_OK);
		assert_true(n <= 10);
	}
	struct row_finished f;
	assert_int_equal(index_get_finished(sp.st->ix, last, &f), INDEX_OK);
	store_close(sp.st);
	sp.settings.finishedkeep = 3;
	spool_open(&sp);
	assert_int_equal(index_count_finished(sp.st->ix, &n), INDEX_OK);
	assert_int_equal(n, 3);
	spool_end(&sp);
}

/* Every value of an envelope as long as an envelope may have it: the row's fields are shorter, and the queue must not stop for that. */
static void test_longest_values(void **state)
{
	struct spool sp;
	struct str raw = STR_INIT(1 << 20);
	struct envelope env;
	struct mailaddr a;
	msgid_t id;
	char value[ENVELOPE_VALUE_MAX];
	(void)state;
	memset(value, 'x', sizeof value);
	spool_begin(&sp);
	spool_open(&sp);
	assert_int_equal(mailaddr_parse(LIT("s@a.example"), &a), ADDR_OK);
	assert_true(envelope_begin(&raw, &a));
	for (const char *tag = "CHPAERM"; *tag; tag++) {
		for (size_t n = sizeof value; n > 0 && !envelope_add(&raw, *tag, (struct bytes){ value, n }); n--)
			raw.failed = false;
	}
	assert_int_equal(mailaddr_parse(LIT("r@b.example"), &a), ADDR_OK);
	assert_true(envelope_add_rcpt(&raw, &a));
	for (const char *tag = "NO"; *tag; tag++) {
		for (size_t n = sizeof value; n > 0 && !envelope_add(&raw, *tag, (struct bytes){ value, n }); n--)
			raw.failed = false;
	}
	assert_true(envelope_end(&raw));
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	struct store_new in = { .envelope = &env, .body = LIT("x\r\n") };
	assert_int_equal(store_accept(sp.st, &in, sp.now, &id), STORE_OK);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	spool_end(&sp);
	str_free(&raw);
}

/* ---- in flight ---- */

static void test_unclaim_and_give_back(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	for (unsigned i = 0; i < 3; i++)
		spool_accept(&sp, "s@a.example r1@b.example r2@b.example");
	uint64_t first = claim(&sp, CHANNEL_REMOTE).job.job;
	claim(&sp, CHANNEL_REMOTE);
	claim(&sp, CHANNEL_REMOTE);
	assert_nothing_due(&sp);
	store_unclaim(sp.st, first, sp.now);
	store_unclaim(sp.st, first, sp.now);      /* gone: nothing happens */
	struct store_job again = claim(&sp, CHANNEL_REMOTE);
	assert_int_equal(again.job.rcpt_count, 2);
	assert_true(again.job.job > first);
	assert_nothing_due(&sp);
	store_give_back(sp.st, CHANNEL_LOCAL, sp.now);
	assert_nothing_due(&sp);
	assert_int_equal(spool_report(&sp, again.job.job, 0, V_OK), STORE_OK);
	store_give_back(sp.st, CHANNEL_REMOTE, sp.now);
	unsigned rcpts = 0;
	for (unsigned i = 0; i < 3; i++)
		rcpts += claim(&sp, CHANNEL_REMOTE).job.rcpt_count;
	assert_int_equal(rcpts, 5);                /* one was delivered */
	assert_nothing_due(&sp);
	struct row_rcpt r;
	msgid_t id;
	struct row_message m;
	assert_int_equal(index_next_message(sp.st->ix, 0, &id, &m), INDEX_OK);
	assert_int_equal(index_get_rcpt(sp.st->ix, id, 1, &r), INDEX_OK);
	assert_int_equal(r.attempts, 0);           /* no mark against them */
	spool_end(&sp);
}

/* queued died, spawn goes on delivering: these recipients are not handed out again, and their results count. */
static void test_still_flying(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r0@b.example r1@b.example r2@c.example r3@b.example");
	uint64_t old = 0;
	struct store_job job = claim(&sp, CHANNEL_REMOTE);
	if (job.job.rcpt_count != 3) {
		store_unclaim(sp.st, job.job.job, sp.now);
		job = claim(&sp, CHANNEL_REMOTE);
	}
	while (job.job.rcpt_count != 3)
		job = claim(&sp, CHANNEL_REMOTE);
	old = job.job.job;
	uint64_t segment = job.job.segment;
	spool_crash(&sp);
	struct inflight f = { .job = old, .id = id, .segment = segment, .first_index = 0, .rcpt_count = 3,
		.destination = LIT("r:b.example"), .indexes = LIT("\x0b") };
	assert_int_equal(store_still_flying(sp.st, CHANNEL_LOCAL, &f), STORE_NONE);
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_OK);
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_NONE);
	job = claim(&sp, CHANNEL_REMOTE);
	assert_bytes(job.job.destination, "r:c.example");
	assert_true(job.job.job > old);
	assert_nothing_due(&sp);
	assert_int_equal(spool_report(&sp, old, 3, V_OK), STORE_OK);
	assert_int_equal(rcpt_state(&sp, id, 3), RCPT_DELIVERED);
	spool_done(&sp, old, false);
	struct row_rcpt r;
	assert_int_equal(index_get_rcpt(sp.st->ix, id, 0, &r), INDEX_OK);
	assert_int_equal(r.attempts, 1);
	spool_end(&sp);
}

/* spawn cannot know whether the queued before has kept what it was told, and tells it once more: one failure, one attempt. */
static void test_a_failure_told_twice(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r0@b.example r1@b.example");
	struct store_job job = claim(&sp, CHANNEL_REMOTE);
	struct inflight f = { .job = job.job.job, .id = id, .segment = job.job.segment, .rcpt_count = 2, .destination = LIT("r:b.example"),
		.indexes = LIT("\x03") };
	assert_int_equal(spool_report(&sp, f.job, 0, V_TEMP), STORE_OK);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	wall_ms_t next = spool_rcpt(&sp, id, 0).next_try_ms;
	sp.now += 1000;
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_OK);
	assert_int_equal(spool_report(&sp, f.job, 0, V_TEMP), STORE_OK);
	assert_int_equal(spool_report(&sp, f.job, 1, V_TEMP), STORE_OK);       /* of him that queued had not heard */
	spool_done(&sp, f.job, false);
	assert_int_equal(spool_rcpt(&sp, id, 0).attempts, 1);
	assert_int_equal(spool_rcpt(&sp, id, 0).next_try_ms, next);
	assert_int_equal(spool_rcpt(&sp, id, 1).attempts, 1);
	assert_true(spool_rcpt(&sp, id, 1).next_try_ms > sp.now);
	spool_check(&sp);
	spool_end(&sp);
}

static void test_bad_inflight(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	struct inflight f = { .job = 9, .id = 77, .rcpt_count = 2, .destination = LIT("r:b.example"), .indexes = LIT("\x0b") };
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_NONE);      /* three bits, two recipients */
	f.indexes = LIT("");
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_NONE);
	f.indexes = LIT("\x03");
	assert_int_equal(store_still_flying(sp.st, CHANNEL_REMOTE, &f), STORE_OK);        /* a message that is gone: harmless */
	assert_int_equal(spool_report(&sp, 9, 0, V_PERM), STORE_OK);
	spool_done(&sp, 9, true);
	spool_end(&sp);
}

/* ---- tokens ---- */

static void test_tokens(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_accept_sync(&sp, "s@a.example r@b.example");
	uint64_t token = sp.token;
	assert_true(store_token_seen(sp.st, token, 99));
	assert_false(store_token_seen(sp.st, token, 98));
	assert_false(store_token_seen(sp.st, token + 1, 99));
	/* Delivered meanwhile, not committed, crashed: the replay tells. */
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_true(store_token_seen(sp.st, token, 99));
	/* Not synced: the log does not hold it. */
	spool_accept(&sp, "s@a.example r@b.example");
	token = sp.token;
	spool_crash(&sp);
	assert_false(store_token_seen(sp.st, token, 99));
	/* Committed long ago: forgotten, and the intake file was unlinked before. */
	spool_accept(&sp, "s@a.example r@b.example");
	token = sp.token;
	for (unsigned i = 0; i < 3; i++) {
		sp.now += 2000;
		spool_accept(&sp, "s@a.example r@b.example");
		spool_tick(&sp);
	}
	assert_false(store_token_seen(sp.st, token, 99));
	spool_end(&sp);
}

/* ---- the disk ---- */

static void test_space_below_reserve(void **state)
{
	struct spool sp;
	msgid_t id;
	(void)state;
	spool_begin(&sp);
	sp.settings.freespace = UINT64_MAX;
	spool_open(&sp);
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", LIT("x"), &id), STORE_FULL);
	sp.settings.freespace = 0;
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", LIT("x"), &id), STORE_FULL);   /* looked at once a second */
	sp.now += 1000;
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", LIT("x"), &id), STORE_OK);
	spool_end(&sp);
}

/* No new segment can be made: new mail is refused, what is queued is still delivered, and with room again mail is taken. */
static void test_disk_full(void **state)
{
	struct spool sp;
	static char body[4000];
	msgid_t id;
	size_t accepted = 0;
	(void)state;
	memset(body, 'x', sizeof body);
	spool_begin(&sp);
	sp.settings.destinationstart = 20;
	spool_open(&sp);
	while (!prepare_is_ready(sp.st->log->prepare))
		usleep(1000);
	fallocate_error = ENOSPC;
	enum store_result r;
	while ((r = spool_try_accept(&sp, "s@a.example r@b.example", (struct bytes){ body, sizeof body }, &id)) == STORE_OK)
		accepted++;
	assert_int_equal(r, STORE_FULL);
	assert_true(accepted > 10);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	size_t delivered = 0;
	while (delivered < 10 && spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP))
		delivered++;
	assert_int_equal(delivered, 10);
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", (struct bytes){ body, sizeof body }, &id), STORE_FULL);
	fallocate_error = 0;
	sp.now += 1000;
	spool_tick(&sp);
	while (!prepare_is_ready(sp.st->log->prepare))
		usleep(1000);
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", (struct bytes){ body, sizeof body }, &id), STORE_OK);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	struct spool copy;
	spool_crashed_copy(&sp, &copy);
	spool_open(&copy);
	spool_assert_same(sp.st, copy.st);
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	spool_end(&sp);
}

/* A failed sync is never tried again: everything says FATAL, and the next start has what had been acknowledged. */
static void test_failed_sync_is_final(void **state)
{
	struct spool sp;
	struct store_job job;
	msgid_t id;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept_sync(&sp, "s@a.example r@b.example");
	spool_accept(&sp, "s@a.example r@b.example");
	fdatasync_error = EIO;
	assert_int_equal(store_sync(sp.st), STORE_FATAL);
	fdatasync_error = 0;
	assert_int_equal(store_sync(sp.st), STORE_FATAL);
	assert_int_equal(spool_try_accept(&sp, "s@a.example r@b.example", LIT("x"), &id), STORE_FATAL);
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_FATAL);
	assert_int_equal(store_tick(sp.st, sp.now, true), STORE_FATAL);
	assert_non_null(strstr(store_error(sp.st), "sync"));
	store_close(sp.st);
	spool_open(&sp);
	assert_true(spool_exists(&sp, a));
	spool_end(&sp);
}

/* A queued that was killed between write and sync left a record in the page cache alone. The next one makes it durable before it
 * believes it, and does not start when it cannot. */
static void test_replay_is_made_durable(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept(&sp, "s@a.example r@b.example");
	fdatasync_error = EIO;
	assert_int_equal(store_sync(sp.st), STORE_FATAL);      /* written, not synced */
	store_close(sp.st);
	sp.st = NULL;
	assert_false(spool_try_open(&sp));
	fdatasync_error = 0;
	spool_open(&sp);
	assert_true(spool_exists(&sp, a));
	assert_true(store_token_seen(sp.st, sp.token, 99));
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_message),
		cmocka_unit_test(test_id_in_received),
		cmocka_unit_test(test_worker_without_result),
		cmocka_unit_test(test_ten_thousand_recipients),
		cmocka_unit_test(test_ids_never_come_again),
		cmocka_unit_test(test_finished_ring),
		cmocka_unit_test(test_longest_values),
		cmocka_unit_test(test_unclaim_and_give_back),
		cmocka_unit_test(test_still_flying),
		cmocka_unit_test(test_a_failure_told_twice),
		cmocka_unit_test(test_bad_inflight),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_space_below_reserve),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_failed_sync_is_final),
		cmocka_unit_test(test_replay_is_made_durable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
