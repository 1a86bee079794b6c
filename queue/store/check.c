/*
 * check - does what stands on disk keep the queue's promises? The order of the parts, and how findings are told. Room: queue (tappal).
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_tail.h"
#include "common/io.h"
#include "common/paths.h"
#include "common/priv.h"
#include "queue/index.h"

#define REBUILT "`tappal queue check --repair`, with queued stopped, sets it aside, and the next start makes it anew from the log"
#define SPOOL_TREE "run spool-tree as root"

static const struct { const char *name, *next; } kinds[CHECK_KINDS] = {
	[CHECK_INDEX_DAMAGED] = { "index-damaged", REBUILT },
	[CHECK_INDEX_ROWS] = { "index-rows", REBUILT },
	[CHECK_INDEX_LOG] = { "index-log", REBUILT },
	[CHECK_LOG_DAMAGED] = { "log-damaged", "look at the disk (dmesg, smartctl); a message that is hurt by it is told on a line of its own" },
	[CHECK_LOG_RECORD] = { "log-record", "another version of tappal has written here, or a person: nothing is done with it" },
	[CHECK_LOG_MISSING] = { "log-missing", "put log/ back from a backup; else `tappal queue bounce` returns the message to its sender" },
	[CHECK_MESSAGE_DAMAGED] = { "message-damaged", "it is not delivered, but held when its time comes: put its segment back from a backup and "
		"`tappal queue release` it, or `tappal queue bounce` it" },
	[CHECK_LARGE_MISSING] = { "large-missing", "put the file back from a backup; else `tappal queue bounce` returns the message to its sender" },
	[CHECK_LARGE_DAMAGED] = { "large-damaged", "it is not delivered, but held when its time comes: put the file back from a backup and "
		"`tappal queue release` it, or `tappal queue bounce` it" },
	[CHECK_LARGE_ORPHAN] = { "large-orphan", "no message names it: the next start of queued removes it; if it is still there then, "
		"--repair sets it aside" },
	[CHECK_INTAKE_DAMAGED] = { "intake-damaged", "somebody was promised this message: --repair sets it aside; look whether its text can be saved" },
	[CHECK_INTAKE_FORGOTTEN] = { "intake-forgotten", "queued removes such files once a minute: its lines in the log say why it does not" },
	[CHECK_REPLY_FORGOTTEN] = { "reply-forgotten", "a tappal was killed here; root's next `tappal queue retry`, or --repair, removes it" },
	[CHECK_SET_ASIDE] = { "set-aside", "queued has set it aside: look at it; --repair moves it to quarantine/" },
	[CHECK_UNKNOWN_FILE] = { "unknown-file", "it is nobody's: move it away, or let --repair set it aside" },
	[CHECK_OWNER] = { "owner", SPOOL_TREE },
	[CHECK_UNREADABLE] = { "unreadable", "look at the disk (dmesg, smartctl)" },
	[CHECK_MANIFEST] = { "manifest", "do not start from this copy; make another one" },
	[CHECK_NOTE] = { "note", "" },
};

const char *check_kind_name(enum check_kind kind)
{
	return kind < CHECK_KINDS ? kinds[kind].name : "?";
}

const char *check_kind_next(enum check_kind kind)
{
	return kind < CHECK_KINDS ? kinds[kind].next : "";
}

void check_tell(struct check *c, const struct check_finding *finding)
{
	c->count[finding->kind]++;
	c->found(c->context, finding);
}

void check_say(struct check *c, enum check_kind kind, const char *file, const char *format, ...)
{
	struct check_finding f = { .kind = kind };
	va_list arguments;
	snprintf(f.file, sizeof f.file, "%s", file);
	va_start(arguments, format);
	vsnprintf(f.text, sizeof f.text, format, arguments);
	va_end(arguments);
	check_tell(c, &f);
}

bool check_stop(struct check *c, const char *what)
{
	snprintf(c->error, sizeof c->error, "%s: %s", what, strerror(errno));
	return false;
}

/* ---- the index, first by a child ---- */

/* What the child writes: findings, and at last its sums. Each is one write of less than PIPE_BUF, and parent and child are one program. */
struct news {
	bool end, readable, none;
	int refused;                 /* errno that says nothing of the file */
	struct check_finding finding;
	struct check_sums sums;
	char error[160];
};

static void pass_on(void *context, const struct check_finding *finding)
{
	struct news news = { .finding = *finding };
	if (io_write_full(*(int *)context, &news, sizeof news) != 0)
		_exit(1);
}

/* Says nothing of what the file holds. */
static bool is_refusal(int error)
{
	return error == EACCES || error == EPERM || error == EROFS || error == EMFILE || error == ENFILE || error == ENOSPC || error == EDQUOT;
}

static _Noreturn void walk_in_child(const struct check *parent, int out)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		signal(fatal[i], SIG_DFL);
	priv_limit(0, 0);
	struct check c = { .now = parent->now, .live = parent->live, .backup = parent->backup, .found = pass_on, .context = &out };
	struct str error = STR_INIT(500);
	struct news news = { .end = true };
	struct index *ix = index_open(SPOOL_INDEX, 0, true, &error);
	news.none = !ix && errno == ENOENT;
	news.refused = !ix && is_refusal(errno) ? errno : 0;
	news.readable = ix && check_index(&c, ix);
	news.sums = c.sums;
	snprintf(news.error, sizeof news.error, "%s", ix ? index_error(ix) : str_c(&error));
	_exit(io_write_full(out, &news, sizeof news) == 0 ? 0 : 1);
}

static void hear(struct check *c, int in, struct news *last)
{
	struct news news;
	while (io_read_full(in, &news, sizeof news) == (ssize_t)sizeof news) {
		news.finding.file[sizeof news.finding.file - 1] = news.finding.text[sizeof news.finding.text - 1] = '\0';
		if (news.end)
			*last = news;
		else if (news.finding.kind < CHECK_KINDS)
			check_tell(c, &news.finding);
	}
}

static bool reap(pid_t child, int *status_r)
{
	pid_t got;
	do
		got = waitpid(child, status_r, 0);
	while (got < 0 && errno == EINTR);
	return got == child;
}

static void say_index(struct check *c, int status, const struct news *last)
{
	const char *file = SPOOL_INDEX "/data.mdb";
	if (WIFSIGNALED(status))
		check_say(c, CHECK_INDEX_DAMAGED, file, "whoever reads it is ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (last->none)
		check_say(c, CHECK_NOTE, file, "there is no index: queued makes it from the log when it starts");
	else if (!last->readable)
		check_say(c, CHECK_INDEX_DAMAGED, file, "%s", last->error[0] ? last->error : "it cannot be read");
}

bool check_walk_index(struct check *c, bool *readable_r)
{
	struct news last = { .end = false };
	int ends[2], status = 0;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return check_stop(c, "pipe");
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		walk_in_child(c, ends[1]);
	close(ends[1]);
	if (child > 0)
		hear(c, ends[0], &last);
	close(ends[0]);
	if (child < 0 || !reap(child, &status))
		return check_stop(c, "fork");
	*readable_r = last.end && last.readable;
	c->sums = last.sums;
	if (last.refused != 0) {
		errno = last.refused;
		return check_stop(c, SPOOL_INDEX);
	}
	say_index(c, status, &last);
	return true;
}

/* ---- all of it ---- */

static bool check_with(struct check *c, struct index *ix)
{
	struct row_status status = { 0 };
	struct tail tail = { .full = false };
	bool good = !ix || (index_read_begin(ix) && index_get_status(ix, &status) != INDEX_FATAL);
	if (ix)
		index_read_end(ix);
	if (!good)
		return check_stop(c, SPOOL_INDEX);
	good = tail_read(&tail, SPOOL_LOG, (struct place){ status.applied_segment, status.applied_offset }) == 0 || check_stop(c, SPOOL_LOG);
	good = good && check_log(c, ix, &tail) && check_large(c, ix, &tail) && check_intake(c) && check_places(c);
	tail_free(&tail);
	return good;
}

static bool check_index_and_rest(struct check *c)
{
	struct str error = STR_INIT(500);
	struct stat st;
	bool readable = false;
	errno = 0;
	bool has = stat(SPOOL_INDEX "/data.mdb", &st) == 0 && st.st_size > 0;
	if (!has && errno != ENOENT && errno != 0)
		return check_stop(c, SPOOL_INDEX "/data.mdb");
	if (has && !check_walk_index(c, &readable))
		return false;
	if (!has)
		check_say(c, CHECK_NOTE, SPOOL_INDEX, "there is no index: queued makes it from the log when it starts");
	struct index *ix = readable ? index_open(SPOOL_INDEX, 0, true, &error) : NULL;
	bool good = !readable || ix ? check_with(c, ix) : check_stop(c, str_c(&error));
	index_close(ix);
	str_free(&error);
	return good;
}

bool check_run(struct check *c)
{
	memset(&c->sums, 0, sizeof c->sums);
	memset(c->count, 0, sizeof c->count);
	if (c->backup && !check_manifest(c))
		return false;
	/* A reader makes LMDB's lock file where there is none; in a copy it leaves no trace. */
	bool locked = access(SPOOL_INDEX "/lock.mdb", F_OK) == 0;
	bool good = check_index_and_rest(c);
	if (c->backup && !locked)
		unlink(SPOOL_INDEX "/lock.mdb");
	return good;
}
