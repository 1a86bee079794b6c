/*
 * calls - the system calls that a process of tlsd's may still make when it speaks with clients (seccomp): reading, writing and closing what it has, waiting,
 * memory. It opens nothing, makes no socket, starts and signals no process, and hands no descriptor on; one can still come to it. fcntl gives and sets the flags
 * of an open file alone, and sendto takes no address.
 */
#ifndef SMTPD_TLSD_CALLS_H
#define SMTPD_TLSD_CALLS_H

#include <stdbool.h>

/* For good; every other call fails with EPERM. no_new_privs must be set. False: errno; this kernel has no filters, or this machine's calls are not known here. */
bool calls_restrict(void);

#endif
