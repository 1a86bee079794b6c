/* home - room: queue (spawn local). This file runs as root: keep it short. See home.h. */
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int fail(int fd, int error) {
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

/* Cut the next component off *path into name: 1, 0 at the end, -1 when it is too long or goes up. */
static int next_component(const char **path, char name[NAME_MAX + 1]) {
	const char *at = *path + strspn(*path, "/");
	size_t n = strcspn(at, "/");
	*path = at + n;
	if (n == 0)
		return 0;
	if (n > NAME_MAX || (n <= 2 && strncmp(at, "..", n) == 0)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(name, at, n);
	name[n] = 0;
	return 1;
}

/* Open the directory that holds the last component, one step at a time without following a link; name gets that component. */
static int open_parent(const char *path, char name[NAME_MAX + 1]) {
	char next[NAME_MAX + 1];
	int fd = path[0] == '/' ? open("/", DIRECTORY) : -1;
	int got = fd < 0 ? -1 : next_component(&path, name);
	if (fd < 0 || got <= 0)
		return fail(fd, EINVAL);
	while ((got = next_component(&path, next)) > 0) {
		int below = openat(fd, name, DIRECTORY);
		if (below < 0)
			return fail(fd, errno);
		close(fd);
		fd = below;
		memcpy(name, next, sizeof next);
	}
	return got == 0 ? fd : fail(fd, EINVAL);
}

static bool is_roots_alone(int fd) {
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Give away through the descriptor: what is given is the directory just made, whatever its name now means. */
static int give_away(int parent, const char *made, uid_t uid, gid_t gid) {
	int fd = openat(parent, made, DIRECTORY);
	if (fd < 0)
		return -1;
	if (fchown(fd, uid, gid) < 0 || fsync(fd) < 0)
		return fail(fd, errno);
	close(fd);
	return 0;
}

static int make_in(int parent, const char *name, uid_t uid, gid_t gid) {
	char made[64];
	snprintf(made, sizeof made, ".tappal-new-home.%ld", (long)getpid());
	unlinkat(parent, made, AT_REMOVEDIR);
	if (mkdirat(parent, made, 0700) < 0)
		return -1;
	if (give_away(parent, made, uid, gid) == 0 && renameat2(parent, made, parent, name, RENAME_NOREPLACE) == 0)
		return fsync(parent);
	int error = errno;
	unlinkat(parent, made, AT_REMOVEDIR);
	errno = error;
	return error == EEXIST ? 0 : -1;
}

int home_make(const char *path, uid_t uid, gid_t gid) {
	char name[NAME_MAX + 1];
	struct stat st;
	if (lstat(path, &st) == 0)
		return 0;
	if (errno != ENOENT)
		return -1;
	int parent = open_parent(path, name);
	if (parent < 0)
		return -1;
	if (!is_roots_alone(parent))
		return fail(parent, EPERM);
	int made = make_in(parent, name, uid, gid);
	int error = errno;
	close(parent);
	errno = error;
	return made;
}
