/*
 * foresee - what guard would do with a client, without counting him: for `tappal session`.
 */
#ifndef QUEUE_TAPPAL_FORESEE_H
#define QUEUE_TAPPAL_FORESEE_H

#include "common/channel.h"
#include "smtpd/guard/wire.h"

/* Ask guard, which answers root alone. False: no answer. Blocks for a few seconds at most; SIGPIPE is to be ignored. */
bool foresee(const struct guard_peek *question, struct guard_answer *answer_r);

/* The number of the line of `limits` that this answer (GUARD_OVER) to the question is of; 0: none, guard has read other settings. */
uint32_t foresee_line(const struct lines *limits, const struct guard_peek *question, const struct guard_answer *answer);

#endif
