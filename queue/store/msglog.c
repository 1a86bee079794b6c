/*
 * msglog - appending to the message log, and its files. Room: queue. msglog.h says what the format promises.
 *
 * Orders, and why:
 *   sync before ack        msglog_sync is the only thing that makes a record durable; the store acknowledges after it
 *   seal before going on   a full segment is synced before log_start of the next one is written, so that log_start's previous_end is
 *                          a proof: what is damaged before that end had been synced
 *   prepare before use     a segment's name is synced before it is handed out (prepare.c)
 */
#include "msglog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/io.h"
#include "msglog_inside.h"

#define PAGE 4096u
#define BUFFER_MAX (96u << 20)
#define FLUSH_AT (4u << 20)
#define RESERVE_DIVISOR 16u     /* of a segment, kept for results while no next segment can be made */
#define START_SIZE (MSGLOG_HEAD + RECORD_HEAD + 24u)   /* of a log_start record */
#define HARDEN_CHUNK (1u << 20)

/* ---- files ---- */

static bool list_add(uint64_t **list, size_t *count, size_t *room, uint64_t value)
{
	uint64_t *grown = array_room(*list, *count, room, sizeof *grown);
	if (!grown)
		return false;
	*list = grown;
	(*list)[(*count)++] = value;
	return true;
}

/* Exactly sixteen hex digits. */
static bool parse_number(const char *text, uint64_t *value_r)
{
	uint64_t value = 0;
	size_t i = 0;
	for (; text[i]; i++) {
		const char *digits = "0123456789abcdef", *d = strchr(digits, text[i]);
		if (!d || i == 16)
			return false;
		value = value << 4 | (uint64_t)(d - digits);
	}
	*value_r = value;
	return i == 16;
}

static bool take_name(struct msglog *log, const char *name)
{
	uint64_t number;
	if (parse_number(name, &number))
		return list_add(&log->file, &log->files, &log->file_room, number);
	if (strncmp(name, "spare-", 6) == 0 && parse_number(name + 6, &number))
		return list_add(&log->spare, &log->spares, &log->spare_room, number);
	return true;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int list_directory(struct msglog *log)
{
	int fd = openat(log->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -1;
	struct dirent *e;
	bool ok = true;
	errno = 0;
	while (ok && (e = readdir(dir)) != NULL)
		ok = take_name(log, e->d_name);
	if (!ok)
		errno = ENOMEM;
	int saved = errno;
	closedir(dir);
	errno = saved;
	if (saved != 0)
		return -1;
	if (log->files > 0)
		qsort(log->file, log->files, sizeof *log->file, compare_numbers);
	return 0;
}

struct msglog *msglog_open(const char *dir, size_t segment_size, struct str *error)
{
	struct msglog *log = calloc(1, sizeof *log);
	if (!log) {
		str_add_c(error, "log: no memory");
		return NULL;
	}
	log->fd = -1;
	log->segment_size = segment_size;
	str_init(&log->buffer, BUFFER_MAX);
	log->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (log->dirfd >= 0 && list_directory(log) == 0)
		return log;
	str_addf(error, "log directory %s: %s", dir, strerror(errno));
	msglog_close(log);
	return NULL;
}

void msglog_close(struct msglog *log)
{
	if (!log)
		return;
	prepare_stop(log->prepare);
	if (log->fd >= 0)
		close(log->fd);
	if (log->dirfd >= 0)
		close(log->dirfd);
	str_free(&log->buffer);
	free(log->file);
	free(log->spare);
	free(log);
}

void msglog_set_first(struct msglog *log, msglog_first_fn *first, void *context)
{
	log->first = first;
	log->first_context = context;
}

const char *msglog_error(const struct msglog *log)
{
	return log->error;
}

size_t msglog_segment_size(const struct msglog *log)
{
	return log->segment_size;
}

bool msglog_next_file(const struct msglog *log, uint64_t from, uint64_t *segment_r)
{
	size_t low = 0, high = log->files;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (log->file[middle] < from)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == log->files)
		return false;
	*segment_r = log->file[low];
	return true;
}

enum msglog_result msglog_broken(struct msglog *log, const char *what, uint64_t segment)
{
	snprintf(log->error, sizeof log->error, "log segment %016" PRIx64 ": %s: %s", segment, what, strerror(errno));
	return MSGLOG_FATAL;
}

/* ---- writing ---- */

/* Hand the buffer to the kernel in one write, up to the end of a page: no page is written in part while its rest must be read first,
 * and zeros end the log where a recycled file still holds its old octets. */
static enum msglog_result flush(struct msglog *log)
{
	size_t len = log->buffer.len;
	if (len == 0)
		return MSGLOG_OK;
	if (log->first && !log->first(log->first_context))
		return msglog_broken(log, "what its records speak of cannot be synced", log->segment);
	size_t pad = (size_t)(-(log->written + len) & (PAGE - 1));
	char *zeros = str_reserve(&log->buffer, pad);
	if (!zeros) {
		errno = ENOMEM;
		return msglog_broken(log, "buffer", log->segment);
	}
	memset(zeros, 0, pad);
	if (io_pwrite_full(log->fd, log->buffer.at, len + pad, log->written) != 0)
		return msglog_broken(log, "write", log->segment);
	log->written += len;
	str_clear(&log->buffer);
	return MSGLOG_OK;
}

struct place msglog_end(const struct msglog *log)
{
	return (struct place){ log->segment, log->written + log->buffer.len };
}

bool msglog_dirty(const struct msglog *log)
{
	return log->written + log->buffer.len != log->synced;
}

enum msglog_result msglog_sync(struct msglog *log)
{
	if (!msglog_dirty(log))
		return MSGLOG_OK;
	if (flush(log) != MSGLOG_OK)
		return MSGLOG_FATAL;
	/* A failed sync is final: the kernel has dropped the pages and the next sync would say that all is well. */
	if (fdatasync(log->fd) != 0)
		return msglog_broken(log, "sync", log->segment);
	log->synced = log->written;
	return MSGLOG_OK;
}

static bool begin_record(struct msglog *log)
{
	log->record = log->buffer.len;
	char *head = str_reserve(&log->buffer, MSGLOG_HEAD);
	if (!head)
		return false;
	memset(head, 0, MSGLOG_HEAD);
	str_grew(&log->buffer, MSGLOG_HEAD);
	return true;
}

/* Go on in a segment that was just taken from the preparer. */
static enum msglog_result enter(struct msglog *log, struct prepared next, uint64_t segment, uint64_t previous_end)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = next.fd;
	log->size = next.size;
	log->small = next.small;
	log->segment = segment;
	log->written = log->synced = 0;
	str_clear(&log->buffer);
	prepare_want(log->prepare, segment + 1);
	struct log_start start = { .run = log->run, .at_ms = log->now, .previous_end = previous_end };
	if (!list_add(&log->file, &log->files, &log->file_room, segment) || !begin_record(log) || !log_start_encode(&start, &log->buffer)) {
		errno = ENOMEM;
		return msglog_broken(log, "start", segment);
	}
	return msglog_finish(log, NULL, NULL, NULL);
}

static enum msglog_result take_next(struct msglog *log, uint64_t segment, struct prepared *next_r)
{
	prepare_want(log->prepare, segment);
	int rc = prepare_take(log->prepare, next_r);
	if (rc == 0)
		return MSGLOG_OK;
	errno = rc;
	msglog_broken(log, "cannot be made", segment);
	return rc == ENOSPC || rc == EDQUOT ? MSGLOG_FULL : MSGLOG_FATAL;
}

static enum msglog_result rotate(struct msglog *log)
{
	struct prepared next;
	enum msglog_result r = take_next(log, log->segment + 1, &next);
	if (r != MSGLOG_OK)
		return r;
	if (msglog_sync(log) != MSGLOG_OK) {
		close(next.fd);
		return MSGLOG_FATAL;
	}
	return enter(log, next, log->segment + 1, log->written);
}

/* ---- start ---- */

static int rewrite(int fd, char *chunk, uint64_t at, uint64_t end)
{
	while (at < end) {
		size_t n = end - at < HARDEN_CHUNK ? (size_t)(end - at) : HARDEN_CHUNK;
		ssize_t got = io_pread_full(fd, chunk, n, at);
		/* A place that cannot be read was set aside by the replay. */
		if (got < 0 && errno != EIO)
			return -1;
		if (got > 0 && io_pwrite_full(fd, chunk, (size_t)got, at) != 0)
			return -1;
		at += n;
	}
	return fdatasync(fd);
}

static int harden_segment(struct msglog *log, char *chunk, uint64_t segment, uint64_t at, uint64_t end)
{
	char name[PREPARE_NAME_MAX];
	struct stat st;
	prepare_name(segment, name);
	int fd = openat(log->dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = fstat(fd, &st);
	if (rc == 0)
		rc = rewrite(fd, chunk, at, end < (uint64_t)st.st_size ? end : (uint64_t)st.st_size);
	io_close(&fd);
	return rc;
}

enum msglog_result msglog_harden(struct msglog *log, struct place from, struct place end)
{
	char *chunk = malloc(HARDEN_CHUNK);
	uint64_t segment = from.segment;
	int rc = chunk ? 0 : -1;
	while (rc == 0 && msglog_next_file(log, segment, &segment) && segment <= end.segment) {
		rc = harden_segment(log, chunk, segment, segment == from.segment ? from.offset : 0, segment == end.segment ? end.offset : UINT64_MAX);
		segment += rc == 0;
	}
	int saved = errno;
	free(chunk);
	errno = saved;
	return rc == 0 ? MSGLOG_OK : msglog_broken(log, "sync after replay", segment);
}

static int make_spare(struct msglog *log, uint64_t segment)
{
	char from[PREPARE_NAME_MAX], to[PREPARE_NAME_MAX];
	prepare_name(segment, from);
	prepare_spare_name(segment, to);
	return renameat(log->dirfd, from, log->dirfd, to);
}

/* What stands behind the end of the log holds no record, at most the torn beginnings of one. */
static int spare_unused(struct msglog *log, uint64_t last)
{
	while (log->files > 0 && log->file[log->files - 1] > last) {
		uint64_t segment = log->file[log->files - 1];
		if (make_spare(log, segment) != 0 || !list_add(&log->spare, &log->spares, &log->spare_room, segment))
			return -1;
		log->files--;
	}
	return 0;
}

/* Does a segment begin with a whole log_start? */
static bool read_log_start(struct msglog *log, uint64_t segment, struct log_start *start_r)
{
	char octets[START_SIZE], name[PREPARE_NAME_MAX];
	struct msglog_head head;
	struct record record;
	size_t used;
	prepare_name(segment, name);
	int fd = io_open_regular(log->dirfd, name);
	ssize_t got = fd < 0 ? -1 : io_pread_full(fd, octets, sizeof octets, 0);
	if (fd >= 0)
		close(fd);
	if (got != (ssize_t)sizeof octets || !msglog_head_decode(octets, &head) || head.segment != segment || head.length != START_SIZE - MSGLOG_HEAD)
		return false;
	struct bytes payload = { octets + MSGLOG_HEAD, head.length };
	return crc32c(0, payload.at, payload.len) == head.payload_crc && record_take(payload, &record, &used) == RECORD_OK &&
		record.type == REC_log_start && log_start_decode(record.payload, start_r);
}

/* Where the log ends without a last segment that holds nothing but its log_start: that one is begun again. Else each start on a full disk,
 * where none can be made, would use up one that was ready. */
static struct place without_empty(struct msglog *log, struct place end)
{
	struct log_start start;
	if (end.offset != START_SIZE || end.segment == 0 || !read_log_start(log, end.segment, &start))
		return end;
	return (struct place){ end.segment - 1, start.previous_end };
}

enum msglog_result msglog_start(struct msglog *log, struct place end, uint64_t run, wall_ms_t now)
{
	struct prepared next;
	log->run = run;
	log->now = now;
	unlinkat(log->dirfd, "making", 0);
	end = without_empty(log, end);
	if (spare_unused(log, end.segment) != 0)
		return msglog_broken(log, "spare", end.segment);
	log->prepare = prepare_start(log->dirfd, log->segment_size);
	if (!log->prepare)
		return msglog_broken(log, "preparer", end.segment);
	for (size_t i = 0; i < log->spares; i++)
		prepare_add_spare(log->prepare, log->spare[i]);
	enum msglog_result r = take_next(log, end.segment + 1, &next);
	return r == MSGLOG_OK ? enter(log, next, end.segment + 1, end.offset) : r;
}

static bool fits(const struct msglog *log, uint64_t need, uint64_t reserve)
{
	uint64_t used = log->written + log->buffer.len;
	return need + reserve <= log->size && used <= log->size - need - reserve;
}

/* Results must find room even on a full disk, because only they make mail go away; new mail leaves them a reserve. */
static enum msglog_result make_room(struct msglog *log, uint64_t need, bool optional)
{
	bool failed = prepare_has_failed(log->prepare);
	uint64_t reserve = optional && failed ? log->size / RESERVE_DIVISOR : 0;
	if (!(optional && log->small) && fits(log, need, reserve))
		return MSGLOG_OK;
	if (optional && (failed || (log->small && !prepare_is_ready(log->prepare))))
		return MSGLOG_FULL;
	enum msglog_result r = rotate(log);
	if (r != MSGLOG_OK)
		return r;
	return fits(log, need, 0) && !(optional && log->small) ? MSGLOG_OK : MSGLOG_FULL;
}

enum msglog_result msglog_begin(struct msglog *log, size_t bound, bool optional, struct str **payload_r)
{
	if (bound > MSGLOG_RECORD_MAX)
		return MSGLOG_FULL;
	if (log->buffer.len > FLUSH_AT && flush(log) != MSGLOG_OK)
		return MSGLOG_FATAL;
	enum msglog_result r = make_room(log, msglog_record_size(bound), optional);
	if (r != MSGLOG_OK)
		return r;
	if (!begin_record(log)) {
		msglog_cancel(log);
		return MSGLOG_FULL;
	}
	*payload_r = &log->buffer;
	return MSGLOG_OK;
}

void msglog_cancel(struct msglog *log)
{
	str_truncate(&log->buffer, log->record);
	log->buffer.failed = false;
}

enum msglog_result msglog_finish(struct msglog *log, struct place *place_r, uint32_t *size_r, struct bytes *payload_r)
{
	struct str *b = &log->buffer;
	size_t start = log->record + MSGLOG_HEAD, length = b->len - start, pad = (size_t)(-length & 7);
	if (b->failed || !str_add(b, (struct bytes){ "\0\0\0\0\0\0\0", pad })) {
		errno = ENOMEM;
		return msglog_broken(log, "buffer", log->segment);
	}
	struct msglog_head head = { (uint32_t)length, (uint32_t)log->synced, log->segment, log->run, crc32c(0, b->at + start, length) };
	msglog_head_encode(&head, b->at + log->record);
	if (place_r)
		*place_r = (struct place){ log->segment, log->written + log->record };
	if (size_r)
		*size_r = (uint32_t)(b->len - log->record);
	if (payload_r)
		*payload_r = (struct bytes){ b->at + start, length };
	return MSGLOG_OK;
}

/* ---- space ---- */

/* Who reads a body out of it holds a shared lock, which ends with the last descriptor of the reader. The exclusive one is kept until the file has
 * its other name: a reader takes his lock first and looks for the name then. */
static enum msglog_result take_from_readers(struct msglog *log, uint64_t segment)
{
	char name[PREPARE_NAME_MAX];
	prepare_name(segment, name);
	int fd = openat(log->dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? MSGLOG_OK : MSGLOG_BUSY;
	enum msglog_result r = flock(fd, LOCK_EX | LOCK_NB) == 0 ? MSGLOG_OK : MSGLOG_BUSY;
	if (r == MSGLOG_OK && make_spare(log, segment) != 0 && errno != ENOENT)
		r = msglog_broken(log, "recycle", segment);
	io_close(&fd);
	return r;
}

enum msglog_result msglog_recycle(struct msglog *log, uint64_t segment)
{
	enum msglog_result r = take_from_readers(log, segment);
	if (r != MSGLOG_OK)
		return r;
	for (size_t i = 0; i < log->files; i++) {
		if (log->file[i] != segment)
			continue;
		memmove(log->file + i, log->file + i + 1, (log->files - i - 1) * sizeof *log->file);
		log->files--;
		break;
	}
	prepare_add_spare(log->prepare, segment);
	return MSGLOG_OK;
}

void msglog_tick(struct msglog *log)
{
	if (prepare_has_failed(log->prepare))
		prepare_want(log->prepare, log->segment + 1);
}
