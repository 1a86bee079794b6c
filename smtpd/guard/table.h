/*
 * table - rows of counts under a key, in bounded memory that is had at once. Nothing here blocks or reads the clock.
 *
 * A row stands in one of TABLE_WAYS places that its key allows, so that a question never costs more than those. When none of them is free, the row
 * of the smallest rank goes, among those that with the smallest count, among those the one that would expire first: who was seen once pushes out
 * nobody who was seen often.
 * A row whose time has passed is as good as free. Pointers to rows are valid until the next table_place.
 *
 * What has changed since it was last written down can be taken in the order of its change (table_changed_next).
 */
#ifndef SMTPD_GUARD_TABLE_H
#define SMTPD_GUARD_TABLE_H

#include "common/clock.h"

#define TABLE_WAYS 16u
#define ROW_NAME_MAX 40u

struct row {
	uint64_t key;
	wall_ms_t until;          /* it counts before this; 0: the place is empty */
	uint64_t count;
	uint64_t limit;           /* counts: the limit it was held against last, 0 none. greylist: from when on it passes, in ms */
	uint32_t window_s;
	uint8_t rank;             /* who goes when there is no room: the smaller rank first */
	uint8_t subject, what;    /* enum limit_subject; enum row_what of wire.h */
	uint8_t name_len;
	char name[ROW_NAME_MAX];  /* for people: cut when it is longer */
};

struct table;

/* `rows` is how many it shall hold: there are somewhat more places. NULL: no memory. */
struct table *table_new(uint64_t rows);
void table_free(struct table *t);

size_t table_places(const struct table *t);
const struct row *table_at(const struct table *t, size_t place);   /* place < table_places */
struct row *table_find(struct table *t, uint64_t key, wall_ms_t now);   /* NULL: there is none that counts */
/* The row of this key, or a new one, all zero but its key, in a place that was free or has been freed. */
struct row *table_place(struct table *t, uint64_t key, wall_ms_t now);
/* Of one of its rows: it is to be written down. Put back an empty row with table_forget. */
void table_changed(struct table *t, const struct row *row);
void table_forget(struct table *t, struct row *row);

/* Take a place that has changed; false: none. It is in nobody's list until it changes again. */
bool table_changed_next(struct table *t, size_t *place_r);
/* Free what has expired among the next `count` places, round and round. */
void table_sweep(struct table *t, size_t count, wall_ms_t now);

#endif
