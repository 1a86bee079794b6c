/* body: exactly its range, and never more than the pipe takes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#include "common/io.h"
#include "queue/body.h"
#include "queue/places.h"

#define FILE_OCTETS 300000u

static char octets[FILE_OCTETS];
static char place_path[64];
static int old_dir;

static void write_file(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, octets, sizeof octets), 0);
	close(fd);
}

static int make_spool(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof octets; i++)
		octets[i] = (char)(i * 7 + i / 251);
	snprintf(place_path, sizeof place_path, "/var/tmp/tappal-test-XXXXXX");
	assert_non_null(mkdtemp(place_path));
	old_dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(chdir(place_path), 0);
	assert_int_equal(mkdir("log", 0755), 0);
	assert_int_equal(mkdir("large", 0755), 0);
	write_file("log/00000000000000ff");
	write_file("large/000000000001");
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int remove_spool(void **state)
{
	(void)state;
	unlink("log/00000000000000ff");
	unlink("large/000000000001");
	rmdir("log");
	rmdir("large");
	assert_int_equal(fchdir(old_dir), 0);
	return rmdir(place_path);
}

/* Send through a pipe that is drained in odd pieces. */
static void send_and_compare(const struct body_place *place)
{
	static char got[FILE_OCTETS];
	struct body b = BODY_INIT;
	size_t moved, sent = 0, n = 0;
	enum body_result result = BODY_MORE;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(body_open(&b, place), 0);
	while (result == BODY_MORE || n < sent) {
		if (result == BODY_MORE) {
			result = body_send(&b, ends[1], &moved);
			sent += moved;
		}
		ssize_t more = read(ends[0], got + n, 1013);
		if (more > 0)
			n += (size_t)more;
	}
	assert_int_equal(result, BODY_DONE);
	assert_int_equal(n, place->size);
	if (n > 0)
		assert_memory_equal(got, octets + place->offset, n);
	body_close(&b);
	close(ends[0]);
	close(ends[1]);
}

static void exactly_the_range(void **state)
{
	static const struct { uint64_t offset, size; } ranges[] = {
		{ 0, 1 }, { 1, 0 }, { 4095, 2 }, { 4096, 4096 }, { 17, 200000 }, { 0, FILE_OCTETS }, { FILE_OCTETS - 1, 1 },
	};
	(void)state;

	for (size_t i = 0; i < COUNT(ranges); i++) {
		struct body_place place = { .id = 1, .segment = 255, .offset = ranges[i].offset, .size = ranges[i].size };
		send_and_compare(&place);
		place.large = true;
		send_and_compare(&place);
	}
}

static void reading(void **state)
{
	struct body_place place = { .id = 1, .segment = 255, .offset = 100, .size = 5000 };
	struct body b = BODY_INIT;
	char got[4000];
	(void)state;

	assert_int_equal(body_open(&b, &place), 0);
	assert_int_equal(body_read(&b, got, sizeof got), 4000);
	assert_memory_equal(got, octets + 100, 4000);
	assert_int_equal(body_read(&b, got, sizeof got), 1000);
	assert_memory_equal(got, octets + 4100, 1000);
	assert_int_equal(body_read(&b, got, sizeof got), 0);
	body_close(&b);
}

static void refused(const struct body_place *place, int error)
{
	struct body b = BODY_INIT;
	assert_int_equal(body_open(&b, place), -1);
	assert_int_equal(errno, error);
	assert_int_equal(b.fd, -1);
}

static void what_is_no_body(void **state)
{
	struct body_place place = { .id = 1, .segment = 255, .offset = FILE_OCTETS, .size = 1 };
	(void)state;

	refused(&place, ERANGE);
	place.offset = UINT64_MAX;
	refused(&place, ERANGE);
	place.offset = 1;
	place.size = UINT64_MAX;
	refused(&place, ERANGE);
	place = (struct body_place){ .id = 1, .segment = 256, .size = 1 };
	refused(&place, ENOENT);
	assert_int_equal(symlink("00000000000000ff", "log/0000000000000100"), 0);
	refused(&place, ELOOP);
	unlink("log/0000000000000100");
	assert_int_equal(mkdir("log/0000000000000100", 0755), 0);
	refused(&place, EINVAL);
	rmdir("log/0000000000000100");
	assert_int_equal(mkfifo("log/0000000000000100", 0600), 0);
	refused(&place, EINVAL);
	unlink("log/0000000000000100");
	assert_int_equal(link("log/00000000000000ff", "log/0000000000000100"), 0);
	refused(&place, EINVAL);
	unlink("log/0000000000000100");
}

static void nobody_reads(void **state)
{
	struct body_place place = { .id = 1, .segment = 255, .size = 100 };
	struct body b = BODY_INIT;
	size_t moved;
	int ends[2];
	(void)state;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	close(ends[0]);
	assert_int_equal(body_open(&b, &place), 0);
	assert_int_equal(body_send(&b, ends[1], &moved), BODY_GONE);
	body_close(&b);
	close(ends[1]);
}

/* The file became shorter under us: an error, not an endless loop. */
static void cut_short(void **state)
{
	struct body_place place = { .id = 1, .large = true, .size = 8192 };
	struct body b = BODY_INIT;
	size_t moved;
	int ends[2];
	(void)state;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(body_open(&b, &place), 0);
	assert_int_equal(truncate("large/000000000001", 4096), 0);
	assert_int_equal(body_send(&b, ends[1], &moved), BODY_BROKEN);
	assert_int_equal(moved, 4096);
	body_close(&b);
	close(ends[0]);
	close(ends[1]);
	write_file("large/000000000001");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exactly_the_range), cmocka_unit_test(reading), cmocka_unit_test(what_is_no_body), cmocka_unit_test(nobody_reads), cmocka_unit_test(cut_short),
	};

	return cmocka_run_group_tests(tests, make_spool, remove_spool);
}
