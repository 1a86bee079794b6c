/*
 * check_track - messages of the log that the index has no row of: how many of their recipients the log has not ended yet. One whose
 * recipients all end goes. Room: queue (tappal).
 */
#ifndef QUEUE_CHECK_TRACK_H
#define QUEUE_CHECK_TRACK_H

#include "common/msgid.h"
#include "msglog.h"

#define TRACK_MAX (1u << 20)     /* messages; more are not followed */

struct tracked { msgid_t id; struct place place; uint32_t open; };
struct track { struct tracked *at; size_t room, used, count; };

/* False: no memory, or TRACK_MAX. An id that is known already stays as it is. */
bool track_add(struct track *t, msgid_t id, struct place place, uint32_t open);
/* `n` recipients ended; UINT32_MAX: all. An unknown id is none of ours. */
void track_end(struct track *t, msgid_t id, uint32_t n);
size_t track_clear(struct track *t);     /* how many there were */
/* Those that are left, i from 0: NULL behind the last. */
const struct tracked *track_next(const struct track *t, size_t *i);
void track_free(struct track *t);

#endif
