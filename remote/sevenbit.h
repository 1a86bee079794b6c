/*
 * sevenbit - whether a message must be converted for a server without 8BITMIME or BINARYMIME, and the conversion of a delivery's body
 * (common/downgrade.h).
 *
 * A message of which the first JOB_AHEAD_MAX octets are all of it is known before the first command: whether it needs a conversion, whether it can be
 * converted, its size then. Of a longer one only its beginning is known, and it may turn out in the middle that it cannot be
 * converted. DOWNGRADE_MUST is what the sender declared (BODY=8BITMIME or BINARYMIME). What was declared to be binary is always converted.
 */
#ifndef REMOTE_SEVENBIT_H
#define REMOTE_SEVENBIT_H

#include "common/downgrade.h"
#include "job.h"

/* What is known of the octets before the first command: those of the first JOB_AHEAD_MAX. Blocks on the body's pipe. */
enum sevenbit_look {
	LOOK_ASCII,          /* none is above 127 */
	LOOK_ASCII_SO_FAR,   /* the same, and there are more than were looked at */
	LOOK_8BIT,
	LOOK_MEMORY,         /* they could not be held: nothing is known, and the body can be taken all the same */
	LOOK_BROKEN,         /* the starter went away */
};
enum sevenbit_look sevenbit_look(struct delivery *d);

enum sevenbit_result {
	SEVENBIT_OK,
	SEVENBIT_CANNOT,   /* sevenbit_why() says why */
	SEVENBIT_MEMORY,
	SEVENBIT_BROKEN,   /* the starter went away */
};

struct sevenbit {              /* zero: the message goes as it is */
	struct downgrade *converter;
	struct str out;
	bool size_known;           /* converter is set: of how many octets the result is */
	uint64_t size;
};

/* Read ahead and decide; s is zero before. to_8bit: the message is binary, and octets over 127 may stay. With SEVENBIT_OK and a converter every block of
 * the body must go through sevenbit_block. Blocks on the body's pipe. sevenbit_free in any case. */
enum sevenbit_result sevenbit_plan(struct sevenbit *s, struct delivery *d, bool to_8bit);
void sevenbit_free(struct sevenbit *s);

/* The next octets of the body, and whether they are the last: *out_r is what they became, valid until the next call. */
enum sevenbit_result sevenbit_block(struct sevenbit *s, struct bytes in, bool last, struct bytes *out_r);
const char *sevenbit_why(const struct sevenbit *s);   /* static */

#endif
