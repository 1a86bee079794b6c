/*
 * prepare - the next segment, ready before it is needed. Room: queue, behind msglog.
 *
 * Order, and why: a new file is filled and synced before it gets its number, so that no segment ever has a hole whose first write
 * would change metadata; the directory is synced after the rename and before the segment is handed out, so that a record
 * that was synced into it cannot lose its name.
 */
#include "prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"

#define CHUNK (1u << 20)
#define SYNC_EVERY (8u << 20)      /* not 64 MiB of dirty pages at once before other people's fdatasync */
#define SMALL_DIVISOR 64u
#define SMALL_LEAST 65536u
#define MAKING "making"

enum state { PREPARE_IDLE, PREPARE_WANTED, PREPARE_READY, PREPARE_FAILED };

struct prepare {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int dirfd;
	size_t size;
	/* below: under the lock */
	enum state state;
	bool stop;
	uint64_t segment;
	struct prepared ready;
	int error;
	uint64_t *spare;
	size_t spares, spare_room;
};

void prepare_name(uint64_t segment, char out[PREPARE_NAME_MAX])
{
	snprintf(out, PREPARE_NAME_MAX, "%016" PRIx64, segment);
}

void prepare_spare_name(uint64_t segment, char out[PREPARE_NAME_MAX])
{
	snprintf(out, PREPARE_NAME_MAX, "spare-%016" PRIx64, segment);
}

/* ---- the thread's work, outside of the lock ---- */

static int fill(int fd, size_t size)
{
	char *zeros = calloc(1, CHUNK);
	if (!zeros)
		return ENOMEM;
	int rc = 0;
	for (size_t done = 0; done < size && rc == 0;) {
		size_t n = size - done < CHUNK ? size - done : CHUNK;
		if (io_pwrite_full(fd, zeros, n, done) != 0)
			rc = errno;
		done += n;
		if (rc == 0 && (done % SYNC_EVERY == 0 || done == size) && fsync(fd) != 0)
			rc = errno;
	}
	free(zeros);
	return rc;
}

static int make_file(struct prepare *p, size_t size, int *fd_r)
{
	int fd = openat(p->dirfd, MAKING, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno;
	int rc = 0;
	/* The directory is closed to strangers; the mode lets spawn and bounce in whatever the umask is. */
	if (fchmod(fd, 0644) != 0)
		rc = errno;
	if (rc == 0 && fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		rc = errno;
	if (rc == 0)
		rc = fill(fd, size);
	if (rc != 0) {
		close(fd);
		unlinkat(p->dirfd, MAKING, 0);
		return rc;
	}
	*fd_r = fd;
	return 0;
}

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

static int make_new(struct prepare *p, const char *name, struct prepared *out)
{
	size_t small = p->size / SMALL_DIVISOR & ~(size_t)4095;
	if (small < SMALL_LEAST)
		small = SMALL_LEAST < p->size ? SMALL_LEAST : p->size;
	*out = (struct prepared){ .fd = -1, .size = p->size };
	int rc = make_file(p, p->size, &out->fd);
	if (is_full(rc)) {
		*out = (struct prepared){ .fd = -1, .size = small, .small = true };
		rc = make_file(p, small, &out->fd);
	}
	if (rc == 0 && renameat(p->dirfd, MAKING, p->dirfd, name) != 0)
		rc = errno;
	return rc;
}

static int use_spare(struct prepare *p, uint64_t spare, const char *name, struct prepared *out)
{
	char from[PREPARE_NAME_MAX];
	struct stat st;
	prepare_spare_name(spare, from);
	if (renameat(p->dirfd, from, p->dirfd, name) != 0)
		return errno;
	int fd = openat(p->dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno;
	/* A small one was made when the disk was full; it has served. */
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size < p->size) {
		close(fd);
		unlinkat(p->dirfd, name, 0);
		return ENOENT;
	}
	*out = (struct prepared){ .fd = fd, .size = (size_t)st.st_size & ~(size_t)4095 };
	return 0;
}

static int make_ready(struct prepare *p, uint64_t segment, bool has_spare, uint64_t spare, struct prepared *out)
{
	char name[PREPARE_NAME_MAX];
	prepare_name(segment, name);
	int rc = has_spare ? use_spare(p, spare, name, out) : make_new(p, name, out);
	if (rc == 0 && fsync(p->dirfd) != 0) {
		rc = errno;
		close(out->fd);
	}
	return rc;
}

static void drop_spare(struct prepare *p, uint64_t spare)
{
	char name[PREPARE_NAME_MAX];
	prepare_spare_name(spare, name);
	unlinkat(p->dirfd, name, 0);
}

/* ---- the thread ---- */

static void serve_want(struct prepare *p)
{
	bool has_spare = p->spares > 0;
	uint64_t spare = has_spare ? p->spare[--p->spares] : 0, segment = p->segment;
	struct prepared made;
	pthread_mutex_unlock(&p->lock);
	int rc = make_ready(p, segment, has_spare, spare, &made);
	pthread_mutex_lock(&p->lock);
	/* A spare that somebody took away is no reason to fail: the loop comes again without it. */
	if (rc == ENOENT && has_spare)
		return;
	p->error = rc;
	p->ready = made;
	p->state = rc == 0 ? PREPARE_READY : PREPARE_FAILED;
	pthread_cond_broadcast(&p->changed);
}

static void *run(void *arg)
{
	struct prepare *p = arg;
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (p->state == PREPARE_WANTED) {
			serve_want(p);
		} else if (p->spares > PREPARE_SPARES) {
			uint64_t spare = p->spare[--p->spares];
			pthread_mutex_unlock(&p->lock);
			drop_spare(p, spare);
			pthread_mutex_lock(&p->lock);
		} else {
			pthread_cond_wait(&p->changed, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are the main thread's. */
static int start_thread(struct prepare *p)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&p->thread, NULL, run, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

/* ---- its master's side ---- */

struct prepare *prepare_start(int dirfd, size_t segment_size)
{
	struct prepare *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->dirfd = dirfd;
	p->size = segment_size;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	int rc = start_thread(p);
	if (rc == 0)
		return p;
	free(p);
	errno = rc;
	return NULL;
}

void prepare_stop(struct prepare *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	if (p->state == PREPARE_READY)
		close(p->ready.fd);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->spare);
	free(p);
}

void prepare_want(struct prepare *p, uint64_t segment)
{
	pthread_mutex_lock(&p->lock);
	if (p->state == PREPARE_IDLE || p->state == PREPARE_FAILED) {
		p->state = PREPARE_WANTED;
		p->segment = segment;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
}

bool prepare_has_failed(struct prepare *p)
{
	pthread_mutex_lock(&p->lock);
	bool failed = p->state == PREPARE_FAILED;
	pthread_mutex_unlock(&p->lock);
	return failed;
}

bool prepare_is_ready(struct prepare *p)
{
	pthread_mutex_lock(&p->lock);
	bool ready = p->state == PREPARE_READY && !p->ready.small;
	pthread_mutex_unlock(&p->lock);
	return ready;
}

int prepare_take(struct prepare *p, struct prepared *segment_r)
{
	pthread_mutex_lock(&p->lock);
	while (p->state == PREPARE_WANTED)
		pthread_cond_wait(&p->changed, &p->lock);
	int rc = p->state == PREPARE_READY ? 0 : p->state == PREPARE_FAILED ? p->error : EINVAL;
	if (rc == 0) {
		*segment_r = p->ready;
		p->state = PREPARE_IDLE;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Without memory for its number the file is left alone; the next start finds it. */
void prepare_add_spare(struct prepare *p, uint64_t number)
{
	pthread_mutex_lock(&p->lock);
	uint64_t *spare = array_room(p->spare, p->spares, &p->spare_room, sizeof *spare);
	if (spare) {
		p->spare = spare;
		p->spare[p->spares++] = number;
	}
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}
