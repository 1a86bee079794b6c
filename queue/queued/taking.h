/*
 * taking - reads an intake file, judges it and gives it to the store. Room: queue (queued). What enqueue wrote is checked anew:
 * its head, its sizes, its envelope; the body is octets.
 */
#ifndef QUEUE_TAKING_H
#define QUEUE_TAKING_H

#include <sys/types.h>

#include "queue/intakefile.h"
#include "queue/store/store.h"

struct taking {
	struct store *store;
	uid_t intake_uid;      /* owner of every file in intake/ */
	uid_t bounce_uid;      /* who may say that its message is a bounce of ours */
	struct str buffer;     /* head, then what was read behind it */
	bool fatal;            /* the store is lost */
	wall_ms_t told_full;   /* when it was last said that new mail is refused */
};

/* Looks up the accounts; ends the program when they are missing. */
void taking_init(struct taking *t, struct store *store);
void taking_free(struct taking *t);

/* Open intake/NAME (`dir` is intake/): a regular file of tappal-intake's with one name. -1 with errno (EPERM: somebody else's). */
int taking_open(const struct taking *t, int dir, const char *name);

/* Read the head and at most `size` octets of file. False: no valid head (errno 0), or it could not be read (errno). */
bool taking_read(struct taking *t, int fd, uint64_t size, struct intake_head *head_r);

/* After taking_read: into the store. ENQ_OK: it will be on disk after store_sync, and a large file has been renamed away. */
enum enqueue_exit taking_accept(struct taking *t, int fd, const char *name, const struct intake_head *head, wall_ms_t now, msgid_t *id_r);

#endif
