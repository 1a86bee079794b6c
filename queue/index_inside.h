/*
 * index_inside - what the two halves of the index share: rows one by one (index.c), tables as a whole (index_whole.c). Room: queue, the
 * index alone.
 */
#ifndef QUEUE_INDEX_INSIDE_H
#define QUEUE_INDEX_INSIDE_H

#include <lmdb.h>

#include "index.h"

extern const char *const index_table_name[TABLE_COUNT];

struct index {
	MDB_env *env;
	MDB_txn *txn;              /* the writer's, always open; a reader's between begin and end */
	MDB_dbi db[TABLE_COUNT];
	MDB_cursor *cursor[TABLE_COUNT];
	bool read_only, opened;
	struct str row;            /* the row being written */
	uint64_t commits;
	uint64_t allocated;        /* the file has its blocks up to here */
	char error[160];
};

/* INDEX_FATAL, with a sentence kept for index_error. */
enum index_result index_broken(struct index *ix, const char *what, const char *why);

#endif
