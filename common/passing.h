/*
 * passing - descriptors that go along with octets, over a socket of this host (SCM_RIGHTS).
 */
#ifndef COMMON_PASSING_H
#define COMMON_PASSING_H

#include <sys/types.h>

#include "bytes.h"

#define PASSING_MAX 2u    /* descriptors of one message */

/* Send the octets with these descriptors (1 to PASSING_MAX), which stay ours as well. `flags` as of send(2); a reader that is gone is EPIPE, no signal.
 * True: all octets have left. False: errno; of a stream, some may have. Blocks as the socket does. */
bool passing_send(int fd, struct bytes octets, const int *descriptors, size_t count, int flags);

/* Receive as recv(2) does: octets, 0 at the end, -1 with errno. Came just `count` descriptors (1 to PASSING_MAX) with them, they are in descriptors_r,
 * close-on-exec; else all of descriptors_r are -1 and whatever came is closed. */
ssize_t passing_receive(int fd, void *at, size_t room, int flags, int *descriptors_r, size_t count);

#endif
