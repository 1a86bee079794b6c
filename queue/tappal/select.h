/*
 * select - which messages a command means: ids and unique prefixes of ids, filters, and a walk over the index in short turns.
 *
 * A walk holds a read transaction for one turn only, so that a list that somebody reads slowly keeps no page of the index from
 * reuse. Ids sort by time, so ages bound the range that is walked; all else is decided row by row.
 */
#ifndef QUEUE_SELECT_H
#define QUEUE_SELECT_H

#include "queue/index.h"

enum message_state { STATE_ACTIVE /* never tried */, STATE_DEFERRED, STATE_HELD, STATE_FAILED /* a bounce is due */ };
const char *message_state_name(enum message_state state);     /* "active" "deferred" "held" "failed" */
const char *message_state_postfix(enum message_state state);  /* Postfix's queue_name: "active" "deferred" "hold" */

struct id_range { msgid_t first, last; };

struct selection {
	struct id_range *ids;         /* ascending order is not needed */
	size_t id_count, id_room;
	struct bytes from, to, domain, reason;   /* at == NULL: not given */
	uint64_t older_ms, newer_ms;  /* 0: not given */
	int state;                    /* -1: not given */
	uint64_t limit;               /* 0: all */
	bool all;
};

void selection_init(struct selection *sel);
void selection_free(struct selection *sel);
/* Anything that narrows, --all included: an operation without it is refused. */
bool selection_given(const struct selection *sel);
bool selection_add_id(struct selection *sel, struct id_range range);

/* One filter: option is its name without dashes ("from"). False: a sentence in `why`. `value` must outlive the selection. */
bool selection_option(struct selection *sel, const char *option, const char *value, struct str *why);

/* "90", "90s", "15m", "2h", "3d", "1w" to milliseconds. */
bool select_span(struct bytes text, uint64_t *ms_r);
/* * any octets, ? one octet; letters in either case. */
bool select_glob(struct bytes pattern, struct bytes text);
/* An address against what the operator wrote: an address, "@domain", or a pattern; "<>" or "" the empty one. */
bool select_address(struct bytes pattern, struct bytes address);

/* What the message itself says to the filters (sender, age, ids are not looked at). */
bool select_message(const struct selection *sel, const struct row_message *row);
/* An unfinished recipient that all recipient filters (to, domain, reason) agree with. */
bool select_rcpt(const struct selection *sel, const struct row_message *message, const struct row_rcpt *row);

/* A message found; views are valid during the call of the visitor. */
struct found {
	msgid_t id;
	const struct row_message *row;
	enum message_state state;
	struct row_rcpt rcpt;         /* the first recipient that matched */
	uint32_t rcpt_index;
	struct index *ix;             /* for more rows, in this turn */
};
/* False ends this turn (the output has become long), not the walk. */
typedef bool select_fn(void *context, const struct found *found);

struct walk {
	const struct selection *sel;
	struct index *ix;
	wall_ms_t now;
	size_t range;                 /* of sel->ids */
	bool inside;                  /* `next` is valid in the range */
	msgid_t next, last;
	uint64_t count;               /* found so far */
};
void walk_begin(struct walk *w, const struct selection *sel, struct index *ix, wall_ms_t now);

enum walk_result { WALK_MORE, WALK_END, WALK_FATAL /* index_error */ };
/* One turn: at most `most` messages found, and a bounded number of rows looked at. Blocks on nothing but page faults. */
enum walk_result walk_turn(struct walk *w, size_t most, select_fn *visit, void *context);

/* Look the prefix up in messages (or, `finished`, in the ring): how many ids match, 0, 1, or 2 for more. The read turn is the caller's. */
enum index_result select_resolve(struct index *ix, struct id_range range, bool finished, unsigned *count_r, msgid_t ids_r[2]);

#endif
