/*
 * draft - a message, or a part of one, kept aside until it is judged: in memory while it is small, then in a file without a name below the spool
 * (SPOOL_DRAFT), so that nothing of it is left whatever happens. Nothing is synced: nothing was promised yet.
 */
#ifndef SMTPD_CONTENT_DRAFT_H
#define SMTPD_CONTENT_DRAFT_H

#include "common/bytes.h"

#include <sys/types.h>

#define DRAFT_MEMORY (256u << 10)

struct draft {
	struct str memory;
	int fd;                /* -1: all of it is in memory */
	uint64_t size;
	int error;             /* errno of what went wrong; what was added since is not there */
};

void draft_init(struct draft *d);
void draft_free(struct draft *d);                     /* it may be filled again afterwards */
bool draft_add(struct draft *d, struct bytes octets); /* false: d->error. Blocks on disk. */
/* As pread(2) of the whole: octets got, 0 at the end, -1. */
ssize_t draft_read(const struct draft *d, uint64_t offset, char *at, size_t room);
bool draft_to_file(struct draft *d);                  /* from now on d->fd has it all */

/* A descriptor of all of it for another program, the caller's to close, for reading alone: no other account can open it again for writing, and what is
 * small is sealed. Nothing may be added afterwards. -1: d->error. */
int draft_share(struct draft *d);

#endif
