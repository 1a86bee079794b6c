/*
 * mutant - a tappal that breaks its promise, for the test of the rig: linked with --wrap into an otherwise unchanged build. The rig has to
 * find mail that these lose; LMDB, a shared library, keeps its own syncs.
 *   EARLY   the log is synced a moment after queued went on as if it were, so 250 comes too early
 *   DIRS    files are synced, directories are not (as qmail does)
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef EARLY
#define LATER_US 30000

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static void *sync_later(void *argument) {
	int fd = (int)(intptr_t)argument;
	usleep(LATER_US);
	__real_fdatasync(fd);
	close(fd);
	return NULL;
}

int __wrap_fdatasync(int fd) {
	pthread_t thread;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0 || pthread_create(&thread, NULL, sync_later, (void *)(intptr_t)copy) != 0)
		return __real_fdatasync(fd);
	pthread_detach(thread);
	return 0;
}
#endif

#ifdef DIRS
int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd) {
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : __real_fsync(fd);
}
#endif
