/*
 * check_tail - what happened behind the last commit of the index: the records that a start would replay. Room: queue (tappal).
 *
 * A message of the index whose record or large body is gone is in order when a record behind the commit ended or moved it: files go with
 * the sync of the log, the index follows up to a second later, or in a backup never.
 */
#ifndef QUEUE_CHECK_TAIL_H
#define QUEUE_CHECK_TAIL_H

#include "common/msgid.h"
#include "msglog.h"
#include "tokens.h"

#define TAIL_MAX (4u << 20)      /* ids that are remembered */

struct tail {
	struct place from, end;   /* what was read; `end` behind the last whole record */
	struct tokens ids;        /* with a record that can end or move them; that were accepted */
	msgid_t last_id;
	uint64_t records;
	bool full;                /* more than TAIL_MAX: then nothing is known of any */
};

/* Read from `from` to the end of the log. 0, or -1 with errno. tail_free in any case. */
int tail_read(struct tail *t, const char *log_dir, struct place from);
void tail_free(struct tail *t);
bool tail_touched(const struct tail *t, msgid_t id);      /* true also when it is not known */
bool tail_came(const struct tail *t, msgid_t id);

#endif
