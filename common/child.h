/*
 * child - a child of a daemon, by fork alone: it has one socket to its parent, and nothing else of what the parent had open.
 */
#ifndef COMMON_CHILD_H
#define COMMON_CHILD_H

#include <sys/types.h>

#define CHILD_FD 3            /* the child's end of the socket */

/* Parent: the child's pid, *fd_r its end (CLOEXEC, blocking); -1: errno, nothing was made.
 * Child: 0, *fd_r is CHILD_FD (CLOEXEC, blocking). All other descriptors from 3 on are closed but the log's, signals and their mask are as at a
 * program's start, HUP is ignored, and TERM comes when the parent ends. */
pid_t child_start(int *fd_r);

/* Kill and reap it, whatever it does. */
void child_end(pid_t pid);

#endif
