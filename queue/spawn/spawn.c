/*
 * spawn local | spawn remote - keep workers that deliver, and hand them what queued says.
 *   runs as   root (local: it becomes each recipient) or tappal-spawn, whose primary group is tappal-log (remote); cwd the spool
 *   in        fifo/jobs-local or jobs-remote; the log and large/, read-only; workers' stdout; settings; the users' database (local)
 *   writes    fifo/report-*; workers' stdin: their job and exactly its body, looked at for its checksum alone; log lines to stderr
 *   starts    libexec/local as the recipient (never uid 0), libexec/remote (set-uid tappal-remote)
 *   never     the network, the content of mail, users' files (but: makes a missing home of a virtual mailbox, queue/spawn/home.c)
 *   signals   TERM: takes no more jobs, waits up to a minute for those in hand and for a queued to hear of them, exits 0;
 *             twice: exits at once. HUP: settings anew, if they have no faults, and then workers that began with others end,
 *             busy ones after their job
 *   exit      0 | 100 usage or settings | 111 the system
 *   killed    queued gives its jobs back; workers see the end of their stdin. A local delivery that still ended well is found by its
 *             name and not repeated; a remote one may be repeated
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "crew.h"
#include "manager.h"

#define PLACES (4 * (2 * CREW_SLOTS_MAX + 16) + 8)   /* descriptors to poll at most */
#define FILES_WANTED (3 * CREW_SLOTS_MAX + 64)   /* three for each worker */
#define STOP_MS MINUTE_MS

struct spawn {
	struct settings settings;
	struct crew crew;
	struct manager manager;
	int signals;               /* read end of the signal pipe */
	int place_signals;
	deadline_t stop_at;        /* 0: not stopping */
	struct pollfd fds[PLACES];
};

static void open_standard_descriptors(void) {
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		die_system("cannot open /dev/null");
	close(fd);
}

static void become(enum channel channel) {
	if (channel == CHANNEL_REMOTE)
		priv_become("spawn remote", ACCOUNT_SPAWN);
	else if (geteuid() != 0)
		die_usage("spawn local must be started as root: it becomes each recipient in turn");
}

static void start(struct spawn *s, enum channel channel) {
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD, 0 };
	open_standard_descriptors();
	settings_or_die(&s->settings, channel == CHANNEL_LOCAL ? "spawn-local" : "spawn-remote", USED_SPAWN);
	launch_init();
	io_want_files(FILES_WANTED);
	become(channel);
	if (chdir(path_spool) < 0)
		die_system("cannot enter %s", path_spool);
	signal(SIGPIPE, SIG_IGN);
	s->signals = io_signal_pipe(signals);
	if (s->signals < 0)
		die_system("cannot make the signal pipe");
	crew_init(&s->crew, channel, &s->settings);
	manager_init(&s->manager, &s->crew);
}

/* With faults in its settings no new worker would start, also where they are in what only `remote` reads: those stay that began with the old ones. */
static void reload(struct spawn *s, deadline_t now) {
	unsigned used_by = s->crew.channel == CHANNEL_REMOTE ? USED_SPAWN | USED_REMOTE : USED_SPAWN;
	if (settings_reload(&s->settings, used_by))
		crew_retire(&s->crew, now);
}

static void take_signal(struct spawn *s, int number, deadline_t now) {
	switch (number) {
	case SIGCHLD:
		crew_reap(&s->crew, now);
		return;
	case SIGHUP:
		reload(s, now);
		return;
	default:
		if (s->stop_at)
			exit(EXIT_OK);
		s->stop_at = deadline_in(now, STOP_MS);
		manager_stop(&s->manager);
		crew_retire(&s->crew, now);
		return;
	}
}

static void take_signals(struct spawn *s, deadline_t now) {
	unsigned char numbers[64];
	ssize_t got;
	while ((got = read(s->signals, numbers, sizeof numbers)) > 0)
		for (ssize_t i = 0; i < got; i++)
			take_signal(s, numbers[i], now);
}

/* Asked to stop, and nothing is in hand or untold any more. */
static bool is_over(const struct spawn *s, deadline_t now) {
	if (!s->stop_at)
		return false;
	return deadline_passed(s->stop_at, now) || (crew_busy(&s->crew) == 0 && manager_has_told_all(&s->manager));
}

static void run_turn(struct spawn *s) {
	struct turn turn = { .fds = s->fds, .room = PLACES, .now = clock_monotonic_ms(), .deadline = s->stop_at };
	s->place_signals = turn_watch(&turn, s->signals, POLLIN);
	crew_prepare(&s->crew, &turn);
	manager_prepare(&s->manager, &turn);
	if (poll(s->fds, (nfds_t)turn.count, deadline_poll_ms(turn.deadline, turn.now)) < 0) {
		if (errno != EINTR)
			die_system("cannot poll");
		for (size_t i = 0; i < turn.count; i++)
			s->fds[i].revents = 0;
	}
	deadline_t now = clock_monotonic_ms();
	crew_run(&s->crew, &turn, now);
	if (turn_events(&turn, s->place_signals))
		take_signals(s, now);
	manager_run(&s->manager, &turn, now);
}

static bool channel_of(const char *word, enum channel *channel_r) {
	*channel_r = strcmp(word, "local") == 0 ? CHANNEL_LOCAL : CHANNEL_REMOTE;
	return *channel_r == CHANNEL_LOCAL || strcmp(word, "remote") == 0;
}

int main(int argc, char **argv) {
	static struct spawn spawn;
	enum channel channel;
	log_program("spawn");
	if (argc != 2 || !channel_of(argv[1], &channel))
		die_usage("usage: spawn local | spawn remote");
	start(&spawn, channel);
	while (!is_over(&spawn, clock_monotonic_ms()))
		run_turn(&spawn);
	return EXIT_OK;
}
