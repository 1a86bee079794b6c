/*
 * priv - giving up what a process does not need, each as one call that either succeeds wholly or ends the program
 * with EXIT_SYSTEM and a line on stderr. None returns an error: there is no way to go on half dropped.
 */
#ifndef COMMON_PRIV_H
#define COMMON_PRIV_H

#include <sys/types.h>

#include "accounts.h"

/* An account of the suite: the file first (accounts.h), for most have theirs there and a program that starts with every connection should not pay
 * for more; then the name service. Uid and gid only. */
enum account_result priv_account(const char *name, struct account *account_r);

/* Become `account` for good: its supplementary groups (the primary one is not among them, so a set-uid and set-gid program that it
 * starts keeps none of its rights), gid, uid, all three ids; verified afterwards; undumpable.
 * Started as root it changes; started already as that account it only checks; started as anybody else it ends the program
 * with EXIT_YOUR_FAULT and says which account is needed. */
void priv_become(const char *program, const char *account);
/* The same for an account that is in no other group, or shall not have them: it takes none, and asks nobody which there are. */
void priv_become_alone(const char *program, const char *account);

/* The same for a user given by numbers (spawn local, before exec of local). uid 0 or gid 0 ends the child. `user` gives the
 * supplementary groups (initgroups); NULL gives none. */
void priv_become_user(const char *user, uid_t uid, gid_t gid);

/* First call of a set-uid program's main: environment emptied, descriptors from 3 closed, 0-2 guaranteed open, resource
 * limits and signal dispositions and mask set to sane ones, umask 077, working directory left alone, dumpable off; then the
 * file's owner becomes real, effective and saved uid, and its group likewise where the file is set-gid, too. Returns the uid of the caller. If set-uid had no effect
 * (NoNewPrivileges, nosuid mount) *took_effect_r is false and nothing but the cleaning was done. */
uid_t priv_setuid_start(const char *account, int *took_effect_r);

/* Descriptors 0, 1 and 2 are open afterwards, on /dev/null where they were not: no file opened later takes their places. Ends the
 * program with EXIT_SYSTEM, without a word, when it cannot. priv_setuid_start does it, too. */
void priv_standard_descriptors(void);

/* The directory of sockets (path_run), as etc/spool-tree makes it. Where /run is emptied at boot, the first daemon that starts as root and has a
 * socket there makes it; it is the resolver's, which makes its own socket after it gave up root. Does nothing for anybody but root. */
void priv_run_directory(void);

/* Lower this process's limits: no core; address space (0: leave). Open files: at most `nofile` (0: leave). */
void priv_limit(size_t address_space, unsigned nofile);

#endif
