/*
 * tappal - show and steer the queue, the settings and the log.
 *   runs as   the operator: root, or a member of group tappal    in      arguments; ids on stdin with "-"
 *   reads     index/ (LMDB, read-only), /etc/tappal, the log files, for `session` the mailboxes; log/ and large/ for `show`, where the operator may
 *   asks      guard, by its socket (`guard` and `session`, as root); the resolver and callout, by theirs (`session`, as root)
 *   writes    fifo/control; its own fifo in reply/; /etc/tappal (`config set`, `passwd`); quarantine/ (`queue check --repair`); the backup's directory
 *   becomes   tappal-queue for `queue check` and `queue backup`, before it reads anything of the queue      never   the index, the log, exec, the network
 *   exit      0 done | 1 nothing matched | 2 check found something, show or backup a damaged text, backup a missing one | 100 usage, settings |
 *             111 system
 *   killed    an operation that was sent is carried out or not, whole; nothing else is left behind than a fifo in reply/
 */
#include "tappal.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/route.h"
#include "show.h"

/* ---- the ways to end ---- */

static void say(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
static void say(const char *format, va_list arguments)
{
	fflush(stdout);
	fputs("tappal: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

void tool_say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

void tool_usage(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	exit(EXIT_YOUR_FAULT);
}

void tool_stop(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	exit(EXIT_SYSTEM);
}

/* ---- the queue ---- */

static _Noreturn void not_allowed(const char *what)
{
	const struct passwd *pw = getpwuid(getuid());

	tool_stop("you may not %s: that takes root or a member of group %s. To become one: `adduser %s %s` as root, then log in again", what, GROUP_OPERATOR,
		pw != NULL ? pw->pw_name : "USER", GROUP_OPERATOR);
}

/* LMDB would make a lock file that belongs to us; so what is not there is not opened. */
static void require(const char *file)
{
	struct stat st;

	if (stat(file, &st) == 0)
		return;
	if (errno == EACCES)
		not_allowed("look into the queue");
	if (errno == ENOENT)
		tool_stop("there is no queue in %s yet: queued has never run. Start it, then ask again", path_spool);
	tool_stop("%s/%s: %s", path_spool, file, strerror(errno));
}

void tool_may_be_queue(void)
{
	struct account queue;

	if (geteuid() != 0 && (account_by_name(ACCOUNT_QUEUE, &queue) != ACCOUNT_FOUND || geteuid() != queue.uid))
		tool_stop("reading all of the queue, the text of mail included, takes root (who becomes %s for it) or %s itself", ACCOUNT_QUEUE, ACCOUNT_QUEUE);
}

void tool_become_queue(bool anybody)
{
	if (geteuid() != 0 && anybody)
		return;
	tool_may_be_queue();
	priv_become("tappal", ACCOUNT_QUEUE);
}

struct index *tool_open_index(void)
{
	struct str error = STR_INIT(1000);
	struct index *ix;

	if (chdir(path_spool) != 0) {
		if (errno == EACCES)
			not_allowed("enter the spool");
		tool_stop("%s: %s; is tappal installed (make install)?", path_spool, strerror(errno));
	}
	require(SPOOL_INDEX "/data.mdb");
	require(SPOOL_INDEX "/lock.mdb");
	if (access(SPOOL_INDEX "/data.mdb", R_OK) != 0 || access(SPOOL_INDEX "/lock.mdb", R_OK | W_OK) != 0)
		not_allowed("read the queue's index");
	ix = index_open(SPOOL_INDEX, 0, true, &error);
	if (ix == NULL)
		tool_stop("%s", str_c(&error));
	return ix;
}

void tool_index_failed(const struct index *ix)
{
	tool_stop("the queue's index cannot be read: %s", index_error(ix));
}

void tool_read_begin(struct index *ix)
{
	if (!index_read_begin(ix))
		tool_index_failed(ix);
}

void tool_settings(struct settings *s)
{
	struct str faults = STR_INIT(1 << 16);

	if (settings_load(s, path_etc, USED_TOOLS, &faults)) {
		str_free(&faults);
		return;
	}
	tool_say("the settings have faults (`tappal config check` shows them); times of expiry are those of the defaults");
	str_clear(&faults);
	if (!settings_load(s, "/nonexistent", USED_TOOLS, &faults))
		*s = (struct settings){ .queuelifetime = 7 * 86400, .bouncelifetime = 86400 };
	str_free(&faults);
}

wall_ms_t tool_expiry(const struct settings *s, const struct row_message *row)
{
	if (row->held_ms != 0)
		return UINT64_MAX;
	return row->arrival_ms + (row->sender.len == 0 ? s->bouncelifetime : s->queuelifetime) * SECOND_MS;
}

const char *tool_delay_report(const struct row_rcpt *row)
{
	if (row->state != RCPT_WAITING || row->batch == 0)
		return NULL;
	return rcpt_delay_due(row) ? "due" : "sent";
}

struct bytes tool_destination(struct bytes destination, bool *local_r)
{
	*local_r = destination.len >= 2 && destination.at[0] == 'l';
	return destination.len >= 2 && destination.at[1] == ':' ? bytes_slice(destination, 2, destination.len) : destination;
}

/* ---- commands ---- */

static command_fn command_help, command_version, command_queue;

static const struct command { const char *group, *name; command_fn *act; const char *synopsis, *help; } commands[] = {
	{ "queue", "list", command_list, "[FILTER ...] [ID ...] [--json]", "messages that are not finished, oldest first" },
	{ "queue", "why", command_why, "ID ... [--json]", "where a message is, why, what happens next and when; finished ones, too" },
	{ "queue", "show", command_show, "ID [--headers] [--raw]", "envelope, header and body of a message" },
	{ "queue", "retry", command_operate, "WHICH", "try now, without waiting for the next try or a back-off" },
	{ "queue", "hold", command_operate, "WHICH [--because TEXT]", "try no more until it is released; it does not expire" },
	{ "queue", "release", command_operate, "WHICH", "end a hold" },
	{ "queue", "delete", command_operate, "WHICH [--because TEXT]", "drop without a bounce" },
	{ "queue", "bounce", command_operate, "WHICH [--because TEXT]", "give up now and return to the sender" },
	{ "queue", "flush", command_flush, "[DESTINATION ...]", "try everything (or all for these destinations) now" },
	{ "queue", "check", command_check, "[--repair] [--spool DIR] [--json]", "hold everything in the spool against everything else; 2: something was found" },
	{ "queue", "backup", command_backup, "DIR", "a consistent copy of the queue, also while it works" },
	{ NULL, "status", command_status, "[--json]", "is the queue manager up, and how is the queue" },
	{ NULL, "config", command_config, "show [NAME ...] | check | set NAME VALUE ... | unset NAME", "the settings in /etc/tappal" },
	{ NULL, "passwd", command_passwd, "LOGIN [--scram-only] | --delete LOGIN | --list", "who may log in (AUTH), and the password: from the terminal, or a line on stdin" },
	{ NULL, "session", command_session, "--ip ADDRESS --helo NAME --from ADDRESS --to ADDRESS [--auth LOGIN] [--json]", "what smtpd would say to such a client, and which setting and line decides" },
	{ NULL, "guard", command_guard, "list [--all] [--json] | forget WHO", "who is banned or over a limit, and --all that is counted; forget it" },
	{ NULL, "reload", command_reload, "", "make the running daemons read their settings anew (SIGHUP)" },
	{ NULL, "log", command_log, "ID", "what the log says about a message" },
	{ NULL, "version", command_version, "", "which version this is" },
	{ NULL, "help", command_help, "", "this" },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int command_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (size_t i = 0; i < COMMANDS; i++)
		printf("tappal %s%s%s %s\n        %s\n", commands[i].group != NULL ? commands[i].group : "", commands[i].group != NULL ? " " : "", commands[i].name,
			commands[i].synopsis, commands[i].help);
	printf("\nWHICH: ids, their unique beginnings, - (ids on stdin), or filters; --all for every message.\n"
		"FILTER: --from ADDRESS  --to ADDRESS  --domain DOMAIN  --older AGE  --newer AGE  --state active|deferred|held|failed\n"
		"        --reason TEXT  --limit N;  an ADDRESS may be @domain or hold * and ?; an AGE is 90s, 15m, 2h, 3d, 1w.\n"
		"--dry-run shows what would be done. --recipients-only: the recipients that match --to, --domain, --reason, not whole messages.\n"
		"Exit: 0 done, 1 nothing matched, 2 check found something, 100 wrong call, 111 system. More: tappal(8).\n");
	return EXIT_OK;
}

static int command_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("tappal %s\n", TAPPAL_VERSION);
	return EXIT_OK;
}

static const struct command *find(const char *group, const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if ((group == NULL) == (commands[i].group == NULL) && strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int command_queue(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2)
		tool_usage("tappal queue list, why, show, retry, hold, release, delete, bounce, flush, check or backup? See `tappal help`");
	command = find("queue", argv[1]);
	if (command == NULL)
		tool_usage("there is no command `tappal queue %s`; see `tappal help`", show_text(bytes_of(argv[1])));
	return command->act(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	const struct command *command;
	int code;

	show_init();
	if (argc < 2) {
		command_help(argc, argv);
		return EXIT_YOUR_FAULT;
	}
	command = find(NULL, strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ? "help" : strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	if (strcmp(argv[1], "queue") == 0)
		code = command_queue(argc - 1, argv + 1);
	else if (command != NULL)
		code = command->act(argc - 1, argv + 1);
	else
		tool_usage("there is no command `tappal %s`; see `tappal help`", show_text(bytes_of(argv[1])));
	if (!show_flush())
		return EXIT_SYSTEM;
	return code;
}
