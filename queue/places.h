/*
 * places - how the store's files are named, for the one who writes them (queued) and those who only read them (spawn, bounce,
 * tappal). Room: queue. All relative to the spool.
 */
#ifndef QUEUE_PLACES_H
#define QUEUE_PLACES_H

#include <inttypes.h>
#include <stdio.h>

#include "common/msgid.h"
#include "common/paths.h"

#define PLACE_MAX 64   /* any of these names, with NUL */

/* log/ and the segment's number in sixteen hex digits. */
static inline void place_segment(uint64_t segment, char out[PLACE_MAX]) {
	snprintf(out, PLACE_MAX, SPOOL_LOG "/%016" PRIx64, segment);
}

/* large/ID: a renamed intake file, so the body stands behind a head and the envelope, at body_offset. */
static inline void place_large(msgid_t id, char out[PLACE_MAX]) {
	char text[MSGID_TEXT + 1];
	msgid_format(id, text);
	snprintf(out, PLACE_MAX, SPOOL_LARGE "/%s", text);
}

#endif
