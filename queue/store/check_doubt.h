/*
 * check_doubt - messages that were not found where they should be, looked up one by one. Room: queue (tappal).
 *
 * Behind the pass over the log, and on a live queue twice, in newer snapshots: what ended or moved meanwhile is no finding.
 */
#ifndef QUEUE_CHECK_DOUBT_H
#define QUEUE_CHECK_DOUBT_H

#include "check.h"
#include "check_tail.h"
#include "queue/index.h"

#define DOUBTS_MAX 65536u         /* messages; further ones are only counted */

struct numbers { uint64_t *at; size_t count, room; };
struct doubts {
	struct numbers ids;
	struct numbers segments;      /* all messages in these */
	struct numbers hurt;          /* segments with damage that was told: what is not found there is its fault, not the index's */
	uint64_t more;
};

bool numbers_add(struct numbers *n, uint64_t number);         /* false: no memory */
bool doubt(struct doubts *d, msgid_t id);                     /* likewise */
/* Look at them, and at messages in segments that are not there. False: no memory, or the index. */
bool doubts_judge(struct doubts *d, struct check *c, struct index *ix, const struct tail *tail);
void doubts_free(struct doubts *d);

#endif
