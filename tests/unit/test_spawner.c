/*
 * test_spawner - queued's side of the fifos to a spawn, which this test plays: what a spawn that goes has told is taken before its jobs are due again.
 */
#include <signal.h>

#include "spool.h"

#include "common/paths.h"
#include "queue/queued/spawner.h"

#define SESSION 77u

struct stage_set {
	struct spool spool;
	struct events events;
	struct spawner spawner;
	int jobs, report;       /* this spawn's ends */
};

static void turn(struct stage_set *s)
{
	struct pollfd fds[4];
	struct turn t = { .fds = fds, .room = 4, .now = clock_monotonic_ms() };
	size_t claimed = 0;
	spawner_prepare(&s->spawner, &t);
	assert_true(poll(fds, (nfds_t)t.count, 0) >= 0);
	assert_true(spawner_run(&s->spawner, &t, s->spool.now));
	assert_true(spawner_claim(&s->spawner, s->spool.now, &claimed));
}

static void tell(const struct stage_set *s, struct str *records)
{
	assert_int_equal(write(s->report, records->at, records->len), records->len);
	str_free(records);
}

static void start(struct stage_set *s)
{
	struct str out = STR_INIT(1000);
	signal(SIGPIPE, SIG_IGN);
	spool_begin(&s->spool);
	mkdir("fifo", 0755);
	assert_int_equal(mkfifo(FIFO_JOBS_REMOTE, 0600), 0);
	assert_int_equal(mkfifo(FIFO_REPORT_REMOTE, 0600), 0);
	spool_open(&s->spool);
	s->events = (struct events){ .settings = &s->spool.settings };
	assert_true(spawner_open(&s->spawner, CHANNEL_REMOTE, s->spool.st, &s->events));
	s->jobs = open(FIFO_JOBS_REMOTE, O_RDONLY | O_NONBLOCK);
	s->report = open(FIFO_REPORT_REMOTE, O_WRONLY | O_NONBLOCK);
	struct hello hello = { .session = SESSION, .channel = CHANNEL_REMOTE };
	struct ready ready = { .session = SESSION, .slots = 2 };
	assert_true(hello_encode(&hello, &out) && ready_encode(&ready, &out));
	tell(s, &out);
	turn(s);
}

static void end(struct stage_set *s)
{
	spawner_close(&s->spawner);
	spool_end(&s->spool);
}

static uint64_t read_job(const struct stage_set *s)
{
	char buffer[4096];
	struct record record;
	struct job job;
	size_t used;
	ssize_t got = read(s->jobs, buffer, sizeof buffer);
	assert_true(got > 0);
	assert_int_equal(record_take((struct bytes){ buffer, (size_t)got }, &record, &used), RECORD_OK);
	assert_true(job_decode(record.payload, &job));
	return job.job;
}

static void tell_delivered(const struct stage_set *s, uint64_t job)
{
	struct str out = STR_INIT(1000);
	struct result result = { .job = job, .verdict = V_OK, .code = 250, .e_class = 2 };
	struct job_done done = { .job = job };
	assert_true(result_encode(&result, &out) && job_done_encode(&done, &out));
	tell(s, &out);
}

/* A spawn that stops: it tells the last results and goes while queued is at its sync; then queued claims a job for it. `holder`: somebody else
 * has the report fifo open, so it does not end. */
static void go_after_the_last_word(bool holder)
{
	struct stage_set s;
	start(&s);
	msgid_t told = spool_accept_sync(&s.spool, "s@a.example r@b.example");
	turn(&s);
	uint64_t job = read_job(&s);
	msgid_t next = spool_accept_sync(&s.spool, "s@a.example r@c.example");
	size_t claimed = 0;
	int held = holder ? open(FIFO_REPORT_REMOTE, O_WRONLY | O_NONBLOCK) : -1;
	tell_delivered(&s, job);
	close(s.report);
	close(s.jobs);
	assert_true(spawner_claim(&s.spawner, s.spool.now, &claimed));
	assert_int_equal(claimed, 1);
	turn(&s);
	assert_false(spool_exists(&s.spool, told));
	assert_true(spool_exists(&s.spool, next));
	assert_int_equal(s.spawner.state, SPAWNER_AWAY);
	assert_true(spool_deliver(&s.spool, CHANNEL_REMOTE, V_OK));       /* it is due again, and nothing else is */
	assert_false(spool_exists(&s.spool, next));
	if (holder)
		close(held);
	end(&s);
}

/* A spawn that stops had no queued for a while: it tells the one that has come, and is gone before that one reads it. */
static void test_one_that_came_to_tell(void **state)
{
	struct stage_set s;
	struct str out = STR_INIT(1000);
	(void)state;
	start(&s);
	msgid_t id = spool_accept_sync(&s.spool, "s@a.example r@b.example");
	turn(&s);
	uint64_t job = read_job(&s);
	struct hello hello = { .session = SESSION + 1, .channel = CHANNEL_REMOTE };
	struct inflight inflight = { .job = job, .id = id, .rcpt_count = 1, .destination = LIT("r:b.example"), .indexes = LIT("\x01") };
	assert_true(hello_encode(&hello, &out) && inflight_encode(&inflight, &out));
	tell(&s, &out);
	tell_delivered(&s, job);
	close(s.report);
	close(s.jobs);
	turn(&s);
	assert_false(spool_exists(&s.spool, id));
	assert_int_equal(s.spawner.state, SPAWNER_AWAY);
	end(&s);
}

static void test_last_word_of_one_that_went(void **state)
{
	(void)state;
	go_after_the_last_word(false);
}

static void test_last_word_where_the_fifo_does_not_end(void **state)
{
	(void)state;
	go_after_the_last_word(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_that_came_to_tell),
		cmocka_unit_test(test_last_word_of_one_that_went),
		cmocka_unit_test(test_last_word_where_the_fifo_does_not_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
