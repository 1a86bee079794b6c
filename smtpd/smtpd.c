/*
 * smtpd - take mail by SMTP and hand it to enqueue.
 *   runs as   tappal-smtpd; started as root it binds, then becomes that account; started as anybody else (sendmail -bs) it stays who it is
 *   in        fd 0: a client, or a listening socket; LISTEN_FDS; or the addresses of -l or of smtpdlisten; path_run/smtpd: clients from smtpd-start
 *   reads     the control files of /etc/tappal, the system's user data base     environment: RELAYCLIENT, DATABYTES, TCPREMOTE*, REMOTE_ADDR (one session only)
 *   writes    the client's connection, a pipe to `enqueue -s`, fifo/retry (ETRN), log lines; in draft/: files without names, and `said`
 *   asks      auth, guard, filterd, tlsd, callout and the resolver, by their sockets; milters, by theirs or by TCP
 *   never     queue files, keys, the table of passwords, DNS itself, liblmdb, libssl; it executes nothing but enqueue
 *   exit      0 | 100 usage or settings | 111 the system
 *   killed    clients lose their connection; what was answered 250 is on disk, what was not is not promised
 */
#include "content/content.h"
#include "smtpd/door/passed.h"
#include "smtpd/door/peer.h"
#include "smtpd/door/pool.h"
#include "smtpd/session/session.h"

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/logsocket.h"
#include "common/paths.h"
#include "common/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_FD 3   /* sd_listen_fds(3): descriptors are passed from here on */

/* How was I started? */
struct start {
	struct bytes addresses[POOL_LISTENERS];   /* of -l */
	size_t address_count;
	enum smtpd_role role;                     /* -r: of the session, the given sockets and the addresses of -l */
	bool pool;                                /* --pool: the addresses of smtpdlisten */
	struct listeners listeners;               /* given by whoever started us */
	int in, out;                              /* else: one session */
	bool stderr_is_client;                    /* inetd: log lines there would go to the client */
};

static volatile sig_atomic_t told_to_stop;

static void on_signal(int number)
{
	(void)number;
	told_to_stop = 1;
}

static void usage(void)
{
	die_usage("usage: smtpd [-r ROLE] [--pool | -l ADDRESS ...]   (without: the client or listening socket is descriptor 0)");
}

static void read_options(int argc, char **argv, struct start *start)
{
	static const struct option options[] = { { "pool", no_argument, NULL, 'p' }, { "listen", required_argument, NULL, 'l' }, { "role", required_argument, NULL, 'r' }, { 0 } };
	int c;
	while ((c = getopt_long(argc, argv, "+l:r:", options, NULL)) != -1) {
		if (c == 'p')
			start->pool = true;
		else if (c == 'r' && smtpd_role_parse(bytes_of(optarg), &start->role))
			continue;
		else if (c == 'l' && start->address_count < POOL_LISTENERS)
			start->addresses[start->address_count++] = bytes_of(optarg);
		else
			usage();
	}
	if (optind != argc || (start->pool && start->address_count > 0))
		usage();
}

/* ---- descriptors */

static void open_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			die_system("cannot open /dev/null");
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t len = sizeof on;
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

static bool is_same_socket(int a, int b)
{
	struct stat sa, sb;
	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && S_ISSOCK(sa.st_mode) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* sd_listen_fds(3): how many descriptors were passed to this very process. */
static size_t passed_descriptors(void)
{
	uint64_t pid, count;
	const char *for_pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	if (for_pid == NULL || fds == NULL || !bytes_to_u64(bytes_of(for_pid), INT_MAX, &pid) || pid != (uint64_t)getpid())
		return 0;
	return bytes_to_u64(bytes_of(fds), POOL_LISTENERS, &count) ? (size_t)count : 0;
}

static void give_listener(struct start *start, int fd)
{
	start->listeners.role[start->listeners.count] = start->role;
	start->listeners.fd[start->listeners.count++] = fd;
}

static void look_at_descriptors(struct start *start)
{
	size_t passed = start->pool || start->address_count > 0 ? 0 : passed_descriptors();
	start->in = 0;
	start->out = 1;
	for (size_t i = 0; i < passed; i++) {
		int fd = LISTEN_FD + (int)i;
		io_set_cloexec(fd, true);
		if (is_listening(fd))
			give_listener(start, fd);
		else
			start->in = start->out = fd;   /* Accept=yes */
	}
	if (passed == 0 && start->address_count == 0 && !start->pool && is_listening(0))
		give_listener(start, 0);
	close_range((unsigned)(LISTEN_FD + (int)passed), ~0u, 0);
	start->stderr_is_client = is_same_socket(start->in, 2);
	int null = start->stderr_is_client ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
	if (start->stderr_is_client && (null < 0 || dup2(null, 2) < 0))
		_exit(EXIT_SYSTEM);
	if (null > 2)
		close(null);
}

static bool is_pool(const struct start *start)
{
	return start->pool || start->address_count > 0 || start->listeners.count > 0;
}

/* ---- settings */

/* A client of a misconfigured server is told to come again, rather than cut off without a word. */
static void die_of_settings(const struct start *start, const struct str *faults)
{
	static const char reply[] = "421 4.3.5 Server is misconfigured, try again later\r\n";
	struct bytes rest = str_bytes(faults);
	if (!is_pool(start))
		(void)!write(start->out, reply, sizeof reply - 1);
	while (rest.len > 0)
		log_error("%s", log_text(bytes_cut(&rest, '\n')));
	exit(EXIT_YOUR_FAULT);
}

static void load_settings(const struct start *start, struct settings *settings)
{
	struct str faults = STR_INIT(65536);
	logsocket_use();
	log_init("smtpd", "", start->stderr_is_client ? LOG_TO_SYSLOG : LOG_TO_STDERR, LOG_LINE);
	if (!settings_load(settings, path_etc, USED_SMTPD, &faults))
		die_of_settings(start, &faults);
	str_free(&faults);
	bool syslog = start->stderr_is_client || bytes_equal(settings->logto, LIT("syslog"));
	log_init("smtpd", settings->me.at, syslog ? LOG_TO_SYSLOG : LOG_TO_STDERR,
		bytes_equal(settings->logformat, LIT("json")) ? LOG_JSON : LOG_LINE);
}

/* ---- the two ways */

static void drop_privilege(void)
{
	if (geteuid() == 0 || getuid() == 0)
		priv_become_alone("smtpd", ACCOUNT_SMTPD);
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		die_system("cannot become undumpable");
}

static void bind_addresses(struct start *start, const struct settings *settings)
{
	struct str error = STR_INIT(1000);
	for (size_t i = 0; i < start->address_count; i++)
		if (!pool_listen(&start->listeners, start->addresses[i], start->role, &error))
			die_usage("%s", str_c(&error));
	for (size_t i = 0; start->pool && i < settings->smtpdlisten.count; i++) {
		enum smtpd_role role = ROLE_RELAY;
		struct bytes address = settings->smtpdlisten.at[i];
		if (!smtpd_listen_parse(settings->smtpdlisten.at[i], &address, &role) || !pool_listen(&start->listeners, address, role, &error))
			die_usage("%s", str_c(&error));
	}
	bool passed = start->pool && passed_listen(&start->listeners, &error);
	if (start->listeners.count == 0)
		die_usage("smtpdlisten is empty: no address to listen on; %s", str_c(&error));
	if (start->pool && !passed)
		log_info("smtpd-start gets no help: %s", str_c(&error));
	str_free(&error);
}

static void catch_stop(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
}

/* DATABYTES overrides databytes, as in qmail-smtpd. */
static void read_environment(struct settings *settings)
{
	uint64_t octets;
	if (bytes_to_u64(bytes_of(getenv("DATABYTES")), UINT64_MAX, &octets))
		settings->databytes = octets;
}

/* Who runs smtpd himself (sendmail -bs) could as well give his mail to enqueue: filters, which are not for him to ask, are not asked. */
static void spare_who_came_himself(struct settings *settings)
{
	struct account ours;
	if (settings->filters.count > 0 && priv_account(ACCOUNT_SMTPD, &ours) == ACCOUNT_FOUND && ours.uid != geteuid())
		settings->filters.count = 0;
}

static int serve_session(const struct start *start, struct settings *settings)
{
	const char *relay = getenv("RELAYCLIENT");
	struct access access;
	struct enqueuer enqueuer;
	struct content content;
	struct peer_facts facts = peer_environment();
	struct guardask guard;
	struct peer peer;
	spare_who_came_himself(settings);
	bool judged = content_is_configured(settings);
	read_environment(settings);
	if (!access_init(&access, settings) || (judged && !content_init(&content, settings)))
		die_system("out of memory");
	enqueuer_init(&enqueuer);
	guardask_init(&guard);
	peer_of_session(start->in, &facts, &peer);
	if (peer.is_socket)
		catch_stop();   /* a wait for a pipe would not notice: there SIGTERM ends the process */
	session_serve(&(struct session_start){
		.access = &access, .enqueuer = &enqueuer, .guard = &guard, .content = judged ? &content : NULL, .stop = &told_to_stop, .peer = &peer,
		.may_relay = relay != NULL || access_client_may_relay(&access, &peer.addr), .role = start->role, .relay_suffix = bytes_of(relay),
		.in = start->in, .out = start->out,
	});
	enqueuer_free(&enqueuer);
	if (judged)
		content_free(&content);
	guardask_free(&guard);
	access_free(&access);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	static struct settings settings;   /* static: every session's stack begins below this frame */
	struct start start = { 0 };
	/* A session's read buffer is a mapping of its own: only its used pages cost, and they are given back with it. */
	mallopt(M_MMAP_THRESHOLD, SESSION_READ);
	mallopt(M_TOP_PAD, 0);
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		die_system("cannot become undumpable");
	open_standard_descriptors();
	priv_limit(0, 0);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	read_options(argc, argv, &start);
	look_at_descriptors(&start);
	load_settings(&start, &settings);
	if (chdir("/") < 0)
		die_system("cannot change to the root directory");
	if (start.pool || start.address_count > 0)
		bind_addresses(&start, &settings);
	drop_privilege();
	int code = is_pool(&start) ? pool_run(&settings, &start.listeners) : serve_session(&start, &settings);
	settings_free(&settings);
	return code;
}
