/* body: exactly its range, never more than the pipe takes, and not to its end unless its checksum is right. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#include "common/crc32c.h"
#include "common/io.h"
#include "queue/body.h"
#include "queue/places.h"
#include "queue/store/loghead.h"

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

	refused(&place, EBADMSG);
	place.offset = UINT64_MAX;
	refused(&place, EBADMSG);
	place.offset = 1;
	place.size = UINT64_MAX;
	refused(&place, EBADMSG);
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

/* What the worker has not read yet does not change with the segment, which is written again once nobody holds it. */
static void sent_is_sent(void **state)
{
	struct body_place place = { .id = 1, .segment = 255, .offset = 4096, .size = 8192 };
	struct body b = BODY_INIT;
	static char got[8192];
	size_t moved;
	int ends[2];
	(void)state;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(body_open(&b, &place), 0);
	assert_int_equal(body_send(&b, ends[1], &moved), BODY_DONE);
	body_close(&b);
	int fd = open("log/00000000000000ff", O_WRONLY | O_CLOEXEC);
	assert_int_equal(io_pwrite_full(fd, octets + 100, 8192, 4096), 0);
	assert_int_equal(read(ends[0], got, sizeof got), sizeof got);
	assert_memory_equal(got, octets + 4096, sizeof got);
	close(fd);
	close(ends[0]);
	close(ends[1]);
	write_file("log/00000000000000ff");
}

/* An open body holds its segment; one that queued is taking away is not there any more. */
static void holds_its_segment(void **state)
{
	struct body_place place = { .id = 1, .segment = 255, .size = 100 };
	struct body b = BODY_INIT;
	(void)state;

	int fd = open("log/00000000000000ff", O_RDWR | O_CLOEXEC);
	assert_int_equal(body_open(&b, &place), 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	body_close(&b);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	refused(&place, ENOENT);
	close(fd);
	assert_int_equal(body_open(&b, &place), 0);
	body_close(&b);
}

/* ---- checksums ---- */

#define ID 1u
#define ID_OFFSET 150u

static char file[FILE_OCTETS + 1000];

static void rewrite(const char *name, size_t n)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, file, n), 0);
	close(fd);
}

/* How many octets of it go out, or -1: it is damaged, and not all of them went. */
static ssize_t sent_of(const struct body_place *place)
{
	static char got[FILE_OCTETS];
	struct body b = BODY_INIT;
	size_t moved, n = 0;
	int ends[2];
	enum body_result result = BODY_MORE;

	assert_int_equal(body_open(&b, place), 0);
	if (body_prove(&b, place) != 0) {
		assert_int_equal(errno, EBADMSG);
		body_close(&b);
		return -1;
	}
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	while (result == BODY_MORE) {
		result = body_send(&b, ends[1], &moved);
		assert_true(result != BODY_BROKEN || errno == EBADMSG);
		for (ssize_t more; (more = read(ends[0], got + n, sizeof got - n)) > 0;)
			n += (size_t)more;
	}
	if (result == BODY_DONE)
		assert_memory_equal(got, file + place->offset, n);
	else
		assert_true(n < place->size);
	body_close(&b);
	close(ends[0]);
	close(ends[1]);
	return result == BODY_DONE ? (ssize_t)n : -1;
}

static ssize_t sent_with_flip(const char *name, const struct body_place *place, uint64_t at)
{
	file[at] ^= 1;
	rewrite(name, place->offset + place->size + 1000);
	ssize_t sent = sent_of(place);
	file[at] ^= 1;
	return sent;
}

static void a_record(struct body_place *place, size_t at, size_t fields, size_t body)
{
	*place = (struct body_place){ .id = ID, .segment = 0x101, .record = at, .offset = at + MSGLOG_HEAD + fields, .size = body };
	memcpy(file, octets, sizeof octets);
	struct msglog_head head = { .length = (uint32_t)(fields + body), .segment = 0x101, .run = 7,
		.payload_crc = crc32c(0, file + at + MSGLOG_HEAD, fields + body) };
	msglog_head_encode(&head, file + at);
}

static void damaged_records(void **state)
{
	static const struct { size_t fields, body; } rows[] = { { 200, 1000 }, { 200, 65000 }, { 200, 100000 }, { 100000, 1000 }, { 100000, 0 }, { 150, 0 } };
	const char *name = "log/0000000000000101";
	struct body_place place;
	(void)state;

	for (size_t i = 0; i < COUNT(rows); i++) {
		a_record(&place, 512 + 8 * i, rows[i].fields, rows[i].body);
		uint64_t first = place.record + MSGLOG_HEAD, end = place.offset + place.size;
		const uint64_t flips[] = { place.record, place.record + 31, first, place.offset - 1, end - 1, first + (end - first) / 2 };
		for (size_t k = 0; k < COUNT(flips); k++)
			assert_int_equal(sent_with_flip(name, &place, flips[k]), -1);
		assert_int_equal(sent_with_flip(name, &place, end), place.size);
		assert_int_equal(sent_with_flip(name, &place, place.record - 1), place.size);
	}
	a_record(&place, 1024, 200, 1000);
	place.record = 0;          /* not known */
	assert_int_equal(sent_with_flip(name, &place, place.offset), place.size);
	place.record = 511;
	assert_int_equal(sent_of(&place), -1);
	place.record = place.offset;
	assert_int_equal(sent_of(&place), -1);
	unlink(name);
}

static int prove(const struct body_place *place)
{
	struct body b = BODY_INIT;
	assert_int_equal(body_open(&b, place), 0);
	int rc = body_prove(&b, place);
	body_close(&b);
	return rc;
}

/* Long envelopes whose destinations take turns are not read for each of them: here the file does not even have the first any more. */
static void proved_in_turns(void **state)
{
	const char *name = "log/0000000000000101";
	struct body_place place[3];
	(void)state;

	for (size_t i = 0; i < COUNT(place); i++) {
		a_record(&place[i], 4096 + 512 * i, 100000, 1000);
		rewrite(name, sizeof file);
		assert_int_equal(prove(&place[i]), 0);
	}
	for (size_t i = 0; i < COUNT(place); i++)
		assert_int_equal(prove(&place[i]), 0);
	place[0].record++;
	assert_int_equal(prove(&place[0]), -1);
	unlink(name);
}

/* The file of a body of this size, with dots where the id will stand. */
static void a_large_file(struct body_place *place, bool summed)
{
	struct intake_head head = { .state = INTAKE_PENDING, .body_size = 290000, .envelope_size = 700, .id_offset = ID_OFFSET, .summed = summed };
	*place = (struct body_place){ .id = ID, .large = true, .offset = INTAKE_HEAD, .size = head.body_size };
	memcpy(file, octets, sizeof octets);
	memcpy(file + INTAKE_HEAD + ID_OFFSET, MSGID_PLACEHOLDER, MSGID_TEXT);
	head.checksum = crc32c(0, file + INTAKE_HEAD, head.body_size + head.envelope_size);
	intake_head_encode(&head, file);
}

static void damaged_large_files(void **state)
{
	static const uint64_t flips[] = { 0, 40, 63, INTAKE_HEAD, INTAKE_HEAD + ID_OFFSET, 70000, INTAKE_HEAD + 290000 - 1, INTAKE_HEAD + 290000, INTAKE_HEAD + 290699 };
	const char *name = "large/000000000001";
	char text[MSGID_TEXT + 1];
	struct body_place place;
	(void)state;

	a_large_file(&place, true);
	msgid_format(ID, text);
	for (size_t put = 0; put <= MSGID_TEXT; put++) {      /* the id, as far as it reached the disk */
		memcpy(file + INTAKE_HEAD + ID_OFFSET, text, put);
		assert_int_equal(sent_with_flip(name, &place, INTAKE_HEAD + 290700), place.size);
	}
	for (size_t k = 0; k < COUNT(flips); k++)
		assert_int_equal(sent_with_flip(name, &place, flips[k]), -1);
	a_large_file(&place, false);                          /* an older version's */
	assert_int_equal(sent_with_flip(name, &place, 70000), place.size);
	place.size--;
	assert_int_equal(sent_of(&place), -1);
	write_file(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exactly_the_range), cmocka_unit_test(reading), cmocka_unit_test(what_is_no_body), cmocka_unit_test(nobody_reads), cmocka_unit_test(cut_short),
		cmocka_unit_test(sent_is_sent), cmocka_unit_test(holds_its_segment),
		cmocka_unit_test(damaged_records), cmocka_unit_test(proved_in_turns), cmocka_unit_test(damaged_large_files),
	};

	return cmocka_run_group_tests(tests, make_spool, remove_spool);
}
