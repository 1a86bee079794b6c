/*
 * backup_log - the log's part of a backup: old segments whole, and the end of the log, which grows while it is copied. Room: queue (tappal).
 *
 * A record whose checksums are right does not change any more, until its segment is recycled; and then the segment's name means another
 * file. So what was copied counts when the name still means the same file afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup.h"
#include "common/crc32c.h"
#include "common/io.h"
#include "common/paths.h"
#include "msglog_inside.h"
#include "queue/places.h"

#define LOOKS 8u                 /* at something odd, before it is taken for what it looks like */
#define LOOK_NS 20000000L

static void wait_a_little(void)
{
	const struct timespec t = { 0, LOOK_NS };
	nanosleep(&t, NULL);
}

static bool still(const char *path, int fd)
{
	struct stat named, opened;
	return lstat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

/* ---- old segments ---- */

enum backup_result backup_segment(struct backup *b, uint64_t segment, uint64_t used)
{
	char path[PLACE_MAX];
	uint64_t size;
	uint32_t crc;
	place_segment(segment, path);
	int in = io_open_regular(AT_FDCWD, path);
	if (in < 0)
		return errno == ENOENT ? BACKUP_OK : backup_fail(b, path);
	int out = backup_make(b, path);
	enum backup_result r = out < 0 ? backup_fail(b, path) : backup_copy(b, in, out, used, &size, &crc);
	bool same = r == BACKUP_OK && still(path, in);
	close(in);
	if (same)
		return backup_note(b, out, path, size, crc);
	if (out >= 0)
		close(out);
	if (r == BACKUP_OK && unlinkat(b->to, path, 0) != 0)
		return backup_fail(b, path);
	return r;
}

/* ---- the end of the log ---- */

/* What a look at segment at.segment has found. */
struct look {
	uint64_t end;                /* of its last record */
	bool damaged, next;          /* there is a higher one: next_number */
	bool sealed;                 /* that is the next one, and says that this one ends at sealed_at */
	uint64_t sealed_at, next_number;
};

static bool note_large(struct backup *b, const struct msglog_entry *e)
{
	struct record record;
	struct log_message m;
	size_t used;
	/* Before it the index knows who is still there. */
	if (e->place.segment == b->applied.segment && e->place.offset < b->applied.offset)
		return true;
	if (e->damaged || record_take(e->payload, &record, &used) != RECORD_OK || record.type != REC_log_message ||
		!log_message_decode(record.payload, &m) || !m.large)
		return true;
	return numbers_add(&b->come, m.id) && numbers_add(&b->come_segment, e->place.segment) && numbers_add(&b->come_offset, e->place.offset);
}

/* From b->at on to the end. Stops in front of damage, unless that is known to be more than a record that is being written. */
static bool scan_rest(struct backup *b, struct msglog *log, bool over_damage, struct look *l)
{
	struct msglog_scan *scan = msglog_scan_open(log, b->at, b->at.segment);
	struct msglog_entry e;
	enum msglog_result r = MSGLOG_END;
	bool room = scan != NULL;
	l->end = b->at.offset;
	while (room && (r = msglog_scan_next(scan, &e)) == MSGLOG_OK) {
		l->damaged |= e.damaged;
		if (e.damaged && !over_damage)
			break;
		room = note_large(b, &e);
		l->end = e.place.offset + e.size;
	}
	msglog_scan_close(scan);
	if (!room)
		errno = ENOMEM;
	return room && r != MSGLOG_FATAL;
}

static bool scan_next(struct msglog *log, uint64_t segment, struct look *l)
{
	struct msglog_entry e;
	struct record record;
	struct log_start start;
	size_t used;
	l->next = msglog_next_file(log, segment + 1, &l->next_number);
	if (!l->next || l->next_number != segment + 1)
		return true;
	struct msglog_scan *scan = msglog_scan_open(log, (struct place){ segment + 1, 0 }, segment + 1);
	enum msglog_result r = scan ? msglog_scan_next(scan, &e) : MSGLOG_FATAL;
	l->sealed = r == MSGLOG_OK && !e.damaged && e.place.offset == 0 && record_take(e.payload, &record, &used) == RECORD_OK &&
		record.type == REC_log_start && log_start_decode(record.payload, &start);
	l->sealed_at = l->sealed ? start.previous_end : 0;
	msglog_scan_close(scan);
	return r != MSGLOG_FATAL;
}

static enum backup_result look_at(struct backup *b, bool over_damage, struct look *l)
{
	struct str error = STR_INIT(500);
	struct msglog *log = msglog_open(SPOOL_LOG, MSGLOG_SEGMENT_SIZE, &error);
	*l = (struct look){ .end = b->at.offset };
	str_free(&error);
	if (!log)
		return backup_fail(b, SPOOL_LOG);
	/* The next one first: what it says of the end of this one was written when nothing followed any more. */
	bool good = scan_next(log, b->at.segment, l) && scan_rest(b, log, over_damage, l);
	msglog_close(log);
	return good ? BACKUP_OK : backup_fail(b, SPOOL_LOG);
}

static enum backup_result append(struct backup *b, const char *path, uint64_t end)
{
	char chunk[65536];
	int in = io_open_regular(AT_FDCWD, path);
	bool good = in >= 0;
	while (good && b->at.offset < end) {
		size_t n = end - b->at.offset < sizeof chunk ? (size_t)(end - b->at.offset) : sizeof chunk;
		good = io_pread_full(in, chunk, n, b->at.offset) == (ssize_t)n && io_write_full(b->tail, chunk, n) == 0;
		b->at.offset += good ? n : 0;
	}
	enum backup_result r = good ? still(path, in) ? BACKUP_OK : BACKUP_AGAIN : in < 0 && errno == ENOENT ? BACKUP_AGAIN : backup_fail(b, path);
	if (in >= 0)
		close(in);
	return r;
}

static enum backup_result note_segment(struct backup *b, uint64_t segment)
{
	char path[PLACE_MAX], chunk[65536];
	uint64_t size = 0;
	uint32_t crc = 0;
	ssize_t got = 0;
	place_segment(segment, path);
	int fd = openat(b->to, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	while (fd >= 0 && (got = io_pread_full(fd, chunk, sizeof chunk, size)) > 0) {
		crc = crc32c(crc, chunk, (size_t)got);
		size += (size_t)got;
	}
	if (fd >= 0 && got == 0)
		return backup_note(b, fd, path, size, crc);
	enum backup_result r = backup_fail(b, path);
	if (fd >= 0)
		close(fd);
	return r;
}

static enum backup_result close_segment(struct backup *b)
{
	int rc = b->tail < 0 ? 0 : close(b->tail);
	b->tail = -1;
	return rc == 0 ? BACKUP_OK : backup_fail(b, SPOOL_LOG);
}

enum backup_result backup_tail_end(struct backup *b)
{
	enum backup_result r = close_segment(b);
	for (size_t i = 0; r == BACKUP_OK && i < b->segments.count; i++)
		r = note_segment(b, b->segments.at[i]);
	return r;
}

/* A record of the same size that changes nothing: recipients of message 0, which does not exist, were let go; zeros follow. */
static bool write_empty(int fd, uint64_t at)
{
	static const char zeros[4096];
	struct log_dropped nothing = { .id = 0 };
	struct msglog_head head;
	struct str payload = STR_INIT(MSGLOG_RECORD_MAX);
	char octets[MSGLOG_HEAD];
	bool good = io_pread_full(fd, octets, sizeof octets, at) == (ssize_t)sizeof octets && msglog_head_decode(octets, &head) &&
		log_dropped_encode(&nothing, &payload) && payload.len <= head.length;
	while (good && payload.len < head.length) {
		size_t left = head.length - payload.len;
		good = str_add(&payload, (struct bytes){ zeros, left < sizeof zeros ? left : sizeof zeros });
	}
	if (good) {
		head.payload_crc = crc32c(0, payload.at, payload.len);
		msglog_head_encode(&head, octets);
		good = io_pwrite_full(fd, payload.at, payload.len, at + MSGLOG_HEAD) == 0 && io_pwrite_full(fd, octets, sizeof octets, at) == 0;
	}
	str_free(&payload);
	return good;
}

enum backup_result backup_empty(struct backup *b, size_t i)
{
	char path[PLACE_MAX];
	place_segment(b->come_segment.at[i], path);
	int fd = openat(b->to, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	bool good = fd >= 0 && write_empty(fd, b->come_offset.at[i]);
	enum backup_result r = good ? BACKUP_OK : backup_fail(b, path);
	if (fd >= 0)
		close(fd);
	return r;
}

static enum backup_result begin_segment(struct backup *b, const char *path, uint64_t inode)
{
	if (b->tail >= 0)
		return inode == b->tail_inode ? BACKUP_OK : BACKUP_AGAIN;
	b->tail = backup_make(b, path);
	b->tail_inode = inode;
	if (b->tail >= 0 && !numbers_add(&b->segments, b->at.segment))
		errno = ENOMEM;
	else if (b->tail >= 0)
		return BACKUP_OK;
	return backup_fail(b, path);
}

/* *more_r: the segment ended, and the next one is there. */
static enum backup_result follow(struct backup *b, unsigned looks, bool *more_r)
{
	char path[PLACE_MAX];
	struct look l;
	struct stat st;
	bool last_look = looks + 1 == LOOKS;
	*more_r = false;
	place_segment(b->at.segment, path);
	if (lstat(path, &st) != 0)
		return errno == ENOENT ? BACKUP_AGAIN : backup_fail(b, path);
	enum backup_result r = look_at(b, last_look, &l);
	if (r == BACKUP_OK)
		r = begin_segment(b, path, st.st_ino);
	if (r == BACKUP_OK)
		r = append(b, path, l.end);
	if (r != BACKUP_OK)
		return r;
	bool odd = l.damaged || (l.next && l.next_number != b->at.segment + 1) || (l.sealed && l.end < l.sealed_at);
	if (odd && !last_look) {
		wait_a_little();
		*more_r = true;
		return BACKUP_OK;
	}
	if (l.next && l.next_number != b->at.segment + 1)
		return BACKUP_AGAIN;
	if (!l.sealed)
		return BACKUP_OK;
	r = close_segment(b);
	b->at = (struct place){ b->at.segment + 1, 0 };
	*more_r = true;
	return r;
}

enum backup_result backup_tail(struct backup *b)
{
	enum backup_result r = BACKUP_OK;
	bool more = b->at.segment != 0;      /* there is a log */
	uint64_t segment = b->at.segment;
	for (unsigned looks = 0; r == BACKUP_OK && more; looks++) {
		if (b->at.segment != segment)
			looks = 0;
		segment = b->at.segment;
		r = follow(b, looks, &more);
	}
	return r;
}
