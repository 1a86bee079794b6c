/*
 * state - the rows on disk, so that counts, bans and greylisted senders outlive a restart. The working directory is guard's own.
 *
 * At the start all that is there is read by a child of its own, and a new data base is written from it: a file that is damaged can end nobody but
 * that child, the rows that it could read are kept, and no page of an old file is ever written on. From then on a thread writes down what has
 * changed, with one commit in a second at most: a crash loses what was counted since the last, and nothing else.
 *
 * LMDB's default flags: without its syncs the file can be lost with the power. Its own lock file is not used; a lock on the directory sees to it
 * that there is one guard.
 */
#ifndef SMTPD_GUARD_STATE_H
#define SMTPD_GUARD_STATE_H

#include "keys.h"
#include "wire.h"

struct state;

/* Fill the tables and the keys from the directory, or begin with empty tables and new keys and say why. Ends the program when another guard has
 * the directory. Blocks as long as it takes. NULL: no memory. A directory that cannot be written
 * is said in the log, and leaves everything in memory alone. */
struct state *state_open(struct table *const tables[TABLE_TABLES], struct keys *keys, wall_ms_t now);

/* Give the thread what has changed, if it has nothing to do and the last commit was a second ago. When to call again: 0 when nothing waits. */
deadline_t state_turn(struct state *s, deadline_t now);
/* Write down all that has changed, and end. Blocks. */
void state_close(struct state *s);

/* A row as it stands in the data base and goes over the socket. False, of row_from: it is none. */
struct guard_row;
void row_to(const struct row *row, unsigned table, struct guard_row *record_r);
bool row_from(const struct guard_row *record, struct row *row_r);

#endif
