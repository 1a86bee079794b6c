/*
 * arguments - options and ids of the `tappal queue` commands.
 */
#ifndef QUEUE_ARGUMENTS_H
#define QUEUE_ARGUMENTS_H

#include "select.h"

struct arguments {
	struct selection sel;         /* filters; ids come by arguments_ids */
	bool json, dry_run, recipients_only, raw, headers;
	const char *because;          /* --because: the operator's reason */
	char **ids;                   /* what is no option; ends with NULL */
	bool missing;                 /* arguments_ids: some id is not in the queue */
};

/* Which options a command takes besides --json. */
enum { ARGS_FILTERS = 1, ARGS_OPERATION = 2, ARGS_SHOW = 4 };

/* Ends the program with a usage sentence where it must. */
void arguments_read(struct arguments *a, int argc, char **argv, unsigned takes);
void arguments_free(struct arguments *a);

/* Text of an id or prefix to its range; ends the program when it is neither. */
struct id_range arguments_range(const char *text);

/* Put the ids into the selection. "-" reads more of them from stdin, one a line (the first word counts). `unique`: a prefix
 * must mean one message; a message said on stderr for each that means none, and `missing` set. Ends the program on ambiguity. */
void arguments_ids(struct arguments *a, struct index *ix, bool unique);

#endif
