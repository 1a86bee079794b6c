/*
 * quarantine - see quarantine.h. Room: queue (tappal).
 */
#include "quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"

#define STEP 65536u
#define PAGE 4096u

bool quarantine_open(struct quarantine *q, wall_ms_t now)
{
	time_t seconds = (time_t)(now / SECOND_MS);
	struct tm tm;
	*q = (struct quarantine){ .dir = open(SPOOL_QUARANTINE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) };
	if (q->dir >= 0 && (gmtime_r(&seconds, &tm) == NULL || strftime(q->stamp, sizeof q->stamp, "%Y%m%d-%H%M%S", &tm) == 0))
		snprintf(q->stamp, sizeof q->stamp, "%lld", (long long)seconds);
	return q->dir >= 0;
}

void quarantine_close(struct quarantine *q)
{
	if (q->dir >= 0)
		close(q->dir);
	q->dir = -1;
}

/* "20261122-003000-0001-log-core"; what could mean something to a shell or a terminal becomes "_". */
static void make_name(struct quarantine *q, const char *file, char name[QUARANTINE_NAME])
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	snprintf(name, QUARANTINE_NAME - 8, "%s-%04u-%s", q->stamp, ++q->number, file);
	for (char *at = name; *at; at++) {
		if (*at == '/')
			*at = '-';
		else if (!strchr(plain, *at))
			*at = '_';
	}
}

static int write_new(struct quarantine *q, const char *name, struct bytes octets)
{
	int fd = openat(q->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int rc = io_write_full(fd, octets.at, octets.len) == 0 && fsync(fd) == 0 ? 0 : -1;
	int saved = errno;
	if (close(fd) != 0 && rc == 0)
		return -1;
	errno = saved;
	return rc;
}

/* A name that is free in this second, with its report. */
static bool write_report(struct quarantine *q, const char *file, struct bytes report, char name[QUARANTINE_NAME])
{
	char text[QUARANTINE_NAME + 8];
	int rc;
	do {
		make_name(q, file, name);
		snprintf(text, sizeof text, "%s.txt", name);
		rc = write_new(q, text, report);
	} while (rc != 0 && errno == EEXIST && q->number < 100000);
	return rc == 0;
}

static int copy_range(int from, int to, uint64_t offset, uint64_t size)
{
	char chunk[STEP];
	for (uint64_t done = 0; done < size;) {
		size_t n = size - done < STEP ? (size_t)(size - done) : STEP;
		ssize_t got = io_pread_full(from, chunk, n, offset + done);
		if (got < 0 && errno == EIO && n > PAGE) {
			n = PAGE;
			got = io_pread_full(from, chunk, n, offset + done);
		}
		if (got < 0 && errno != EIO)
			return -1;
		if (got == 0)
			return 0;
		if (got < 0)
			memset(chunk, 0, n);
		if (io_write_full(to, chunk, got < 0 ? n : (size_t)got) != 0)
			return -1;
		done += got < 0 ? n : (size_t)got;
	}
	return 0;
}

static bool copy_file(struct quarantine *q, const char *file, uint64_t offset, uint64_t size, const char *name)
{
	int from = io_open_regular(AT_FDCWD, file);
	int to = from < 0 ? -1 : openat(q->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool good = to >= 0 && copy_range(from, to, offset, size) == 0 && fsync(to) == 0;
	int saved = errno;
	if (to >= 0 && close(to) != 0)
		good = false;
	if (from >= 0)
		close(from);
	if (to >= 0 && !good)
		unlinkat(q->dir, name, 0);
	errno = saved;
	return good;
}

static void forget(struct quarantine *q, const char *name)
{
	char text[QUARANTINE_NAME + 8];
	int saved = errno;
	snprintf(text, sizeof text, "%s.txt", name);
	unlinkat(q->dir, text, 0);
	errno = saved;
}

static int sync_parent(const char *file)
{
	char parent[300];
	const char *slash = strrchr(file, '/');
	snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
	return io_sync_dir(AT_FDCWD, parent);
}

bool quarantine_move(struct quarantine *q, const char *file, struct bytes report, char name_r[QUARANTINE_NAME])
{
	if (!write_report(q, file, report, name_r))
		return false;
	bool moved = renameat(AT_FDCWD, file, q->dir, name_r) == 0;
	/* index/ may be a file system of its own. */
	if (!moved && errno == EXDEV)
		moved = copy_file(q, file, 0, UINT64_MAX, name_r) && fsync(q->dir) == 0 && unlink(file) == 0;
	if (!moved) {
		forget(q, name_r);
		return false;
	}
	return fsync(q->dir) == 0 && sync_parent(file) == 0;
}

bool quarantine_copy(struct quarantine *q, const char *file, uint64_t offset, uint64_t size, struct bytes report, char name_r[QUARANTINE_NAME])
{
	if (!write_report(q, file, report, name_r))
		return false;
	if (copy_file(q, file, offset, size, name_r))
		return fsync(q->dir) == 0;
	forget(q, name_r);
	return false;
}
