/*
 * test_schedule - whose turn it is: fairness, windows, back-off, retries over days of a clock that the test turns, memory.
 */
#include "spool.h"

#include "queue/operation.h"

static void accept_many(struct spool *sp, size_t n, const char *words)
{
	for (size_t i = 0; i < n; i++)
		spool_accept(sp, words);
	assert_int_equal(store_sync(sp->st), STORE_OK);
}

/* The domain's first letter of each job in turn, all delivered at once. */
static void drain_order(struct spool *sp, struct str *out, size_t most)
{
	struct store_job job;
	for (size_t i = 0; i < most && store_claim(sp->st, CHANNEL_REMOTE, sp->now, &job) == STORE_OK; i++) {
		str_add_char(out, job.job.destination.at[2]);
		uint64_t number = job.job.job;
		assert_int_equal(spool_report(sp, number, job.rcpts[0].index, V_OK), STORE_OK);
		spool_done(sp, number, false);
	}
}

static void test_thousand_do_not_delay_one(void **state)
{
	struct spool sp;
	struct str order = STR_INIT(4096);
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	accept_many(&sp, 1000, "s@a.example r@a.example");
	accept_many(&sp, 3, "s@a.example r@b.example");
	accept_many(&sp, 2, "s@a.example r@c.example");
	drain_order(&sp, &order, 12);
	assert_string_equal(str_c(&order), "abcabcabaaaa");
	str_free(&order);
	spool_end(&sp);
}

/* Mail that comes while a long backlog is worked off waits one round, not the backlog. */
static void test_newcomer(void **state)
{
	struct spool sp;
	struct str order = STR_INIT(4096);
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	accept_many(&sp, 200, "s@a.example r@a.example");
	drain_order(&sp, &order, 50);
	accept_many(&sp, 1, "s@a.example r@n.example");
	str_clear(&order);
	drain_order(&sp, &order, 3);
	assert_non_null(strchr(str_c(&order), 'n'));
	str_free(&order);
	spool_end(&sp);
}

/* A destination works off 500 retries: new mail for it goes in between, and the retries go on. */
static void test_retries_and_new_mail(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	spool_begin(&sp);
	sp.segment_size = 1 << 20;
	spool_open(&sp);
	accept_many(&sp, 500, "old@a.example r@b.example");
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP))
		;
	sp.now += 1000000;
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	sp.now += 5000;
	accept_many(&sp, 5, "new@a.example r@b.example q@b.example");
	unsigned fresh = 0, retries = 0;
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
		bool is_new = bytes_equal(job.job.sender, LIT("new@a.example"));
		fresh += is_new;
		retries += !is_new;
		assert_int_equal(job.job.rcpt_count, is_new ? 2 : 1);
		uint64_t number = job.job.job;
		for (uint32_t n = 0; n < (is_new ? 2u : 1u); n++)
			assert_int_equal(spool_report(&sp, number, n, V_OK), STORE_OK);
		spool_done(&sp, number, false);
	}
	assert_int_equal(fresh, 5);
	assert_int_equal(retries, 5);
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_OK))
		retries++;
	assert_int_equal(retries, 499);
	assert_int_equal(sp.st->apply.status.messages, 0);
	spool_end(&sp);
}

/* More destinations with a backlog than are woken at a time: a newcomer is woken all the same. */
static void test_newcomer_behind_many(void **state)
{
	struct spool sp;
	struct store_job job;
	char words[64];
	unsigned n = 0;
	(void)state;
	spool_begin(&sp);
	sp.segment_size = 4 << 20;
	spool_open(&sp);
	for (unsigned k = 0; k < 4; k++) {
		for (unsigned i = 0; i < 1500; i++) {
			snprintf(words, sizeof words, "s@a.example r@d%u.example", i);
			spool_accept(&sp, words);
		}
	}
	for (unsigned i = 0; i < 1200; i++)
		assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	sp.now++;
	accept_many(&sp, 1, "s@a.example r@zz.example");
	while (store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job) == STORE_OK && !bytes_equal(job.job.destination, LIT("r:zz.example"))) {
		uint64_t number = job.job.job;
		assert_int_equal(spool_report(&sp, number, 0, V_OK), STORE_OK);
		spool_done(&sp, number, false);
		n++;
	}
	assert_bytes(job.job.destination, "r:zz.example");
	assert_true(n < 3500);
	spool_end(&sp);
}

static size_t claim_all(struct spool *sp, uint64_t *number, size_t room)
{
	struct store_job job;
	size_t n = 0;
	while (n < room && store_claim(sp->st, CHANNEL_REMOTE, sp->now, &job) == STORE_OK)
		number[n++] = job.job.job;
	return n;
}

static void finish_all(struct spool *sp, const uint64_t *number, size_t n, enum verdict v, bool failed)
{
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(spool_report(sp, number[i], 0, v), STORE_OK);
		spool_done(sp, number[i], failed);
	}
}

/* destinationstart 5, one more for each success, never more than destinationwindow. */
static void test_window_grows(void **state)
{
	struct spool sp;
	uint64_t number[64];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	accept_many(&sp, 400, "s@a.example r@a.example");
	const size_t expected[] = { 5, 10, 20, 20 };
	for (size_t i = 0; i < COUNT(expected); i++) {
		size_t n = claim_all(&sp, number, COUNT(number));
		assert_int_equal(n, expected[i]);
		finish_all(&sp, number, n, V_OK, false);
	}
	spool_end(&sp);
}

/* A dead host: five jobs that fail together are one failure; then one probe at a time, later and later; a success starts from one. */
static void test_dead_destination(void **state)
{
	struct spool sp;
	uint64_t number[64];
	(void)state;
	spool_begin(&sp);
	sp.settings.retryfirst = 1;
	sp.settings.retrymax = 1;
	spool_open(&sp);
	accept_many(&sp, 100, "s@a.example r@a.example");
	assert_int_equal(claim_all(&sp, number, 64), 5);
	finish_all(&sp, number, 5, V_TEMP, true);
	wall_ms_t down = sp.now;
	for (unsigned probe = 1; probe <= 9; probe++) {
		uint64_t wait = schedule_backoff_ms(LIT("r:a.example"), probe);
		uint64_t plain = 60000u << (probe - 1) < 3600000u ? 60000u << (probe - 1) : 3600000u;
		assert_in_range(wait, plain - plain / 10, plain + plain / 10);
		sp.now = down + wait - 1;
		assert_int_equal(claim_all(&sp, number, 64), 0);
		spool_tick(&sp);
		assert_int_equal(store_next_wake(sp.st, sp.now), down + wait);
		sp.now = down + wait;
		assert_int_equal(claim_all(&sp, number, 64), 1);
		finish_all(&sp, number, 1, V_TEMP, true);
		down = sp.now;
	}
	sp.now = down + 3 * 3600000u;
	assert_int_equal(claim_all(&sp, number, 64), 1);
	finish_all(&sp, number, 1, V_OK, false);
	for (size_t n = 1; n <= 8; n *= 2) {
		assert_int_equal(claim_all(&sp, number, 64), n);
		finish_all(&sp, number, n, V_OK, false);
	}
	spool_end(&sp);
}

/* The same over a crash: the back-off is in the log. */
static void test_backoff_survives_crash(void **state)
{
	struct spool sp;
	uint64_t number[64];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	accept_many(&sp, 10, "s@a.example r@a.example");
	size_t n = claim_all(&sp, number, 64);
	finish_all(&sp, number, n, V_TEMP, true);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_int_equal(claim_all(&sp, number, 64), 0);
	sp.now += 70000;
	assert_int_equal(claim_all(&sp, number, 64), 1);
	spool_end(&sp);
}

/* In flight is memory: after a crash what flew is due at once, wherever the index stood. */
static void test_flying_again_after_crash(void **state)
{
	struct spool sp;
	uint64_t number[64];
	(void)state;
	for (unsigned committed = 0; committed < 2; committed++) {
		spool_begin(&sp);
		spool_open(&sp);
		accept_many(&sp, 3, "s@a.example r@a.example");
		assert_int_equal(claim_all(&sp, number, 64), 3);
		assert_int_equal(claim_all(&sp, number, 64), 0);
		if (committed) {
			sp.now += 1500;
			spool_tick(&sp);
		}
		spool_crash(&sp);
		assert_int_equal(claim_all(&sp, number, 64), 3);
		spool_end(&sp);
	}
}

/* Every attempt of one message until it is returned: the table is read by people. */
static void retry_table(struct spool *sp, struct str *out)
{
	msgid_t id = spool_accept_sync(sp, "sender@a.example r@b.example");
	wall_ms_t start = sp->now;
	struct row_rcpt row;
	for (unsigned attempt = 1; attempt < 200; attempt++) {
		if (!spool_deliver(sp, CHANNEL_REMOTE, V_TEMP))
			break;
		str_addf(out, "%3u at %7lu s", attempt, (unsigned long)((sp->now - start) / 1000));
		assert_int_equal(index_get_rcpt(sp->st->ix, id, 0, &row), INDEX_OK);
		if (row.state == RCPT_WAITING)
			str_addf(out, ", next in %6lu s", (unsigned long)((row.next_try_ms - sp->now) / 1000));
		str_addf(out, ": %s\n", rcpt_state_name(row.state));
		wall_ms_t next = store_next_wake(sp->st, sp->now);
		while (next != UINT64_MAX && row.state == RCPT_WAITING && next < row.next_try_ms) {
			sp->now = next > sp->now ? next : sp->now + 1;
			spool_tick(sp);
			if (index_get_rcpt(sp->st->ix, id, 0, &row) != INDEX_OK || row.state != RCPT_WAITING)
				break;
			next = store_next_wake(sp->st, sp->now);
		}
		if (row.state != RCPT_WAITING) {
			str_addf(out, "    at %7lu s: %s\n", (unsigned long)((sp->now - start) / 1000), rcpt_state_name(row.state));
			break;
		}
		sp->now = row.next_try_ms;
	}
	struct store_bounce bounce;
	assert_int_equal(store_claim_bounce(sp->st, sp->now, &bounce), STORE_OK);
	assert_int_equal(bounce.begin.id, id);
	assert_int_equal(bounce.begin.rcpt_count, 1);
	str_addf(out, "bounce: %u.%u.%u %u ", bounce.rcpts[0].e_class, bounce.rcpts[0].e_subject, bounce.rcpts[0].e_detail, bounce.rcpts[0].code);
	str_add(out, bounce.rcpts[0].text);
	str_add_c(out, "\n");
}

static void test_retries_until_expiry(void **state)
{
	struct spool sp;
	struct str table = STR_INIT(1 << 16);
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	str_add_c(&table, "quadratic, retryfirst 400, retrymax 8h, queuelifetime 7d\n");
	retry_table(&sp, &table);
	spool_end(&sp);
	spool_begin(&sp);
	sp.settings.retrycurve = LIT("exponential");
	sp.settings.queuelifetime = 86400;
	spool_open(&sp);
	str_add_c(&table, "exponential, retryfirst 400, retrymax 8h, queuelifetime 1d\n");
	retry_table(&sp, &table);
	spool_end(&sp);
	unit_golden("retries", &table);
	str_free(&table);
}

/* Many destinations wait; only what is active is in memory. */
static void test_memory_is_for_the_active(void **state)
{
	struct spool sp;
	char words[64];
	(void)state;
	spool_begin(&sp);
	sp.segment_size = 4 << 20;
	spool_open(&sp);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(words, sizeof words, "s@a.example r@d%u.example", i);
		spool_accept(&sp, words);
	}
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	assert_true(schedule_active(sp.st->schedule) <= 1001);
	unsigned n = 1;
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP)) {
		assert_true(schedule_active(sp.st->schedule) <= 1001);
		n++;
	}
	assert_int_equal(n, 5000);
	assert_int_equal(schedule_active(sp.st->schedule), 0);
	spool_end(&sp);
}

/* Channels do not see each other's work. */
static void test_channels(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_accept_sync(&sp, "s@a.example alice@local.example r@b.example bob@local.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_LOCAL, sp.now, &job), STORE_OK);
	assert_int_equal(job.job.destination.at[0], 'l');
	assert_bytes(job.rcpts[0].address, "alice@local.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_LOCAL, sp.now, &job), STORE_OK);
	assert_bytes(job.rcpts[0].address, "bob@local.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_LOCAL, sp.now, &job), STORE_NONE);
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	assert_bytes(job.job.destination, "r:b.example");
	assert_bytes(job.job.sender, "s@a.example");
	spool_end(&sp);
}

/* Recipients of one message and destination go together, rcptpertransaction at a time. */
static void test_grouping(void **state)
{
	struct spool sp;
	struct str words = STR_INIT(1 << 20);
	struct store_job job;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	str_add_c(&words, "s@a.example");
	for (unsigned i = 0; i < 250; i++)
		str_addf(&words, " r%u@b.example", i);
	spool_accept_sync(&sp, str_c(&words));
	const uint32_t expected[] = { 100, 100, 50 };
	for (size_t i = 0; i < COUNT(expected); i++) {
		assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
		assert_int_equal(job.job.rcpt_count, expected[i]);
	}
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_NONE);
	str_free(&words);
	spool_end(&sp);
}

/* A failure that hits all recipients of a job leaves them together for the next try. */
static void test_retries_stay_together(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_accept_sync(&sp, "s@a.example r1@b.example r2@b.example r3@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	sp.now += 600000;
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	assert_int_equal(job.job.rcpt_count, 3);
	spool_end(&sp);
}

static void test_jitter_bounds(void **state)
{
	struct settings s = spool_settings();
	(void)state;
	for (msgid_t id = 1; id < 5000; id++) {
		uint64_t wait = schedule_retry_ms(&s, id * 7919, 1);
		assert_in_range(wait, 360000, 440000);
	}
	assert_int_equal(schedule_retry_ms(&s, 42, 3), schedule_retry_ms(&s, 42, 3));
	assert_in_range(schedule_retry_ms(&s, 42, 1000000), 28800000u - 2880000u, 28800000u + 2880000u);
	s.retrycurve = LIT("exponential");
	assert_in_range(schedule_retry_ms(&s, 42, 4), 3200000u - 320000u, 3200000u + 320000u);
	assert_in_range(schedule_retry_ms(&s, 42, 1000000), 28800000u - 2880000u, 28800000u + 2880000u);
}

/* What queued does with a message each ten milliseconds: four turns with an event, and one whenever the store wants one. */
static unsigned trickle(struct spool *sp, wall_ms_t until)
{
	unsigned commits = 0;
	for (; sp->now < until; sp->now++) {
		wall_ms_t committed = sp->st->committed_ms;
		unsigned at = (unsigned)(sp->now % 10);
		if (at == 0)
			spool_accept_sync(sp, "s@a.example r@b.example");
		else if (at == 2)
			assert_true(spool_deliver(sp, CHANNEL_REMOTE, V_OK));
		if (at < 4)
			assert_int_equal(store_tick(sp->st, sp->now, false), STORE_OK);
		else if (store_next_wake(sp->st, sp->now) <= sp->now)
			spool_tick(sp);
		commits += sp->st->committed_ms != committed;
	}
	return commits;
}

/* Whoever comes during a commit waits for it: there is no more than one a second, and one soon after the last message. */
static void test_commits_with_a_little_mail(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	assert_in_range(trickle(&sp, SPOOL_START + 5000), 4, 6);
	assert_true(sp.st->apply.changes > 0);
	wall_ms_t last = sp.now;
	sp.now = store_next_wake(sp.st, sp.now);
	assert_in_range(sp.now, last, last + 250);
	spool_tick(&sp);
	assert_int_equal(sp.st->apply.changes, 0);
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousand_do_not_delay_one),
		cmocka_unit_test(test_newcomer),
		cmocka_unit_test(test_retries_and_new_mail),
		cmocka_unit_test(test_newcomer_behind_many),
		cmocka_unit_test(test_window_grows),
		cmocka_unit_test(test_dead_destination),
		cmocka_unit_test(test_backoff_survives_crash),
		cmocka_unit_test(test_flying_again_after_crash),
		cmocka_unit_test(test_retries_until_expiry),
		cmocka_unit_test(test_memory_is_for_the_active),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_grouping),
		cmocka_unit_test(test_retries_stay_together),
		cmocka_unit_test(test_jitter_bounds),
		cmocka_unit_test(test_commits_with_a_little_mail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
