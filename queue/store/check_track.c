/*
 * check_track - see check_track.h. A table of open addressing; whose recipients have ended stays in it with none open until it grows.
 * Room: queue (tappal).
 */
#include "check_track.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 1024u

static struct tracked *seat_of(const struct track *t, msgid_t id)
{
	uint64_t h = id * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(h ^ h >> 32) & (t->room - 1);
	while (t->at[i].id != 0 && t->at[i].id != id)
		i = (i + 1) & (t->room - 1);
	return &t->at[i];
}

static bool grow(struct track *t)
{
	struct track more = { .room = ROOM_FIRST };
	while (more.room < 4 * (t->count + 1))
		more.room *= 2;
	more.at = calloc(more.room, sizeof *more.at);
	if (!more.at)
		return false;
	for (size_t i = 0; i < t->room; i++) {
		if (t->at[i].open == 0)
			continue;
		*seat_of(&more, t->at[i].id) = t->at[i];
		more.count++;
	}
	more.used = more.count;
	free(t->at);
	*t = more;
	return true;
}

bool track_add(struct track *t, msgid_t id, struct place place, uint32_t open)
{
	if (id == 0 || open == 0)
		return true;
	if (t->count >= TRACK_MAX || (2 * (t->used + 1) > t->room && !grow(t)))
		return false;
	struct tracked *seat = seat_of(t, id);
	if (seat->id == id)
		return true;
	*seat = (struct tracked){ id, place, open };
	t->used++;
	t->count++;
	return true;
}

void track_end(struct track *t, msgid_t id, uint32_t n)
{
	struct tracked *seat = t->room > 0 && id != 0 ? seat_of(t, id) : NULL;
	if (!seat || seat->open == 0)
		return;
	seat->open -= n < seat->open ? n : seat->open;
	t->count -= seat->open == 0;
}

size_t track_clear(struct track *t)
{
	size_t count = t->count;
	if (t->used > 0)
		memset(t->at, 0, t->room * sizeof *t->at);
	t->used = t->count = 0;
	return count;
}

const struct tracked *track_next(const struct track *t, size_t *i)
{
	while (*i < t->room && t->at[*i].open == 0)
		++*i;
	return *i < t->room ? &t->at[(*i)++] : NULL;
}

void track_free(struct track *t)
{
	free(t->at);
	*t = (struct track){ .room = 0 };
}
