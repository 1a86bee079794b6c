/*
 * sibling - the sockets by which programs of the suite ask one another: where one is, and who is at its other end.
 *
 * `name` is a file of path_run (SOCKET_RESOLVER and the like); one that begins with a slash is taken as it is.
 */
#ifndef COMMON_SIBLING_H
#define COMMON_SIBLING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

/* False: the path is too long for a socket's name (ENAMETOOLONG). */
bool sibling_address(const char *name, struct sockaddr_un *address_r);

/* By SO_PEERCRED: of a connection that was accepted, who connected; of one that was made, who listened. False: errno. */
bool sibling_uid(int fd, uid_t *uid_r);

/* Connect. `account`: whose process must listen there; one of root's always may. NULL: anybody's, for the directory is his who serves.
 * Returns a blocking descriptor whose sends wait no longer than wait_ms (0: without end), or -1 with errno: EAGAIN after wait_ms with so many before us that there
 * is no room to wait in, EPERM when it is somebody else's. Blocks for that time at most. */
int sibling_connect(const char *name, const char *account, uint64_t wait_ms);

#endif
