/* test_waiting - until when queued sleeps: nothing that falls due while a turn works is slept over, and what nobody can take makes no haste. */
#include "spool.h"

#include "queue/queued/waiting.h"

#define TURN 1000u

static deadline_t until(struct spool *sp, wall_ms_t handed, wall_ms_t now, bool claimed)
{
	struct turn turn = { .now = TURN };
	wait_for_store(sp->st, handed, now, claimed, &turn);
	return turn.deadline;
}

static wall_ms_t put_off(struct spool *sp)
{
	spool_begin(sp);
	spool_open(sp);
	msgid_t id = spool_accept_sync(sp, "s@a.example r@b.example");
	assert_true(spool_deliver(sp, CHANNEL_REMOTE, V_TEMP));
	assert_int_equal(store_sync(sp->st), STORE_OK);
	sp->now += 2000;
	spool_tick(sp);      /* commits: that, too, is something to wake for */
	return spool_rcpt(sp, id, 0).next_try_ms;
}

static void test_a_retry(void **state)
{
	struct spool sp;
	(void)state;
	wall_ms_t due = put_off(&sp);
	assert_int_equal(until(&sp, due - 10, due - 10, false), TURN + 10);
	assert_int_equal(until(&sp, due - 10, due - 3, false), TURN + 3);
	assert_int_equal(until(&sp, due - 10, due, false), TURN);
	assert_int_equal(until(&sp, due - 1, due + 5000, false), TURN);      /* a turn that took long */
	assert_int_equal(until(&sp, due - 10, due - 30, false), TURN + 30);  /* the clock went back */
	spool_end(&sp);
}

static void test_what_nobody_takes(void **state)
{
	struct spool sp;
	(void)state;
	wall_ms_t due = put_off(&sp);
	deadline_t deadline = until(&sp, due, due + 50, false);
	assert_true(deadline == 0 || deadline >= TURN + SECOND_MS);
	spool_end(&sp);
}

static void test_a_bounce(void **state)
{
	struct spool sp;
	struct row_message m;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example later@c.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_PERM));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	sp.now += 2000;
	spool_tick(&sp);
	assert_int_equal(index_get_message(sp.st->ix, id, &m), INDEX_OK);
	assert_true(m.bounce_due_ms > sp.now);
	assert_int_equal(until(&sp, m.bounce_due_ms - 1, m.bounce_due_ms + 7, false), TURN);
	spool_end(&sp);
}

/* Expired in a tick, behind the handing out, and committed in the same: the report is due at the very time of that turn. */
static void test_what_a_tick_makes_due(void **state)
{
	struct spool sp;
	struct store_bounce bounce;
	(void)state;
	put_off(&sp);
	sp.now += sp.settings.queuelifetime * SECOND_MS;
	spool_tick(&sp);
	assert_false(store_dirty(sp.st));
	assert_int_equal(sp.st->apply.changes, 0);
	assert_int_equal(until(&sp, sp.now, sp.now, false), TURN);
	assert_int_equal(store_claim_bounce(sp.st, sp.now, &bounce), STORE_OK);
	spool_tick(&sp);
	assert_true(until(&sp, sp.now, sp.now, true) > TURN);      /* nothing more: it sleeps */
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_retry),
		cmocka_unit_test(test_what_nobody_takes),
		cmocka_unit_test(test_a_bounce),
		cmocka_unit_test(test_what_a_tick_makes_due),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
