/* worker and flight: what a worker may say, and what becomes of one that says nothing. The clock is a number; the worker is this test. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#include "queue/spawn/worker.h"

#define IDLE_MS 2000u
#define JOB 77u
#define SOME_ID (UINT64_C(1763758134123) << 16)

struct stage_set { struct worker *w; int in, out; pid_t pid; deadline_t now; };

static struct mailbox box = { .user = "bob", .extension = "list" };

/* A process that only waits to be killed stands behind the pipes; the test itself holds their other ends. */
static void start_worker(struct stage_set *s, bool local)
{
	int down[2], up[2], begun[2];
	char c;

	assert_int_equal(pipe2(begun, O_CLOEXEC), 0);
	assert_int_equal(pipe2(down, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(up, O_CLOEXEC | O_NONBLOCK), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		setsid();
		close_range(0, ~0u, 0);   /* a test that fails leaves nobody who holds its output */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(60);
		for (;;)
			pause();
	}
	close(begun[1]);
	assert_int_equal(read(begun[0], &c, 1), 0);   /* it has let go of the pipes */
	close(begun[0]);
	struct launched launched = { .pid = s->pid, .to = down[1], .from = up[0] };
	s->w = worker_new(&launched, LIT("l:bob@x.example"), local ? &box : NULL);
	assert_non_null(s->w);
	s->in = down[0];
	s->out = up[1];
	s->now = 1000000;
}

static void end_worker(struct stage_set *s)
{
	worker_free(s->w);
	if (s->in >= 0)
		close(s->in);
	if (s->out >= 0)
		close(s->out);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

/* One turn at s->now, as crew does it. */
static void turn(struct stage_set *s)
{
	struct pollfd fds[4];
	struct turn t = { .fds = fds, .room = 4, .now = s->now };

	worker_prepare(s->w, &t);
	assert_true(poll(fds, (nfds_t)t.count, 0) >= 0);
	worker_run(s->w, &t, s->now, IDLE_MS);
}

static struct flight *make_flight(uint32_t rcpts)
{
	struct job job = { .job = JOB, .id = SOME_ID, .rcpt_count = rcpts, .destination = LIT("l:bob@x.example"), .sender = LIT("a@b.example") };
	struct flight *f = flight_begin(&job);

	assert_non_null(f);
	for (uint32_t i = 0; i < rcpts; i++) {
		struct job_rcpt rcpt = { .job = JOB, .index = 10 + 3 * i, .address = LIT("bob@x.example") };
		assert_false(flight_is_whole(f));
		assert_true(flight_add_rcpt(f, &rcpt));
	}
	assert_true(flight_is_whole(f));
	return f;
}

static void say_result(struct stage_set *s, uint64_t job, uint32_t index)
{
	struct result r = { .job = job, .index = index, .verdict = V_OK, .stage = STAGE_LOCAL, .text = LIT("done") };
	struct str out = STR_INIT(2000);

	assert_true(result_encode(&r, &out));
	assert_int_equal(write(s->out, out.at, out.len), out.len);
	str_free(&out);
}

static void say_done(struct stage_set *s, uint64_t job, bool reusable)
{
	struct job_done done = { .job = job, .reusable = reusable };
	struct str out = STR_INIT(200);

	assert_true(job_done_encode(&done, &out));
	assert_int_equal(write(s->out, out.at, out.len), out.len);
	str_free(&out);
}

static void is_result(struct bytes *rest, uint32_t index, enum verdict verdict)
{
	struct record record;
	struct result result;
	size_t used;

	assert_int_equal(record_take(*rest, &record, &used), RECORD_OK);
	assert_true(record.type == REC_result && result_decode(record.payload, &result));
	assert_int_equal(result.index, index);
	assert_int_equal(result.verdict, verdict);
	*rest = bytes_slice(*rest, used, rest->len);
}

static void is_done(struct bytes rest)
{
	struct record record;
	size_t used;

	assert_int_equal(record_take(rest, &record, &used), RECORD_OK);
	assert_int_equal(record.type, REC_job_done);
	assert_int_equal(used, rest.len);
}

static void other_mailboxes_of_its_account(void **state)
{
	struct mailbox ann = { .user = "ann", .uid = 7, .gid = 8, .home = "/mail/ann", .is_virtual = true }, other = ann;
	struct flight *f = make_flight(1);
	struct stage_set s;
	struct record record;
	struct job_home home;
	char octets[8192];
	size_t used = 0, next;
	(void)state;

	start_worker(&s, true);
	assert_false(worker_serves(s.w, &ann));
	s.w->box = ann;
	assert_true(worker_serves(s.w, &other));
	other.gid = 9;
	assert_false(worker_serves(s.w, &other));
	other = ann;
	other.uid = 9;
	assert_false(worker_serves(s.w, &other));
	other = ann;
	other.is_virtual = false;
	assert_false(worker_serves(s.w, &other));

	memcpy(ann.home, "/mail/bob", sizeof "/mail/bob");
	worker_move(s.w, LIT("l:bob@y.example"), &ann);
	assert_bytes(((struct bytes){ s.w->destination, s.w->destination_len }), "l:bob@y.example");
	worker_give(s.w, f, s.now);
	ssize_t got = read(s.in, octets, sizeof octets);
	assert_true(got > 0);
	for (unsigned type = 0; type != REC_job_home; type = record.type, used += next)
		assert_int_equal(record_take((struct bytes){ octets + used, (size_t)got - used }, &record, &next), RECORD_OK);
	assert_true(job_home_decode(record.payload, &home) && used == (size_t)got);
	assert_bytes(home.home, "/mail/bob");
	assert_int_equal(home.job, JOB);
	end_worker(&s);
	flight_free(f);
}

static void a_good_job(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(2);
	static char orders[8192];
	(void)state;

	start_worker(&s, true);
	worker_give(s.w, f, s.now);
	assert_int_equal(s.w->state, WORKER_BUSY);
	ssize_t got = read(s.in, orders, sizeof orders);
	assert_true(got > 0 && (size_t)got > f->orders.len);
	struct bytes box_record = { orders + f->orders.len, (size_t)got - f->orders.len };
	struct record record;
	struct job_mailbox mailbox;
	size_t used;
	assert_int_equal(record_take(box_record, &record, &used), RECORD_OK);
	assert_true(record.type == REC_job_mailbox && job_mailbox_decode(record.payload, &mailbox));
	assert_bytes(mailbox.user, "bob");
	assert_bytes(mailbox.extension, "list");

	say_result(&s, JOB, 13);
	turn(&s);
	assert_false(s.w->job_over);
	say_result(&s, JOB, 10);
	say_done(&s, JOB, true);
	turn(&s);
	assert_true(s.w->job_over && !s.w->ended);
	assert_int_equal(s.w->state, WORKER_IDLE);
	struct bytes rest = str_bytes(&f->results);
	is_result(&rest, 13, V_OK);
	is_result(&rest, 10, V_OK);
	is_done(rest);

	s.w->job_over = false;
	s.w->flight = NULL;
	s.now += IDLE_MS - 1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_IDLE);
	s.now += 1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_CLOSING);
	assert_int_equal(read(s.in, orders, 1), 0);
	flight_free(f);
	end_worker(&s);
}

static void not_reusable(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(1);
	(void)state;

	start_worker(&s, false);
	worker_give(s.w, f, s.now);
	say_done(&s, JOB, false);
	turn(&s);
	assert_true(s.w->job_over);
	assert_int_equal(s.w->state, WORKER_CLOSING);
	struct bytes rest = str_bytes(&f->results);
	is_result(&rest, 10, V_TEMP);
	is_done(rest);
	flight_free(f);
	end_worker(&s);
}

/* ---- liars ---- */

static void lie_other_job(struct stage_set *s) { say_result(s, JOB + 1, 10); }
static void lie_other_rcpt(struct stage_set *s) { say_result(s, JOB, 11); }
static void lie_twice(struct stage_set *s) { say_result(s, JOB, 10); say_result(s, JOB, 10); }
static void lie_done_of_other(struct stage_set *s) { say_done(s, JOB + 1, true); }
static void lie_after_done(struct stage_set *s) { say_done(s, JOB, true); say_done(s, JOB, true); }
static void lie_noise(struct stage_set *s) { assert_int_equal(write(s->out, "250 ok, I promise\r\n", 19), 19); }

static void say_record(struct stage_set *s, const struct str *record)
{
	assert_false(record->failed);
	assert_int_equal(write(s->out, record->at, record->len), record->len);
}

static void lie_wrong_type(struct stage_set *s)
{
	struct ready ready = { .slots = 9 };
	struct str out = STR_INIT(200);
	ready_encode(&ready, &out);
	say_record(s, &out);
	str_free(&out);
}

static void lie_with(struct stage_set *s, struct result r)
{
	struct str out = STR_INIT(2000);
	r.job = JOB;
	r.index = 10;
	result_encode(&r, &out);
	say_record(s, &out);
	str_free(&out);
}

static void lie_verdict(struct stage_set *s) { lie_with(s, (struct result){ .verdict = 3 }); }
static void lie_stage(struct stage_set *s) { lie_with(s, (struct result){ .stage = STAGE_COUNT }); }
static void lie_code(struct stage_set *s) { lie_with(s, (struct result){ .code = 1000 }); }
static void lie_class(struct stage_set *s) { lie_with(s, (struct result){ .e_class = 3 }); }
static void lie_detail(struct stage_set *s) { lie_with(s, (struct result){ .e_class = 5, .e_detail = 1000 }); }

static void liars(void **state)
{
	static void (*const lies[])(struct stage_set *) = {
		lie_other_job, lie_other_rcpt, lie_twice, lie_done_of_other, lie_after_done, lie_noise, lie_wrong_type, lie_verdict, lie_stage, lie_code, lie_class,
		lie_detail,
	};
	(void)state;

	for (size_t i = 0; i < COUNT(lies); i++) {
		struct stage_set s;
		struct flight *f = make_flight(1);
		start_worker(&s, i % 2 == 0);
		worker_give(s.w, f, s.now);
		lies[i](&s);
		turn(&s);
		assert_true(s.w->ended);
		assert_non_null(s.w->fault);
		flight_free(f);
		end_worker(&s);
	}
}

static void idle_worker_speaks(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(1);
	(void)state;

	start_worker(&s, true);
	worker_give(s.w, f, s.now);
	say_done(&s, JOB, true);
	turn(&s);
	s.w->job_over = false;
	s.w->flight = NULL;
	say_result(&s, JOB, 10);
	turn(&s);
	assert_true(s.w->ended);
	flight_free(f);
	end_worker(&s);
}

/* ---- silence ---- */

static void local_without_progress_is_killed(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(1);
	char text[200];
	int status;
	(void)state;

	start_worker(&s, true);
	worker_give(s.w, f, s.now);
	s.now += WORKER_LOCAL_LIMIT_MS - 1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_BUSY);
	say_result(&s, JOB, 10);   /* progress: the time begins anew */
	turn(&s);
	s.now += WORKER_LOCAL_LIMIT_MS - 1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_BUSY);
	s.now += 1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_CLOSING);
	assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	worker_reaped(s.w, status, s.now);
	assert_true(s.w->ended && !s.w->job_over);
	struct outcome o = worker_outcome(s.w, text, sizeof text);
	assert_int_equal(o.verdict, V_TEMP);
	assert_bytes(o.text, "the delivery process made no progress");
	flight_free(f);
	end_worker(&s);
}

/* spawn(remote) may not signal its workers: stdin closed, a minute more, then forgotten. */
static void remote_without_progress_is_abandoned(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(1);
	int status;
	char c;
	(void)state;

	start_worker(&s, false);
	worker_give(s.w, f, s.now);
	s.now += WORKER_REMOTE_LIMIT_MS;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_CLOSING);
	assert_int_equal(waitpid(s.pid, &status, WNOHANG), 0);
	while (read(s.in, &c, 1) > 0)
		;
	assert_int_equal(read(s.in, &c, 1), 0);
	s.now += WORKER_CLOSING_MS - 1;
	turn(&s);
	assert_false(s.w->ended);
	s.now += 1;
	turn(&s);
	assert_true(s.w->ended);
	flight_free(f);
	end_worker(&s);
}

/* It wrote its results, then died: what it wrote counts. */
static void results_before_death_count(void **state)
{
	struct stage_set s;
	struct flight *f = make_flight(2);
	char text[200];
	(void)state;

	start_worker(&s, true);
	worker_give(s.w, f, s.now);
	say_result(&s, JOB, 10);
	close(s.out);
	s.out = -1;
	turn(&s);
	assert_int_equal(s.w->state, WORKER_DEAD);
	worker_reaped(s.w, SIGSEGV, s.now);
	assert_true(s.w->ended);
	struct outcome o = worker_outcome(s.w, text, sizeof text);
	assert_bytes(o.text, "the delivery process was killed by signal 11");
	flight_answer_rest(f, &o);
	flight_finish(f, false, false);
	struct bytes rest = str_bytes(&f->results);
	is_result(&rest, 10, V_OK);
	is_result(&rest, 13, V_TEMP);
	is_done(rest);
	flight_free(f);
	end_worker(&s);
}

/* ---- flights ---- */

static void inflight_maps(void **state)
{
	struct flight *f = make_flight(4);   /* 10, 13, 16, 19 */
	struct str out = STR_INIT(8192);
	struct record record;
	struct inflight in;
	size_t used;
	(void)state;

	assert_true(flight_encode_inflight(f, &out));
	assert_int_equal(record_take(str_bytes(&out), &record, &used), RECORD_OK);
	assert_true(inflight_decode(record.payload, &in));
	assert_int_equal(in.first_index, 10);
	assert_int_equal(in.rcpt_count, 4);
	assert_int_equal(in.indexes.len, 2);
	assert_int_equal((unsigned char)in.indexes.at[0], 0x49);
	assert_int_equal((unsigned char)in.indexes.at[1], 0x02);
	assert_bytes(in.destination, "l:bob@x.example");
	str_free(&out);
	flight_free(f);
}

static void senseless_jobs(void **state)
{
	struct job job = { .job = 1, .id = 1, .rcpt_count = 2, .destination = LIT("x") };
	struct job_rcpt rcpt = { .job = 1, .index = 5 };
	struct job bad;
	(void)state;

	bad = job;
	bad.rcpt_count = 0;
	assert_null(flight_begin(&bad));
	bad.rcpt_count = FLIGHT_RCPT_MAX + 1;
	assert_null(flight_begin(&bad));
	bad = job;
	bad.id = 0;
	assert_null(flight_begin(&bad));
	bad = job;
	bad.destination.len = 0;
	assert_null(flight_begin(&bad));
	struct flight *f = flight_begin(&job);
	assert_true(flight_add_rcpt(f, &rcpt));
	assert_false(flight_add_rcpt(f, &rcpt));
	rcpt.job = 2;
	rcpt.index = 6;
	assert_false(flight_add_rcpt(f, &rcpt));
	rcpt.job = 1;
	rcpt.index = FLIGHT_INDEX_MAX;
	assert_false(flight_add_rcpt(f, &rcpt));
	rcpt.index = 7;
	assert_true(flight_add_rcpt(f, &rcpt));
	rcpt.index = 8;
	assert_false(flight_add_rcpt(f, &rcpt));
	flight_free(f);
}

/* No retry mends a large body whose file has gone: it is held. Of a segment there is only the moment in which it has gone. */
static void body_that_is_not_there(void **state)
{
	struct flight *f = make_flight(1);
	(void)state;

	f->job.segment = 1;
	assert_int_equal(flight_open_body(f), -1);
	assert_int_equal(errno, ENOENT);
	f->job.large = true;
	assert_int_equal(flight_open_body(f), -1);
	assert_int_equal(errno, EBADMSG);
	flight_damaged(f);
	assert_non_null(memmem(f->results.at, f->results.len, "which is not there", 18));
	flight_free(f);
}

static void lists(void **state)
{
	struct flights a, b;
	struct flight *f[3] = { make_flight(1), make_flight(1), make_flight(1) };
	(void)state;

	flights_init(&a);
	flights_init(&b);
	assert_null(flights_pop(&a));
	flights_push_front(&a, f[1]);
	flights_push(&a, f[2]);
	flights_push_front(&a, f[0]);
	flights_append(&b, &a);
	flights_append(&b, &a);
	assert_true(a.count == 0 && b.count == 3 && !a.first);
	flights_push(&a, flights_pop(&b));
	flights_append(&a, &b);
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(flights_pop(&a), f[i]);
	assert_true(a.count == 0);
	for (size_t i = 0; i < 3; i++)
		flight_free(f[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_job), cmocka_unit_test(other_mailboxes_of_its_account), cmocka_unit_test(not_reusable), cmocka_unit_test(liars), cmocka_unit_test(idle_worker_speaks),
		cmocka_unit_test(local_without_progress_is_killed), cmocka_unit_test(remote_without_progress_is_abandoned),
		cmocka_unit_test(results_before_death_count), cmocka_unit_test(inflight_maps), cmocka_unit_test(senseless_jobs), cmocka_unit_test(body_that_is_not_there), cmocka_unit_test(lists),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
