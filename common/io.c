/* io - common room, used by every program. See io.h. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLURP_STEP 65536u

/* ---- whole reads and writes ---- */

int io_write_full(int fd, const void *data, size_t n)
{
	const char *at = data;

	while (n) {
		ssize_t put = write(fd, at, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		at += put;
		n -= (size_t)put;
	}
	return 0;
}

/* An offset as off_t, or false and EFBIG. */
static bool to_off(uint64_t offset, size_t n, off_t *off_r)
{
	if (offset > INT64_MAX || n > INT64_MAX - offset) {
		errno = EFBIG;
		return false;
	}
	*off_r = (off_t)offset;
	return true;
}

int io_pwrite_full(int fd, const void *data, size_t n, uint64_t offset)
{
	const char *at = data;
	off_t off;

	if (!to_off(offset, n, &off))
		return -1;
	while (n) {
		ssize_t put = pwrite(fd, at, n, off);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		at += put;
		off += put;
		n -= (size_t)put;
	}
	return 0;
}

/* read(2) where off < 0, else pread(2), until n octets or the end of the file. */
static ssize_t read_all(int fd, char *at, size_t n, off_t off)
{
	size_t got = 0;

	while (got < n) {
		ssize_t more = off < 0 ? read(fd, at + got, n - got) : pread(fd, at + got, n - got, off + (off_t)got);
		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return -1;
		if (more == 0)
			break;
		got += (size_t)more;
	}
	return (ssize_t)got;
}

ssize_t io_read_full(int fd, void *data, size_t n)
{
	return read_all(fd, data, n, -1);
}

ssize_t io_pread_full(int fd, void *data, size_t n, uint64_t offset)
{
	off_t off;

	return to_off(offset, n, &off) ? read_all(fd, data, n, off) : -1;
}

/* At the ceiling only the end of file is still welcome. */
static int slurp_at_ceiling(int fd)
{
	char one;
	ssize_t got = io_read_full(fd, &one, 1);

	if (got > 0)
		errno = EFBIG;
	return got == 0 ? 0 : -1;
}

/* A regular file says how long it is: room for that and one octet more, so that its end is met without growing. */
static void slurp_prepare(int fd, struct str *out)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && out->max > out->len && (uintmax_t)st.st_size < out->max - out->len)
		str_reserve(out, (size_t)st.st_size + 1);
}

int io_slurp(int fd, struct str *out)
{
	slurp_prepare(fd, out);
	for (;;) {
		size_t left = out->max > out->len ? out->max - out->len : 0;
		if (left == 0)
			return slurp_at_ceiling(fd);
		size_t step = out->room > out->len + 1 ? out->room - out->len - 1 : SLURP_STEP;
		if (step > left)
			step = left;
		char *at = str_reserve(out, step);
		if (!at) {
			errno = ENOMEM;
			return -1;
		}
		ssize_t got = read(fd, at, step);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			return 0;
		str_grew(out, (size_t)got);
	}
}

/* ---- opening ---- */

static int open_retry(int dirfd, const char *name, int flags)
{
	int fd;

	do
		fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int close_failed(int fd, int error)
{
	close(fd);
	errno = error;
	return -1;
}

/* Open, then let the descriptor itself say what it is: a name may change its meaning between a stat and an open. */
static int open_kind(int dirfd, const char *name, int flags, mode_t kind)
{
	struct stat st;
	int fd = open_retry(dirfd, name, flags);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return close_failed(fd, errno);
	if ((st.st_mode & S_IFMT) != kind)
		return close_failed(fd, EINVAL);
	return fd;
}

int io_open_regular(int dirfd, const char *name)
{
	/* Nonblocking: should the name be a fifo, open must not wait for a writer. It means nothing for a regular file. */
	return open_kind(dirfd, name, O_RDONLY | O_NONBLOCK, S_IFREG);
}

int io_open_again(int fd)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int io_open_fifo_read(int dirfd, const char *name)
{
	/* Not O_RDWR, which would hide the end of file from those who wait for it (spawn: queued died) and would need the
	 * permission to write. */
	return open_kind(dirfd, name, O_RDONLY | O_NONBLOCK, S_IFIFO);
}

int io_open_fifo_write(int dirfd, const char *name)
{
	return open_kind(dirfd, name, O_WRONLY | O_NONBLOCK, S_IFIFO);
}

int io_sync_dir(int dirfd, const char *name)
{
	int fd = open_retry(dirfd, name, O_RDONLY | O_DIRECTORY);
	int rc;

	if (fd < 0)
		return -1;
	do
		rc = fsync(fd);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return close_failed(fd, errno);
	close(fd);
	return 0;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);

	if (flags < 0)
		return -1;
	return fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0 ? -1 : 0;
}

int io_set_nonblocking(int fd, bool on)
{
	return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int io_set_cloexec(int fd, bool on)
{
	return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

/* ---- waiting ---- */

static int wait_for(int fd, short events, deadline_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int ready = poll(&p, 1, deadline ? deadline_poll_ms(deadline, clock_monotonic_ms()) : -1);
		if (ready > 0 && (p.revents & POLLNVAL)) {
			errno = EBADF;
			return -1;
		}
		if (ready > 0)
			return 1;
		if (ready < 0 && errno != EINTR)
			return -1;
		if (deadline_passed(deadline, clock_monotonic_ms()))
			return 0;
	}
}

int io_wait_readable(int fd, deadline_t deadline)
{
	return wait_for(fd, POLLIN, deadline);
}

int io_wait_writable(int fd, deadline_t deadline)
{
	return wait_for(fd, POLLOUT, deadline);
}

static bool is_not_yet(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* Wait as `events` says: 0 go on, -1 errno, ETIMEDOUT included. */
static int wait_or_fail(int fd, short events, deadline_t deadline)
{
	int ready = wait_for(fd, events, deadline);

	if (ready == 0)
		errno = ETIMEDOUT;
	return ready > 0 ? 0 : -1;
}

ssize_t io_read_some(int fd, void *data, size_t n, deadline_t deadline)
{
	for (;;) {
		ssize_t got = read(fd, data, n);
		if (got >= 0)
			return got;
		if (!is_not_yet(errno) || wait_or_fail(fd, POLLIN, deadline) < 0)
			return -1;
	}
}

int io_write_by(int fd, const void *data, size_t n, deadline_t deadline)
{
	const char *at = data;

	while (n) {
		ssize_t put = write(fd, at, n);
		if (put < 0 && (!is_not_yet(errno) || wait_or_fail(fd, POLLOUT, deadline) < 0))
			return -1;
		if (put > 0) {
			at += put;
			n -= (size_t)put;
		}
	}
	return 0;
}

void io_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

/* ---- signals ---- */

/* The one thing that a signal handler can reach: the write end of io_signal_pipe. */
static int signal_write_end = -1;

static void on_signal(int number)
{
	int saved = errno;
	unsigned char octet = (unsigned char)number;

	/* A full pipe already says "look": nothing is lost. */
	while (write(signal_write_end, &octet, 1) < 0 && errno == EINTR)
		;
	errno = saved;
}

int io_signal_pipe(const int *signals)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	int ends[2];

	if (signal_write_end >= 0) {
		errno = EALREADY;
		return -1;
	}
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	signal_write_end = ends[1];
	sigfillset(&action.sa_mask);
	for (; *signals; signals++)
		if (sigaction(*signals, &action, NULL) < 0)
			return -1;
	return ends[0];
}

bool io_close_from(int first, int spared)
{
	if (spared < first)
		return close_range((unsigned)first, ~0u, 0) == 0;
	return (spared == first || close_range((unsigned)first, (unsigned)spared - 1, 0) == 0) && close_range((unsigned)spared + 1, ~0u, 0) == 0;
}

void io_want_files(size_t wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}
