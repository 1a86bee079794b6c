/*
 * usage - how much of each segment of the log is still needed. Room: queue, the store.
 */
#include "usage.h"

#include <stdlib.h>
#include <string.h>

struct usage { struct segment_usage *at; size_t count, room; };

struct usage *usage_new(void)
{
	return calloc(1, sizeof(struct usage));
}

void usage_free(struct usage *usage)
{
	if (!usage)
		return;
	free(usage->at);
	free(usage);
}

/* Where it is or belongs. New segments have the highest number: the last place is tried first. */
static size_t position(const struct usage *u, uint64_t segment)
{
	if (u->count > 0 && u->at[u->count - 1].segment < segment)
		return u->count;
	size_t low = 0, high = u->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (u->at[middle].segment < segment)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct segment_usage *usage_find(const struct usage *usage, uint64_t segment)
{
	size_t i = position(usage, segment);
	return i < usage->count && usage->at[i].segment == segment ? &usage->at[i] : NULL;
}

struct segment_usage *usage_of(struct usage *u, uint64_t segment)
{
	size_t i = position(u, segment);
	if (i < u->count && u->at[i].segment == segment)
		return &u->at[i];
	struct segment_usage *all = array_room(u->at, u->count, &u->room, sizeof *all);
	if (!all)
		return NULL;
	u->at = all;
	memmove(u->at + i + 1, u->at + i, (u->count - i) * sizeof *u->at);
	u->count++;
	u->at[i] = (struct segment_usage){ .segment = segment, .changed = true };
	return &u->at[i];
}

enum index_result usage_load(struct usage *usage, struct index *ix)
{
	struct row_segment row;
	uint64_t segment = 0;
	for (;;) {
		enum index_result r = index_next_segment(ix, segment, &segment, &row);
		if (r != INDEX_OK)
			return r == INDEX_NONE ? INDEX_OK : r;
		struct segment_usage *s = usage_of(usage, segment);
		if (!s)
			return INDEX_FATAL;
		*s = (struct segment_usage){ .segment = segment, .live_messages = row.live_messages, .live_bytes = row.live_bytes, .used_bytes = row.used_bytes };
		segment++;
	}
}

enum index_result usage_store(struct usage *usage, struct index *ix)
{
	for (size_t i = 0; i < usage->count; i++) {
		struct segment_usage *s = &usage->at[i];
		if (!s->changed)
			continue;
		struct row_segment row = { s->live_messages, s->live_bytes, s->used_bytes };
		if (index_put_segment(ix, s->segment, &row) != INDEX_OK)
			return INDEX_FATAL;
		s->changed = false;
	}
	return INDEX_OK;
}

bool usage_live(struct usage *usage, uint64_t segment, int messages, int64_t bytes)
{
	struct segment_usage *s = usage_of(usage, segment);
	if (!s)
		return false;
	/* An index that lost rows must not make a count wrap: it then stays at nought. */
	s->live_messages = messages < 0 && s->live_messages < (uint64_t)-messages ? 0 : s->live_messages + (uint64_t)messages;
	s->live_bytes = bytes < 0 && s->live_bytes < (uint64_t)-bytes ? 0 : s->live_bytes + (uint64_t)bytes;
	s->changed = true;
	return true;
}

bool usage_end(struct usage *usage, uint64_t segment, uint64_t end)
{
	struct segment_usage *s = usage_of(usage, segment);
	if (s && end > s->used_bytes) {
		s->used_bytes = end;
		s->changed = true;
	}
	return s != NULL;
}

void usage_pin(struct usage *usage, uint64_t segment)
{
	struct segment_usage *s = usage_find(usage, segment);
	if (s)
		s->pins++;
}

void usage_unpin(struct usage *usage, uint64_t segment)
{
	struct segment_usage *s = usage_find(usage, segment);
	if (s && s->pins > 0)
		s->pins--;
}

size_t usage_count(const struct usage *usage)
{
	return usage->count;
}

struct segment_usage *usage_at(struct usage *usage, size_t i)
{
	return &usage->at[i];
}

enum index_result usage_drop(struct usage *usage, uint64_t segment, struct index *ix)
{
	struct segment_usage *s = usage_find(usage, segment);
	if (s) {
		size_t i = (size_t)(s - usage->at);
		memmove(s, s + 1, (usage->count - i - 1) * sizeof *s);
		usage->count--;
	}
	return index_delete_segment(ix, segment) == INDEX_FATAL ? INDEX_FATAL : INDEX_OK;
}
