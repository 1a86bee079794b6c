/*
 * home - the one thing root does in users' directories: make the missing home of a virtual mailbox. Room: queue (spawn local, in
 * the child that is about to become the user).
 *
 * It acts only where nobody but root can interfere: every component of the path is a real directory (no symbolic link), and
 * the parent belongs to root and is writable by nobody else. One level is made, mode 0700, under a passing name, given to the user
 * through its descriptor, and then renamed, so that a crash never leaves a home that belongs to root. Where the parent
 * belongs to the user, root does nothing and local makes it as that user.
 */
#ifndef QUEUE_HOME_H
#define QUEUE_HOME_H

#include <sys/types.h>

/* 0: it exists or was made; -1 with errno: ENOENT no parent, EPERM the parent is not root's alone, ... Blocks on disk only. */
int home_make(const char *path, uid_t uid, gid_t gid);

#endif
