/*
 * backup - a consistent copy of a queue. backup.h says the order, and why it is one. Room: queue (tappal).
 */
#include "backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/io.h"
#include "common/paths.h"
#include "queue/intakefile.h"
#include "queue/places.h"


static const char *const directories[] = { SPOOL_INDEX, SPOOL_LOG, SPOOL_LARGE, SPOOL_INTAKE };
#define DIRECTORIES (sizeof directories / sizeof directories[0])

/* ---- files ---- */

enum backup_result backup_fail(struct backup *b, const char *what)
{
	snprintf(b->error, sizeof b->error, "%s: %s", what, strerror(errno));
	return BACKUP_FAILED;
}

int backup_make(struct backup *b, const char *path)
{
	return openat(b->to, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

enum backup_result backup_note(struct backup *b, int fd, const char *path, uint64_t size, uint32_t crc)
{
	int rc = fchmod(fd, 0644) == 0 && fsync(fd) == 0 ? 0 : -1, saved = errno;
	if (close(fd) != 0 && rc == 0)
		return backup_fail(b, path);
	errno = saved;
	if (rc != 0)
		return backup_fail(b, path);
	manifest_add(&b->manifest, path, size, crc);
	b->files++;
	b->octets += size;
	return BACKUP_OK;
}

enum backup_result backup_copy(struct backup *b, int in, int out, uint64_t size, uint64_t *size_r, uint32_t *crc_r)
{
	char chunk[65536];
	uint64_t done = 0;
	*crc_r = 0;
	while (done < size) {
		size_t n = size - done < sizeof chunk ? (size_t)(size - done) : sizeof chunk;
		ssize_t got = io_pread_full(in, chunk, n, done);
		if (got < 0 || (got > 0 && io_write_full(out, chunk, (size_t)got) != 0))
			return backup_fail(b, "copying");
		*crc_r = crc32c(*crc_r, chunk, (size_t)got);
		uint64_t before = done;
		done += (size_t)got;
		if ((size_t)got < n)
			break;
		if (before / BACKUP_STEP != done / BACKUP_STEP) {
			if (b->pause)
				b->pause(b->context);
			enum backup_result r = backup_tail(b);
			if (r != BACKUP_OK)
				return r;
		}
	}
	*size_r = done;
	return BACKUP_OK;
}

/* ---- the index ---- */

static enum backup_result write_index(struct backup *b)
{
	struct str error = STR_INIT(300);
	const char *path = SPOOL_INDEX "/data.mdb";
	struct index *ix = index_open(SPOOL_INDEX, 0, true, &error);
	int fd = ix ? backup_make(b, path) : -1;
	enum backup_result r = fd < 0 ? backup_fail(b, ix ? path : str_c(&error)) : BACKUP_OK;
	str_free(&error);
	if (r == BACKUP_OK && !index_copy(ix, fd)) {
		snprintf(b->error, sizeof b->error, "%s", index_error(ix));
		r = BACKUP_FAILED;
	}
	index_close(ix);
	struct stat st;
	uint32_t crc = 0;
	if (r == BACKUP_OK && fstat(fd, &st) == 0) {
		char chunk[65536];
		ssize_t got;
		for (uint64_t at = 0; (got = io_pread_full(fd, chunk, sizeof chunk, at)) > 0; at += (size_t)got)
			crc = crc32c(crc, chunk, (size_t)got);
		return got < 0 ? backup_fail(b, path) : backup_note(b, fd, path, (uint64_t)st.st_size, crc);
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* From the directory it is in, which the caller's own path to it may not lead to. */
static enum backup_result open_copy(struct backup *b)
{
	struct str error = STR_INIT(300);
	struct row_status status = { 0 };
	if (fchdir(b->to) != 0)
		return backup_fail(b, "the backup's directory");
	b->ix = index_open(SPOOL_INDEX, 0, true, &error);
	int saved = errno;
	bool back = fchdir(b->spool) == 0;
	errno = saved;
	enum backup_result r = b->ix && back ? BACKUP_OK : backup_fail(b, str_c(&error));
	str_free(&error);
	if (r != BACKUP_OK)
		return r;
	if (!index_read_begin(b->ix) || index_get_status(b->ix, &status) == INDEX_FATAL) {
		errno = EIO;
		return backup_fail(b, index_error(b->ix));
	}
	b->applied = b->at = (struct place){ status.applied_segment, 0 };
	b->applied.offset = status.applied_offset;
	b->messages = status.messages;
	return BACKUP_OK;
}

static bool has_commit(void)
{
	struct stat st;
	return stat(SPOOL_INDEX "/data.mdb", &st) == 0 && st.st_size > 0;
}

/* ---- old segments, intake/ ---- */

enum backup_result backup_walked(struct backup *b, enum backup_result r, enum index_result last)
{
	if (r != BACKUP_OK || last != INDEX_FATAL)
		return r;
	errno = EIO;
	return backup_fail(b, index_error(b->ix));
}

static enum backup_result copy_segments(struct backup *b)
{
	struct row_segment row;
	uint64_t s = 0;
	enum backup_result r = BACKUP_OK;
	enum index_result found = INDEX_NONE;
	while (r == BACKUP_OK && b->ix && (found = index_next_segment(b->ix, s, &s, &row)) == INDEX_OK && s < b->applied.segment) {
		if (row.live_messages > 0)
			r = backup_segment(b, s, row.used_bytes);
		s++;
	}
	return backup_walked(b, r, found);
}

/* A promised file that is being taken this instant may be half another's: if its name is gone, the log has it. */
static enum backup_result copy_promised(struct backup *b, int in, const char *path, const struct intake_head *head)
{
	uint64_t size;
	uint32_t crc, checksum;
	int out = backup_make(b, path);
	enum backup_result r = out < 0 ? backup_fail(b, path) : backup_copy(b, in, out, intake_size(head), &size, &crc);
	if (r != BACKUP_OK) {
		if (out >= 0)
			close(out);
		return r;
	}
	bool whole = intake_checksum(out, head, &checksum) && checksum == head->checksum;
	if (whole || access(path, F_OK) == 0)
		return backup_note(b, out, path, size, crc);
	close(out);
	return unlinkat(b->to, path, 0) == 0 ? BACKUP_OK : backup_fail(b, path);
}

typedef enum backup_result name_fn(struct backup *b, const char *name);

static enum backup_result each_name(struct backup *b, const char *directory, name_fn *act)
{
	const struct dirent *e;
	enum backup_result r = BACKUP_OK;
	DIR *dir = opendir(directory);
	if (!dir)
		return backup_fail(b, directory);
	while (r == BACKUP_OK && (errno = 0, e = readdir(dir)) != NULL)
		r = act(b, e->d_name);
	if (r == BACKUP_OK && errno != 0)
		r = backup_fail(b, directory);
	closedir(dir);
	return r;
}

static enum backup_result intake_name(struct backup *b, const char *name)
{
	char path[PLACE_MAX], octets[INTAKE_HEAD];
	struct intake_head head;
	enum backup_result r = BACKUP_OK;
	if (!intake_name_valid(bytes_of(name)))
		return BACKUP_OK;
	snprintf(path, sizeof path, SPOOL_INTAKE "/%.*s", (int)INTAKE_NAME, name);
	int in = io_open_regular(AT_FDCWD, path);
	if (in < 0)
		return errno == ENOENT || errno == EINVAL || errno == ELOOP ? BACKUP_OK : backup_fail(b, path);
	if (io_pread_full(in, octets, sizeof octets, 0) == (ssize_t)sizeof octets && intake_head_decode(octets, &head) && head.state == INTAKE_ADOPT)
		r = copy_promised(b, in, path, &head);
	close(in);
	return r;
}

/* ---- large/ ---- */

static enum backup_result copy_large(struct backup *b, msgid_t id, bool *there_r)
{
	char path[PLACE_MAX];
	uint64_t size;
	uint32_t crc;
	*there_r = true;
	place_large(id, path);
	if (faccessat(b->to, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return BACKUP_OK;
	int in = io_open_regular(AT_FDCWD, path);
	*there_r = in >= 0;
	if (in < 0)
		return errno == ENOENT ? BACKUP_OK : backup_fail(b, path);
	int out = backup_make(b, path);
	enum backup_result r = out < 0 ? backup_fail(b, path) : backup_copy(b, in, out, UINT64_MAX, &size, &crc);
	close(in);
	if (r == BACKUP_OK)
		return backup_note(b, out, path, size, crc);
	if (out >= 0)
		close(out);
	return r;
}

/* All that the copied index names; `gone`: those that are not there. */
static enum backup_result copy_indexed(struct backup *b, struct numbers *gone)
{
	struct row_message row;
	bool there;
	msgid_t id = 0;
	enum backup_result r = BACKUP_OK;
	enum index_result found = INDEX_NONE;
	for (; r == BACKUP_OK && b->ix && (found = index_next_message(b->ix, id, &id, &row)) == INDEX_OK; id++) {
		if (!row.large)
			continue;
		r = copy_large(b, id, &there);
		if (r == BACKUP_OK && !there && !numbers_add(gone, id))
			r = backup_fail(b, "memory");
	}
	return backup_walked(b, r, found);
}

/* All that the copied log names from the i-th on; it grows meanwhile. `gone`: places in the list. */
static enum backup_result copy_come(struct backup *b, size_t *i, struct numbers *gone)
{
	bool there;
	enum backup_result r = BACKUP_OK;
	for (; r == BACKUP_OK && *i < b->come.count; ++*i) {
		r = copy_large(b, b->come.at[*i], &there);
		if (r == BACKUP_OK && !there && !numbers_add(gone, *i))
			r = backup_fail(b, "memory");
	}
	return r;
}

static bool read_tail_of(struct backup *b, int directory, struct place from, struct tail *tail)
{
	bool good = fchdir(directory) == 0 && tail_read(tail, SPOOL_LOG, from) == 0;
	int saved = errno;
	if (fchdir(b->spool) != 0)
		return false;
	errno = saved;
	return good;
}

/* Has it ended? A newer snapshot of the index says so, or the log behind that. */
static enum backup_result empty_ended(struct backup *b, struct index *ix, const struct numbers *come)
{
	struct row_status status = { 0 };
	struct row_message row;
	struct tail tail = { .full = false };
	if (!index_read_begin(ix) || index_get_status(ix, &status) == INDEX_FATAL ||
		!read_tail_of(b, b->spool, (struct place){ status.applied_segment, status.applied_offset }, &tail)) {
		tail_free(&tail);
		return backup_fail(b, SPOOL_LOG);
	}
	enum backup_result r = BACKUP_OK;
	for (size_t k = 0; r == BACKUP_OK && k < come->count; k++) {
		size_t i = (size_t)come->at[k];
		uint64_t segment = b->come_segment.at[i];
		bool indexed = segment < status.applied_segment || (segment == status.applied_segment && b->come_offset.at[i] < status.applied_offset);
		bool ended = tail_touched(&tail, b->come.at[i]) || (indexed && index_get_message(ix, b->come.at[i], &row) == INDEX_NONE);
		b->lost += !ended;
		r = ended ? backup_empty(b, i) : BACKUP_OK;
	}
	tail_free(&tail);
	return r;
}

static enum backup_result explain_come(struct backup *b, const struct numbers *come)
{
	struct str error = STR_INIT(300);
	struct index *ix = come->count > 0 ? index_open(SPOOL_INDEX, 0, true, &error) : NULL;
	enum backup_result r = ix ? empty_ended(b, ix, come) : come->count > 0 ? backup_fail(b, str_c(&error)) : BACKUP_OK;
	if (ix)
		index_read_end(ix);
	index_close(ix);
	str_free(&error);
	return r;
}

enum backup_result backup_explain(struct backup *b, const struct numbers *indexed)
{
	struct tail tail = { .full = false };
	bool good = indexed->count == 0 || read_tail_of(b, b->to, b->applied, &tail);
	for (size_t i = 0; good && i < indexed->count; i++)
		b->lost += !tail_touched(&tail, indexed->at[i]);
	tail_free(&tail);
	return good ? BACKUP_OK : backup_fail(b, SPOOL_LOG);
}

/* A file goes behind the sync of the record that ends its message: so one more piece of the log has the end of all that were missing in the
 * copied index. */
static enum backup_result settle_large(struct backup *b)
{
	struct numbers indexed = { NULL, 0, 0 }, come = { NULL, 0, 0 };
	size_t seen = 0;
	enum backup_result r = copy_indexed(b, &indexed);
	if (r == BACKUP_OK)
		r = copy_come(b, &seen, &come);
	if (b->pause)
		b->pause(b->context);
	if (r == BACKUP_OK)
		r = backup_tail(b);
	if (r == BACKUP_OK)
		r = copy_come(b, &seen, &come);
	if (r == BACKUP_OK)
		r = backup_explain(b, &indexed);
	if (r == BACKUP_OK)
		r = explain_come(b, &come);
	free(indexed.at);
	free(come.at);
	return r;
}

/* ---- all of it ---- */

static enum backup_result begin_log(struct backup *b)
{
	struct str error = STR_INIT(300);
	if (b->at.segment != 0)
		return backup_tail(b);
	/* There was no commit yet: all of the log is its end. */
	struct msglog *log = msglog_open(SPOOL_LOG, MSGLOG_SEGMENT_SIZE, &error);
	bool any = log && msglog_next_file(log, 1, &b->at.segment);
	msglog_close(log);
	str_free(&error);
	if (!log)
		return backup_fail(b, SPOOL_LOG);
	return any ? backup_tail(b) : BACKUP_OK;
}

static enum backup_result copy_all(struct backup *b)
{
	enum backup_result r = has_commit() ? write_index(b) : BACKUP_OK;
	if (r == BACKUP_OK && has_commit())
		r = open_copy(b);
	if (r == BACKUP_OK)
		r = begin_log(b);
	if (b->pause)
		b->pause(b->context);
	if (r == BACKUP_OK)
		r = copy_segments(b);
	if (r == BACKUP_OK)
		r = each_name(b, SPOOL_INTAKE, intake_name);
	if (r == BACKUP_OK && b->at.segment != 0)
		r = backup_tail(b);
	if (r == BACKUP_OK && b->at.segment != 0)
		r = settle_large(b);
	if (r == BACKUP_OK)
		r = backup_tail_end(b);
	if (r == BACKUP_OK)
		r = backup_prove(b);
	return r;
}

static void drop(struct backup *b)
{
	if (b->ix) {
		index_read_end(b->ix);
		index_close(b->ix);
	}
	if (b->tail >= 0)
		close(b->tail);
	struct numbers *lists[] = { &b->segments, &b->come, &b->come_segment, &b->come_offset };
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		free(lists[i]->at);
		*lists[i] = (struct numbers){ NULL, 0, 0 };
	}
	b->ix = NULL;
	b->tail = -1;
	unlinkat(b->to, SPOOL_INDEX "/lock.mdb", 0);
}

static enum backup_result empty_directory(struct backup *b, const char *name)
{
	const struct dirent *e;
	int fd = openat(b->to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	enum backup_result r = dir ? BACKUP_OK : backup_fail(b, name);
	while (r == BACKUP_OK && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] != '.' && unlinkat(fd, e->d_name, 0) != 0)
			r = backup_fail(b, name);
	}
	if (dir)
		closedir(dir);
	return r;
}

static enum backup_result begin_try(struct backup *b)
{
	enum backup_result r = BACKUP_OK;
	b->files = b->octets = b->messages = b->lost = 0;
	b->at = b->applied = (struct place){ 0, 0 };
	str_clear(&b->manifest);
	manifest_begin(&b->manifest, b->now);
	for (size_t i = 0; r == BACKUP_OK && b->tries > 0 && i < DIRECTORIES; i++)
		r = empty_directory(b, directories[i]);
	b->tries++;
	return r;
}

static enum backup_result write_text(struct backup *b, const char *name, struct bytes text)
{
	int fd = backup_make(b, name);
	bool good = fd >= 0 && io_write_full(fd, text.at, text.len) == 0 && fsync(fd) == 0;
	int saved = errno;
	if (fd >= 0 && close(fd) != 0)
		return backup_fail(b, name);
	errno = saved;
	return good ? BACKUP_OK : backup_fail(b, name);
}

static enum backup_result make_directories(struct backup *b)
{
	enum backup_result r = write_text(b, MANIFEST_INCOMPLETE, LIT("This backup was begun and is not complete. Do not start from it.\n"));
	for (size_t i = 0; r == BACKUP_OK && i < DIRECTORIES; i++) {
		if (mkdirat(b->to, directories[i], 0750) != 0)
			r = backup_fail(b, directories[i]);
	}
	return r == BACKUP_OK && fsync(b->to) != 0 ? backup_fail(b, "sync") : r;
}

/* Every name is durable before the manifest has its own, and that before INCOMPLETE goes. */
static enum backup_result finish(struct backup *b)
{
	if (!manifest_end(&b->manifest, b->files)) {
		errno = ENOMEM;
		return backup_fail(b, MANIFEST_FILE);
	}
	for (size_t i = 0; i < DIRECTORIES; i++) {
		if (io_sync_dir(b->to, directories[i]) != 0)
			return backup_fail(b, directories[i]);
	}
	enum backup_result r = write_text(b, MANIFEST_FILE, str_bytes(&b->manifest));
	if (r == BACKUP_OK && (fsync(b->to) != 0 || unlinkat(b->to, MANIFEST_INCOMPLETE, 0) != 0 || fsync(b->to) != 0))
		r = backup_fail(b, "sync");
	return r;
}

bool backup_run(struct backup *b)
{
	b->tail = -1;
	b->tries = 0;
	str_init(&b->manifest, (size_t)MANIFEST_LINES_MAX * 100);
	b->spool = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum backup_result r = b->spool < 0 ? backup_fail(b, path_spool) : make_directories(b);
	if (r == BACKUP_OK) {
		do {
			r = begin_try(b);
			if (r == BACKUP_OK)
				r = copy_all(b);
			drop(b);
		} while (r == BACKUP_AGAIN && b->tries < BACKUP_TRIES);
	}
	if (r == BACKUP_AGAIN)
		snprintf(b->error, sizeof b->error, "the log was recycled faster than it could be copied, %u times: choose a faster disk, or an hour with "
			"less mail", b->tries);
	if (r == BACKUP_OK)
		r = finish(b);
	str_free(&b->manifest);
	if (b->spool >= 0)
		close(b->spool);
	return r == BACKUP_OK;
}
