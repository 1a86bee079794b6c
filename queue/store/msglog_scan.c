/*
 * msglog_scan - reading the message log: replay after a start, and the search for survivors in a segment that is mostly dead.
 * Room: queue.
 *
 * Where no believable record stands, one of three things is true, and msglog.h says what proves which: the segment ends here; this is
 * the torn tail of a crash (dropped: it was never acknowledged); or records are damaged (skipped and told, the rest goes on).
 * A place that the disk cannot read counts as damaged, not as a reason to stop all mail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/io.h"
#include "msglog_inside.h"

#define WINDOW (1u << 20)
#define PAGE 4096u

/* A segment being read, through a window that slides over it. */
struct source {
	int fd;
	uint64_t segment, size;
	uint64_t run;               /* 0: not known */
	char *window;
	size_t room, filled;
	uint64_t at;                /* offset of the window */
};

struct msglog_scan {
	struct msglog *log;
	struct source source, probe;
	uint64_t want, last;        /* next segment to open; the last to read, 0 all */
	uint64_t first_offset;      /* where to begin in segment `want`, once */
	uint64_t offset;
	uint64_t limit;             /* where the segment ends: sealed, its end is known; else its size */
	bool sealed;
	struct place end;
};

enum found { FOUND_RECORD, FOUND_HEAD /* its payload is damaged */, FOUND_NOTHING, FOUND_FATAL };

/* ---- the window ---- */

/* What cannot be read becomes zeros, page by page: no record there will pass its checksum. */
static int read_pages(int fd, char *to, size_t n, uint64_t at)
{
	for (size_t done = 0; done < n;) {
		size_t part = n - done < PAGE ? n - done : PAGE;
		ssize_t got = io_pread_full(fd, to + done, part, at + done);
		if (got < 0 && errno != EIO)
			return -1;
		size_t have = got < 0 ? 0 : (size_t)got;
		memset(to + done + have, 0, part - have);
		done += part;
	}
	return 0;
}

static int fill_window(struct source *s, uint64_t at, size_t n)
{
	size_t want = n > WINDOW ? n : WINDOW;
	if (want > s->size - at)
		want = (size_t)(s->size - at);
	if (want > s->room) {
		char *grown = realloc(s->window, want);
		if (!grown)
			return -1;
		s->window = grown;
		s->room = want;
	}
	ssize_t got = io_pread_full(s->fd, s->window, want, at);
	if (got < 0 ? errno != EIO || read_pages(s->fd, s->window, want, at) != 0 : (size_t)got < want) {
		if (got >= 0)
			errno = EIO;
		return -1;
	}
	s->at = at;
	s->filled = want;
	return 0;
}

/* n octets at `at`, which lie within the segment: NULL with errno when they cannot be had. */
static const char *octets(struct source *s, uint64_t at, size_t n)
{
	if (at < s->at || at - s->at > s->filled || s->filled - (size_t)(at - s->at) < n) {
		if (fill_window(s, at, n) != 0)
			return NULL;
	}
	return s->window + (at - s->at);
}

/* ---- one record ---- */

static bool head_is_believable(const struct source *s, uint64_t at, const struct msglog_head *h)
{
	return h->segment == s->segment && h->length >= RECORD_HEAD && h->length <= MSGLOG_RECORD_MAX &&
		msglog_record_size(h->length) <= s->size - at &&
		h->batch <= at && (s->run == 0 || h->run == s->run);
}

static enum found look(struct source *s, uint64_t at, struct msglog_head *head_r, struct bytes *payload_r)
{
	if (s->size < MSGLOG_HEAD || at > s->size - MSGLOG_HEAD)
		return FOUND_NOTHING;
	const char *p = octets(s, at, MSGLOG_HEAD);
	if (!p)
		return FOUND_FATAL;
	if (!msglog_head_decode(p, head_r) || !head_is_believable(s, at, head_r))
		return FOUND_NOTHING;
	p = octets(s, at, MSGLOG_HEAD + head_r->length);
	if (!p)
		return FOUND_FATAL;
	*payload_r = (struct bytes){ p + MSGLOG_HEAD, head_r->length };
	return crc32c(0, payload_r->at, payload_r->len) == head_r->payload_crc ? FOUND_RECORD : FOUND_HEAD;
}

/* The first octets of a head before its segment number are skipped by most places in a search at the price of one comparison. */
static bool may_be_head(struct source *s, uint64_t at)
{
	const char *p = octets(s, at, MSGLOG_HEAD);
	uint64_t segment = 0;
	for (unsigned i = 0; p && i < 8; i++)
		segment |= (uint64_t)(unsigned char)p[8 + i] << (8 * i);
	return !p || segment == s->segment;
}

/* The next record at or after *at, below limit. */
static enum found search(struct source *s, uint64_t *at, uint64_t limit, struct msglog_head *head_r)
{
	struct bytes payload;
	while (*at + MSGLOG_HEAD <= limit) {
		enum found f = may_be_head(s, *at) ? look(s, *at, head_r, &payload) : FOUND_NOTHING;
		if (f == FOUND_RECORD || f == FOUND_FATAL)
			return f;
		*at += f == FOUND_HEAD ? msglog_record_size(head_r->length) : 8;
	}
	return FOUND_NOTHING;
}

/* ---- segments ---- */

static void source_close(struct source *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* 1 open, 0 there is no such file, -1 errno. */
static int source_open(struct msglog *log, struct source *s, uint64_t segment)
{
	char name[PREPARE_NAME_MAX];
	struct stat st;
	source_close(s);
	prepare_name(segment, name);
	s->fd = io_open_regular(log->dirfd, name);
	if (s->fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (fstat(s->fd, &st) != 0)
		return -1;
	s->segment = segment;
	s->size = (uint64_t)st.st_size;
	s->run = 0;
	s->at = 0;
	s->filled = 0;
	return 1;
}

/* Read log_start at offset 0: 1 there is one, 0 there is none, -1. */
static int read_start(struct source *s, struct log_start *start_r)
{
	struct msglog_head head;
	struct bytes payload;
	struct record record;
	size_t used;
	enum found f = look(s, 0, &head, &payload);
	if (f == FOUND_FATAL)
		return -1;
	if (f != FOUND_RECORD || record_take(payload, &record, &used) != RECORD_OK || record.type != REC_log_start ||
		!log_start_decode(record.payload, start_r))
		return 0;
	s->run = head.run;
	return 1;
}

/* The segment behind tells where this one ends. */
static int find_limit(struct msglog_scan *scan)
{
	struct log_start start;
	scan->limit = scan->source.size;
	scan->sealed = false;
	int rc = source_open(scan->log, &scan->probe, scan->source.segment + 1);
	if (rc == 1)
		rc = read_start(&scan->probe, &start);
	if (rc == 1 && start.previous_end <= scan->source.size) {
		scan->limit = start.previous_end;
		scan->sealed = true;
	}
	source_close(&scan->probe);
	return rc < 0 ? -1 : 0;
}

/* 1 opened, 0 no more, -1. */
static int next_segment(struct msglog_scan *scan)
{
	uint64_t segment;
	struct log_start start;
	if (!msglog_next_file(scan->log, scan->want, &segment) || (scan->last != 0 && segment > scan->last))
		return 0;
	scan->offset = segment == scan->want ? scan->first_offset : 0;
	scan->first_offset = 0;
	scan->want = segment + 1;
	int rc = source_open(scan->log, &scan->source, segment);
	if (rc == 1)
		rc = read_start(&scan->source, &start) < 0 ? -1 : 1;
	if (rc == 1 && find_limit(scan) != 0)
		rc = -1;
	return rc == 0 ? next_segment(scan) : rc;
}

/* ---- scanning ---- */

struct msglog_scan *msglog_scan_open(struct msglog *log, struct place from, uint64_t last)
{
	struct msglog_scan *scan = calloc(1, sizeof *scan);
	if (!scan)
		return NULL;
	scan->log = log;
	scan->source.fd = scan->probe.fd = -1;
	scan->want = from.segment;
	scan->first_offset = from.offset;
	scan->last = last;
	scan->end = from;
	return scan;
}

void msglog_scan_close(struct msglog_scan *scan)
{
	if (!scan)
		return;
	source_close(&scan->source);
	free(scan->source.window);
	free(scan->probe.window);
	free(scan);
}

struct place msglog_scan_place(const struct msglog_scan *scan)
{
	return scan->end;
}

/* Is there proof that the record that stood at scan->offset had been synced? *next_r: the record after it, or the segment's limit. */
static enum found find_proof(struct msglog_scan *scan, uint64_t from, uint64_t *next_r, bool *proof_r)
{
	struct msglog_head head;
	uint64_t at = from;
	enum found f = search(&scan->source, &at, scan->limit, &head);
	*next_r = f == FOUND_RECORD ? at : scan->limit;
	*proof_r = scan->sealed;
	while (f == FOUND_RECORD && !*proof_r) {
		*proof_r = head.batch > scan->offset;
		at += msglog_record_size(head.length);
		f = search(&scan->source, &at, scan->limit, &head);
	}
	return f == FOUND_FATAL ? f : FOUND_NOTHING;
}

/* No record at scan->offset. MSGLOG_END: nor behind it in this segment. */
static enum msglog_result over_damage(struct msglog_scan *scan, const struct msglog_head *head, struct msglog_entry *entry_r)
{
	uint64_t next;
	bool proof;
	if (find_proof(scan, scan->offset + (head ? msglog_record_size(head->length) : 8), &next, &proof) == FOUND_FATAL)
		return msglog_broken(scan->log, "read", scan->source.segment);
	if (!proof)
		return MSGLOG_END;
	*entry_r = (struct msglog_entry){ .place = { scan->source.segment, scan->offset }, .size = (uint32_t)(next - scan->offset), .damaged = true };
	scan->offset = next;
	scan->end = (struct place){ scan->source.segment, next };
	return MSGLOG_OK;
}

static enum msglog_result next_in_segment(struct msglog_scan *scan, struct msglog_entry *entry_r)
{
	struct msglog_head head;
	struct bytes payload;
	if (scan->offset >= scan->limit)
		return MSGLOG_END;
	enum found f = look(&scan->source, scan->offset, &head, &payload);
	if (f == FOUND_FATAL)
		return msglog_broken(scan->log, "read", scan->source.segment);
	if (f != FOUND_RECORD)
		return over_damage(scan, f == FOUND_HEAD ? &head : NULL, entry_r);
	/* A segment whose log_start is damaged gets its run from the first record that is whole. */
	scan->source.run = head.run;
	*entry_r = (struct msglog_entry){
		.place = { scan->source.segment, scan->offset }, .size = (uint32_t)msglog_record_size(head.length), .run = head.run, .payload = payload,
	};
	scan->offset += entry_r->size;
	scan->end = (struct place){ scan->source.segment, scan->offset };
	return MSGLOG_OK;
}

enum msglog_result msglog_scan_next(struct msglog_scan *scan, struct msglog_entry *entry_r)
{
	for (;;) {
		if (scan->source.fd >= 0) {
			enum msglog_result r = next_in_segment(scan, entry_r);
			if (r != MSGLOG_END)
				return r;
			source_close(&scan->source);
		}
		int rc = next_segment(scan);
		if (rc == 0)
			return MSGLOG_END;
		if (rc < 0)
			return msglog_broken(scan->log, "open", scan->want);
	}
}

/* ---- quarantine ---- */

int msglog_set_aside(struct msglog *log, struct place from, uint64_t size, const char *name)
{
	struct source s = { .fd = -1 };
	int rc = source_open(log, &s, from.segment) == 1 ? 0 : -1;
	int fd = rc == 0 ? openat(log->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		rc = -1;
	for (uint64_t done = 0; rc == 0 && done < size;) {
		size_t n = size - done < WINDOW ? (size_t)(size - done) : WINDOW;
		const char *p = octets(&s, from.offset + done, n);
		rc = p ? io_write_full(fd, p, n) : -1;
		done += n;
	}
	if (rc == 0)
		rc = fsync(fd);
	if (fd >= 0)
		close(fd);
	source_close(&s);
	free(s.window);
	return rc;
}
