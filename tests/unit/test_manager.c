/*
 * test_manager - spawn's side of the fifos to queued, which this test plays, with a crew that does nothing: results are kept until a queued has
 * heard them.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#include "common/paths.h"
#include "queue/spawn/manager.h"

#define SOME_ID (UINT64_C(1763758134123) << 16)

struct stage_set {
	struct crew crew;
	struct manager manager;
	char dir[40];
	deadline_t now;
	int report, jobs;       /* queued's ends */
};

uint32_t crew_slots(const struct crew *crew) {
	(void)crew;
	return 4;
}

size_t crew_busy(const struct crew *crew) {
	(void)crew;
	return 0;
}

void crew_each(const struct crew *crew, void (*see)(void *context, const struct flight *f), void *context) {
	(void)crew, (void)see, (void)context;
}

void crew_take(struct crew *crew, struct flight *f) {
	(void)crew;
	flight_free(f);
}

void crew_drop_waiting(struct crew *crew) {
	(void)crew;
}

static void start(struct stage_set *s) {
	*s = (struct stage_set){ .crew = { .channel = CHANNEL_REMOTE }, .dir = "/tmp/tappal-test-XXXXXX", .now = 1000000 };
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(mkdtemp(s->dir));
	assert_int_equal(chdir(s->dir), 0);
	assert_int_equal(mkdir("fifo", 0755), 0);
	assert_int_equal(mkfifo(FIFO_JOBS_REMOTE, 0600), 0);
	assert_int_equal(mkfifo(FIFO_REPORT_REMOTE, 0600), 0);
	flights_init(&s->crew.waiting);
	flights_init(&s->crew.done);
	manager_init(&s->manager, &s->crew);
	s->report = open(FIFO_REPORT_REMOTE, O_RDONLY | O_NONBLOCK);
}

static void end(struct stage_set *s) {
	if (s->report >= 0)
		close(s->report);
	flights_free(&s->crew.done);
	flights_free(&s->manager.leaving);
	record_writer_free(&s->manager.out);
	record_reader_free(&s->manager.in);
	assert_int_equal(unlink(FIFO_JOBS_REMOTE) + unlink(FIFO_REPORT_REMOTE) + rmdir("fifo") + chdir("/") + rmdir(s->dir), 0);
}

/* A turn up to its poll, and the rest of it: in between the world goes on. */
static struct turn poll_turn(struct stage_set *s, struct pollfd fds[4]) {
	struct turn turn = { .fds = fds, .room = 4, .now = s->now };
	manager_prepare(&s->manager, &turn);
	assert_true(poll(fds, (nfds_t)turn.count, 0) >= 0);
	return turn;
}

static void whole_turn(struct stage_set *s) {
	struct pollfd fds[4];
	struct turn turn = poll_turn(s, fds);
	manager_run(&s->manager, &turn, s->now);
}

static void finish_a_job(struct stage_set *s) {
	static const struct outcome delivered = { .verdict = V_OK, .code = 250 };
	struct job job = { .job = 1, .id = SOME_ID, .rcpt_count = 1, .destination = LIT("r:b.example") };
	struct job_rcpt rcpt = { .job = 1, .address = LIT("r@b.example") };
	struct flight *f = flight_begin(&job);
	assert_true(f && flight_add_rcpt(f, &rcpt) && flight_is_whole(f));
	flight_answer_rest(f, &delivered);
	flight_finish(f, false, true);
	flights_push(&s->crew.done, f);
}

static size_t read_report(const struct stage_set *s) {
	static char buffer[1 << 16];
	ssize_t got = read(s->report, buffer, sizeof buffer);
	return got > 0 ? (size_t)got : 0;
}

static void begin_session(struct stage_set *s) {
	whole_turn(s);
	assert_true(read_report(s) > 0);
	s->jobs = open(FIFO_JOBS_REMOTE, O_WRONLY | O_NONBLOCK);
	assert_true(s->jobs >= 0);
}

/* A session in which a job has ended: its results lie in the fifo. */
static void begin_with_results(struct stage_set *s) {
	start(s);
	begin_session(s);
	finish_a_job(s);
	whole_turn(s);
}

static void test_read_results_are_let_go(void **state) {
	struct stage_set s;
	(void)state;
	begin_with_results(&s);
	whole_turn(&s);
	assert_int_equal(s.manager.leaving.count, 1);
	assert_false(manager_has_told_all(&s.manager));
	assert_true(read_report(&s) > 0);
	whole_turn(&s);
	assert_int_equal(s.manager.leaving.count, 0);
	assert_true(manager_has_told_all(&s.manager));
	close(s.jobs);
	end(&s);
}

/* queued is killed with results unread, and the next one empties the fifo, in which it has no session yet, before spawn looks. */
static void test_results_that_the_next_queued_passed_over(void **state) {
	struct stage_set s;
	struct pollfd fds[4];
	(void)state;
	start(&s);
	begin_session(&s);
	finish_a_job(&s);
	struct turn turn = poll_turn(&s, fds);
	assert_int_equal(s.manager.leaving.count, 1);
	close(s.jobs);
	assert_true(read_report(&s) > 0);
	manager_run(&s.manager, &turn, s.now);
	whole_turn(&s);
	assert_int_equal(s.crew.done.count, 1);
	assert_true(manager_has_told_all(&s.manager));   /* to be told again, but not to be waited for */
	end(&s);
}

/* A queued that stops has closed the jobs fifo and not read everything yet: it is given the time. */
static void test_a_parting_queued_reads_to_the_end(void **state) {
	struct stage_set s;
	(void)state;
	begin_with_results(&s);
	manager_stop(&s.manager);
	close(s.jobs);
	whole_turn(&s);
	whole_turn(&s);
	assert_true(s.manager.out.fd >= 0);
	assert_false(manager_has_told_all(&s.manager));
	assert_true(read_report(&s) > 0);
	whole_turn(&s);
	assert_int_equal(s.manager.out.fd, -1);
	assert_true(manager_has_told_all(&s.manager));
	end(&s);
}

/* One that was killed reads nothing any more, and one that does not go on reading is not waited for. */
static void test_unread_results_are_untold(void **state) {
	struct stage_set s;
	(void)state;
	for (int killed = 0; killed < 2; killed++) {
		begin_with_results(&s);
		close(s.jobs);
		if (killed) {
			close(s.report);
			s.report = -1;
		} else {
			whole_turn(&s);
			s.now += 1100;
		}
		whole_turn(&s);
		assert_int_equal(s.manager.out.fd, -1);
		assert_int_equal(s.crew.done.count, 1);
		assert_false(manager_has_told_all(&s.manager));
		end(&s);
	}
}

static void test_results_wait_for_the_next_queued(void **state) {
	struct stage_set s;
	(void)state;
	start(&s);
	begin_session(&s);
	close(s.jobs);
	whole_turn(&s);
	manager_stop(&s.manager);
	assert_true(manager_has_told_all(&s.manager));
	finish_a_job(&s);
	assert_false(manager_has_told_all(&s.manager));
	s.now += 1000;
	begin_session(&s);
	whole_turn(&s);
	assert_true(manager_has_told_all(&s.manager));
	close(s.jobs);
	end(&s);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_results_are_let_go),
		cmocka_unit_test(test_results_that_the_next_queued_passed_over),
		cmocka_unit_test(test_a_parting_queued_reads_to_the_end),
		cmocka_unit_test(test_unread_results_are_untold),
		cmocka_unit_test(test_results_wait_for_the_next_queued),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
