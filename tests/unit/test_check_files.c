/*
 * test_check_files - large bodies and files in intake/ are damaged by hand, and strangers stand there: the checker names that and nothing else.
 */
#include "damaged.h"

#include "common/crc32c.h"
#include "queue/intakefile.h"

/* ---- large bodies ---- */

#define LARGE (200u << 10)

/* An intake file with its checksum. */
static void make_intake(const char *path, enum intake_state how, struct bytes envelope, uint32_t id_offset)
{
	static char octets[INTAKE_HEAD + LARGE + 4096];
	struct intake_head head = { .state = how, .token_a = 5, .token_b = 6, .body_size = LARGE, .envelope_size = (uint32_t)envelope.len, .id_offset = id_offset };
	memset(octets, 'b', sizeof octets);
	memcpy(octets + INTAKE_HEAD + 100, MSGID_PLACEHOLDER, MSGID_TEXT);
	memcpy(octets + INTAKE_HEAD + LARGE, envelope.at, envelope.len);
	head.summed = true;
	head.checksum = crc32c(0, octets + INTAKE_HEAD, LARGE + envelope.len);
	intake_head_encode(&head, octets);
	write_file(path, octets, INTAKE_HEAD + LARGE + envelope.len);
}

#define NAME "0123456789abcdefghjkmnpqrs"

struct large { struct spool sp; struct spool copy; msgid_t id; char text[MSGID_TEXT + 1], path[PLACE_MAX]; };

static int large_setup(void **state)
{
	static struct large room;
	struct large *l = &room;
	struct str raw = STR_INIT(4096);
	struct envelope env;
	room = (struct large){ .id = 0 };
	*state = l;
	spool_begin(&l->sp);
	spool_open(&l->sp);
	spool_accept_sync(&l->sp, "s@a.example other@b.example");
	spool_envelope(&raw, "s@a.example r@b.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	make_intake("intake/" NAME, INTAKE_ADOPT, str_bytes(&raw), 100);
	struct store_new in = { .envelope = &env, .large_file = NAME, .body_offset = INTAKE_HEAD, .body_size = LARGE, .id_offset = 100, .token_a = 5, .token_b = 6 };
	assert_int_equal(store_accept(l->sp.st, &in, l->sp.now, &l->id), STORE_OK);
	assert_int_equal(store_sync(l->sp.st), STORE_OK);
	l->sp.now += 5000;
	spool_tick(&l->sp);
	msgid_format(l->id, l->text);
	place_large(l->id, l->path);
	str_free(&raw);
	spool_crashed_copy(&l->sp, &l->copy);
	assert_int_equal(chdir(l->copy.dir), 0);
	return 0;
}

static void large_is(struct large *l, const char *kind)
{
	char expected[200] = "";
	if (kind)
		snprintf(expected, sizeof expected, "%s %s %s\n", kind, l->path, strcmp(kind, "large-orphan") == 0 ? "-" : l->text);
	checked_is(l->copy.dir, l->copy.now, expected);
	assert_int_equal(chdir(l->copy.dir), 0);
}

static int large_teardown(void **state)
{
	struct large *l = *state;
	spool_end(&l->copy);
	assert_int_equal(chdir(l->sp.dir), 0);
	spool_end(&l->sp);
	return 0;
}

#define WITH_A_LARGE_BODY(test) cmocka_unit_test_setup_teardown(test, large_setup, large_teardown)

static void test_large(void **state)
{
	struct large *l = *state;
	char found[MSGID_TEXT];
	large_is(l, NULL);
	int fd = open_file(l->path);       /* the id was put into it, and its checksum is right all the same */
	assert_int_equal(io_pread_full(fd, found, sizeof found, INTAKE_HEAD + 100), sizeof found);
	assert_memory_equal(found, l->text, MSGID_TEXT);
	close(fd);
	flip(l->path, INTAKE_HEAD + 5000);
	large_is(l, "large-damaged");
	flip(l->path, INTAKE_HEAD + 5000);
	flip(l->path, INTAKE_HEAD + LARGE + 3);
	large_is(l, "large-damaged");
	flip(l->path, INTAKE_HEAD + LARGE + 3);
	flip(l->path, 20);
	large_is(l, "large-damaged");
	flip(l->path, 20);
	large_is(l, NULL);
	assert_int_equal(truncate(l->path, LARGE), 0);
	large_is(l, "large-damaged");
	assert_int_equal(unlink(l->path), 0);
	large_is(l, "large-missing");
}

/* Its head as it would be, had queued been there or an older version written it, or were it another message's. */
static void change_head(const char *path, enum intake_state how, bool summed, uint64_t token_b)
{
	char octets[INTAKE_HEAD];
	struct intake_head head;
	int fd = open_file(path);
	assert_int_equal(io_pread_full(fd, octets, sizeof octets, 0), sizeof octets);
	assert_true(intake_head_decode(octets, &head));
	head.state = how;
	head.summed = summed;
	head.token_b = token_b;
	intake_head_encode(&head, octets);
	assert_int_equal(io_pwrite_full(fd, octets, sizeof octets, 0), 0);
	close(fd);
}

static void test_large_head(void **state)
{
	struct large *l = *state;
	change_head(l->path, INTAKE_PENDING, true, 6);
	large_is(l, NULL);
	flip(l->path, INTAKE_HEAD + 5000);
	large_is(l, "large-damaged");
	change_head(l->path, INTAKE_PENDING, false, 6);
	large_is(l, NULL);
	change_head(l->path, INTAKE_PENDING, false, 7);
	large_is(l, "large-damaged");
}

static void test_large_second_name(void **state)
{
	struct large *l = *state;
	char elsewhere[128];
	snprintf(elsewhere, sizeof elsewhere, "%s.link", l->copy.dir);
	assert_int_equal(link(l->path, elsewhere), 0);
	large_is(l, "large-damaged");
	assert_int_equal(unlink(elsewhere), 0);
}

static void test_large_orphan(void **state)
{
	struct large *l = *state;
	char text[MSGID_TEXT + 1];
	msgid_format(l->id - 1, text);
	snprintf(l->path, sizeof l->path, "large/%s", text);
	write_file(l->path, "x", 1);
	large_is(l, "large-orphan");
	unlink(l->path);
	msgid_format(l->id + 1, text);      /* what a crash between rename and sync leaves */
	snprintf(l->path, sizeof l->path, "large/%s", text);
	write_file(l->path, "x", 1);
	large_is(l, NULL);
}

/* Ended behind the last commit: the file is gone, the index still has its message, and the log explains it. */
static void test_large_ended(void **state)
{
	struct large *l = *state;
	assert_int_equal(chdir(l->sp.dir), 0);
	while (spool_deliver(&l->sp, CHANNEL_REMOTE, V_OK))
		;
	assert_int_equal(store_sync(l->sp.st), STORE_OK);
	assert_int_equal(access(l->path, F_OK), -1);
	checked_crash(&l->sp);
}

static void test_intake(void **state)
{
	struct queue *q = *state;
	struct str raw = STR_INIT(4096);
	struct checked c;
	spool_envelope(&raw, "s@a.example r@b.example");
	make_intake("intake/" NAME, INTAKE_ADOPT, str_bytes(&raw), 0);
	make_intake("intake/1123456789abcdefghjkmnpqrs", INTAKE_PENDING, str_bytes(&raw), 0);
	write_file("intake/2123456789abcdefghjkmnpqrs", "not yet", 7);
	c = checked_run(q->sp.dir, q->sp.now);
	assert_string_equal(str_c(&c.lines), "");
	assert_int_equal(c.check.sums.intake, 1);
	str_free(&c.lines);
	flip("intake/" NAME, INTAKE_HEAD + 77);
	expect(q, "intake-damaged intake/" NAME " -\n");
	assert_int_equal(rename("intake/" NAME, "intake/" NAME ".bad"), 0);
	expect(q, "set-aside intake/" NAME ".bad -\n");
	str_free(&raw);
}

static void test_unknown_files(void **state)
{
	struct queue *q = *state;
	static const char *const name[] = { "log/core", "log/0000000000000001x", "large/core", "intake/core", "index/core", "core" };
	char expected[100];
	for (size_t i = 0; i < COUNT(name); i++) {
		write_file(name[i], "x", 1);
		snprintf(expected, sizeof expected, "unknown-file %s -\n", name[i]);
		expect(q, "%s", expected);
		unlink(name[i]);
	}
	write_file("log/quarantine-0000000000000001-00000040", "x", 1);
	write_file("log/making", "x", 1);
	write_file("log/spare-0000000000000007", "x", 1);
	expect(q, "set-aside log/quarantine-0000000000000001-00000040 -\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_A_LARGE_BODY(test_large), WITH_A_LARGE_BODY(test_large_head), WITH_A_LARGE_BODY(test_large_second_name), WITH_A_LARGE_BODY(test_large_orphan),
		WITH_A_LARGE_BODY(test_large_ended), ON_A_QUEUE(test_intake), ON_A_QUEUE(test_unknown_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
