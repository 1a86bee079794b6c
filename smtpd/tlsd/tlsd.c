/*
 * tlsd - speak TLS with smtpd's clients, so that smtpd needs no TLS library and no key is where strangers are.
 *   runs as   four kinds of process: the parent, root: it forks the others and reads nothing but settings; the signer, tappal-key: it has
 *             the keys and speaks with no client; the door, tappal-tls: it keeps sessions waiting; sessions, tappal-tls, each with one client after the other
 *   in        path_run/tlsd: from smtpd (tappal-smtpd or root by SO_PEERCRED) a client's socket and one end of the plaintext
 *   reads     the control files marked for tlsd, the files in tlscertificates (opened as root), tlsclientca
 *   writes    TLS to the client, plaintext to smtpd, log lines
 *   never     the queue, exec, the meaning of mail; a key in a session; a descriptor that a session opens (calls.h)
 *   signals   TERM ends it, clients that it has go on; HUP reads settings, certificates and keys again: new clients get them; bad ones change nothing
 *   options   --check: read everything, say what is in it or what is wrong, end
 *   exit      0 TERM | 100 settings, certificates, keys, another tlsd runs | 111 the system
 *   killed    TLS sessions go on; STARTTLS gets 454 until it is back
 */
#include "door.h"
#include "keys.h"

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/logsocket.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/service.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES 100u                /* and one for each of tlssessions */
#define READY_MS 60000u           /* for keys to be read and tried */
#define PATIENCE_MS 2000u         /* the processes of a tlsd that was killed hold its socket for a moment */
#define FAULTS_MAX 65536u

/* The processes that one reading of settings and keys made. door 0: there is no certificate. */
struct generation { pid_t signer, door; int status; };

struct tlsd {
	struct settings settings;
	struct generation now;
	struct service_socket socket;
	int signals;
	bool stop;
};

/* ---- the processes */

static void log_faults(const struct str *faults)
{
	for (struct bytes rest = str_bytes(faults); rest.len > 0;) {
		struct bytes line = bytes_cut(&rest, '\n');
		log_error("%.*s", (int)line.len, line.at);
	}
}

/* Door and signer have a descriptor for each session. */
static void want_files(const struct tlsd *t)
{
	io_want_files(FILES + (size_t)t->settings.tlssessions);
}

static _Noreturn void signer_live(const struct tlsd *t, const struct grants *grants, int door)
{
	static struct keys keys;
	struct str faults = STR_INIT(FAULTS_MAX);
	close(t->socket.fd);
	want_files(t);
	bool ok = keys_read(&t->settings, &keys, &faults);
	priv_become_alone("tlsd", ACCOUNT_KEY);
	ok = keys_parse(&t->settings, &keys, &faults) && ok;
	log_faults(&faults);
	str_free(&faults);
	int code = ok ? keys_serve(&keys, door, grants) : EXIT_YOUR_FAULT;
	keys_free(&keys);
	_exit(code);
}

static _Noreturn void become_door(const struct tlsd *t, const struct grants *grants, int signer, int parent)
{
	struct door_start start = { .settings = &t->settings, .grants = grants, .listener = t->socket.fd, .signer = signer, .parent = parent };
	want_files(t);
	priv_become_alone("tlsd", ACCOUNT_TLS);
	_exit(door_live(&start));
}

/* Signals stay blocked from before the fork until the child has its own ideas of them. */
static void child_begin(const struct tlsd *t)
{
	sigset_t none;
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	close(t->signals);
	if (t->now.door != 0)
		close(t->now.status);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static pid_t fork_quietly(const struct tlsd *t)
{
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0) {
		child_begin(t);
		return 0;
	}
	int saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = saved;
	return pid;
}

static bool generation_is_ready(const struct generation *g)
{
	char octet;
	return g->signer > 0 && g->door > 0 && io_wait_readable(g->status, deadline_in(clock_monotonic_ms(), READY_MS)) > 0
		&& recv(g->status, &octet, 1, MSG_DONTWAIT) == 1;
}

static void generation_end(struct generation *g, int signal_number)
{
	if (g->door > 0)
		kill(g->door, signal_number);
	if (g->signer > 0 && signal_number == SIGKILL)
		kill(g->signer, signal_number);
	close(g->status);
	*g = (struct generation){ 0 };
}

/* A process that ends by itself says why; of one that was killed nobody else would know. */
static void log_crash(struct generation *g)
{
	pid_t *const both[] = { &g->signer, &g->door };
	for (size_t i = 0; i < 2; i++) {
		int status = 0;
		if (*both[i] <= 0 || waitpid(*both[i], &status, WNOHANG) <= 0)
			continue;
		*both[i] = 0;
		if (WIFSIGNALED(status))
			log_error("the %s was killed by signal %d", i == 0 ? "signer" : "door", WTERMSIG(status));
	}
}

/* Read keys and certificates and make them ready. False: nothing has changed, the log says why. */
static bool generation_start(const struct tlsd *t, struct generation *g_r)
{
	int wire[2] = { -1, -1 }, status[2];
	struct generation g = { 0 };
	struct grants grants = { 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire) < 0 || !grants_make(&grants, (size_t)t->settings.tlssessions)
		|| socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, status) < 0) {
		log_error("cannot make what signer and door talk over: %s", strerror(errno));
		grants_drop(&grants);
		io_close(&wire[0]);
		io_close(&wire[1]);
		return false;
	}
	g.status = status[0];
	g.signer = fork_quietly(t);
	if (g.signer == 0) {
		close(status[0]);
		close(status[1]);
		close(wire[1]);
		signer_live(t, &grants, wire[0]);
	}
	g.door = g.signer > 0 ? fork_quietly(t) : -1;
	if (g.door == 0) {
		close(status[0]);
		close(wire[0]);
		become_door(t, &grants, wire[1], status[1]);
	}
	grants_drop(&grants);
	close(wire[0]);
	close(wire[1]);
	close(status[1]);
	if (generation_is_ready(&g)) {
		*g_r = g;
		return true;
	}
	log_crash(&g);
	generation_end(&g, SIGKILL);
	return false;
}

/* ---- the loop */

static bool wants_tls(const struct tlsd *t)
{
	if (t->settings.tlscertificates.count == 0)
		log_info("there is no certificate (tlscertificates): no TLS until there is one and SIGHUP");
	return t->settings.tlscertificates.count > 0;
}

static void reload(struct tlsd *t)
{
	struct generation before = t->now, fresh = { 0 };
	if (!settings_reload(&t->settings, USED_TLSD))
		return;
	bool wanted = wants_tls(t);
	if (wanted && !generation_start(t, &fresh)) {
		log_error("the new certificates are not used%s", before.door > 0 ? "; those from before stay in use" : "");
		return;
	}
	t->now = fresh;
	if (before.door > 0)
		generation_end(&before, SIGTERM);
	if (wanted)
		log_info("certificates read again: %zu", t->settings.tlscertificates.count);
}

/* Children of earlier generations end when they have nothing to do any more. */
static void reap(struct tlsd *t)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		bool current = t->now.door > 0 && (pid == t->now.door || pid == t->now.signer);
		errno = 0;
		if (WIFSIGNALED(status) && current)
			die_system("the %s was killed by signal %d", pid == t->now.door ? "door" : "signer", WTERMSIG(status));
		if (current)
			die_system("the %s ended with exit code %d", pid == t->now.door ? "door" : "signer", WEXITSTATUS(status));
	}
}

static void signals_take(struct tlsd *t)
{
	struct signalfd_siginfo told;
	while (read(t->signals, &told, sizeof told) == sizeof told) {
		if (told.ssi_signo == SIGHUP)
			reload(t);
		t->stop = t->stop || told.ssi_signo == SIGTERM || told.ssi_signo == SIGINT;
	}
}

static void turn(struct tlsd *t)
{
	bool idle = t->now.door == 0;   /* smtpd has a certificate in its settings, and we have none in ours: it hears so at once */
	struct pollfd fds[] = { { .fd = t->signals, .events = POLLIN }, { .fd = idle ? t->socket.fd : -1, .events = POLLIN } };
	if (poll(fds, 2, -1) < 0)
		return;
	int fd = idle && fds[1].revents != 0 ? accept4(t->socket.fd, NULL, NULL, SOCK_CLOEXEC) : -1;
	if (fd >= 0)
		close(fd);
	signals_take(t);
	if (!t->stop)
		reap(t);
}

/* ---- start */

static int check(struct settings *settings)
{
	static struct keys keys;
	struct str faults = STR_INIT(FAULTS_MAX), text = STR_INIT(FAULTS_MAX);
	bool ok = keys_read(settings, &keys, &faults);
	ok = keys_parse(settings, &keys, &faults) && ok;
	for (size_t i = 0; ok && i < keys.count; i++) {
		str_clear(&text);
		keys_describe(&keys.entry[i], &text);
		printf("%s: %s\n", log_text(settings->tlscertificates.at[i]), str_c(&text));
	}
	fputs(str_c(&faults), stderr);
	if (ok && keys.count == 0)
		puts("There is no certificate (tlscertificates): no TLS.");
	keys_free(&keys);
	str_free(&faults);
	str_free(&text);
	return ok && fflush(stdout) == 0 ? EXIT_OK : EXIT_YOUR_FAULT;
}

static void never_called(int number)
{
	(void)number;
}

/* Blocked, and read when there is time; the children start with a clean slate (child_begin). The handler is there for `tappal reload`, which tells
 * the programs that catch SIGHUP. */
static int catch_signals(void)
{
	sigset_t caught;
	sigemptyset(&caught);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGHUP);
	sigaddset(&caught, SIGCHLD);
	int fd = sigprocmask(SIG_BLOCK, &caught, NULL) == 0 ? signalfd(-1, &caught, SFD_NONBLOCK | SFD_CLOEXEC) : -1;
	if (fd < 0)
		die_system("cannot take signals");
	(void)signal(SIGHUP, never_called);
	return fd;
}

static void start(struct tlsd *t)
{
	if (geteuid() != 0)
		die_usage("tlsd must be started as root, and this is uid %lu", (unsigned long)geteuid());
	priv_run_directory();
	priv_limit(0, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	tzset();   /* a session can open no file, and its log lines are in local time, too */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || chdir("/") < 0)
		die_system("cannot begin");
	/* Made by root, in a directory that is the resolver's: smtpd asks whose the socket is, and whoever put another one there is found out. */
	t->socket = service_bind("tlsd", SOCKET_TLSD, PATIENCE_MS);
	if (listen(t->socket.fd, SERVICE_BACKLOG) < 0)
		die_system("cannot listen on %s", t->socket.address.sun_path);
	t->signals = catch_signals();
	errno = 0;
	if (wants_tls(t) && !generation_start(t, &t->now))
		die_usage("no TLS: see above");
	if (t->now.door > 0)
		log_info("ready: %zu certificate%s", t->settings.tlscertificates.count, t->settings.tlscertificates.count == 1 ? "" : "s");
}

int main(int argc, char **argv)
{
	static struct tlsd t;
	priv_standard_descriptors();
	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--check") != 0))
		die_usage("usage: tlsd [--check]");
	logsocket_use();
	settings_or_die(&t.settings, "tlsd", USED_TLSD);
	if (argc == 2)
		return check(&t.settings);
	start(&t);
	while (!t.stop)
		turn(&t);
	service_unbind(&t.socket);
	if (t.now.door > 0)
		generation_end(&t.now, SIGTERM);
	settings_free(&t.settings);
	return EXIT_OK;
}
