/*
 * backup - a consistent copy of a queue, also of one that works: index, log, large bodies, and promised mail in intake/. Room: queue
 * (tappal, as tappal-queue). Working directory: the spool. docs/THOUGHTS.md says why nothing is asked of queued for it.
 *
 * The order makes it consistent:
 *   1. the index      LMDB's copy of the last commit. What is in it is in the log up to its applied position
 *   2. old segments   those below that position in which the copied index has messages. One that goes meanwhile is not needed: it went because
 *                     all its messages were ended or moved by records that step 5 copies
 *   3. intake/        ADOPT files. One that is there after step 1 was not in the log at that commit, so a replay of the copy meets its token
 *   4. large/         all bodies that the copied index or the copied log names
 *   5. the log        from the applied position on to its end. This goes on between all the other steps, a few MiB at a time, so that no segment can
 *                     be filled, emptied and recycled unseen; if one is all the same, the backup begins anew
 * A body that was unlinked before step 4 came to it is not needed, because its message has ended. If the copied index has that message, the log
 * up to its end is copied, too. If only the copied log has it, its record becomes an empty one in the copy: or the copy would have to go on until
 * nobody's large mail came and went, which on a busy host may be never.
 */
#ifndef QUEUE_BACKUP_H
#define QUEUE_BACKUP_H

#include "check_doubt.h"
#include "check_tail.h"
#include "manifest.h"
#include "queue/index.h"

#define BACKUP_TRIES 5u
#define BACKUP_STEP (4u << 20)       /* octets between two looks at the log */

enum backup_result { BACKUP_OK, BACKUP_AGAIN /* a segment was recycled before it was copied */, BACKUP_FAILED /* `error` says why */ };

struct backup {
	/* set by the caller */
	int to;                       /* the directory: empty, writable */
	wall_ms_t now;
	void (*pause)(void *context); /* for tests: called between steps; NULL */
	void *context;
	/* results */
	char error[300];
	uint64_t files, octets, messages, lost /* bodies that are not there and should be */;
	struct numbers damaged;       /* ids of messages whose text is not what was accepted; the caller's to free */
	unsigned tries;

	/* private */
	struct str manifest;
	int spool;                    /* the working directory */
	struct index *ix;             /* the copied one */
	struct place applied;
	/* the copied end of the log */
	struct place at;              /* octets before it are copied */
	int tail;                     /* the copy of segment at.segment, with its number the last of `segments`; -1 */
	uint64_t tail_inode;          /* of the original: a start may begin a segment anew that held only its header */
	struct numbers segments;      /* that it consists of */
	struct numbers come, come_segment, come_offset;   /* large messages in it, and where their records are */
};

/* False: b->error, and what is there is not complete, which INCOMPLETE in it says. */
bool backup_run(struct backup *b);

/* ---- shared by its parts ---- */
enum backup_result backup_fail(struct backup *b, const char *what);      /* BACKUP_FAILED, with errno */
/* Note a file that was written and synced, and close it. */
enum backup_result backup_note(struct backup *b, int fd, const char *path, uint64_t size, uint32_t crc);
int backup_make(struct backup *b, const char *path);                      /* O_EXCL; -1 errno */
/* Copy [from, from + size), or to the end of the file; *size_r and *crc_r say what was copied. Looks at the log in between. */
enum backup_result backup_copy(struct backup *b, int in, int out, uint64_t size, uint64_t *size_r, uint32_t *crc_r);

/* `r`, or that the walk through the copied index ended with INDEX_FATAL. */
enum backup_result backup_walked(struct backup *b, enum backup_result r, enum index_result last);
/* These of the copied index have no text in the copy: those whose end is in the copied log have gone with it, the others are `lost`. */
enum backup_result backup_explain(struct backup *b, const struct numbers *ids);

/* backup_log.c */
enum backup_result backup_tail(struct backup *b);                         /* up to the end of the log as it is now */
enum backup_result backup_tail_end(struct backup *b);                     /* it is done: note its files */
/* The record of the i-th that came becomes an empty one in the copy. */
enum backup_result backup_empty(struct backup *b, size_t i);
enum backup_result backup_segment(struct backup *b, uint64_t segment, uint64_t used);

/* backup_prove.c: fills `damaged`, and counts small texts that are not there as `lost`. */
enum backup_result backup_prove(struct backup *b);

#endif
