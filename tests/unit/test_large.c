/*
 * test_large - the store and the files of large/: taken from intake/, kept or given back over crashes, gone with their messages.
 */
#include <dirent.h>

#include "spool.h"

#include "common/io.h"
#include "queue/intakefile.h"

static void write_intake(const char *name, enum intake_state what, size_t body)
{
	char path[PLACE_MAX], head_octets[INTAKE_HEAD];
	struct intake_head head = { .state = what, .token_a = 5, .token_b = 6, .body_size = body };
	snprintf(path, sizeof path, "intake/%s", name);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0664);
	assert_true(fd >= 0);
	intake_head_encode(&head, head_octets);
	assert_int_equal(write(fd, head_octets, INTAKE_HEAD), INTAKE_HEAD);
	for (size_t i = 0; i < body; i += 16)
		assert_int_equal(write(fd, "id ............\n", 16), 16);
	close(fd);
}

static msgid_t accept_large(struct spool *sp, const char *name, size_t body)
{
	struct str raw = STR_INIT(4096);
	struct envelope env;
	msgid_t id;
	spool_envelope(&raw, "s@a.example r@b.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	struct store_new in = { .envelope = &env, .large_file = name, .body_offset = INTAKE_HEAD, .body_size = body, .id_offset = 3,
		.token_a = 5, .token_b = 6 };
	assert_int_equal(store_accept(sp->st, &in, sp->now, &id), STORE_OK);
	str_free(&raw);
	return id;
}

static bool is_file(msgid_t id)
{
	char path[PLACE_MAX];
	place_large(id, path);
	return access(path, F_OK) == 0;
}

#define NAME_A "abcdefghabcdefghabcdefghab"
#define NAME_B "bbcdefghabcdefghabcdefghab"

static void test_large(void **state)
{
	struct spool sp;
	char path[PLACE_MAX], got[16], text[MSGID_TEXT + 1];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	write_intake(NAME_A, INTAKE_PENDING, 160000);
	msgid_t id = accept_large(&sp, NAME_A, 160000);
	assert_true(store_dirty(sp.st));
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_int_not_equal(access("intake/" NAME_A, F_OK), 0);
	place_large(id, path);
	int fd = open(path, O_RDONLY);
	msgid_format(id, text);
	assert_int_equal(io_pread_full(fd, got, 16, INTAKE_HEAD), 16);
	assert_memory_equal(got + 3, text, MSGID_TEXT);
	assert_int_equal(io_pread_full(fd, got, 16, INTAKE_HEAD + 16), 16);
	assert_memory_equal(got + 3, MSGID_PLACEHOLDER, MSGID_TEXT);
	close(fd);
	struct store_job job;
	assert_int_equal(store_claim(sp.st, CHANNEL_REMOTE, sp.now, &job), STORE_OK);
	assert_int_equal(job.job.large, 1);
	assert_int_equal(job.job.body_offset, INTAKE_HEAD);
	assert_int_equal(job.job.body_size, 160000);
	uint64_t number = job.job.job;
	assert_int_equal(spool_report(&sp, number, 0, V_OK), STORE_OK);
	spool_done(&sp, number, false);
	assert_true(is_file(id));             /* the record that ends it is not synced */
	assert_int_equal(store_sync(sp.st), STORE_OK);
	assert_false(is_file(id));
	spool_end(&sp);
}

static size_t intake_files(void)
{
	size_t n = 0;
	struct stat st;
	DIR *dir = opendir("intake");
	struct dirent *e;
	while ((e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.' && fstatat(dirfd(dir), e->d_name, &st, 0) == 0;
	closedir(dir);
	return n;
}

/* The crash comes between the rename and the sync of the log: a PENDING file goes, an ADOPT file comes back to be adopted again. */
static void test_large_crash_before_sync(void **state)
{
	struct spool sp;
	(void)state;
	for (unsigned adopted = 0; adopted < 2; adopted++) {
		spool_begin(&sp);
		spool_open(&sp);
		write_intake(NAME_A, adopted ? INTAKE_ADOPT : INTAKE_PENDING, 160000);
		msgid_t id = accept_large(&sp, NAME_A, 160000);
		assert_true(is_file(id));
		spool_crash(&sp);
		assert_false(spool_exists(&sp, id));
		assert_false(is_file(id));
		assert_int_equal(intake_files(), adopted);
		assert_false(store_token_seen(sp.st, 5, 6));
		spool_end(&sp);
	}
}

/* Accepted and synced: the file stays. Finished and synced, but the crash came before the unlink: it goes at the start. */
static void test_large_crash_after_sync(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	write_intake(NAME_A, INTAKE_ADOPT, 160000);
	msgid_t id = accept_large(&sp, NAME_A, 160000);
	assert_int_equal(store_sync(sp.st), STORE_OK);
	spool_crash(&sp);
	assert_true(spool_exists(&sp, id));
	assert_true(is_file(id));
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	assert_int_equal(msglog_sync(sp.st->log), MSGLOG_OK);
	spool_crash(&sp);
	assert_false(spool_exists(&sp, id));
	assert_false(is_file(id));
	assert_int_equal(intake_files(), 0);
	spool_end(&sp);
}

/* A segment that is full in the middle of a turn is synced then; the name that a record in it speaks of is synced before. */
static void test_large_before_a_full_segment(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	write_intake(NAME_A, INTAKE_ADOPT, 160000);
	accept_large(&sp, NAME_A, 160000);
	uint64_t segment = msglog_end(sp.st->log).segment;
	while (sp.st->large_dirty && msglog_end(sp.st->log).segment == segment)
		spool_accept(&sp, "s@a.example r@b.example");
	assert_int_equal(msglog_end(sp.st->log).segment, segment + 1);
	assert_false(sp.st->large_dirty);
	spool_end(&sp);
}

static void test_large_file_missing(void **state)
{
	struct spool sp;
	struct str raw = STR_INIT(4096);
	struct envelope env;
	msgid_t id;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	spool_envelope(&raw, "s@a.example r@b.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	struct store_new in = { .envelope = &env, .large_file = NAME_B, .body_offset = 64, .body_size = 5 };
	assert_int_equal(store_accept(sp.st, &in, sp.now, &id), STORE_NONE);
	spool_accept_sync(&sp, "s@a.example r@b.example");
	str_free(&raw);
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_large_crash_before_sync),
		cmocka_unit_test(test_large_crash_after_sync),
		cmocka_unit_test(test_large_before_a_full_segment),
		cmocka_unit_test(test_large_file_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
