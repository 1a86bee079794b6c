/*
 * test_operate - operators' commands, expiry, and failures on their way to a bounce.
 */
#include "spool.h"

#include "queue/operation.h"

static struct str answer;

static enum store_result operate(struct spool *sp, enum operation op, msgid_t id, uint32_t index, const char *reason)
{
	struct operate o = { .op = (uint8_t)op, .id = id, .index = index, .who = LIT("alice"), .reason = bytes_of(reason) };
	str_free(&answer);
	str_init(&answer, 1000);
	return store_operate(sp->st, &o, sp->now, &answer);
}

static enum store_result operate_all(struct spool *sp, enum operation op, msgid_t id)
{
	return operate(sp, op, id, OPERATION_ALL_RCPTS, "because");
}

static enum finished_how how(struct spool *sp, msgid_t id)
{
	struct row_finished f;
	assert_int_equal(index_get_finished(sp->st->ix, id, &f), INDEX_OK);
	return (enum finished_how)f.how;
}

static void start(struct spool *sp)
{
	spool_begin(sp);
	spool_open(sp);
}

/* ---- commands ---- */

static void test_hold_and_release(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example bob@local.example");
	assert_int_equal(operate_all(&sp, OP_RELEASE, id), STORE_NONE);
	assert_int_equal(operate_all(&sp, OP_HOLD, id), STORE_OK);
	assert_string_equal(str_c(&answer), "2 recipients held");
	assert_int_equal(sp.st->apply.status.held, 1);
	assert_int_equal(operate_all(&sp, OP_HOLD, id), STORE_NONE);
	assert_int_equal(operate_all(&sp, OP_RETRY, id), STORE_NONE);
	sp.now += 30 * DAY_MS;       /* what is held does not expire */
	spool_tick(&sp);
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	spool_crash(&sp);
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	struct row_message m;
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	assert_bytes(m.held_by, "alice");
	assert_bytes(m.held_reason, "because");
	sp.settings.queuelifetime = 60 * 86400;
	store_settings(sp.st, &sp.settings);
	assert_int_equal(operate_all(&sp, OP_RELEASE, id), STORE_OK);
	assert_int_equal(sp.st->apply.status.held, 0);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_true(spool_deliver(&sp, CHANNEL_LOCAL, V_OK));
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* Its envelope asks for it: it never was due, not even after a crash. */
static void test_held_at_arrival(void **state)
{
	struct spool sp;
	struct row_message m;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example !milters/own r@b.example bob@local.example");
	for (int round = 0; round < 2; round++) {
		assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
		assert_false(spool_deliver(&sp, CHANNEL_LOCAL, V_OK));
		spool_check(&sp);
		spool_crash(&sp);
	}
	assert_int_equal(sp.st->apply.status.held, 1);
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	assert_bytes(m.held_by, "milters/own");
	assert_bytes(m.held_reason, "");
	assert_int_equal(operate_all(&sp, OP_RELEASE, id), STORE_OK);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_true(spool_deliver(&sp, CHANNEL_LOCAL, V_OK));
	assert_false(spool_exists(&sp, id));
	assert_int_equal(sp.st->apply.status.held, 0);
	spool_end(&sp);
}

/* Its lifetime went by while it was held: the release ends it. */
static void test_release_of_the_expired(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_int_equal(operate_all(&sp, OP_HOLD, id), STORE_OK);
	sp.now += 30 * DAY_MS;
	spool_tick(&sp);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_WAITING);
	assert_int_equal(operate_all(&sp, OP_RELEASE, id), STORE_OK);
	spool_tick(&sp);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_FAILED);
	spool_end(&sp);
}

/* Held while it flies: a temporary failure then waits for the release. */
static void test_hold_in_flight(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	assert_int_equal(operate_all(&sp, OP_HOLD, id), STORE_OK);
	assert_int_equal(spool_report(&sp, number, 0, V_TEMP), STORE_OK);
	spool_done(&sp, number, false);
	sp.now += DAY_MS;
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	spool_check(&sp);
	assert_int_equal(operate_all(&sp, OP_RELEASE, id), STORE_OK);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	spool_end(&sp);
}

static void test_delete(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_int_equal(operate(&sp, OP_DELETE, id, 1, "spam"), STORE_OK);
	assert_string_equal(str_c(&answer), "1 recipient deleted");
	assert_int_equal(spool_rcpt(&sp, id, 1).state, RCPT_DELETED);
	assert_int_equal(operate(&sp, OP_DELETE, id, 1, "spam"), STORE_NONE);
	assert_int_equal(operate_all(&sp, OP_DELETE, id), STORE_OK);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(how(&sp, id), FINISHED_DELETED);
	assert_int_equal(operate_all(&sp, OP_DELETE, id), STORE_NONE);
	assert_string_equal(str_c(&answer), "no such message");
	assert_false(spool_has_bounce(&sp));
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	spool_end(&sp);
}

/* What is being delivered this instant is left alone, and said so. */
static void test_delete_in_flight(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example p@d.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	uint32_t n = job.rcpts[0].index;
	assert_int_equal(operate(&sp, OP_DELETE, id, n, ""), STORE_NONE);
	assert_int_equal(operate_all(&sp, OP_DELETE, id), STORE_OK);
	assert_string_equal(str_c(&answer), "2 recipients deleted; 1 being delivered right now and left alone");
	struct spool copy;
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crashed_copy(&sp, &copy);
	spool_open(&copy);
	spool_assert_same(sp.st, copy.st);
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	assert_int_equal(spool_report(&sp, number, n, V_OK), STORE_OK);
	spool_done(&sp, number, false);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(how(&sp, id), FINISHED_DELETED);
	spool_end(&sp);
}

static void test_retry(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	assert_int_equal(spool_report(&sp, number, 0, V_TEMP), STORE_OK);
	spool_done(&sp, number, true);        /* the destination backs off, too */
	sp.now += 1000;
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(operate_all(&sp, OP_RETRY, id), STORE_OK);
	assert_string_equal(str_c(&answer), "1 recipient due now");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	spool_end(&sp);
}

static void test_operator_bounce(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_int_equal(operate(&sp, OP_BOUNCE, id, OPERATION_ALL_RCPTS, "not here"), STORE_OK);
	assert_string_equal(str_c(&answer), "2 recipients returned to the sender");
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.id, id);
	assert_int_equal(b.begin.rcpt_count, 2);
	assert_bytes(b.begin.sender, "s@a.example");
	assert_bytes(b.rcpts[1].text, "not here");
	assert_int_equal(b.rcpts[0].e_class, 5);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(how(&sp, id), FINISHED_BOUNCED);
	spool_end(&sp);
}

static void test_flush(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	sp.segment_size = 4 << 20;
	spool_reopen(&sp);
	for (unsigned i = 0; i < 5000; i++)
		spool_accept(&sp, "s@a.example r@b.example");
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP))
		;
	sp.now += 1000;
	assert_false(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(operate(&sp, OP_FLUSH_DESTINATION, 0, OPERATION_ALL_RCPTS, "r:nowhere.example"), STORE_NONE);
	assert_int_equal(operate(&sp, OP_FLUSH_DESTINATION, 0, OPERATION_ALL_RCPTS, ""), STORE_NONE);
	assert_int_equal(operate(&sp, OP_FLUSH_DESTINATION, 0, OPERATION_ALL_RCPTS, "r:b.example"), STORE_OK);
	spool_tick(&sp);
	spool_tick(&sp);
	spool_tick(&sp);
	assert_false(sp.st->flush.active);
	spool_check(&sp);
	unsigned n = 0;
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_OK))
		n++;
	assert_int_equal(n, 5000);
	spool_end(&sp);
}

static void test_unknown_operation(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_int_equal(operate_all(&sp, OP_EXPIRE, id), STORE_NONE);
	assert_int_equal(operate_all(&sp, (enum operation)200, id), STORE_NONE);
	assert_int_equal(operate(&sp, OP_HOLD, id, 0, ""), STORE_NONE);
	assert_int_equal(operate(&sp, OP_DELETE, id, 77, ""), STORE_NONE);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_WAITING);
	spool_end(&sp);
}

/* ---- expiry ---- */

/* A job is out when the lifetime ends: its recipient is ended by its result. */
static void test_expiry_in_flight(void **state)
{
	struct spool sp;
	struct store_job job;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	uint64_t number = job.job.job;
	uint32_t flying = job.rcpts[0].index;
	sp.now += 8 * DAY_MS;
	spool_tick(&sp);
	assert_int_equal(spool_rcpt(&sp, id, flying).state, RCPT_WAITING);
	assert_int_equal(spool_rcpt(&sp, id, 1 - flying).state, RCPT_FAILED);
	assert_int_equal(spool_report(&sp, number, flying, V_TEMP), STORE_OK);
	assert_int_equal(spool_rcpt(&sp, id, flying).state, RCPT_FAILED);
	assert_int_equal(spool_rcpt(&sp, id, flying).e_detail, 7);
	spool_done(&sp, number, false);
	assert_non_null(strstr(str_c(&sp.events), "expired"));
	assert_int_equal(spool_claim_bounce(&sp).begin.rcpt_count, 2);
	spool_end(&sp);
}

static void test_lifetimes_differ(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t mail = spool_accept_sync(&sp, "s@a.example r@b.example");
	msgid_t bounce = spool_accept_sync(&sp, "<> r@b.example");
	msgid_t mail2 = spool_accept_sync(&sp, "s@a.example r@b.example");
	sp.now += 2 * DAY_MS;
	spool_tick(&sp);
	assert_int_equal(spool_rcpt(&sp, mail, 0).state, RCPT_WAITING);
	assert_int_equal(spool_rcpt(&sp, bounce, 0).state, RCPT_FAILED);
	assert_int_equal(spool_rcpt(&sp, mail2, 0).state, RCPT_WAITING);
	assert_false(spool_has_bounce(&sp));          /* and it is dropped: nobody to tell */
	assert_false(spool_exists(&sp, bounce));
	assert_int_equal(how(&sp, bounce), FINISHED_DROPPED);
	sp.now += 6 * DAY_MS;
	spool_tick(&sp);
	assert_int_equal(spool_rcpt(&sp, mail2, 0).state, RCPT_FAILED);
	spool_end(&sp);
}

/* ---- bounces ---- */

static void test_one_bounce_exactly(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	struct store_bounce b = spool_claim_bounce(&sp);
	uint32_t batch = b.begin.batch;
	assert_int_equal(b.rcpts[0].code, 550);
	assert_false(spool_has_bounce(&sp));                      /* it is out */
	sp.now += 299000;
	assert_false(spool_has_bounce(&sp));
	sp.now += 1000;
	assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);      /* nothing came: again, the same batch */
	store_give_back_bounces(sp.st, sp.now);
	assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);
	msgid_t report = spool_accept_bounce(&sp, id, batch);
	assert_true(report > id);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_false(spool_exists(&sp, id));
	assert_true(spool_exists(&sp, report));
	assert_false(spool_has_bounce(&sp));
	/* The same bounce once more, from a bounce program that was slow: a message, but no effect on what is gone. */
	spool_accept_bounce(&sp, id, batch);
	spool_check(&sp);
	spool_end(&sp);
}

/* Failures wait a minute for others of their message, but not when nobody is left to be tried. */
static void test_bounce_waits_for_others(void **state)
{
	struct spool sp;
	struct store_job first, second;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &first), STORE_OK);
	uint64_t job1 = first.job.job;
	uint32_t n1 = first.rcpts[0].index;
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &second), STORE_OK);
	uint64_t job2 = second.job.job;
	uint32_t n2 = second.rcpts[0].index;
	assert_int_equal(spool_report(&sp, job1, n1, V_PERM), STORE_OK);
	spool_done(&sp, job1, false);
	assert_false(spool_has_bounce(&sp));
	sp.now += 10000;
	assert_int_equal(spool_report(&sp, job2, n2, V_PERM), STORE_OK);
	spool_done(&sp, job2, false);
	assert_int_equal(spool_claim_bounce(&sp).begin.rcpt_count, 2);
	(void)id;
	spool_end(&sp);
	/* The other is retried in minutes: the bounce goes at once. */
	start(&sp);
	id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 1);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));      /* the bounce */
	assert_true(spool_exists(&sp, id));
	sp.now += 500000;
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 1);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* A failure that comes while a bounce is being written is not in it: it belongs to the next batch. */
static void test_failure_behind_a_batch(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example q@c.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	sp.now += 60000;
	struct store_bounce b = spool_claim_bounce(&sp);
	uint32_t batch = b.begin.batch;
	assert_int_equal(b.begin.rcpt_count, 1);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	assert_false(spool_has_bounce(&sp));
	spool_accept_bounce(&sp, id, batch);
	assert_true(spool_exists(&sp, id));
	b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.batch, batch + 1);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

enum loss { LOST_BOUNCE, LOST_QUEUED, LOST_HURRY, LOSSES };

/* A batch is out, and who had it, or who knew that, has gone. */
static msgid_t lose_batch(struct spool *sp, enum loss loss, uint32_t *batch_r)
{
	msgid_t id = spool_accept_sync(sp, "s@a.example r@b.example q@c.example p@d.example");
	if (loss == LOST_HURRY) {
		assert_true(spool_deliver(sp, CHANNEL_REMOTE, V_TEMP));
		assert_true(spool_deliver(sp, CHANNEL_REMOTE, V_TEMP));
	}
	assert_true(spool_deliver(sp, CHANNEL_REMOTE, V_PERM));
	sp->now += loss == LOST_HURRY ? 1 : BOUNCE_WAIT_MS;
	*batch_r = spool_claim_bounce(sp).begin.batch;
	if (loss == LOST_BOUNCE) {
		store_give_back_bounces(sp->st, sp->now);
	} else {
		assert_int_equal(store_sync(sp->st), STORE_OK);
		spool_crash(sp);
	}
	return id;
}

/* Its report is on its way all the same, and does not speak of what fails now. */
static void test_failure_behind_a_lost_batch(void **state)
{
	struct spool sp;
	uint32_t batch;
	(void)state;
	for (enum loss loss = 0; loss < LOSSES; loss++) {
		start(&sp);
		msgid_t id = lose_batch(&sp, loss, &batch);
		sp.now += loss == LOST_HURRY ? 500000 : 0;
		assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
		assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
		assert_true(spool_accept_bounce(&sp, id, batch) != 0);
		assert_true(spool_exists(&sp, id));
		struct store_bounce b = spool_claim_bounce(&sp);
		assert_true(b.begin.batch == batch + 1 && b.begin.rcpt_count == 2);
		assert_true(spool_accept_bounce(&sp, id, b.begin.batch) != 0);
		assert_false(spool_exists(&sp, id));
		assert_int_equal(sp.st->bouncing_count, 0);
		spool_check(&sp);
		spool_end(&sp);
	}
}

static void test_batches_of_a_hundred(void **state)
{
	struct spool sp;
	struct str words = STR_INIT(1 << 20);
	(void)state;
	start(&sp);
	str_add_c(&words, "s@a.example");
	for (unsigned i = 0; i < 250; i++)
		str_addf(&words, " r%u@b.example", i);
	msgid_t id = spool_accept_sync(&sp, str_c(&words));
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_PERM))
		;
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	const uint32_t expected[] = { 100, 100, 50 };
	for (size_t i = 0; i < COUNT(expected); i++) {
		struct store_bounce b = spool_claim_bounce(&sp);
		assert_int_equal(b.begin.rcpt_count, expected[i]);
		assert_int_equal(b.begin.batch, i + 1);
		assert_int_equal(b.rcpts[0].index, 100 * i);
		assert_true(spool_exists(&sp, id));
		spool_accept_bounce(&sp, id, b.begin.batch);
	}
	assert_false(spool_exists(&sp, id));
	str_free(&words);
	spool_end(&sp);
}

/* A bounce program was thought dead, its batch went to the next one, and both reports come: the first counts. */
static void test_bounce_twice(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "sender@a.example r@b.example s@c.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_TEMP));
	sp.now += BOUNCE_WAIT_MS;
	struct store_bounce b = spool_claim_bounce(&sp);
	uint32_t batch = b.begin.batch;
	store_give_back_bounces(sp.st, sp.now);
	assert_int_equal(spool_claim_bounce(&sp).begin.batch, batch);
	assert_true(spool_accept_bounce(&sp, id, batch) != 0);
	assert_true(spool_exists(&sp, id));
	assert_true(spool_accept_bounce(&sp, id, batch) == 0);
	/* Nor when it comes in as left in intake/ after a start, or its message is gone. */
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_true(spool_accept_bounce(&sp, id, batch) == 0);
	assert_true(spool_accept_bounce(&sp, id + 1, 1) == 0);
	/* Nor when another failure is to be reported now, whose bounce has a Message-ID of its own. */
	sp.now += 500000;
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	assert_true(spool_accept_bounce(&sp, id, batch) == 0);
	b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.batch, batch + 1);
	assert_true(spool_accept_bounce(&sp, id, b.begin.batch) != 0);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

static void test_bounce_of_a_bounce(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept_sync(&sp, "<> r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	assert_false(spool_has_bounce(&sp));
	assert_false(spool_exists(&sp, id));
	assert_int_equal(how(&sp, id), FINISHED_DROPPED);
	assert_non_null(strstr(str_c(&sp.events), "dropped"));
	/* With doublebounceto it is reported there, unless it was that which failed. */
	sp.settings.doublebounceto = LIT("postmaster@b.example");
	store_settings(sp.st, &sp.settings);
	id = spool_accept_sync(&sp, "<> r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.sender.len, 0);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	id = spool_accept_sync(&sp, "<> Postmaster@b.example");
	while (spool_deliver(&sp, CHANNEL_REMOTE, V_PERM))
		;
	assert_false(spool_has_bounce(&sp));
	assert_int_equal(how(&sp, id), FINISHED_DROPPED);
	spool_end(&sp);
}

/* RFC 3461 4.1: NOTIFY=NEVER and NOTIFY=SUCCESS forbid the report of a failure. */
static void test_notify(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept(&sp, "s@a.example r@b.example?NEVER r@b.example?SUCCESS r@b.example?success,failure r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 2);
	assert_int_equal(b.rcpts[0].index, 2);
	assert_int_equal(b.rcpts[1].index, 3);
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	spool_end(&sp);
}

/* Take what is due of a channel, as a server of `stage` that says yes. */
static void deliver_all(struct spool *sp, enum channel channel, enum stage stage)
{
	struct store_job job;
	uint32_t n[10];
	while (store_claim(sp->st, channel, sp->now, &job) == STORE_OK) {
		uint32_t count = job.job.rcpt_count;
		uint64_t number = job.job.job;
		for (uint32_t i = 0; i < count; i++)
			n[i] = job.rcpts[i].index;
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(store_report(sp->st, &(struct result){ .job = number, .index = n[i], .stage = (uint8_t)stage, .code = 250 }, sp->now), STORE_OK);
		spool_done(sp, number, false);
	}
}

#define WISHES "joe@local.example?SUCCESS a@b.example?SUCCESS,DELAY c@b.example d@b.example?NEVER"

/* RFC 3461 5.2: a success that was to be reported holds the message until its report is accepted: across a crash, too. */
static void test_success_reports(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept(&sp, "s@a.example " WISHES);
	deliver_all(&sp, CHANNEL_REMOTE, STAGE_FINAL);
	deliver_all(&sp, CHANNEL_LOCAL, STAGE_LOCAL);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_REPORTING);
	assert_int_equal(spool_rcpt(&sp, id, 2).state, RCPT_DELIVERED);
	assert_int_equal(spool_rcpt(&sp, id, 3).state, RCPT_DELIVERED);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	struct store_bounce b = spool_claim_bounce(&sp);
	assert_int_equal(b.begin.rcpt_count, 2);
	assert_true(b.rcpts[0].index == 0 && b.rcpts[0].action == DSN_DELIVERED);
	assert_true(b.rcpts[1].index == 1 && b.rcpts[1].action == DSN_RELAYED);
	assert_true(spool_exists(&sp, id));
	spool_accept_bounce(&sp, id, b.begin.batch);
	assert_false(spool_exists(&sp, id));
	assert_int_equal(how(&sp, id), FINISHED_DELIVERED);
	spool_end(&sp);
}

/* The next server took it over; or there is nobody to tell. */
static void test_success_not_reported(void **state)
{
	struct spool sp;
	(void)state;
	start(&sp);
	msgid_t id = spool_accept(&sp, "s@a.example " WISHES);
	deliver_all(&sp, CHANNEL_REMOTE, STAGE_FINAL_DSN);
	assert_int_equal(spool_rcpt(&sp, id, 1).state, RCPT_DELIVERED);
	assert_int_equal(spool_rcpt(&sp, id, 0).state, RCPT_WAITING);
	msgid_t unsigned_one = spool_accept(&sp, "<> " WISHES);
	deliver_all(&sp, CHANNEL_REMOTE, STAGE_FINAL);
	deliver_all(&sp, CHANNEL_LOCAL, STAGE_LOCAL);
	assert_false(spool_exists(&sp, unsigned_one));
	assert_true(spool_exists(&sp, id));
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_and_release),
		cmocka_unit_test(test_held_at_arrival),
		cmocka_unit_test(test_release_of_the_expired),
		cmocka_unit_test(test_hold_in_flight),
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_delete_in_flight),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_operator_bounce),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_unknown_operation),
		cmocka_unit_test(test_expiry_in_flight),
		cmocka_unit_test(test_lifetimes_differ),
		cmocka_unit_test(test_one_bounce_exactly),
		cmocka_unit_test(test_bounce_waits_for_others),
		cmocka_unit_test(test_failure_behind_a_batch),
		cmocka_unit_test(test_failure_behind_a_lost_batch),
		cmocka_unit_test(test_batches_of_a_hundred),
		cmocka_unit_test(test_bounce_twice),
		cmocka_unit_test(test_bounce_of_a_bounce),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_success_reports),
		cmocka_unit_test(test_success_not_reported),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	str_free(&answer);
	return rc;
}
