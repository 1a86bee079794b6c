/*
 * maildir - put one message into a Maildir so that it is there exactly once, whatever dies. Room: local (as the recipient).
 *
 *   maildir_open      the directory, made when it is missing
 *   maildir_find      is this message's copy there already?
 *   copy_begin, copy_add..., copy_commit (or copy_abort)
 *
 * Order of a copy: write tmp/NAME.pid, fsync it, rename to new/NAME, fsync new/. Before copy_commit returned 0 nothing is promised. NAME comes
 * from the message's id and the recipient's index: a delivery that is repeated after a crash finds its first copy, or puts its file in its place.
 * All functions return -1 with errno on failure and block on disk.
 */
#ifndef LOCAL_MAILDIR_H
#define LOCAL_MAILDIR_H

#include <sys/types.h>
#include <time.h>

#include "common/msgid.h"

#define MAILDIR_NAME 255      /* with NUL */
#define COPY_BUFFER 65536u

struct maildir { int root, tmp, new, cur; };   /* directories; -1 when closed */

/* The Maildir that this process has synced last, zero at first: as long as nothing was changed in it, once is enough. */
struct maildir_seen { dev_t dev; ino_t ino; struct timespec changed; };

/* Open `name` under directory home; Maildir, tmp, new and cur are made with mode 0700 where missing, and synced. */
int maildir_open(struct maildir *m, int home, const char *name, struct maildir_seen *seen);
void maildir_close(struct maildir *m);

/* "seconds.ID_index.host"; host as in the Maildir convention, with '/' and ':' as \057 and \072. */
void maildir_name(msgid_t id, uint32_t index, struct bytes host, char out[MAILDIR_NAME]);

/* 1: a copy of that name is in new/, or in cur/ with any suffix behind ':' or ','; its directory has been synced. 0: none. cur/ is
 * read only if it changed since `arrival`, when the message came to this host: before that no copy can have got there. */
int maildir_find(const struct maildir *m, const char *name, wall_ms_t arrival);

struct copy {
	const struct maildir *in;
	int fd;                        /* of the tmp file, readable too; -1 when there is none */
	uint64_t size;                 /* octets added */
	size_t filled;                 /* of buffer */
	char name[MAILDIR_NAME], tmp_name[MAILDIR_NAME + 16];
	char buffer[COPY_BUFFER];
};

int copy_begin(struct copy *c, const struct maildir *in, const char *name);
int copy_add(struct copy *c, struct bytes octets);
/* Append what another, uncommitted copy holds from offset on. */
int copy_add_from(struct copy *c, struct copy *other, uint64_t offset);
int copy_commit(struct copy *c);   /* on failure the tmp file is gone, as after copy_abort */
void copy_abort(struct copy *c);   /* no effect without a tmp file */

#endif
