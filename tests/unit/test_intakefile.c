/* test_intakefile - heads and names of intake files, and what queued makes of a whole one (queue/queued/taking.c). */
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "queue/intakefile.h"
#include "queue/queued/taking.h"

static const struct intake_head sample = { .state = INTAKE_ADOPT, .token_a = UINT64_C(0x0123456789abcdef), .token_b = 7, .uid = 4000000000u,
	.envelope_size = 99, .body_size = UINT64_C(1) << 39, .id_offset = 17, .checksum = 0xdeadbeef };

static void head_both_ways(void **state) {
	char octets[INTAKE_HEAD];
	struct intake_head back;
	(void)state;
	intake_head_encode(&sample, octets);
	assert_true(intake_head_decode(octets, &back));
	assert_int_equal(back.state, sample.state);
	assert_int_equal(back.token_a, sample.token_a);
	assert_int_equal(back.token_b, sample.token_b);
	assert_int_equal(back.uid, sample.uid);
	assert_int_equal(back.envelope_size, sample.envelope_size);
	assert_int_equal(back.body_size, sample.body_size);
	assert_int_equal(back.id_offset, sample.id_offset);
	assert_int_equal(back.checksum, sample.checksum);
	assert_true(back.summed);                    /* an older version says so only by the state */
	assert_int_equal(intake_size(&back), (UINT64_C(1) << 39) + 99 + INTAKE_HEAD);
}

/* A format on disk: it may be left by one version and adopted by the next. */
static void head_is_stable(void **state) {
	static const struct intake_head head = { .state = INTAKE_PENDING, .token_a = 1, .token_b = 2, .uid = 3, .envelope_size = 4, .body_size = 5, .id_offset = 6 };
	static const unsigned char expected[48] = { 't', 'a', 'p', 'i', 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
		5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0 };
	char octets[INTAKE_HEAD];
	(void)state;
	intake_head_encode(&head, octets);
	assert_memory_equal(octets, expected, sizeof(expected));
}

static void pending_with_a_checksum(void **state) {
	char octets[INTAKE_HEAD];
	struct intake_head back, head = sample;
	(void)state;
	head.state = INTAKE_PENDING;
	for (int summed = 0; summed < 2; summed++) {
		head.summed = summed;
		intake_head_encode(&head, octets);
		assert_int_equal(octets[52], summed);
		assert_true(intake_head_decode(octets, &back));
		assert_int_equal(back.summed, summed);
		assert_int_equal(back.checksum, sample.checksum);
	}
}

static void every_bit_counts(void **state) {
	char octets[INTAKE_HEAD];
	struct intake_head back;
	(void)state;
	intake_head_encode(&sample, octets);
	for (size_t bit = 0; bit < INTAKE_HEAD * 8; bit++) {
		octets[bit / 8] ^= (char)(1 << bit % 8);
		assert_false(intake_head_decode(octets, &back));
		octets[bit / 8] ^= (char)(1 << bit % 8);
	}
	memset(octets, 0, sizeof(octets));
	assert_false(intake_head_decode(octets, &back));
}

/* A right checksum does not make sizes or states believable. */
static void sizes_are_bounded(void **state) {
	char octets[INTAKE_HEAD];
	struct intake_head head = sample, back;
	(void)state;
	head.body_size = INTAKE_BODY_MAX + 1;
	intake_head_encode(&head, octets);
	assert_false(intake_head_decode(octets, &back));
	head.body_size = 1;
	head.envelope_size = ENVELOPE_MAX + 1;
	intake_head_encode(&head, octets);
	assert_false(intake_head_decode(octets, &back));
	head.envelope_size = 1;
	head.state = (enum intake_state)3;
	intake_head_encode(&head, octets);
	assert_false(intake_head_decode(octets, &back));
}

static void names(void **state) {
	char name[INTAKE_NAME + 1], ack[INTAKE_ACK_NAME + 1];
	uint8_t random[16] = { 0 };
	(void)state;
	intake_name_make(random, name);
	assert_string_equal(name, "00000000000000000000000000");
	memset(random, 0xff, sizeof(random));
	intake_name_make(random, name);
	assert_string_equal(name, "zzzzzzzzzzzzzzzzzzzzzzzzzw");
	assert_true(intake_name_valid(bytes_of(name)));
	intake_ack_name(name, ack);
	assert_string_equal(ack, "zzzzzzzzzzzzzzzzzzzzzzzzzw.ack");
	static const char *const bad[] = { "", ".", "..", "zzzzzzzzzzzzzzzzzzzzzzzzz", "zzzzzzzzzzzzzzzzzzzzzzzzzzz", "zzzzzzzzzzzz/zzzzzzzzzzzzz",
		"../zzzzzzzzzzzzzzzzzzzzzzz", "Zzzzzzzzzzzzzzzzzzzzzzzzzz", "zzzzzzzzzzzzzzzzzzzzzzzzz.", "lzzzzzzzzzzzzzzzzzzzzzzzzz" };
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(intake_name_valid(bytes_of(bad[i])));
	assert_false(intake_name_valid((struct bytes){ "zzzzzzzzzzzz\0zzzzzzzzzzzzz", 26 }));
}

/* Every bit of the random number is in the name. */
static void names_differ(void **state) {
	char name[INTAKE_NAME + 1], zero[INTAKE_NAME + 1];
	uint8_t random[16] = { 0 };
	(void)state;
	intake_name_make(random, zero);
	for (size_t bit = 0; bit < 128; bit++) {
		random[bit / 8] = (uint8_t)(1 << bit % 8);
		intake_name_make(random, name);
		assert_string_not_equal(name, zero);
		random[bit / 8] = 0;
	}
}

/* ---- a whole file, against a store that remembers ---- */

static struct store_new last;
static struct str last_body;
static char last_large[INTAKE_NAME + 1];
static size_t last_rcpts;
static enum store_result give;

const char *store_full_reason(const struct store *st) {
	(void)st;
	return "";
}

enum store_result store_accept(struct store *st, const struct store_new *in, wall_ms_t now, msgid_t *id_r) {
	(void)st;
	last = *in;
	str_clear(&last_body);
	str_add(&last_body, in->body);
	last_large[0] = '\0';
	if (in->large_file)
		snprintf(last_large, sizeof(last_large), "%s", in->large_file);
	last_rcpts = in->envelope->rcpt_count;
	*id_r = now;
	return give;
}

static const char name[] = "zzzzzzzzzzzzzzzzzzzzzzzzzw";
#define ENVELOPE "Fa@example.org\0Tb@example.org\0Tc@example.org\0"   /* and the literal's own NUL: the end */

/* A file of `head`, `body` octets "b", and the envelope; `cut` octets are missing at its end. */
static int make_file(struct intake_head *head, size_t body, size_t cut) {
	int fd = memfd_create("intake", 0);
	size_t size = INTAKE_HEAD + body + sizeof(ENVELOPE);
	char *octets = malloc(size);
	assert_non_null(octets);
	head->body_size = body;
	head->envelope_size = sizeof(ENVELOPE);
	memset(octets + INTAKE_HEAD, 'b', body);
	memcpy(octets + INTAKE_HEAD + body, ENVELOPE, sizeof(ENVELOPE));
	head->checksum = crc32c(0, octets + INTAKE_HEAD, size - INTAKE_HEAD);
	intake_head_encode(head, octets);
	assert_int_equal(pwrite(fd, octets, size - cut, 0), (ssize_t)(size - cut));
	free(octets);
	return fd;
}

static struct taking taking_with(uid_t bounce) {
	give = STORE_OK;
	last_body.max = SIZE_MAX;
	return (struct taking){ .buffer = STR_INIT(INTAKE_HEAD + INTAKE_LARGE + ENVELOPE_MAX), .bounce_uid = bounce };
}

static void whole_files(void **state) {
	static const size_t sizes[] = { 0, 1, 65536 - INTAKE_HEAD - sizeof(ENVELOPE), 65536 - INTAKE_HEAD, 65536, INTAKE_LARGE - 1, INTAKE_LARGE, INTAKE_LARGE + 70000 };
	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct taking t = taking_with(55);
		struct intake_head head = { .state = INTAKE_PENDING, .token_a = 1, .token_b = 2, .uid = i == 0 ? 55 : 56 }, back;
		msgid_t id;
		int fd = make_file(&head, sizes[i], 0);
		assert_true(taking_read(&t, fd, intake_size(&head), &back));
		assert_int_equal(taking_accept(&t, fd, name, &back, 1234, &id), ENQ_OK);
		bool large = sizes[i] >= INTAKE_LARGE;
		assert_int_equal(id, 1234);
		assert_int_equal(last_rcpts, 2);
		assert_int_equal(last_body.len, large ? 0 : sizes[i]);
		for (size_t at = 0; at < last_body.len; at++)
			assert_int_equal(last_body.at[at], 'b');
		assert_string_equal(last_large, large ? name : "");
		assert_int_equal(last.body_size, sizes[i]);
		assert_int_equal(last.body_offset, INTAKE_HEAD);
		assert_int_equal(last.from_bounce, i == 0);
		taking_free(&t);
		close(fd);
	}
	str_free(&last_body);
}

/* Files that end too early, at every offset: refused, never read beyond, never accepted. */
static void cut_files(void **state) {
	(void)state;
	for (size_t cut = 1; cut <= INTAKE_HEAD + 10 + sizeof(ENVELOPE); cut++) {
		struct taking t = taking_with(1);
		struct intake_head head = { .state = INTAKE_PENDING }, back;
		msgid_t id;
		uint32_t checksum;
		int fd = make_file(&head, 10, cut);
		if (cut > 10 + sizeof(ENVELOPE)) {
			assert_false(taking_read(&t, fd, intake_size(&head), &back));
		} else {
			assert_true(taking_read(&t, fd, intake_size(&head), &back));
			assert_int_equal(taking_accept(&t, fd, name, &back, 1, &id), ENQ_READ_ERROR);
			assert_false(intake_checksum(fd, &head, &checksum));
			assert_int_equal(errno, ENODATA);
		}
		taking_free(&t);
		close(fd);
	}
}

static void answers_of_the_store(void **state) {
	static const struct { enum store_result result; enum enqueue_exit code; } rows[] = {
		{ STORE_OK, ENQ_OK }, { STORE_FULL, ENQ_NO_SPACE }, { STORE_NONE, ENQ_QUEUE_ERROR }, { STORE_FATAL, ENQ_QUEUE_ERROR } };
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct taking t = taking_with(1);
		struct intake_head head = { .state = INTAKE_PENDING }, back;
		msgid_t id;
		int fd = make_file(&head, 10, 0);
		give = rows[i].result;
		assert_true(taking_read(&t, fd, intake_size(&head), &back));
		assert_int_equal(taking_accept(&t, fd, name, &back, 1, &id), rows[i].code);
		assert_int_equal(t.fatal, rows[i].result == STORE_FATAL);
		taking_free(&t);
		close(fd);
	}
	str_free(&last_body);
}

static void checksums(void **state) {
	struct intake_head head = { .state = INTAKE_ADOPT };
	uint32_t checksum;
	(void)state;
	int fd = make_file(&head, 200000, 0);
	assert_true(intake_checksum(fd, &head, &checksum));
	assert_int_equal(checksum, head.checksum);
	assert_int_equal(pwrite(fd, "x", 1, 150000), 1);
	assert_true(intake_checksum(fd, &head, &checksum));
	assert_int_not_equal(checksum, head.checksum);
	close(fd);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(head_both_ways), cmocka_unit_test(head_is_stable), cmocka_unit_test(pending_with_a_checksum), cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(names), cmocka_unit_test(names_differ), cmocka_unit_test(whole_files), cmocka_unit_test(cut_files),
		cmocka_unit_test(answers_of_the_store), cmocka_unit_test(checksums),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
