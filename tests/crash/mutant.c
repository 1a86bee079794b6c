/*
 * mutant - a tappal that breaks its promise, for the test of the rig: linked with --wrap into an otherwise unchanged build. The rig has to
 * find mail that these lose; LMDB, a shared library, keeps its own syncs.
 *   EARLY   the log is never synced, so 250 comes too early
 *   DIRS    files are synced, directories are not (as qmail does)
 */
#include <sys/stat.h>
#include <unistd.h>

#ifdef EARLY
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd) {
	(void)fd;
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
