/*
 * index - the LMDB index of the queue: typed rows, nothing else. What they mean is decided in store; rows are records of
 * common/records.def (row_*).
 *
 *   caveats   default sync flags, never NOSYNC or NOMETASYNC; no DUPSORT (defects in LMDB 0.9.24)
 *             one writer, queued; views handed out point into the map: valid until the next put, delete or commit
 *             (writer) or until index_read_end (reader)
 *             a reader that stays open keeps pages from reuse: tools read in short turns
 *
 *   db            key                                              row
 *   messages      id (8, big endian)                               row_message
 *   rcpts         id (8) index (4)                                 row_rcpt
 *   due           destination NUL due_ms (8) id (8) index (4)      empty   one for each recipient that waits for its next try
 *   wake          wake_ms (8) destination                          empty   when a destination next has something to do
 *   destinations  destination                                      row_destination
 *   bounces       due_ms (8) id (8)                                empty   messages with failures to report
 *   finished      id (8)                                           row_finished
 *   segments      segment (8)                                      row_segment
 *   meta          "status"                                         row_status  (applied log position included)
 */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include "common/channel.h"
#include "common/msgid.h"

enum rcpt_state { RCPT_WAITING, RCPT_DELIVERED, RCPT_FAILED /* a bounce is due */, RCPT_BOUNCED, RCPT_DROPPED, RCPT_DELETED,
	RCPT_REPORTING /* delivered, and a report of it is due */ };
enum finished_how { FINISHED_DELIVERED, FINISHED_BOUNCED, FINISHED_DELETED, FINISHED_DROPPED };
const char *rcpt_state_name(unsigned state);   /* "waiting" ... "?" */

/* row_rcpt.batch of one who waits: 0, the batch that is to report his delay (RFC 3461), or */
#define BATCH_TOLD UINT32_MAX                  /* it was reported, and is not again */
bool rcpt_delay_due(const struct row_rcpt *row);
bool rcpt_reports(const struct row_rcpt *row); /* a report is due: of a failure, a success or a delay */

struct index;

/* INDEX_FATAL: the environment must not be used any more (MDB_PANIC, EIO, corruption): log, exit, restart, replay. */
enum index_result { INDEX_OK, INDEX_NONE /* no such row, end of range */, INDEX_FATAL };

/* Open the environment in directory `dir`; read_only for tools. NULL with a sentence in `error`, and errno ENOENT when a reader finds that
 * nothing was ever committed here. */
struct index *index_open(const char *dir, uint64_t map_size, bool read_only, struct str *error);
void index_close(struct index *ix);
const char *index_error(const struct index *ix);   /* of the last INDEX_FATAL */

/* Tools: a read snapshot. Writer: a write transaction is always open (begun by index_open and by index_commit). */
bool index_read_begin(struct index *ix);
void index_read_end(struct index *ix);
/* Writer: octets of rows that still find room, in the size the index may grow to and on its disk, with enough left for what happens to
 * those that are there. Asks the system; once a second is often enough. */
uint64_t index_room(struct index *ix);
enum index_result index_commit(struct index *ix);  /* blocks on two syncs */

enum index_result index_get_message(struct index *ix, msgid_t id, struct row_message *row_r);
enum index_result index_put_message(struct index *ix, msgid_t id, const struct row_message *row);
enum index_result index_delete_message(struct index *ix, msgid_t id);
/* First message with an id >= from. */
enum index_result index_next_message(struct index *ix, msgid_t from, msgid_t *id_r, struct row_message *row_r);

enum index_result index_get_rcpt(struct index *ix, msgid_t id, uint32_t n, struct row_rcpt *row_r);
enum index_result index_put_rcpt(struct index *ix, msgid_t id, uint32_t n, const struct row_rcpt *row);
enum index_result index_delete_rcpt(struct index *ix, msgid_t id, uint32_t n);
/* First recipient of message id with an index >= from. */
enum index_result index_next_rcpt(struct index *ix, msgid_t id, uint32_t from, uint32_t *n_r, struct row_rcpt *row_r);

struct due { wall_ms_t at; msgid_t id; uint32_t n; };
enum index_result index_put_due(struct index *ix, struct bytes destination, struct due due);
enum index_result index_delete_due(struct index *ix, struct bytes destination, struct due due);  /* a missing row is INDEX_NONE */
/* First row of the destination at or after `from`. */
enum index_result index_next_due(struct index *ix, struct bytes destination, struct due from, struct due *due_r);

enum index_result index_put_wake(struct index *ix, wall_ms_t at, struct bytes destination);
enum index_result index_delete_wake(struct index *ix, wall_ms_t at, struct bytes destination);
/* First row at or after (at, destination). */
enum index_result index_next_wake(struct index *ix, wall_ms_t at, struct bytes destination, wall_ms_t *at_r, struct bytes *destination_r);

enum index_result index_get_destination(struct index *ix, struct bytes name, struct row_destination *row_r);
enum index_result index_put_destination(struct index *ix, struct bytes name, const struct row_destination *row);
enum index_result index_delete_destination(struct index *ix, struct bytes name);
enum index_result index_next_destination(struct index *ix, struct bytes from, struct bytes *name_r, struct row_destination *row_r);

enum index_result index_put_bounce(struct index *ix, wall_ms_t due, msgid_t id);
enum index_result index_delete_bounce(struct index *ix, wall_ms_t due, msgid_t id);
enum index_result index_next_bounce(struct index *ix, wall_ms_t due, msgid_t id, wall_ms_t *due_r, msgid_t *id_r);

enum index_result index_put_finished(struct index *ix, msgid_t id, const struct row_finished *row);
enum index_result index_get_finished(struct index *ix, msgid_t id, struct row_finished *row_r);
enum index_result index_next_finished(struct index *ix, msgid_t from, msgid_t *id_r, struct row_finished *row_r);
enum index_result index_delete_finished(struct index *ix, msgid_t id);
enum index_result index_count_finished(struct index *ix, uint64_t *count_r);

enum index_result index_put_segment(struct index *ix, uint64_t segment, const struct row_segment *row);
enum index_result index_delete_segment(struct index *ix, uint64_t segment);
enum index_result index_next_segment(struct index *ix, uint64_t from, uint64_t *segment_r, struct row_segment *row_r);

enum index_result index_put_status(struct index *ix, const struct row_status *row);
enum index_result index_get_status(struct index *ix, struct row_status *row_r);   /* INDEX_NONE in a new index */

/* ---- the index as a whole (index_whole.c), for those who check and copy it ---- */

enum index_table { TABLE_MESSAGES, TABLE_RCPTS, TABLE_DUE, TABLE_WAKE, TABLE_DESTINATIONS, TABLE_BOUNCES, TABLE_FINISHED, TABLE_SEGMENTS, TABLE_META, TABLE_COUNT };

/* A row of any table: what its key says (the table above tells which), and its octets. */
struct index_row { uint64_t number /* id or segment */; uint32_t n; wall_ms_t at; struct bytes destination, value; };

/* Every row of a table, in the order of the keys: each key is greater than the one before, so a walk ends whatever the file holds.
 * NULL: no memory, or a broken index. Views are valid until the next step. */
struct index_walk;
struct index_walk *index_walk_open(struct index *ix, enum index_table table);
enum index_result index_walk_next(struct index_walk *walk, struct index_row *row_r);   /* INDEX_NONE: that was all */
void index_walk_close(struct index_walk *walk);                                        /* before index_read_end */

/* A row that the caller decoded is damaged: INDEX_FATAL, with this sentence for index_error. */
enum index_result index_damaged(struct index *ix, const char *what);

/* Write the last commit to fd as a file of its own, without the pages that are free. Waits for no writer. False with index_error. */
bool index_copy(struct index *ix, int fd);

#endif
