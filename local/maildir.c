/* maildir - room: local. See maildir.h. */
#include "maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"

#define CLOCK_SLACK_MS SECOND_MS             /* file times come from a coarser clock */
#define YOUNG_MS (10u * MINUTE_MS)

/* ---- the directory ---- */

/* The subdirectory, made if need be. */
static int open_dir(int parent, const char *name) {
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = openat(parent, name, flags);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return -1;
	return openat(parent, name, flags);
}

static wall_ms_t stat_ms(struct timespec t) {
	return (wall_ms_t)t.tv_sec * 1000u + (wall_ms_t)t.tv_nsec / 1000000u;
}

static bool is_seen(const struct maildir_seen *seen, const struct stat *st) {
	return st->st_dev == seen->dev && st->st_ino == seen->ino && st->st_ctim.tv_sec == seen->changed.tv_sec
		&& st->st_ctim.tv_nsec == seen->changed.tv_nsec;
}

/* A young Maildir may have been made by a delivery that was killed before it synced the directories above, so each process that
 * delivers in its first minutes does it anew. What changes in the same tick of the file system's clock shows no other time: so
 * a directory is remembered only when its last change is some time ago. */
static int sync_if_young(const struct maildir *m, int home, struct maildir_seen *seen) {
	struct stat st;
	if (fstat(m->root, &st) < 0)
		return -1;
	wall_ms_t changed = stat_ms(st.st_ctim), now = clock_wall_ms();
	if (changed + YOUNG_MS < now || is_seen(seen, &st))
		return 0;
	if (fsync(m->root) < 0 || fsync(home) < 0)
		return -1;
	if (changed + CLOCK_SLACK_MS < now)
		*seen = (struct maildir_seen){ st.st_dev, st.st_ino, st.st_ctim };
	return 0;
}

int maildir_open(struct maildir *m, int home, const char *name, struct maildir_seen *seen) {
	*m = (struct maildir){ -1, -1, -1, -1 };
	m->root = open_dir(home, name);
	if (m->root >= 0)
		m->tmp = open_dir(m->root, "tmp");
	if (m->tmp >= 0)
		m->new = open_dir(m->root, "new");
	if (m->new >= 0)
		m->cur = open_dir(m->root, "cur");
	if (m->cur >= 0 && sync_if_young(m, home, seen) == 0)
		return 0;
	int error = errno;
	maildir_close(m);
	errno = error;
	return -1;
}

void maildir_close(struct maildir *m) {
	io_close(&m->root);
	io_close(&m->tmp);
	io_close(&m->new);
	io_close(&m->cur);
}

/* ---- names ---- */

void maildir_name(msgid_t id, uint32_t index, struct bytes host, char out[MAILDIR_NAME]) {
	char text[MSGID_TEXT + 1], safe[MAILDIR_NAME - 64];
	size_t n = 0;
	msgid_format(id, text);
	for (size_t i = 0; i < host.len && n + 4 < sizeof safe; i++) {
		unsigned char c = (unsigned char)host.at[i];
		if (c > 32 && c < 127 && c != '/' && c != ':')
			safe[n++] = (char)c;
		else
			n += (size_t)snprintf(safe + n, 5, "\\%03o", c);
	}
	safe[n] = 0;
	snprintf(out, MAILDIR_NAME, "%llu.%s_%u.%s", (unsigned long long)(msgid_time(id) / 1000u), text, index, n > 0 ? safe : "localhost");
}

static bool is_copy(const char *entry, const char *name, size_t len) {
	return strncmp(entry, name, len) == 0 && (entry[len] == 0 || entry[len] == ':' || entry[len] == ',');
}

/* 1 there, 0 not, -1 errno. */
static int scan(int dir, const char *name) {
	size_t len = strlen(name);
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int found = 0;
	if (!d) {
		io_close(&fd);
		return -1;
	}
	errno = 0;
	for (struct dirent *entry; !found && (entry = readdir(d)) != NULL;)
		found = is_copy(entry->d_name, name, len);
	if (!found && errno != 0)
		found = -1;
	int error = errno;
	closedir(d);
	errno = error;
	return found;
}

/* A copy that was found counts as delivered, so its directory must be on disk as after a delivery. */
static int found_in(int dir) {
	return fsync(dir) < 0 ? -1 : 1;
}

int maildir_find(const struct maildir *m, const char *name, wall_ms_t arrival) {
	struct stat st;
	if (fstatat(m->new, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return found_in(m->new);
	if (errno != ENOENT || fstat(m->cur, &st) < 0)
		return -1;
	if (stat_ms(st.st_mtim) + CLOCK_SLACK_MS < arrival)
		return 0;
	int found = scan(m->cur, name);
	return found == 1 ? found_in(m->cur) : found;
}

/* ---- a copy ---- */

int copy_begin(struct copy *c, const struct maildir *in, const char *name) {
	int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	c->in = in;
	c->size = 0;
	c->filled = 0;
	snprintf(c->name, sizeof c->name, "%s", name);
	snprintf(c->tmp_name, sizeof c->tmp_name, "%.*s.%ld", MAILDIR_NAME - 20, name, (long)getpid());
	c->fd = openat(in->tmp, c->tmp_name, flags, 0600);
	/* Left by an earlier process of this number: nobody else's, since this name is this message's. */
	if (c->fd < 0 && errno == EEXIST && unlinkat(in->tmp, c->tmp_name, 0) == 0)
		c->fd = openat(in->tmp, c->tmp_name, flags, 0600);
	return c->fd < 0 ? -1 : 0;
}

static int flush(struct copy *c) {
	if (io_write_full(c->fd, c->buffer, c->filled) < 0)
		return -1;
	c->filled = 0;
	return 0;
}

int copy_add(struct copy *c, struct bytes octets) {
	while (octets.len > 0) {
		size_t n = COPY_BUFFER - c->filled < octets.len ? COPY_BUFFER - c->filled : octets.len;
		memcpy(c->buffer + c->filled, octets.at, n);
		c->filled += n;
		c->size += n;
		octets = bytes_slice(octets, n, octets.len);
		if (c->filled == COPY_BUFFER && flush(c) < 0)
			return -1;
	}
	return 0;
}

int copy_add_from(struct copy *c, struct copy *other, uint64_t offset) {
	char data[16384];
	ssize_t got;
	if (flush(other) < 0)
		return -1;
	while ((got = io_pread_full(other->fd, data, sizeof data, offset)) > 0) {
		if (copy_add(c, (struct bytes){ data, (size_t)got }) < 0)
			return -1;
		offset += (uint64_t)got;
	}
	return got < 0 ? -1 : 0;
}

void copy_abort(struct copy *c) {
	int error = errno;
	if (c->fd < 0)
		return;
	unlinkat(c->in->tmp, c->tmp_name, 0);
	io_close(&c->fd);
	errno = error;
}

/* close is checked too: on a network file system it is where a quota speaks up. */
static int finish_file(struct copy *c) {
	if (flush(c) < 0 || fsync(c->fd) < 0)
		return -1;
	int fd = c->fd;
	c->fd = -1;
	return close(fd);
}

int copy_commit(struct copy *c) {
	int done = finish_file(c);
	if (done == 0)
		done = renameat(c->in->tmp, c->tmp_name, c->in->new, c->name);
	if (done == 0)
		return fsync(c->in->new);
	int error = errno;
	unlinkat(c->in->tmp, c->tmp_name, 0);
	io_close(&c->fd);
	errno = error;
	return -1;
}
