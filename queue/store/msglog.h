/*
 * msglog - the message log: an endless run of records in segments of a fixed size, appended by queued alone. Room: queue.
 *
 * A segment is preallocated, zero-filled and synced before its first record (a thread prepares the next one ahead of need), so an
 * append changes no metadata and fdatasync writes data only. Dead segments come back under a new number: rename keeps their blocks.
 *
 * A record: a head of MSGLOG_HEAD octets, the payload (one record of records.def, then raw octets), zeros up to a multiple of 8.
 *   u32 payload octets | u32 batch | u64 segment | u64 run | u32 CRC-32C of the payload | u32 CRC-32C of the head before it
 * What makes a record believable:
 *   segment   a recycled file still holds its former records: their number differs
 *   run       one run of queued never appends to another's segment. The run of a segment is that of its first record, log_start, at
 *             offset 0; records of another run are leftovers. Half of a run is random: a mail that carries octets in this form
 *             in its body cannot guess it, and would be looked at only when the record around it is damaged
 *   batch     offset at which the records since the last sync began. A record whose batch lies behind a damaged one proves that the
 *             damaged one had been synced: it is damage in the middle, and is reported. Without such a proof it is the torn tail
 *             of a crash: nothing behind it was ever acknowledged, and it is dropped
 * log_start also says where the segment before ends: what stands behind that end was never acknowledged.
 *
 * Not thread-safe; only the preparer (prepare.h) is another thread. Blocks on disk only.
 */
#ifndef QUEUE_MSGLOG_H
#define QUEUE_MSGLOG_H

#include "common/channel.h"
#include "loghead.h"

#ifndef MSGLOG_SEGMENT_SIZE                /* the crash tests build with small ones, so that segments come and go within seconds */
#define MSGLOG_SEGMENT_SIZE (64u << 20)
#endif
#define MSGLOG_RECORD_MAX (24u << 20)      /* longest payload */

struct place { uint64_t segment; uint64_t offset; };

enum msglog_result {
	MSGLOG_OK,
	MSGLOG_END,      /* scan: nothing more */
	MSGLOG_FULL,     /* append: no next segment can be made (ENOSPC, EDQUOT); nothing was appended */
	MSGLOG_BUSY,     /* recycle: somebody reads it */
	MSGLOG_FATAL,    /* the disk failed: msglog_error says what; never try again in this process */
};

struct msglog;

/* Take the directory as it is: its segments and spare files. Nothing is written. NULL with a sentence in `error`.
 * segment_size: of segments made from now on, a multiple of 4096. */
struct msglog *msglog_open(const char *dir, size_t segment_size, struct str *error);
void msglog_close(struct msglog *log);     /* ends the preparer; syncs nothing */
/* first(context) is called before records are handed to the kernel, which may write them to the disk at any time from then on: what they speak of
 * has to be durable before. False with errno: nothing is handed over, and the log is broken. */
typedef bool msglog_first_fn(void *context);
void msglog_set_first(struct msglog *log, msglog_first_fn *first, void *context);
const char *msglog_error(const struct msglog *log);
size_t msglog_segment_size(const struct msglog *log);
/* Lowest segment with a number >= from: false when there is none. */
bool msglog_next_file(const struct msglog *log, uint64_t from, uint64_t *segment_r);

/* ---- reading ---- */

struct msglog_entry {
	struct place place;        /* of the head */
	uint32_t size;             /* octets in the log, head and padding included; of a damaged entry, how many were skipped */
	uint64_t run;
	bool damaged;              /* payload is empty; the octets should be set aside */
	struct bytes payload;      /* valid until the next call on this scan */
};
struct msglog_scan;

/* Read from `from` on to the end of the log or, when `last` is not 0, of segment `last`. NULL: errno. */
struct msglog_scan *msglog_scan_open(struct msglog *log, struct place from, uint64_t last);
/* MSGLOG_OK, MSGLOG_END or MSGLOG_FATAL. A segment that is missing is passed over. */
enum msglog_result msglog_scan_next(struct msglog_scan *scan, struct msglog_entry *entry_r);
/* Where the scan stands; after MSGLOG_END the end of the log: behind the last record of the last segment that holds any. */
struct place msglog_scan_place(const struct msglog_scan *scan);
void msglog_scan_close(struct msglog_scan *scan);

/* Copy octets of a segment to DIR/NAME and sync it: for quarantine. 0 or -1 errno. */
int msglog_set_aside(struct msglog *log, struct place from, uint64_t size, const char *name);

/* What was replayed is believed from now on, so make it durable: a queued that was killed between its write and its sync left records
 * that only the page cache has, or that a failed write-back has marked clean. Written back over themselves and synced, in the
 * segments of [from, end). Nothing may be acknowledged, unlinked or committed on the ground of a replay before this. */
enum msglog_result msglog_harden(struct msglog *log, struct place from, struct place end);

/* ---- appending ---- */

/* Begin to append behind `end` (of a whole scan), always in a new segment (or one that only a log_start is in); files with a higher number
 * are unused and become spares.
 * Waits for the preparer. */
enum msglog_result msglog_start(struct msglog *log, struct place end, uint64_t run, wall_ms_t now);

/* Append a record: begin, append at most `bound` octets to *payload_r, finish (or cancel). A record that does not fit seals and syncs the
 * segment and goes on in the next. `optional`: also MSGLOG_FULL when only the reserve is left that keeps room for results
 * while no next segment is ready. */
enum msglog_result msglog_begin(struct msglog *log, size_t bound, bool optional, struct str **payload_r);
/* *payload_r is the record as it stands in the buffer, valid until the next call here. */
enum msglog_result msglog_finish(struct msglog *log, struct place *place_r, uint32_t *size_r, struct bytes *payload_r);
void msglog_cancel(struct msglog *log);

bool msglog_dirty(const struct msglog *log);
enum msglog_result msglog_sync(struct msglog *log);     /* one write, one fdatasync */
struct place msglog_end(const struct msglog *log);      /* where the next record will stand */

/* A segment that nothing needs any more, now or after a crash: its file becomes a spare. MSGLOG_BUSY: a body is read from it (queue/body.h), or that
 * cannot be known now; nothing was done. */
enum msglog_result msglog_recycle(struct msglog *log, uint64_t segment);
/* Once a second: a preparer that ran out of space tries again. */
void msglog_tick(struct msglog *log);

#endif
