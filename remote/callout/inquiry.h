/*
 * inquiry - the callouts that wait or go on: each is a child (dialogue.h), held to the limits.
 *
 * Identical questions are one inquiry. It goes on when who asked has gone: what it finds is remembered. Nothing here blocks but the end of a child that was killed.
 */
#ifndef REMOTE_CALLOUT_INQUIRY_H
#define REMOTE_CALLOUT_INQUIRY_H

#include <poll.h>

#include "common/mailaddr.h"
#include "common/settings.h"
#include "cache.h"

#define INQUIRIES_MAX 512u       /* that wait, go on and end */
#define CHILDREN_MAX 200u        /* of them; more than calloutsessions, for those that only say QUIT */

struct inquiries;
struct inquiry;

/* It is over: who waits for it is to be told, and the pointer forgotten. `said` is valid during the call. */
typedef void inquiry_done_fn(void *context, const struct inquiry *i, const struct callout_said *said);

/* `settings` must live as long, and are looked at each time. NULL: no memory. */
struct inquiries *inquiries_new(const struct settings *settings, inquiry_done_fn *done, void *context);
void inquiries_free(struct inquiries *all);     /* ends the children */

/* Is it known already? */
bool inquiries_known(const struct inquiries *all, const struct mailaddr *sender, deadline_t now, struct callout_said *said_r);
/* The inquiry about him, begun or joined. NULL: there are too many. */
struct inquiry *inquiries_join(struct inquiries *all, const struct mailaddr *sender, deadline_t now);

/* As kind->prepare and kind->run of common/service.h want it. At most CHILDREN_MAX descriptors. */
size_t inquiries_prepare(struct inquiries *all, struct pollfd *fds, deadline_t now, deadline_t *next);
void inquiries_run(struct inquiries *all, const struct pollfd *fds, size_t count, deadline_t now);

#endif
