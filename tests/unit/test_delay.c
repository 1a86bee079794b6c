/*
 * test_delay - reports of delay (RFC 3461, NOTIFY=DELAY): who is told, when, and never twice.
 */
#include "spool.h"

#include "queue/operation.h"

#define WARN UINT64_C(14400000)

static void start(struct spool *sp)
{
	spool_begin(sp);
	sp->settings.delaywarn = 14400;
	spool_open(sp);
}

/* All that is due, the reports to senders included. */
static void deliver_all(struct spool *sp, enum verdict v)
{
	while (spool_deliver(sp, CHANNEL_REMOTE, v))
		;
}

/* It is tried when it is as old as that, and put off. */
static void put_off_at(struct spool *sp, msgid_t id, uint64_t age)
{
	sp->now = msgid_time(id) + age;
	deliver_all(sp, V_TEMP);
}

static msgid_t accept_late(struct spool *sp, const char *words)
{
	msgid_t id = spool_accept_sync(sp, words);
	put_off_at(sp, id, WARN);
	return id;
}

static struct row_message message(struct spool *sp, msgid_t id)
{
	struct row_message m;
	assert_int_equal(index_get_message(sp->st->ix, id, &m), INDEX_OK);
	return m;
}

/* As after kill -9 and a start: what the log has, the index has. */
static void crash(struct spool *sp)
{
	assert_int_equal(store_sync(sp->st), STORE_OK);
	spool_crash(sp);
	spool_check(sp);
}

static void operate(struct spool *sp, enum operation op, msgid_t id)
{
	struct str answer = STR_INIT(1000);
	struct operate o = { .op = (uint8_t)op, .id = id, .index = OPERATION_ALL_RCPTS, .who = LIT("alice") };
	assert_int_equal(store_operate(sp->st, &o, sp->now, &answer), STORE_OK);
	str_free(&answer);
}

static void test_who_is_told(void **state)
{
	struct spool sp;
	const char *words = "s@a.example a@b.example?DELAY b@b.example?FAILURE c@b.example?NEVER d@b.example e@b.example?success,delay";
	(void)state;
	start(&sp);
	msgid_t id = accept_late(&sp, words);
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 2);
	assert_true(b.rcpts[0].index == 0 && b.rcpts[1].index == 4);
	assert_true(b.rcpts[0].action == DSN_DELAYED && b.rcpts[0].code == 451 && bytes_equal(b.rcpts[0].text, LIT("said so")));
	spool_check(&sp);
	operate(&sp, OP_DELETE, id);
	/* And those who did not say, where the operator wants it. */
	sp.settings.delaywarnall = true;
	store_settings(sp.st, &sp.settings);
	id = accept_late(&sp, words);
	assert_int_equal(spool_claim_bounce(&sp).begin.rcpt_count, 3);
	operate(&sp, OP_DELETE, id);
	/* Nobody is to be told of a report, and nobody at all where it is off. */
	accept_late(&sp, "<> a@b.example?DELAY b@b.example");
	assert_false(spool_has_bounce(&sp));
	sp.settings.delaywarn = 0;
	store_settings(sp.st, &sp.settings);
	accept_late(&sp, words);
	assert_false(spool_has_bounce(&sp));
	spool_end(&sp);
}

static void test_when(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example a@b.example?DELAY");
	put_off_at(&sp, id, 0);
	put_off_at(&sp, id, WARN - 1);
	assert_false(spool_has_bounce(&sp));
	put_off_at(&sp, id, 2 * WARN);
	assert_int_equal(spool_claim_bounce(&sp).begin.rcpt_count, 1);
	/* One whose time is over has failed: that is what its sender hears, and only that. */
	id = spool_accept_sync(&sp, "s@a.example a@c.example");
	put_off_at(&sp, id, sp.settings.queuelifetime * 1000);
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_true(b.begin.rcpt_count == 1 && b.rcpts[0].action == DSN_FAILED);
	spool_end(&sp);
}

/* Once for each recipient, whatever dies in between. */
static void test_once(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = accept_late(&sp, "s@a.example a@b.example?DELAY,FAILURE");
	crash(&sp);
	sp.now += BOUNCE_WAIT_MS;
	uint32_t batch = spool_claim_bounce(&sp).begin.batch;
	assert_true(rcpt_delay_due(&(struct row_rcpt){ .batch = batch }));
	crash(&sp);
	assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);
	str_clear(&sp.events);
	assert_true(spool_accept_bounce(&sp, id, batch) != 0);
	assert_int_equal(spool_rcpt(&sp, id, 0).batch, BATCH_TOLD);
	assert_true(message(&sp, id).failed == 0 && message(&sp, id).bounce_due_ms == 0);
	crash(&sp);
	assert_true(spool_accept_bounce(&sp, id, batch) == 0);
	put_off_at(&sp, id, 3 * WARN);
	crash(&sp);
	put_off_at(&sp, id, 6 * WARN);
	assert_false(spool_has_bounce(&sp));
	spool_check(&sp);
	/* Its failure is another report, of another number. */
	sp.now += 9 * WARN;
	deliver_all(&sp, V_PERM);
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_true(b.begin.batch > batch && b.rcpts[0].action == DSN_FAILED);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* An index that is made anew from the whole log knows it, too. */
static void test_index_lost(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t told = accept_late(&sp, "s@a.example a@b.example?DELAY");
	spool_accept_bounce(&sp, told, spool_claim_bounce(&sp).begin.batch);
	msgid_t due = accept_late(&sp, "s@a.example a@c.example?DELAY");
	assert_int_equal(store_sync(sp.st), STORE_OK);
	store_close(sp.st);
	assert_int_equal(unlink("index/data.mdb"), 0);
	spool_open(&sp);
	spool_check(&sp);
	assert_int_equal(spool_rcpt(&sp, told, 0).batch, BATCH_TOLD);
	sp.now += BOUNCE_WAIT_MS;
	assert_true(spool_claim_bounce(&sp).begin.id == due);
	assert_false(spool_has_bounce(&sp));
	spool_end(&sp);
}

/* What ends before its report went out is not late any more, whether the report is being written or not. */
static void test_ended_before(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	for (unsigned out = 0; out < 2; out++) {
		msgid_t id = accept_late(&sp, "s@a.example a@b.example?DELAY");
		uint32_t batch = message(&sp, id).batch;
		if (out)
			assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);
		sp.now += WARN;
		assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
		assert_false(spool_exists(&sp, id));
		assert_false(spool_has_bounce(&sp));
		spool_check(&sp);
		assert_true(spool_accept_bounce(&sp, id, batch) == 0);
		assert_int_equal(sp.st->bouncing_count, 0);
	}
	/* One of which no report comes holds its segment no longer than the claim. */
	accept_late(&sp, "s@a.example a@b.example?DELAY");
	assert_true(spool_has_bounce(&sp));
	sp.now += WARN;
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_false(spool_has_bounce(&sp));
	assert_int_equal(sp.st->bouncing_count, 0);
	crash(&sp);
	spool_end(&sp);
}

/* Deleted, bounced, and failed behind a report that is being written, which does not speak of that. */
static void test_ended_otherwise(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = accept_late(&sp, "s@a.example a@b.example?DELAY");
	operate(&sp, OP_DELETE, id);
	assert_false(spool_exists(&sp, id));
	assert_false(spool_has_bounce(&sp));
	id = accept_late(&sp, "s@a.example a@b.example?DELAY,FAILURE b@b.example?DELAY,FAILURE");
	uint32_t batch = spool_claim_bounce(&sp).begin.batch;
	operate(&sp, OP_BOUNCE, id);
	spool_check(&sp);
	assert_true(spool_accept_bounce(&sp, id, batch) == 0);
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_true(b.begin.batch > batch && b.begin.rcpt_count == 2 && b.rcpts[1].action == DSN_FAILED);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* A report of a delay and a failure of the same message: one. */
static void test_with_a_failure(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example a@b.example?DELAY b@c.example");
	sp.now += WARN;
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 2);
	assert_true(b.rcpts[0].action == DSN_DELAYED && b.rcpts[1].action == DSN_FAILED);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_WAITING);
	assert_int_equal(spool_rcpt(&sp, id, 1).state, RCPT_BOUNCED);
	sp.now += WARN;
	deliver_all(&sp, V_OK);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* Held while it was tried: its time stands still. */
static void test_held(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example a@b.example?DELAY");
	sp.now += WARN;
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	operate(&sp, OP_HOLD, id);
	assert_int_equal(spool_report(&sp, number, 0, V_TEMP), STORE_OK);
	spool_done(&sp, number, false);
	assert_false(spool_has_bounce(&sp));
	operate(&sp, OP_RELEASE, id);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	assert_true(spool_has_bounce(&sp));
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_told),
		cmocka_unit_test(test_when),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_index_lost),
		cmocka_unit_test(test_ended_before),
		cmocka_unit_test(test_ended_otherwise),
		cmocka_unit_test(test_with_a_failure),
		cmocka_unit_test(test_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
