/*
 * check_files - files: large bodies that no message names, intake/, reply fifos, what nobody knows, owners and modes. Room: queue (tappal).
 *
 * A file that goes while it is looked at was somebody's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "check_tail.h"
#include "common/accounts.h"
#include "common/io.h"
#include "common/paths.h"
#include "manifest.h"
#include "queue/index.h"
#include "queue/intakefile.h"
#include "queue/places.h"

#define LIVE_MS (3 * MINUTE_MS)        /* a running queued settles intake/ once a minute */
#define REPLY_MS (10 * MINUTE_MS)      /* what tappal itself takes for forgotten */

/* ---- directories ---- */

typedef bool entry_fn(struct check *c, int dir, const char *name, void *context);

static bool each(struct check *c, const char *path, entry_fn *act, void *context)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	bool good = true;
	if (!dir) {
		io_close(&fd);
		return check_stop(c, path);
	}
	while (good && (errno = 0, e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lost+found") != 0)
			good = act(c, dirfd(dir), e->d_name, context);
	}
	if (good && errno != 0)
		good = check_stop(c, path);
	closedir(dir);
	return good;
}

static void say(struct check *c, enum check_kind kind, const char *dir, const char *name, const char *text)
{
	char file[300];
	snprintf(file, sizeof file, "%s%s%s", dir, dir[0] ? "/" : "", name);
	check_say(c, kind, file, "%s", text);
}

/* Modified at least so long ago; false also when the clock went back. */
static bool is_old(const struct check *c, const struct stat *st, uint64_t ms)
{
	return (wall_ms_t)st->st_mtim.tv_sec * SECOND_MS + ms < c->now && (wall_ms_t)st->st_ctim.tv_sec * SECOND_MS + ms < c->now;
}

/* ---- large/ ---- */

struct large { struct index *ix; const struct tail *tail; };

static enum index_result has_message(struct large *l, msgid_t id, bool *orphan_r)
{
	struct row_message row;
	struct row_status status = { 0 };
	if (!index_read_begin(l->ix))
		return INDEX_FATAL;
	enum index_result r = index_get_status(l->ix, &status);
	if (r != INDEX_FATAL)
		r = index_get_message(l->ix, id, &row);
	*orphan_r = (r == INDEX_OK && !row.large) || (r == INDEX_NONE && id <= status.last_id && !tail_came(l->tail, id));
	index_read_end(l->ix);
	return r;
}

static bool large_entry(struct check *c, int dir, const char *name, void *context)
{
	struct large *l = context;
	char text[MSGID_TEXT + 1] = "";
	bool orphan = false;
	msgid_t id;
	if (msgid_parse(bytes_of(name), &id))
		msgid_format(id, text);
	if (strcmp(text, name) != 0) {
		say(c, CHECK_UNKNOWN_FILE, SPOOL_LARGE, name, "no name of a message");
		return true;
	}
	if (!l->ix)
		return true;
	if (has_message(l, id, &orphan) == INDEX_FATAL) {
		errno = EIO;
		return check_stop(c, index_error(l->ix));
	}
	if (orphan && faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		say(c, CHECK_LARGE_ORPHAN, SPOOL_LARGE, name, "its message is finished, or never was");
	return true;
}

bool check_large(struct check *c, struct index *ix, const struct tail *tail)
{
	struct large l = { ix, tail };
	return each(c, SPOOL_LARGE, large_entry, &l);
}

/* ---- intake/ ---- */

struct intake { uid_t uid; bool has_uid; };

static bool is_whole(int fd, const struct intake_head *head)
{
	uint32_t checksum;
	return intake_checksum(fd, head, &checksum) && checksum == head->checksum;
}

static void judge_intake(struct check *c, int dir, const char *name, int fd, const struct stat *st)
{
	char octets[INTAKE_HEAD];
	struct intake_head head;
	bool read = io_pread_full(fd, octets, sizeof octets, 0) == (ssize_t)sizeof octets;
	bool promised = read && intake_head_decode(octets, &head) && head.state == INTAKE_ADOPT;
	bool whole = promised && is_whole(fd, &head);
	c->sums.intake += whole;
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (promised && !whole)
		say(c, CHECK_INTAKE_DAMAGED, SPOOL_INTAKE, name, "it was promised, and its checksum or size is wrong");
	else if (c->live && is_old(c, st, LIVE_MS))
		say(c, CHECK_INTAKE_FORGOTTEN, SPOOL_INTAKE, name, promised ? "it was promised, and queued does not take it" :
			"its enqueue is dead, and queued does not remove it");
}

static void intake_file(struct check *c, int dir, const char *name, const struct intake *in)
{
	struct stat st;
	int fd = io_open_regular(dir, name);
	if (fd < 0) {
		if (errno != ENOENT)
			say(c, CHECK_UNKNOWN_FILE, SPOOL_INTAKE, name, "an intake file's name, and it cannot be opened as one");
		return;
	}
	bool known = fstat(fd, &st) == 0;
	if (known && (st.st_nlink > 1 || (in->has_uid && st.st_uid != in->uid)))
		say(c, CHECK_OWNER, SPOOL_INTAKE, name, "it does not belong to " ACCOUNT_INTAKE " under this one name: queued will not take it");
	else if (known && st.st_nlink == 1 && flock(fd, LOCK_SH | LOCK_NB) == 0)
		judge_intake(c, dir, name, fd, &st);      /* else its enqueue lives */
	close(fd);
}

/* A fifo that nobody reads, and no file beside it. */
static void intake_ack(struct check *c, int dir, const char *name)
{
	char file[INTAKE_NAME + 1];
	struct stat st;
	memcpy(file, name, INTAKE_NAME);
	file[INTAKE_NAME] = '\0';
	if (!c->live || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !is_old(c, &st, LIVE_MS) ||
		faccessat(dir, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	int fd = io_open_fifo_write(dir, name);
	if (fd >= 0)
		close(fd);
	else if (errno == ENXIO)
		say(c, CHECK_INTAKE_FORGOTTEN, SPOOL_INTAKE, name, "nobody reads this fifo, and queued does not remove it");
}

static bool intake_entry(struct check *c, int dir, const char *name, void *context)
{
	struct bytes n = bytes_of(name);
	bool extended = n.len == INTAKE_ACK_NAME && intake_name_valid(bytes_slice(n, 0, INTAKE_NAME));
	if (intake_name_valid(n))
		intake_file(c, dir, name, context);
	else if (extended && strcmp(name + INTAKE_NAME, ".ack") == 0 && !c->backup)
		intake_ack(c, dir, name);
	else if (extended && strcmp(name + INTAKE_NAME, ".bad") == 0)
		say(c, CHECK_SET_ASIDE, SPOOL_INTAKE, name, "a message that was promised and could not be read");
	else
		say(c, CHECK_UNKNOWN_FILE, SPOOL_INTAKE, name, "no name of an intake file");
	return true;
}

bool check_intake(struct check *c)
{
	struct intake in = { .uid = 0 };
	struct account account;
	if (!c->backup && account_by_name(ACCOUNT_INTAKE, &account) == ACCOUNT_FOUND)
		in = (struct intake){ account.uid, true };
	return each(c, SPOOL_INTAKE, intake_entry, &in);
}

/* ---- owners and modes: as common/paths.h states ---- */

static const struct place_row { const char *path, *account, *group; mode_t mode; bool optional; } places[] = {
	{ ".", "root", "root", S_IFDIR | 0755, false },
	{ SPOOL_INTAKE, ACCOUNT_INTAKE, ACCOUNT_QUEUE, S_IFDIR | 02770, false },
	{ SPOOL_DRAFT, ACCOUNT_SMTPD, ACCOUNT_SMTPD, S_IFDIR | 0700, true },
	{ SPOOL_LARGE, ACCOUNT_QUEUE, GROUP_LOG, S_IFDIR | 0750, false },
	{ SPOOL_LOG, ACCOUNT_QUEUE, GROUP_LOG, S_IFDIR | 0750, false },
	{ SPOOL_INDEX, ACCOUNT_QUEUE, GROUP_OPERATOR, S_IFDIR | 02750, false },
	{ SPOOL_INDEX "/data.mdb", ACCOUNT_QUEUE, GROUP_OPERATOR, S_IFREG | 0640, true },
	{ SPOOL_INDEX "/lock.mdb", ACCOUNT_QUEUE, GROUP_OPERATOR, S_IFREG | 0660, true },
	{ SPOOL_REPLY, "root", GROUP_OPERATOR, S_IFDIR | 01770, false },
	{ SPOOL_QUARANTINE, ACCOUNT_QUEUE, ACCOUNT_QUEUE, S_IFDIR | 0700, true },
	{ SPOOL_GUARD, ACCOUNT_GUARD, ACCOUNT_GUARD, S_IFDIR | 0700, true },
	{ SPOOL_LOCK, ACCOUNT_QUEUE, ACCOUNT_QUEUE, S_IFREG | 0600, false },
	{ "fifo", "root", "root", S_IFDIR | 0755, false },
	{ FIFO_INTAKE, ACCOUNT_INTAKE, ACCOUNT_QUEUE, S_IFIFO | 0260, false },
	{ FIFO_CONTROL, ACCOUNT_QUEUE, GROUP_OPERATOR, S_IFIFO | 0620, false },
	{ FIFO_JOBS_LOCAL, ACCOUNT_QUEUE, ACCOUNT_QUEUE, S_IFIFO | 0600, false },
	{ FIFO_JOBS_REMOTE, ACCOUNT_SPAWN, ACCOUNT_QUEUE, S_IFIFO | 0420, false },
	{ FIFO_REPORT_LOCAL, ACCOUNT_QUEUE, ACCOUNT_QUEUE, S_IFIFO | 0600, false },
	{ FIFO_REPORT_REMOTE, ACCOUNT_SPAWN, ACCOUNT_QUEUE, S_IFIFO | 0240, false },
	{ FIFO_BOUNCE, ACCOUNT_BOUNCE, ACCOUNT_QUEUE, S_IFIFO | 0420, false },
	{ FIFO_RETRY, ACCOUNT_SMTPD, ACCOUNT_QUEUE, S_IFIFO | 0260, false },
};
#define PLACES (sizeof places / sizeof places[0])

static void check_place(struct check *c, const struct place_row *row)
{
	struct account account;
	struct stat st;
	const struct group *group = getgrnam(row->group);
	if (lstat(row->path, &st) != 0) {
		if (!row->optional || errno != ENOENT)
			check_say(c, CHECK_OWNER, row->path, "%s", strerror(errno));
		return;
	}
	bool owned = account_by_name(row->account, &account) == ACCOUNT_FOUND && group && st.st_uid == account.uid &&
		st.st_gid == group->gr_gid;
	if (!owned || st.st_mode != row->mode)
		check_say(c, CHECK_OWNER, row->path, "uid %lu, gid %lu, mode %06o, and not %s:%s %06o", (unsigned long)st.st_uid, (unsigned long)st.st_gid,
			(unsigned)st.st_mode, row->account, row->group, (unsigned)row->mode);
}

/* ---- files that nobody knows ---- */

/* Is `name` in this directory of the table? */
static bool is_place(const char *dir, const char *name)
{
	char path[300];
	int n = snprintf(path, sizeof path, "%s%s%s", dir, dir[0] ? "/" : "", name);
	for (size_t i = 0; n > 0 && (size_t)n < sizeof path && i < PLACES; i++) {
		if (strcmp(places[i].path, path) == 0)
			return true;
	}
	return false;
}

static bool place_entry(struct check *c, int dir, const char *name, void *context)
{
	const char *in = context;
	(void)dir;
	if (!is_place(in, name) && !(c->backup && (strcmp(name, MANIFEST_FILE) == 0 || strcmp(name, MANIFEST_INCOMPLETE) == 0)))
		say(c, CHECK_UNKNOWN_FILE, in, name, "nothing of tappal's has this name");
	return true;
}

static bool log_entry(struct check *c, int dir, const char *name, void *context)
{
	const struct intake *queue = context;
	static const char hex[] = "0123456789abcdef";
	const char *number = strncmp(name, "spare-", 6) == 0 ? name + 6 : name;
	struct stat st;
	bool segment = strlen(number) == 16 && strspn(number, hex) == 16;
	if (!segment && strncmp(name, "quarantine-", 11) == 0)
		say(c, CHECK_SET_ASIDE, SPOOL_LOG, name, "damaged octets of the log, kept by queued");
	else if (!segment && strcmp(name, "making") != 0)
		say(c, CHECK_UNKNOWN_FILE, SPOOL_LOG, name, "no name of a segment");
	else if (queue->has_uid && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_uid != queue->uid || (st.st_mode & 0022) != 0))
		say(c, CHECK_OWNER, SPOOL_LOG, name, "it does not belong to " ACCOUNT_QUEUE " alone; chown and chmod 0644 it");
	return true;
}

static bool reply_entry(struct check *c, int dir, const char *name, void *context)
{
	struct stat st;
	(void)context;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return true;
	if (!S_ISFIFO(st.st_mode)) {
		say(c, CHECK_UNKNOWN_FILE, SPOOL_REPLY, name, "no fifo");
		return true;
	}
	int fd = is_old(c, &st, REPLY_MS) ? io_open_fifo_write(dir, name) : -1;
	if (fd >= 0)
		close(fd);
	else if (is_old(c, &st, REPLY_MS) && errno == ENXIO)
		say(c, CHECK_REPLY_FORGOTTEN, SPOOL_REPLY, name, "nobody reads this fifo");
	return true;
}

static bool quarantine_entry(struct check *c, int dir, const char *name, void *context)
{
	(void)c;
	(void)dir;
	(void)name;
	++*(uint64_t *)context;
	return true;
}

static bool check_quarantine(struct check *c)
{
	uint64_t count = 0;
	if (access(SPOOL_QUARANTINE, F_OK) != 0)
		return true;
	if (!each(c, SPOOL_QUARANTINE, quarantine_entry, &count))
		return false;
	if (count > 0)
		check_say(c, CHECK_NOTE, SPOOL_QUARANTINE, "holds %llu files that were set aside; the reports beside them say what they are",
			(unsigned long long)count);
	return true;
}

bool check_places(struct check *c)
{
	char top[] = "", index[] = SPOOL_INDEX, fifo[] = "fifo";
	struct intake queue = { .uid = 0 };
	struct account account;
	if (!c->backup && account_by_name(ACCOUNT_QUEUE, &account) == ACCOUNT_FOUND)
		queue = (struct intake){ account.uid, true };
	for (size_t i = 0; !c->backup && i < PLACES; i++)
		check_place(c, &places[i]);
	bool good = each(c, ".", place_entry, top) && each(c, SPOOL_INDEX, place_entry, index) && each(c, SPOOL_LOG, log_entry, &queue);
	if (c->backup)
		return good;
	return good && each(c, "fifo", place_entry, fifo) && each(c, SPOOL_REPLY, reply_entry, NULL) && check_quarantine(c);
}
