/*
 * prepare - the thread that has the next segment of the log ready before it is needed: from a spare file (a recycled segment) by
 * rename, else by making one: allocated, filled with zeros, synced. Room: queue, behind msglog.
 *
 * Names in the log's directory: a segment is its number in sixteen hex digits, a spare is "spare-" and the number it had,
 * "making" is a file that is not whole yet.
 */
#ifndef QUEUE_PREPARE_H
#define QUEUE_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREPARE_SPARES 3u       /* spare files that are kept; more are unlinked */
#define PREPARE_NAME_MAX 32

struct prepare;
struct prepared { int fd; size_t size; bool small; };

/* dirfd stays the caller's. NULL: errno. */
struct prepare *prepare_start(int dirfd, size_t segment_size);
void prepare_stop(struct prepare *p);          /* waits for a file that is being made */

void prepare_want(struct prepare *p, uint64_t segment);    /* begin to make this one ready, when it has not begun */
bool prepare_is_ready(struct prepare *p);                  /* a whole-sized one: no small fallback */
bool prepare_has_failed(struct prepare *p);                /* no space at the last try */
/* Take it, waiting for it: 0, or errno (ENOSPC, EDQUOT: no space; it may be wanted again). The descriptor is then the caller's.
 * A full disk is first tried with a small segment, so that results can still be logged. */
int prepare_take(struct prepare *p, struct prepared *segment_r);

/* The file spare-NUMBER exists and may be used. */
void prepare_add_spare(struct prepare *p, uint64_t number);

void prepare_name(uint64_t segment, char out[PREPARE_NAME_MAX]);
void prepare_spare_name(uint64_t segment, char out[PREPARE_NAME_MAX]);

#endif
