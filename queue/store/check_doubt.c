/*
 * check_doubt - see check_doubt.h. Room: queue (tappal).
 */
#include "check_doubt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/io.h"
#include "common/paths.h"
#include "msglog_inside.h"
#include "queue/places.h"

#define PAUSE_NS 1300000000L      /* a queued that works commits once a second */

bool numbers_add(struct numbers *n, uint64_t number)
{
	uint64_t *at = array_room(n->at, n->count, &n->room, sizeof *at);
	if (!at)
		return false;
	n->at = at;
	n->at[n->count++] = number;
	return true;
}

bool doubt(struct doubts *d, msgid_t id)
{
	bool known = d->ids.count < DOUBTS_MAX;
	d->more += !known;
	return !known || numbers_add(&d->ids, id);
}

void doubts_free(struct doubts *d)
{
	free(d->ids.at);
	free(d->segments.at);
	free(d->hurt.at);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void sort(struct numbers *n)
{
	if (n->count > 0)
		qsort(n->at, n->count, sizeof *n->at, compare);
}

/* Of sorted ones. */
static bool has(const struct numbers *n, uint64_t number)
{
	return n->count > 0 && bsearch(&number, n->at, n->count, sizeof *n->at, compare) != NULL;
}

/* ---- from segments to messages ---- */

static bool segment_is_there(uint64_t segment)
{
	char path[PLACE_MAX];
	place_segment(segment, path);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

static enum index_result add_missing_segments(struct doubts *d, struct index *ix)
{
	struct row_segment row;
	uint64_t s = 0;
	enum index_result r;
	while ((r = index_next_segment(ix, s, &s, &row)) == INDEX_OK) {
		if (row.live_messages > 0 && !segment_is_there(s) && !numbers_add(&d->segments, s))
			return INDEX_FATAL;
		if (s++ == UINT64_MAX)
			return INDEX_OK;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static enum index_result add_messages(struct doubts *d, struct index *ix)
{
	struct row_message m;
	msgid_t id = 0;
	enum index_result r;
	sort(&d->segments);
	sort(&d->hurt);
	while ((r = index_next_message(ix, id, &id, &m)) == INDEX_OK) {
		if (has(&d->segments, m.segment) && !doubt(d, id))
			return INDEX_FATAL;
		if (id++ == UINT64_MAX)
			return INDEX_OK;
	}
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static bool collect(struct doubts *d, struct index *ix)
{
	bool good = index_read_begin(ix) && add_missing_segments(d, ix) == INDEX_OK && (d->segments.count == 0 || add_messages(d, ix) == INDEX_OK);
	index_read_end(ix);
	return good;
}

/* ---- one message ---- */

enum standing { STANDS, DAMAGED, ANOTHER, GONE };

/* What stands where the index says that the message does? */
static enum standing look(int fd, msgid_t id, const struct row_message *m, struct str *payload)
{
	char octets[MSGLOG_HEAD];
	struct msglog_head head;
	struct record record;
	struct log_message lm;
	size_t used;
	if (io_pread_full(fd, octets, sizeof octets, m->record_offset) != (ssize_t)sizeof octets || !msglog_head_decode(octets, &head) ||
		head.segment != m->segment || head.length > MSGLOG_RECORD_MAX)
		return DAMAGED;
	str_clear(payload);
	char *at = str_reserve(payload, head.length);
	if (!at || io_pread_full(fd, at, head.length, m->record_offset + MSGLOG_HEAD) != (ssize_t)head.length)
		return DAMAGED;
	str_grew(payload, head.length);
	if (crc32c(0, payload->at, payload->len) != head.payload_crc)
		return DAMAGED;
	if (record_take(str_bytes(payload), &record, &used) != RECORD_OK || record.type != REC_log_message || !log_message_decode(record.payload, &lm))
		return ANOTHER;
	return lm.id == id ? STANDS : ANOTHER;
}

static enum standing find(msgid_t id, const struct row_message *m, struct str *payload)
{
	char path[PLACE_MAX];
	place_segment(m->segment, path);
	int fd = io_open_regular(AT_FDCWD, path);
	if (fd < 0)
		return errno == ENOENT ? GONE : DAMAGED;
	enum standing s = look(fd, id, m, payload);
	close(fd);
	return s;
}

static bool has_body(msgid_t id, const struct row_message *m)
{
	char path[PLACE_MAX];
	if (!m->large)
		return true;
	place_large(id, path);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

static void tell(struct check *c, msgid_t id, const struct row_message *m, enum standing s)
{
	static const struct { enum check_kind kind; const char *text; } said[] = {
		[STANDS] = { CHECK_LARGE_MISSING, "it is not there: the text of this message is lost" },
		[DAMAGED] = { CHECK_MESSAGE_DAMAGED, "the record of this message is damaged" },
		[ANOTHER] = { CHECK_INDEX_LOG, "the index says that this message stands here, and it does not" },
		[GONE] = { CHECK_LOG_MISSING, "the segment is not there, and this message stood in it" },
	};
	struct check_finding f = { .kind = said[s].kind, .id = id };
	if (s == STANDS) {
		place_large(id, f.file);
	} else {
		place_segment(m->segment, f.file);
		f.offset = m->record_offset;
		f.size = m->record_size;
	}
	snprintf(f.text, sizeof f.text, "%s", said[s].text);
	check_tell(c, &f);
}

/* One round over those in doubt: who is found is in doubt no more. `last`: who is not is told. */
static enum index_result judge(struct doubts *d, struct check *c, struct index *ix, const struct tail *tail, bool last)
{
	struct str payload = STR_INIT(MSGLOG_RECORD_MAX + RECORD_HEAD);
	struct row_message m;
	size_t left = 0;
	enum index_result r = INDEX_OK;
	for (size_t i = 0; r != INDEX_FATAL && i < d->ids.count; i++) {
		msgid_t id = d->ids.at[i];
		r = index_get_message(ix, id, &m);
		if (r != INDEX_OK || tail_touched(tail, id))
			continue;
		enum standing s = find(id, &m, &payload);
		if (s == STANDS && has_body(id, &m))
			continue;
		if (s == DAMAGED && !has(&d->hurt, m.segment))
			s = ANOTHER;
		if (last)
			tell(c, id, &m, s);
		d->ids.at[left++] = id;
	}
	d->ids.count = left;
	str_free(&payload);
	return r == INDEX_FATAL ? r : INDEX_OK;
}

static bool round_of(struct doubts *d, struct check *c, struct index *ix, const struct tail *tail, bool last)
{
	bool good = index_read_begin(ix) && judge(d, c, ix, tail, last) == INDEX_OK;
	index_read_end(ix);
	return good;
}

/* In a snapshot that is younger than all that was seen before, with what happened behind it. */
static bool round_anew(struct doubts *d, struct check *c, struct index *ix)
{
	const struct timespec pause = { 1, PAUSE_NS - 1000000000L };
	struct row_status status;
	struct tail tail = { .full = false };
	nanosleep(&pause, NULL);
	bool good = index_read_begin(ix) && index_get_status(ix, &status) == INDEX_OK;
	index_read_end(ix);
	good = good && tail_read(&tail, SPOOL_LOG, (struct place){ status.applied_segment, status.applied_offset }) == 0;
	good = good && round_of(d, c, ix, &tail, true);
	tail_free(&tail);
	return good;
}

bool doubts_judge(struct doubts *d, struct check *c, struct index *ix, const struct tail *tail)
{
	if (!collect(d, ix) || !round_of(d, c, ix, tail, !c->live))
		return false;
	if (c->live && d->ids.count > 0 && !round_anew(d, c, ix))
		return false;
	if (d->more > 0)
		check_say(c, CHECK_NOTE, "", "%llu more messages in doubt were not looked up one by one", (unsigned long long)d->more);
	return true;
}
