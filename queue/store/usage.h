/*
 * usage - how much of each segment of the log is still needed. In memory for every segment there is (one for 64 MiB of mail), as rows
 * of the index at each commit. Room: queue, the store.
 */
#ifndef QUEUE_USAGE_H
#define QUEUE_USAGE_H

#include "queue/index.h"

struct segment_usage {
	uint64_t segment;
	uint64_t live_messages, live_bytes;   /* of messages whose record stands here and which are not finished */
	uint64_t used_bytes;                  /* end of its last record */
	uint32_t pins;                        /* jobs and bounces that are to read from it */
	bool changed;                         /* since the last commit */
	bool stuck;                           /* its survivors cannot be copied: a record is damaged */
};

struct usage;
struct usage *usage_new(void);                                  /* NULL: no memory */
void usage_free(struct usage *usage);
enum index_result usage_load(struct usage *usage, struct index *ix);
enum index_result usage_store(struct usage *usage, struct index *ix);   /* rows of those that changed */

/* Made when it is not there; NULL: no memory. Valid until the next call. */
struct segment_usage *usage_of(struct usage *usage, uint64_t segment);
/* Only when it is there. */
struct segment_usage *usage_find(const struct usage *usage, uint64_t segment);
bool usage_live(struct usage *usage, uint64_t segment, int messages, int64_t bytes);   /* add; false: no memory */
bool usage_end(struct usage *usage, uint64_t segment, uint64_t end);                   /* a record ends here */
void usage_pin(struct usage *usage, uint64_t segment);
void usage_unpin(struct usage *usage, uint64_t segment);

/* In ascending order: i < usage_count. */
size_t usage_count(const struct usage *usage);
struct segment_usage *usage_at(struct usage *usage, size_t i);
/* The segment's file is gone. */
enum index_result usage_drop(struct usage *usage, uint64_t segment, struct index *ix);

#endif
