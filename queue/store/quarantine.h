/*
 * quarantine - what --repair takes out of the spool, never deleted: quarantine/ITEM, and ITEM.txt beside it says what it is, from where, and why.
 * Room: queue (tappal, as tappal-queue, with queued stopped). Working directory: the spool. The directory is tappal-queue's, 0700: there
 * may be mail in it.
 */
#ifndef QUEUE_QUARANTINE_H
#define QUEUE_QUARANTINE_H

#include "common/bytes.h"
#include "common/clock.h"

#define QUARANTINE_NAME 200

struct quarantine { int dir; char stamp[24]; unsigned number; };

/* False: errno (ENOENT: root has not made the directory). */
bool quarantine_open(struct quarantine *q, wall_ms_t now);
void quarantine_close(struct quarantine *q);

/* Move a file; the report is synced first, both directories afterwards. False: errno, and the file is where it was. *name_r: the item. */
bool quarantine_move(struct quarantine *q, const char *file, struct bytes report, char name_r[QUARANTINE_NAME]);
/* Copy octets of a file, which stays; those that cannot be read become zeros. */
bool quarantine_copy(struct quarantine *q, const char *file, uint64_t offset, uint64_t size, struct bytes report, char name_r[QUARANTINE_NAME]);

#endif
