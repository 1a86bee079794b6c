/*
 * filterd - run filter programs over whole messages, and say for smtpd what they decided.
 *   runs as   tappal-filter (started as root it binds its socket, then becomes that account), and so do the programs: they and it are one room
 *   reads     the control files marked for filterd; questions on its socket, from root and tappal-smtpd only (SO_PEERCRED), each with two
 *             descriptors: a copy of the message, and its envelope
 *   writes    answers on the socket; the socket itself, path_run/filter; log lines, in which the programs' own words are
 *   starts    the programs of `filters`: fork and exec, no shell, filterworkers at a time (run.h)
 *   never     the queue, the network; a change of a message
 *   signals   TERM ends it and what it runs, HUP reads the settings again
 *   exit      0 TERM | 100 an argument, settings, another filterd runs | 111 the system
 *   killed    the programs are killed with it; their messages are put off, with 451
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/commandline.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/service.h"
#include "common/settings.h"
#include "common/verdict.h"
#include "run.h"
#include "wire.h"

#define WORKERS_MAX 200u          /* filterworkers' */
#define FILES 8192u               /* a socket and two descriptors a session, six a program */
#define ANSWERS_MAX 4096u         /* octets that wait for one client */
#define PATIENCE_MS 10000u        /* for the filterd before this one to end */
#define REAP_MS 200u              /* when to look again for programs that nobody waits for */
#define PARTING_MS 10000u         /* for a client that has its answer, to leave */
#define PROCESSES 32u             /* of one program; all of the account together have so many for each of filterworkers, */
#define PROCESSES_MORE 64u        /* and these */
#define NAME_MAX_OCTETS 40u

/* qmail-queue's codes are in common/exits.h. */
enum { EXIT_CUSTOM = 82 /* the text begins with D, refused, or Z, put off */, EXIT_HOLD = 83 };

/* What the session says of its client, for the programs' environment. */
struct visitor { char ip[46], name[256], login[321], suffix[256]; bool relays; };

struct hearing {
	enum { IDLE, WAITING, RUNNING, ANSWERED } state;
	uint64_t turn;                 /* its place among those that wait */
	int message, envelope;         /* open while WAITING and RUNNING */
	struct visitor visitor;
	uint32_t settings;             /* which ones its programs are from, */
	size_t next;                   /* and the next of them */
	struct run run;
	bool late;
	char name[NAME_MAX_OCTETS + 1];       /* of the program that runs */
	bool held;
	char held_by[NAME_MAX_OCTETS + 1], reason[RUN_TEXT + 1];
};

struct filterd {
	struct settings settings;
	uint32_t settings_read;        /* how often */
	struct service service;
	uint64_t turns;
	size_t processes;              /* programs that were started and not reaped */
};

/* ---- answers ---- */

static void hearing_close(struct hearing *j)
{
	io_close(&j->message);
	io_close(&j->envelope);
}

static void answer(struct service_client *c, enum filter_verdict verdict, const char *filter, struct bytes text, deadline_t now)
{
	struct hearing *j = c->own;
	struct filter_answer record = { .verdict = (uint8_t)verdict, .filter = bytes_of(filter), .text = text };
	hearing_close(j);
	j->state = ANSWERED;
	c->due = deadline_in(now, PARTING_MS);
	service_send(c, filter_answer_encode(&record, &c->out.buffer));
}

static void broken(struct service_client *c, const char *what, deadline_t now)
{
	const struct hearing *j = c->own;
	log_warn("filter %s: %s; the message is put off", j->name, what);
	answer(c, FILTER_BROKEN, j->name, (struct bytes){ NULL, 0 }, now);
}

/* ---- programs ---- */

static void set_variable(char *text, size_t size, char **environment, size_t *count, const char *name, const char *value)
{
	if (snprintf(text, size, "%s=%s", name, value) < (int)size)
		environment[(*count)++] = text;
}

static int start_program(const struct filterd *f, struct hearing *j, const struct commandline *line)
{
	static char text[5][340], path[] = "PATH=/usr/local/bin:/usr/bin:/bin", proto[] = "PROTO=TCP";
	char *environment[8] = { path, proto };
	const struct visitor *v = &j->visitor;
	size_t count = 2;
	set_variable(text[0], sizeof text[0], environment, &count, "TCPREMOTEIP", v->ip);
	if (v->name[0] != '\0')
		set_variable(text[1], sizeof text[1], environment, &count, "TCPREMOTEHOST", v->name);
	if (v->relays)
		set_variable(text[2], sizeof text[2], environment, &count, "RELAYCLIENT", v->suffix);
	if (v->login[0] != '\0') {
		set_variable(text[3], sizeof text[3], environment, &count, "TCPREMOTEINFO", v->login);
		set_variable(text[4], sizeof text[4], environment, &count, "SMTPAUTHUSER", v->login);
	}
	return run_start(&j->run, &(struct run_order){
		.words = line->word, .environment = environment, .name = j->name, .message = j->message, .envelope = j->envelope,
		.memory = f->settings.filtermemory, .seconds = f->settings.filtertimeout + 1,
		.processes = (unsigned)f->settings.filterworkers * PROCESSES + PROCESSES_MORE,
	});
}

static void start_next(struct filterd *f, struct service_client *c, deadline_t now)
{
	struct hearing *j = c->own;
	struct commandline line;
	char what[300];
	if (!commandline_parse(f->settings.filters.at[j->next], &line)) {   /* it was checked when the settings were read */
		broken(c, "its line in filters is none", now);
		return;
	}
	snprintf(j->name, sizeof j->name, "%s", log_text(bytes_slice(bytes_of(commandline_name(&line)), 0, NAME_MAX_OCTETS)));
	const char *fault = commandline_fault(line.word[0]);
	int error = fault == NULL ? start_program(f, j, &line) : 0;
	f->processes += fault == NULL && j->run.pid > 0;
	if (fault == NULL && error == 0) {
		j->state = RUNNING;
		c->due = deadline_in(now, f->settings.filtertimeout * SECOND_MS);
		return;
	}
	snprintf(what, sizeof what, "cannot be used: %s: %s (%.100s/filters:%lu)", log_text(bytes_of(line.word[0])), fault != NULL ? fault : strerror(error), path_etc,
		(unsigned long)f->settings.filters.number[j->next]);
	broken(c, what, now);
}

/* The next program, or the end of the list. Other settings since: from the beginning. */
static void go_on(struct filterd *f, struct service_client *c, deadline_t now)
{
	struct hearing *j = c->own;
	if (j->settings != f->settings_read) {
		j->settings = f->settings_read;
		j->next = 0;
		j->held = false;
	}
	if (j->next < f->settings.filters.count)
		start_next(f, c, now);
	else
		answer(c, j->held ? FILTER_HOLD : FILTER_PASS, j->held ? j->held_by : "", j->held ? bytes_of(j->reason) : LIT(""), now);
}

/* ---- their ends ---- */

static void passed(struct filterd *f, struct service_client *c, bool holds, deadline_t now)
{
	struct hearing *j = c->own;
	if (holds && !j->held) {
		j->held = true;
		snprintf(j->held_by, sizeof j->held_by, "%s", j->name);
		bytes_to_cstring((struct bytes){ j->run.said, j->run.said_len }, j->reason, sizeof j->reason);
	}
	j->next++;
	go_on(f, c, now);
}

/* It has said no. */
static void refused(struct service_client *c, int code, deadline_t now)
{
	const struct hearing *j = c->own;
	struct bytes text = { j->run.said, j->run.said_len };
	bool permanent = verdict_of_enqueue(code) == V_PERM;
	if (code == EXIT_CUSTOM) {
		permanent = text.len > 0 && text.at[0] == 'D';
		if (!permanent && (text.len == 0 || text.at[0] != 'Z'))
			log_warn("filter %s: exit code %d and no line on descriptor 4 that begins with D or Z; the message is put off", j->name, code);
		else
			text = bytes_slice(text, 1, text.len);
	} else if (!permanent) {
		log_info("filter %s: exit code %d; the message is put off", j->name, code);
	}
	answer(c, permanent ? FILTER_PERM : FILTER_TEMP, j->name, text, now);
}

static void program_ended(struct filterd *f, struct service_client *c, int status, deadline_t now)
{
	struct hearing *j = c->own;
	char what[200];
	run_finish(&j->run, j->name);
	c->due = 0;
	if (j->late)
		snprintf(what, sizeof what, "did not end within %llu seconds and was killed (filtertimeout)", (unsigned long long)f->settings.filtertimeout);
	else if (j->run.error != 0)
		snprintf(what, sizeof what, "cannot be executed: %s; see its first line, or its limits (filtermemory)", strerror(j->run.error));
	else if (!WIFEXITED(status))
		snprintf(what, sizeof what, "was ended by signal %d: a fault of its own, or a limit (filtermemory)", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_HOLD)
		return passed(f, c, WEXITSTATUS(status) == EXIT_HOLD, now);
	else
		return refused(c, WEXITSTATUS(status), now);
	broken(c, what, now);
}

static struct service_client *client_of(const struct filterd *f, pid_t pid)
{
	struct service_client *c;
	for (size_t i = 0; (c = service_next(&f->service, &i)) != NULL;) {
		const struct hearing *j = c->own;
		if (j->state == RUNNING && j->run.pid == pid)
			return c;
	}
	return NULL;
}

/* Whom it left behind in its group ends, too: as long as it is not reaped, its number is nobody else's. */
static void reap(struct filterd *f, deadline_t now)
{
	siginfo_t info = { 0 };
	int status;
	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
		pid_t pid = info.si_pid;
		kill(-pid, SIGKILL);
		if (waitpid(pid, &status, 0) != pid)
			return;
		f->processes--;
		struct service_client *c = client_of(f, pid);
		if (c != NULL)
			program_ended(f, c, status, now);
		info.si_pid = 0;
	}
}

/* ---- what it is to its service ---- */

static bool question_take(void *owner, struct service_client *c, const struct record *record, deadline_t now)
{
	struct filterd *f = owner;
	struct hearing *j = c->own;
	struct visitor *v = &j->visitor;
	struct filter_ask ask;
	if (j->state != IDLE || record->type != REC_filter_ask || !filter_ask_decode(record->payload, &ask) || c->passed[0] < 0)
		return false;
	if (!bytes_to_cstring(ask.client, v->ip, sizeof v->ip) || !bytes_to_cstring(ask.name, v->name, sizeof v->name)
		|| !bytes_to_cstring(ask.login, v->login, sizeof v->login) || !bytes_to_cstring(ask.suffix, v->suffix, sizeof v->suffix))
		return false;
	v->relays = ask.relay != 0;
	j->message = c->passed[0];
	j->envelope = c->passed[1];
	c->passed[0] = c->passed[1] = -1;
	j->state = WAITING;
	j->turn = ++f->turns;
	j->settings = f->settings_read;
	c->due = deadline_in(now, FILTER_WAIT_MS);
	return true;
}

static bool is_idle(const struct service_client *c)
{
	const struct hearing *j = c->own;
	return j->state == IDLE || j->state == ANSWERED;
}

static void out_of_time(void *owner, struct service_client *c, deadline_t now)
{
	struct hearing *j = c->own;
	(void)owner;
	if (j->state == WAITING) {
		log_warn("a message has waited %u seconds for its turn and is put off; see filterworkers", (unsigned)(FILTER_WAIT_MS / SECOND_MS));
		answer(c, FILTER_BUSY, "", (struct bytes){ NULL, 0 }, now);
	} else if (j->state == RUNNING) {
		j->late = true;
		run_kill(&j->run);
	} else {
		c->gone = true;
	}
}

/* Nobody waits for the verdict any more. */
static void client_closing(void *owner, struct service_client *c)
{
	struct hearing *j = c->own;
	(void)owner;
	if (j->state == RUNNING) {
		run_kill(&j->run);
		run_finish(&j->run, j->name);
	}
	if (!is_idle(c))
		hearing_close(j);
	j->state = ANSWERED;
}

static struct service_client *longest_waiting(const struct filterd *f)
{
	struct service_client *c, *first = NULL;
	for (size_t i = 0; (c = service_next(&f->service, &i)) != NULL;) {
		const struct hearing *j = c->own;
		if (j->state == WAITING && !c->gone && (first == NULL || j->turn < ((const struct hearing *)first->own)->turn))
			first = c;
	}
	return first;
}

static size_t programs_prepare(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	struct filterd *f = owner;
	struct service_client *c;
	size_t n = 0;
	while (f->processes < f->settings.filterworkers && (c = longest_waiting(f)) != NULL)
		go_on(f, c, now);
	for (size_t i = 0; (c = service_next(&f->service, &i)) != NULL && n < WORKERS_MAX;) {
		const struct hearing *j = c->own;
		if (j->state == RUNNING)
			run_prepare(&j->run, fds + RUN_FDS * n++);
	}
	if (f->processes > n)
		*next = deadline_earlier(*next, deadline_in(now, REAP_MS));
	return RUN_FDS * n;
}

static void programs_run(void *owner, const struct pollfd *fds, size_t count, deadline_t now)
{
	struct filterd *f = owner;
	struct service_client *c;
	(void)fds;
	(void)count;
	for (size_t i = 0; (c = service_next(&f->service, &i)) != NULL;) {
		struct hearing *j = c->own;
		if (j->state == RUNNING)
			run_take(&j->run, j->name);
	}
	reap(f, now);
}

static void reload(void *owner)
{
	struct filterd *f = owner;
	if (!settings_reload(&f->settings, USED_FILTERD))
		return;
	f->settings_read++;
	log_info("settings read again: %zu filters", f->settings.filters.count);
}

static const struct service_kind filter_kind = {
	.slots = FILTER_PLACES, .own_size = sizeof(struct hearing), .answers_max = ANSWERS_MAX, .passes = 2, .own_fds = RUN_FDS * WORKERS_MAX,
	.take = question_take, .idle = is_idle, .due = out_of_time, .closing = client_closing, .prepare = programs_prepare, .run = programs_run, .reload = reload,
};

/* ---- start ---- */

static const struct service_origin origin = {
	.program = "filterd", .socket = SOCKET_FILTER, .account = ACCOUNT_FILTER, .asker = ACCOUNT_SMTPD, .used_by = USED_FILTERD, .files = FILES,
	.patience_ms = PATIENCE_MS,
};

static void start(struct filterd *f)
{
	service_enter(&f->service, &f->settings, &origin);
	if (chdir("/") < 0)
		die_system("cannot enter /");
	service_start(&f->service, &filter_kind, f);
}

int main(int argc, char **argv)
{
	struct filterd *f = calloc(1, sizeof *f);
	(void)argv;
	die_on_arguments("filterd", argc);
	if (f == NULL)
		die_system("no memory");
	start(f);
	log_info("ready: %zu filters", f->settings.filters.count);
	while (!f->service.stop)
		service_turn(&f->service);
	service_end(&f->service);
	settings_free(&f->settings);
	free(f);
	return EXIT_OK;
}
