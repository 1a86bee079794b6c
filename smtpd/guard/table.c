/* table - guard's room: rows under keys in bounded memory. See table.h. */
#include "table.h"

#include <stdlib.h>

struct table {
	size_t places, sets;
	struct row *row;
	uint8_t *listed;          /* of each place: it stands in `changed` */
	uint32_t *changed;        /* a ring of `places` */
	size_t first, count;
	size_t swept;
};

_Static_assert(sizeof(struct row) == 80, "what guardrows says of it");

struct table *table_new(uint64_t rows)
{
	struct table *t = calloc(1, sizeof *t);
	if (t == NULL)
		return NULL;
	/* Keys spread by chance: with a quarter more places than rows, few sets are full before the whole is. */
	t->sets = (size_t)(rows + rows / 4) / TABLE_WAYS + 1;
	t->places = t->sets * TABLE_WAYS;
	t->row = calloc(t->places, sizeof *t->row);
	t->listed = calloc(t->places, sizeof *t->listed);
	t->changed = calloc(t->places, sizeof *t->changed);
	if (t->row != NULL && t->listed != NULL && t->changed != NULL)
		return t;
	table_free(t);
	return NULL;
}

void table_free(struct table *t)
{
	if (t == NULL)
		return;
	free(t->row);
	free(t->listed);
	free(t->changed);
	free(t);
}

size_t table_places(const struct table *t)
{
	return t->places;
}

const struct row *table_at(const struct table *t, size_t place)
{
	return &t->row[place];
}

static struct row *set_of(struct table *t, uint64_t key)
{
	return &t->row[key % t->sets * TABLE_WAYS];
}

struct row *table_find(struct table *t, uint64_t key, wall_ms_t now)
{
	struct row *set = set_of(t, key);
	for (size_t i = 0; i < TABLE_WAYS; i++)
		if (set[i].key == key && set[i].until > now)
			return &set[i];
	return NULL;
}

static bool goes_before(const struct row *a, const struct row *b, wall_ms_t now)
{
	bool a_dead = a->until <= now, b_dead = b->until <= now;
	if (a_dead || b_dead)
		return a_dead && !b_dead;
	if (a->rank != b->rank)
		return a->rank < b->rank;
	return a->count != b->count ? a->count < b->count : a->until < b->until;
}

struct row *table_place(struct table *t, uint64_t key, wall_ms_t now)
{
	struct row *set = set_of(t, key), *found = table_find(t, key, now);
	if (found != NULL)
		return found;
	found = set;
	for (size_t i = 1; i < TABLE_WAYS; i++)
		if (goes_before(&set[i], found, now))
			found = &set[i];
	*found = (struct row){ .key = key };
	return found;
}

void table_changed(struct table *t, const struct row *row)
{
	size_t place = (size_t)(row - t->row);
	if (t->listed[place])
		return;
	t->listed[place] = 1;
	t->changed[(t->first + t->count++) % t->places] = (uint32_t)place;
}

void table_forget(struct table *t, struct row *row)
{
	*row = (struct row){ 0 };
	table_changed(t, row);
}

bool table_changed_next(struct table *t, size_t *place_r)
{
	if (t->count == 0)
		return false;
	*place_r = t->changed[t->first];
	t->first = (t->first + 1) % t->places;
	t->count--;
	t->listed[*place_r] = 0;
	return true;
}

void table_sweep(struct table *t, size_t count, wall_ms_t now)
{
	for (size_t i = 0; i < count; i++) {
		struct row *row = &t->row[t->swept];
		t->swept = (t->swept + 1) % t->places;
		if (row->until != 0 && row->until <= now)
			table_forget(t, row);
	}
}
