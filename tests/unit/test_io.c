/* test_io - descriptors: whole reads and writes, what may be opened, fifos' ends, deadlines, signals. */
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/io.h"

static char scratch[] = "/tmp/test_io.XXXXXX";

static int make_scratch(void **state)
{
	(void)state;
	return mkdtemp(scratch) && chdir(scratch) == 0 ? 0 : -1;
}

static int remove_scratch(void **state)
{
	static const char *const names[] = { "file", "fifo", "link", "fifolink", "large" };
	(void)state;
	for (size_t i = 0; i < COUNT(names); i++)
		unlink(names[i]);
	return chdir("/") || rmdir(scratch);
}

static void whole(void **state)
{
	char back[20] = "";
	(void)state;
	int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, "hello world", 11), 0);
	assert_int_equal(io_pwrite_full(fd, "W", 1, 6), 0);
	assert_int_equal(io_pread_full(fd, back, sizeof back, 6), 5);
	assert_string_equal(back, "World");
	assert_int_equal(io_pread_full(fd, back, sizeof back, 100), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_full(fd, back, 5), 5);
	assert_int_equal(io_read_full(fd, back, 20), 6);
	assert_int_equal(io_pwrite_full(fd, "x", 1, UINT64_MAX), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(io_pread_full(fd, back, 1, UINT64_MAX), -1);
	close(fd);
	assert_int_equal(io_write_full(fd, "x", 1), -1);
	assert_int_equal(errno, EBADF);
}

static void slurping(void **state)
{
	struct str out = STR_INIT(200000);
	static char large[150000];
	(void)state;
	memset(large, 'x', sizeof large);
	int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(io_write_full(fd, large, sizeof large), 0);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(io_slurp(fd, &out), 0);
	assert_int_equal(out.len, sizeof large);
	str_free(&out);
	/* Exactly full is fine; one more octet is not. */
	lseek(fd, 0, SEEK_SET);
	str_init(&out, sizeof large);
	assert_int_equal(io_slurp(fd, &out), 0);
	assert_int_equal(out.len, sizeof large);
	str_free(&out);
	lseek(fd, 0, SEEK_SET);
	str_init(&out, sizeof large - 1);
	assert_int_equal(io_slurp(fd, &out), -1);
	assert_int_equal(errno, EFBIG);
	str_free(&out);
	close(fd);
	/* What has no length to tell is read all the same; a file's length is memory enough for it. */
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], large, 3000), 3000);
	close(ends[1]);
	str_init(&out, 200000);
	assert_int_equal(io_slurp(ends[0], &out), 0);
	assert_int_equal(out.len, 3000);
	close(ends[0]);
	str_free(&out);
	fd = open("large", O_RDWR | O_TRUNC, 0600);
	assert_int_equal(io_write_full(fd, large, 3000), 0);
	lseek(fd, 0, SEEK_SET);
	str_init(&out, 200000);
	assert_int_equal(io_slurp(fd, &out), 0);
	assert_int_equal(out.len, 3000);
	assert_true(out.room < 4096);
	str_free(&out);
	close(fd);
}

static void opening(void **state)
{
	(void)state;
	close(open("file", O_WRONLY | O_CREAT, 0600));
	assert_int_equal(symlink("file", "link"), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(symlink("fifo", "fifolink"), 0);
	int fd = io_open_regular(AT_FDCWD, "file");
	assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	close(fd);
	assert_int_equal(io_open_regular(AT_FDCWD, "link"), -1);
	assert_int_equal(errno, ELOOP);
	assert_int_equal(io_open_regular(AT_FDCWD, "fifo"), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(io_open_regular(AT_FDCWD, "."), -1);
	assert_int_equal(io_open_regular(AT_FDCWD, "missing"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(io_open_fifo_read(AT_FDCWD, "file"), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(io_open_fifo_read(AT_FDCWD, "fifolink"), -1);
	assert_int_equal(io_open_fifo_write(AT_FDCWD, "fifo"), -1);
	assert_int_equal(errno, ENXIO);
	assert_int_equal(io_sync_dir(AT_FDCWD, "."), 0);
	assert_int_equal(io_sync_dir(AT_FDCWD, "file"), -1);
	assert_int_equal(errno, ENOTDIR);
}

static short polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_true(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static void fifo_ends(void **state)
{
	char c;
	(void)state;
	int r = io_open_fifo_read(AT_FDCWD, "fifo");
	assert_true(r >= 0);
	assert_int_equal(polled(r), 0);
	int w = io_open_fifo_write(AT_FDCWD, "fifo");
	assert_true(w >= 0);
	assert_true((fcntl(w, F_GETFL) & O_NONBLOCK) && (fcntl(r, F_GETFL) & O_NONBLOCK));
	assert_int_equal(read(r, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(write(w, "x", 1), 1);
	assert_int_equal(polled(r), POLLIN);
	assert_int_equal(read(r, &c, 1), 1);
	close(w);
	assert_int_equal(polled(r), POLLHUP);
	assert_int_equal(read(r, &c, 1), 0);
	close(r);
}

static void flags(void **state)
{
	(void)state;
	int fd = open("file", O_RDONLY);
	assert_int_equal(io_set_cloexec(fd, true), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(io_set_cloexec(fd, false), 0);
	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(io_set_nonblocking(fd, true), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(io_set_nonblocking(fd, false), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	assert_int_equal(io_set_cloexec(fd, true), -1);
}

static void deadlines(void **state)
{
	static char large[1 << 20];
	char c;
	int ends[2];
	(void)state;
	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	deadline_t past = clock_monotonic_ms();
	assert_int_equal(io_wait_readable(ends[0], past), 0);
	assert_int_equal(io_wait_writable(ends[1], past), 1);
	assert_int_equal(io_read_some(ends[0], &c, 1, past), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(io_write_by(ends[1], "ab", 2, past), 0);
	assert_int_equal(io_read_some(ends[0], &c, 1, 0), 1);
	assert_int_equal(io_wait_readable(ends[0], 0), 1);
	assert_int_equal(io_write_by(ends[1], large, sizeof large, past), -1);
	assert_int_equal(errno, ETIMEDOUT);
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(io_write_by(ends[1], "x", 1, 0), -1);
	assert_int_equal(errno, EPIPE);
	close(ends[1]);
	assert_int_equal(io_wait_readable(ends[0], past), -1);
	assert_int_equal(errno, EBADF);
}

static void end_of_file(void **state)
{
	char c;
	int ends[2];
	(void)state;
	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	close(ends[1]);
	assert_int_equal(io_wait_readable(ends[0], 0), 1);
	assert_int_equal(io_read_some(ends[0], &c, 1, 0), 0);
	close(ends[0]);
}

static void signals(void **state)
{
	static const int list[] = { SIGUSR1, SIGHUP, 0 };
	unsigned char octet;
	(void)state;
	int fd = io_signal_pipe(list);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &octet, 1), -1);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(raise(SIGHUP), 0);
	assert_int_equal(io_read_some(fd, &octet, 1, 0), 1);
	assert_int_equal(octet, SIGUSR1);
	assert_int_equal(io_read_some(fd, &octet, 1, 0), 1);
	assert_int_equal(octet, SIGHUP);
	/* A storm fills the pipe and blocks nobody. */
	for (int i = 0; i < 100000; i++)
		raise(SIGUSR1);
	assert_int_equal(io_signal_pipe(list), -1);
}

static void test_close(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), closed = fd;
	(void)state;
	assert_true(fd >= 0);
	errno = ENOTDIR;
	io_close(&fd);
	assert_int_equal(fd, -1);
	io_close(&fd);
	assert_int_equal(fd, -1);
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(fcntl(closed, F_GETFD), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close), cmocka_unit_test(whole), cmocka_unit_test(slurping), cmocka_unit_test(opening), cmocka_unit_test(fifo_ends), cmocka_unit_test(flags),
		cmocka_unit_test(deadlines), cmocka_unit_test(end_of_file), cmocka_unit_test(signals),
	};
	return cmocka_run_group_tests_name("io", tests, make_scratch, remove_scratch);
}
