/*
 * queued - owns the queue: takes messages in, hands deliveries out, notes what became of them.
 *   runs as   tappal-queue, cwd the spool; one at a time (flock on lock)
 *   reads     settings; intake/; fifo/intake, fifo/control, fifo/retry, fifo/report-local, fifo/report-remote
 *   writes    log/, large/, index/; fifo/jobs-local, fifo/jobs-remote, fifo/bounce; intake/NAME.ack; reply/NAME; log lines
 *   never     the network, exec, users' files, waiting for anybody but the disk
 *   signals   TERM: takes what spawns have to tell, syncs, commits, exits 0. HUP: settings anew
 *   exit      0 | 100 an argument, settings | 111 the system: another queued runs, or the disk failed (the next queued replays)
 *   killed    nothing that was acknowledged is lost (docs/QUEUE.md)
 *
 * One turn: take everything that is waiting, one store_sync, then answers, then new work. Nothing is answered before the sync
 * that covers it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "adoption.h"
#include "bouncer.h"
#include "control.h"
#include "intake.h"
#include "retrier.h"
#include "spawner.h"
#include "waiting.h"

#define PLACES 16u
#define FILES_WANTED 4096u       /* two for each sender, and the store's */
#define PARTING_MS (2 * SECOND_MS)   /* at the end, for a spawn that does not let go */

struct queued {
	struct settings settings;
	struct store *store;
	struct events events;
	struct taking taking;
	struct intake intake;
	struct adoption adoption;
	struct control control;
	struct retrier retrier;
	struct spawner spawner[CHANNEL_COUNT];
	struct bouncer bouncer;
	int lock, dir /* intake/ */, signals, place_signals;
	deadline_t adopt_at, part_by /* 0: not stopping */;
	bool stop;
	size_t claimed;              /* jobs and bounces handed out in this turn */
	struct pollfd fds[PLACES];
};

/* ---- the beginning ---- */

/* What an installation gone wrong looks like is told with its remedy, before it becomes an error of the disk. */
static void check_spool(void) {
	static const struct { const char *name; int mode; } places[] = {
		{ SPOOL_INTAKE, R_OK | W_OK | X_OK }, { SPOOL_LARGE, R_OK | W_OK | X_OK }, { SPOOL_LOG, R_OK | W_OK | X_OK },
		{ SPOOL_INDEX, R_OK | W_OK | X_OK }, { SPOOL_REPLY, X_OK }, { FIFO_INTAKE, R_OK | W_OK }, { FIFO_CONTROL, R_OK | W_OK }, { FIFO_RETRY, R_OK | W_OK },
		{ FIFO_JOBS_LOCAL, W_OK }, { FIFO_JOBS_REMOTE, W_OK }, { FIFO_REPORT_LOCAL, R_OK }, { FIFO_REPORT_REMOTE, R_OK }, { FIFO_BOUNCE, W_OK },
	};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (access(places[i].name, places[i].mode) == 0)
			continue;
		const char *why = strerror(errno);
		errno = 0;
		die_system("%s/%s: %s; as root, %s/spool-tree makes what is missing in the spool and repairs owners and modes", path_spool, places[i].name, why,
			path_libexec);
	}
}

/* The lock's file holds the owner's pid, for people. */
static void take_lock(struct queued *q) {
	char pid[32] = "";
	q->lock = open(SPOOL_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (q->lock < 0)
		die_system("cannot open %s/%s", path_spool, SPOOL_LOCK);
	if (flock(q->lock, LOCK_EX | LOCK_NB) < 0) {
		ssize_t got = io_pread_full(q->lock, pid, sizeof(pid) - 1, 0);
		pid[got > 0 ? (size_t)got : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		errno = 0;
		die_system("the queue in %s belongs to another queued, pid %s", path_spool, pid[0] ? pid : "unknown");
	}
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	/* Over what stands there: on a full disk a block that was given back could not be had again. */
	if (io_pwrite_full(q->lock, pid, (size_t)n, 0) < 0 || ftruncate(q->lock, n) < 0)
		log_warn("cannot write the pid into %s/%s: %s", path_spool, SPOOL_LOCK, strerror(errno));
}

static void open_store(struct queued *q) {
	struct str error = STR_INIT(2000);
	q->events = (struct events){ .settings = &q->settings, .now = clock_wall_ms() };
	q->store = store_open(&q->settings, q->events.now, events_write, &q->events, &error);
	if (!q->store) {
		errno = 0;
		bool index = bytes_starts_nocase(str_bytes(&error), LIT("index"));
		die_system("cannot open the queue in %s: %s%s", path_spool, str_c(&error), index ? "; `tappal queue check` says whether it is damaged, and with "
			"--repair sets it aside, to be made anew from the log" : "");
	}
	str_free(&error);
}

/* Before the fifo is open and before the index is committed: only now are all tokens known of messages that the last queued took
 * without an answer. */
static void settle_intake(struct queued *q) {
	q->dir = open(SPOOL_INTAKE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (q->dir < 0)
		die_system("cannot open %s/%s", path_spool, SPOOL_INTAKE);
	taking_init(&q->taking, q->store);
	adoption_init(&q->adoption, &q->taking, q->dir);
	if (adoption_settle(&q->adoption, q->events.now) == ADOPTION_LOST) {
		errno = 0;
		die_system("cannot settle what was left in %s: %s", SPOOL_INTAKE, q->taking.fatal ? store_error(q->store) : "see above");
	}
}

static void open_channels(struct queued *q) {
	bool open = intake_open(&q->intake, &q->taking, q->dir) && control_open(&q->control, q->store) && retrier_open(&q->retrier, q->store, &q->settings);
	for (int channel = 0; open && channel < CHANNEL_COUNT; channel++)
		open = spawner_open(&q->spawner[channel], (enum channel)channel, q->store, &q->events);
	if (!open)
		die_system("cannot open the fifos in %s/fifo", path_spool);
	bouncer_init(&q->bouncer, q->store);
}

static void start(struct queued *q) {
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, 0 };
	priv_become("queued", ACCOUNT_QUEUE);
	settings_or_die(&q->settings, "queued", USED_QUEUED);
	settings_warn_names();
	umask(027);
	if (chdir(path_spool) < 0)
		die_system("cannot enter %s", path_spool);
	check_spool();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	io_want_files(FILES_WANTED);
	take_lock(q);
	q->signals = io_signal_pipe(signals);
	if (q->signals < 0)
		die_system("cannot make the signal pipe");
	open_store(q);
	settle_intake(q);
	open_channels(q);
	q->adopt_at = clock_monotonic_ms();
	log_info("queue manager started");
}

/* ---- the turn ---- */

static void take_signals(struct queued *q) {
	unsigned char numbers[64];
	ssize_t got;
	while ((got = read(q->signals, numbers, sizeof(numbers))) > 0)
		for (ssize_t i = 0; i < got; i++) {
			if (numbers[i] != SIGHUP)
				q->stop = true;
			else if (settings_reload(&q->settings, USED_QUEUED)) {
				settings_warn_names();
				store_settings(q->store, &q->settings);
			}
		}
}

static bool take_all(struct queued *q, const struct turn *turn, wall_ms_t now) {
	bool good = true;
	intake_run(&q->intake, turn, now);
	for (int channel = 0; channel < CHANNEL_COUNT; channel++)
		good &= spawner_run(&q->spawner[channel], turn, now);
	good &= control_run(&q->control, turn, now);
	good &= retrier_run(&q->retrier, turn, now);
	bouncer_run(&q->bouncer, turn, now);
	intake_gather(&q->intake, turn, now);
	return good && !q->taking.fatal;
}

static bool sync_and_answer(struct queued *q, bool good) {
	if (good && store_dirty(q->store))
		good = store_sync(q->store) == STORE_OK;
	log_release();   /* whoever gets an answer finds it in the log */
	intake_answer_all(&q->intake, !good);
	control_answer_all(&q->control, !good);
	return good;
}

static bool adopt(struct queued *q, const struct turn *turn, wall_ms_t now) {
	bool begins = !adoption_under_way(&q->adoption);
	if (begins && !q->intake.adopt && !deadline_passed(q->adopt_at, turn->now))
		return true;
	if (begins) {
		q->intake.adopt = false;
		senders_sweep(&q->intake.senders);
	}
	enum adoption_result result = adoption_scan(&q->adoption, now);
	bool again = result == ADOPTION_MORE || q->intake.adopt;
	q->adopt_at = deadline_in(turn->now, again ? 0 : ADOPTION_EVERY_MS);
	return result != ADOPTION_LOST;
}

static bool hand_out(struct queued *q, const struct turn *turn, wall_ms_t now) {
	bool good = true;
	q->claimed = 0;
	for (int channel = 0; good && channel < CHANNEL_COUNT; channel++)
		good = spawner_claim(&q->spawner[channel], now, &q->claimed);
	return good && bouncer_claim(&q->bouncer, turn, now, &q->claimed);
}

static void prepare(struct queued *q, struct turn *turn) {
	q->place_signals = turn_watch(turn, q->signals, POLLIN);
	intake_prepare(&q->intake, turn);
	control_prepare(&q->control, turn);
	retrier_prepare(&q->retrier, turn);
	for (int channel = 0; channel < CHANNEL_COUNT; channel++)
		spawner_prepare(&q->spawner[channel], turn);
	bouncer_prepare(&q->bouncer, turn);
	wait_for_store(q->store, q->events.now, clock_wall_ms(), q->claimed > 0, turn);
	turn_until(turn, q->adopt_at);
	turn_until(turn, q->part_by);
}

/* False: the queue is lost. */
static bool run_turn(struct queued *q) {
	struct turn turn = { .fds = q->fds, .room = PLACES, .now = clock_monotonic_ms() };
	prepare(q, &turn);
	int ready = poll(q->fds, (nfds_t)turn.count, deadline_poll_ms(turn.deadline, turn.now));
	if (ready < 0) {
		if (errno != EINTR)
			die_system("cannot poll");
		for (size_t i = 0; i < turn.count; i++)
			q->fds[i].revents = 0;
	}
	wall_ms_t now = q->events.now = clock_wall_ms();
	turn.now = clock_monotonic_ms();
	log_hold();
	if (turn_events(&turn, q->place_signals))
		take_signals(q);
	bool good = sync_and_answer(q, take_all(q, &turn, now));
	log_hold();
	good = good && adopt(q, &turn, now) && (q->stop || hand_out(q, &turn, now));
	good = good && store_tick(q->store, now, ready == 0) == STORE_OK;
	log_release();
	return good;
}

static bool have_parted(const struct queued *q) {
	bool all = true;
	for (int channel = 0; channel < CHANNEL_COUNT; channel++)
		all &= spawner_has_parted(&q->spawner[channel]);
	return all;
}

/* Asked to stop: turns go on until both spawns have told what they had to tell. */
static bool part(struct queued *q) {
	bool good = true;
	deadline_t now = clock_monotonic_ms();
	q->part_by = deadline_in(now, PARTING_MS);
	q->claimed = 0;
	for (int channel = 0; channel < CHANNEL_COUNT; channel++)
		spawner_part(&q->spawner[channel], now);
	while (good && !have_parted(q) && !deadline_passed(q->part_by, clock_monotonic_ms()))
		good = run_turn(q);
	return good;
}

static int finish(struct queued *q, bool good) {
	if (!good)
		log_error("the queue failed: %s; the next queued replays its log", store_error(q->store));
	intake_close(&q->intake);
	control_close(&q->control);
	retrier_close(&q->retrier);
	for (int channel = 0; channel < CHANNEL_COUNT; channel++)
		spawner_close(&q->spawner[channel]);
	bouncer_close(&q->bouncer);
	adoption_free(&q->adoption);
	if (good)
		store_close(q->store);   /* else nothing may be committed any more */
	taking_free(&q->taking);
	settings_free(&q->settings);
	if (good)
		log_info("queue manager stopped");
	return good ? EXIT_OK : EXIT_SYSTEM;
}

int main(int argc, char **argv) {
	static struct queued queued;
	(void)argv;
	die_on_arguments("queued", argc);
	start(&queued);
	bool good = true;
	while (good && !queued.stop)
		good = run_turn(&queued);
	return finish(&queued, good && part(&queued));
}
