/*
 * check_tail - what happened behind the last commit of the index. See check_tail.h. Room: queue (tappal).
 */
#include "check_tail.h"

#include <errno.h>
#include <string.h>

#include "common/verdict.h"
#include "queue/operation.h"

enum { TOUCHED = 1, CAME = 2 };

/* Ids share their lower bits, and these are a token's hash: mixed, so that different ids stay different. */
static uint64_t mixed(msgid_t id)
{
	uint64_t h = id * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

static bool add(struct tail *t, msgid_t id, uint64_t what)
{
	t->full |= t->ids.now.count >= TAIL_MAX;
	return t->full || tokens_add(&t->ids, mixed(id), what);
}

static bool add_message(struct tail *t, const struct log_message *m)
{
	if (m->id > t->last_id && m->id <= MSGID_MAX)
		t->last_id = m->id;
	if (m->bounce_of != 0 && !add(t, m->bounce_of, TOUCHED))
		return false;
	return add(t, m->id, m->moved_from != 0 ? TOUCHED : CAME);
}

static bool add_record(struct tail *t, const struct record *record)
{
	struct log_message message;
	struct log_result result;
	struct log_operation operation;
	struct log_dropped dropped;
	switch (record->type) {
	case REC_log_message:
		return !log_message_decode(record->payload, &message) || add_message(t, &message);
	case REC_log_result:
		return !log_result_decode(record->payload, &result) || result.verdict == V_TEMP || add(t, result.id, TOUCHED);
	case REC_log_operation:
		return !log_operation_decode(record->payload, &operation) || add(t, operation.id, TOUCHED);
	case REC_log_dropped:
		return !log_dropped_decode(record->payload, &dropped) || add(t, dropped.id, TOUCHED);
	default:
		return true;
	}
}

static int read_all(struct tail *t, struct msglog *log, struct place from)
{
	struct msglog_scan *scan = msglog_scan_open(log, from, 0);
	struct msglog_entry e;
	struct record record;
	size_t used;
	enum msglog_result r;
	bool room = scan != NULL;
	while (room && (r = msglog_scan_next(scan, &e)) == MSGLOG_OK) {
		t->records++;
		room = e.damaged || record_take(e.payload, &record, &used) != RECORD_OK || add_record(t, &record);
	}
	if (scan)
		t->end = msglog_scan_place(scan);
	msglog_scan_close(scan);
	if (!room)
		errno = ENOMEM;
	return room && r == MSGLOG_END ? 0 : -1;
}

int tail_read(struct tail *t, const char *log_dir, struct place from)
{
	struct str error = STR_INIT(500);
	struct msglog *log = msglog_open(log_dir, MSGLOG_SEGMENT_SIZE, &error);
	*t = (struct tail){ .from = from, .end = from };
	int rc = log ? read_all(t, log, from) : -1;
	int saved = errno;
	msglog_close(log);
	str_free(&error);
	errno = saved;
	return rc;
}

void tail_free(struct tail *t)
{
	tokens_free(&t->ids);
}

bool tail_touched(const struct tail *t, msgid_t id)
{
	return t->full || tokens_has(&t->ids, mixed(id), TOUCHED);
}

bool tail_came(const struct tail *t, msgid_t id)
{
	return t->full || tokens_has(&t->ids, mixed(id), CAME);
}
