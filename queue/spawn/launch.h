/*
 * launch - start one worker process: fork, become, exec. Room: queue (spawn). Between fork and exec the child of `spawn local` is
 * root; what it does there is this file and home.c.
 */
#ifndef QUEUE_LAUNCH_H
#define QUEUE_LAUNCH_H

#include "common/mailbox.h"

struct launched {
	pid_t pid;
	int to;     /* write end of its stdin; nonblocking, close-on-exec */
	int from;   /* read end of its stdout; likewise */
};

/* Once, before descriptors are raised: workers get the limit that spawn was started with. */
void launch_init(void);

/* 0, or -1 with errno (EAGAIN: no process to be had). A child that fails before or at exec ends with EXIT_SYSTEM or
 * EXIT_YOUR_FAULT and a line on stderr. Does not wait for the exec. */
int launch_remote(struct launched *out);
/* `local`, as box->uid; a missing home of a virtual mailbox is made first. */
int launch_local(const struct mailbox *box, struct launched *out);

#endif
