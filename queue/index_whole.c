/*
 * index_whole - the index as a whole: every row of a table in order, and a copy of the last commit. Room: queue (tappal).
 *
 * A walk trusts nothing that it finds: a key of the wrong form, or one that is not behind the one before, ends it as damage. So a tree that
 * leads back into itself cannot keep the reader for ever.
 */
#include <stdlib.h>
#include <string.h>

#include "common/route.h"
#include "index_inside.h"

#define DUE_TAIL 21u              /* of a due row's key: NUL, time, id, index */

struct index_walk {
	struct index *ix;
	MDB_cursor *cursor;
	enum index_table table;
	bool begun;
	size_t len;               /* the key before */
	char key[512];
};

struct index_walk *index_walk_open(struct index *ix, enum index_table table)
{
	struct index_walk *w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->ix = ix;
	w->table = table;
	int rc = mdb_cursor_open(ix->txn, ix->db[table], &w->cursor);
	if (rc == MDB_SUCCESS)
		return w;
	index_broken(ix, index_table_name[table], mdb_strerror(rc));
	free(w);
	return NULL;
}

void index_walk_close(struct index_walk *w)
{
	if (!w)
		return;
	mdb_cursor_close(w->cursor);
	free(w);
}

static uint64_t number_at(struct bytes key, size_t from, size_t octets)
{
	uint64_t value = 0;
	for (size_t i = 0; i < octets; i++)
		value = value << 8 | (unsigned char)key.at[from + i];
	return value;
}

/* False: it has not the form of this table's keys. */
static bool take_key(enum index_table table, struct bytes key, struct index_row *row)
{
	size_t name = key.len < DUE_TAIL ? 0 : key.len - DUE_TAIL;
	switch (table) {
	case TABLE_MESSAGES:
	case TABLE_FINISHED:
	case TABLE_SEGMENTS:
		row->number = key.len == 8 ? number_at(key, 0, 8) : 0;
		return key.len == 8;
	case TABLE_RCPTS:
		if (key.len != 12)
			return false;
		row->number = number_at(key, 0, 8);
		row->n = (uint32_t)number_at(key, 8, 4);
		return true;
	case TABLE_DUE:
		if (name == 0 || name > DESTINATION_MAX || key.at[name] != 0)
			return false;
		row->destination = bytes_slice(key, 0, name);
		row->at = number_at(key, name + 1, 8);
		row->number = number_at(key, name + 9, 8);
		row->n = (uint32_t)number_at(key, name + 17, 4);
		return true;
	case TABLE_WAKE:
		if (key.len < 9 || key.len > 8 + DESTINATION_MAX)
			return false;
		row->at = number_at(key, 0, 8);
		row->destination = bytes_slice(key, 8, key.len);
		return true;
	case TABLE_BOUNCES:
		if (key.len != 16)
			return false;
		row->at = number_at(key, 0, 8);
		row->number = number_at(key, 8, 8);
		return true;
	default:
		row->destination = key;
		return key.len > 0 && key.len <= DESTINATION_MAX;
	}
}

enum index_result index_walk_next(struct index_walk *w, struct index_row *row_r)
{
	MDB_val key, data;
	const char *name = index_table_name[w->table];
	int rc = mdb_cursor_get(w->cursor, &key, &data, w->begun ? MDB_NEXT : MDB_FIRST);
	if (rc == MDB_NOTFOUND)
		return INDEX_NONE;
	if (rc != MDB_SUCCESS)
		return index_broken(w->ix, name, mdb_strerror(rc));
	struct bytes k = { key.mv_data, key.mv_size };
	if (k.len == 0 || k.len > sizeof w->key || (w->begun && bytes_compare(k, (struct bytes){ w->key, w->len }) <= 0))
		return index_broken(w->ix, name, "its keys are out of order");
	w->begun = true;
	w->len = k.len;
	memcpy(w->key, k.at, k.len);
	*row_r = (struct index_row){ .value = { data.mv_data, data.mv_size } };
	return take_key(w->table, k, row_r) ? INDEX_OK : index_broken(w->ix, name, "a key has the wrong form");
}

enum index_result index_damaged(struct index *ix, const char *what)
{
	return index_broken(ix, "damage", what);
}

bool index_copy(struct index *ix, int fd)
{
	/* Compacted: the other way waits for the writer, and queued always holds the writer's lock. */
	int rc = mdb_env_copyfd2(ix->env, fd, MDB_CP_COMPACT);
	if (rc != MDB_SUCCESS)
		index_broken(ix, "copy", mdb_strerror(rc));
	return rc == MDB_SUCCESS;
}
