/*
 * grants - which sessions the signer owes a signature. A table in memory that the door and the signer share, and no session has: the door writes
 * a one at a session's place when it hands it a client, the signer takes it for the signature. So there are never more signatures than clients.
 */
#ifndef SMTPD_TLSD_GRANTS_H
#define SMTPD_TLSD_GRANTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct grants { _Atomic unsigned char *owed; size_t count; };    /* places 0 to count - 1 */

/* Before the processes that share it are forked. False: no memory. */
bool grants_make(struct grants *g, size_t count);
/* In the door: no child that is forked from now on has it. False: errno. */
bool grants_hide(const struct grants *g);
/* In a process that has no business with it. */
void grants_drop(struct grants *g);

/* One signature is owed now, however many were before. */
void grants_give(const struct grants *g, size_t place);
bool grants_owed(const struct grants *g, size_t place);
/* None is owed any more. True: one was. */
bool grants_take(const struct grants *g, size_t place);

#endif
