/*
 * reclaim - the log's space. Room: queue, the store.
 *
 * A segment is dead when no unfinished message stands in it. It is recycled after the commit of the index with which it died, never
 * before: until then a crash replays from an older place, which may lie in it. A segment that is mostly dead has its
 * survivors copied forward, about a mebibyte a tick, and dies by that.
 */
#ifndef QUEUE_RECLAIM_H
#define QUEUE_RECLAIM_H

#include "msglog.h"

#define RECLAIM_SLICE (1u << 20)
#define RECLAIM_LIVE_PART 4u         /* copied when less than this part of a segment's size is live */
#define RECLAIM_YOUNG 2u             /* full segments that are left alone: their mail is still on its way */

struct store;
struct reclaim {
	struct msglog_scan *scan;     /* of the segment that is being emptied */
	uint64_t victim;
	bool searched;                /* nothing to do until the next commit */
};

/* After a commit: recycle what is dead. */
enum index_result reclaim_dead(struct store *st);
/* A slice of copying. *busy_r: there is more to do. */
enum index_result reclaim_some(struct store *st, bool *busy_r);
void reclaim_end(struct reclaim *r);

#endif
