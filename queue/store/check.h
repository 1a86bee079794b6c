/*
 * check - does what stands on disk keep the queue's promises? Every record of the log, the index against itself and against the log, large
 * bodies, intake/, and files that nobody knows. Reads only. Room: queue (tappal, as tappal-queue).
 *
 * It may run beside a queued. What queued does meanwhile is no finding: the index is read in snapshots, each segment of the log against the
 * snapshot of that moment, and what was read of a segment counts only if the segment's name still means the same file afterwards.
 * What a crash may leave (docs/QUEUE.md) is no finding either: records that the index has not seen yet, a torn tail, PENDING and
 * ADOPT files, a large body whose message ended behind the last commit.
 *
 * Nothing that is read is believed. A broken LMDB file can make LMDB itself crash, so its tables are first walked by a child; when that dies,
 * the index is damaged, and the log is checked without it. Memory: the ids that changed behind the last commit, those in
 * doubt, the messages in flight at any place of the log (each list bounded); not the number of messages.
 */
#ifndef QUEUE_CHECK_H
#define QUEUE_CHECK_H

#include "common/msgid.h"
#include "msglog.h"

enum check_kind {
	/* the index */
	CHECK_INDEX_DAMAGED,      /* it cannot be opened or read */
	CHECK_INDEX_ROWS,         /* its rows contradict each other */
	CHECK_INDEX_LOG,          /* it contradicts the log */
	/* the log */
	CHECK_LOG_DAMAGED,        /* octets that had been synced are no records any more */
	CHECK_LOG_RECORD,         /* a whole record that nobody understands */
	CHECK_LOG_MISSING,        /* a segment that messages stand in is not there */
	CHECK_MESSAGE_DAMAGED,    /* the record of an unfinished message is damaged */
	/* large bodies */
	CHECK_LARGE_MISSING, CHECK_LARGE_DAMAGED, CHECK_LARGE_ORPHAN,
	/* files */
	CHECK_INTAKE_DAMAGED, CHECK_INTAKE_FORGOTTEN, CHECK_REPLY_FORGOTTEN, CHECK_SET_ASIDE, CHECK_UNKNOWN_FILE, CHECK_OWNER, CHECK_UNREADABLE,
	/* of a backup */
	CHECK_MANIFEST,
	/* no findings, but worth a line: the exit code does not speak of them */
	CHECK_NOTE,
	CHECK_KINDS
};
const char *check_kind_name(enum check_kind kind);   /* "index-damaged" */
const char *check_kind_next(enum check_kind kind);   /* what to do about it: a sentence */

struct check_finding {
	enum check_kind kind;
	msgid_t id;               /* 0: of no one message */
	uint64_t offset, size;    /* in the file; size 0: of the file as a whole */
	char file[300];           /* under the spool */
	char text[400];           /* the cause. May hold octets of strangers: neuter it */
};

/* What was looked at. Plain numbers, also sent through a pipe. */
struct check_sums {
	uint64_t messages, recipients, segments, records, octets /* of records */, large, intake /* messages that wait there */;
	uint64_t behind;          /* records that the index has not seen yet */
	uint64_t unproved;        /* messages of old records without a row: what ended them stood in a segment that is gone */
};

struct check {
	/* set by the caller */
	bool live;                /* queued runs */
	bool backup;              /* the working directory is a backup or a copy: nobody owns it, there are no fifos */
	wall_ms_t now;
	void (*found)(void *context, const struct check_finding *finding);
	void *context;
	/* results */
	struct check_sums sums;
	uint64_t count[CHECK_KINDS];
	char error[300];          /* of check_run */
};

/* Check the spool in the working directory. False: it could not be checked, and `error` says why. Forks; blocks on disk only. */
bool check_run(struct check *c);

/* ---- shared by its parts ---- */

struct index;
struct tail;

/* Tell a finding. `file` is copied. */
void check_tell(struct check *c, const struct check_finding *finding);
void check_say(struct check *c, enum check_kind kind, const char *file, const char *format, ...) __attribute__((format(printf, 4, 5)));
bool check_stop(struct check *c, const char *what);       /* false, with errno in `error` */

/* The index walked by a child: its findings, and whether its tables can be read as a whole. False: nobody knows. */
bool check_walk_index(struct check *c, bool *readable_r);

/* check_manifest.c: a backup against its manifest. */
bool check_manifest(struct check *c);

/* check_index.c: the index against itself, in one snapshot. False: the index cannot be read. */
bool check_index(struct check *c, struct index *ix);

/* check_log.c: all segments, and what the index (NULL: without) says of them. */
bool check_log(struct check *c, struct index *ix, const struct tail *tail);

/* check_files.c */
bool check_large(struct check *c, struct index *ix, const struct tail *tail);   /* files that no message names */
bool check_intake(struct check *c);
bool check_places(struct check *c);     /* unknown files everywhere, owners and modes */

/* check_body.c: large/ID against its record; ENOENT in errno and false when it is not there, which is the caller's to judge. */
struct log_message;
bool check_body(struct check *c, const struct log_message *message, struct bytes envelope);

#endif
