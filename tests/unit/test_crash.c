/*
 * test_crash - crashes at every kind of point: the spool is copied as the crash leaves it, opened, and compared.
 */
#include "checked.h"

#include "common/io.h"
#include "queue/operation.h"

static uint64_t seed;

static uint32_t chance(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

struct busy { uint64_t job[256]; uint32_t n[256][8], count[256]; size_t jobs; };

static void random_accept(struct spool *sp)
{
	static const char *const rcpt[] = { " r@b.example?DELAY", " q@b.example", " r@c.example", " alice@local.example",
		" bob@local.example", " r@d.example" };
	char words[256];
	snprintf(words, sizeof words, "%s", chance(5) == 0 ? "<>" : "s@a.example");
	for (uint32_t i = 0, n = 1 + chance(5); i < n; i++)
		strncat(words, rcpt[chance(COUNT(rcpt))], sizeof words - strlen(words) - 1);
	spool_accept(sp, words);
}

static void random_claim(struct spool *sp, struct busy *b)
{
	struct store_job job;
	if (b->jobs == COUNT(b->job) || store_claim(sp->st, chance(2) ? CHANNEL_REMOTE : CHANNEL_LOCAL, sp->now, &job) != STORE_OK)
		return;
	assert_true(job.job.rcpt_count <= 8);
	b->job[b->jobs] = job.job.job;
	b->count[b->jobs] = job.job.rcpt_count;
	for (uint32_t i = 0; i < job.job.rcpt_count; i++)
		b->n[b->jobs][i] = job.rcpts[i].index;
	b->jobs++;
}

static void random_finish(struct spool *sp, struct busy *b)
{
	if (b->jobs == 0)
		return;
	size_t i = chance((uint32_t)b->jobs);
	for (uint32_t k = 0; k < b->count[i]; k++) {
		if (chance(10) != 0)
			assert_int_equal(spool_report(sp, b->job[i], b->n[i][k], (enum verdict)chance(3)), STORE_OK);
	}
	spool_done(sp, b->job[i], chance(6) == 0);
	b->jobs--;
	b->job[i] = b->job[b->jobs];
	b->count[i] = b->count[b->jobs];
	memcpy(b->n[i], b->n[b->jobs], sizeof b->n[i]);
}

static msgid_t random_message(struct spool *sp)
{
	struct row_message m;
	msgid_t id = 0, found = 0;
	for (uint32_t i = chance(20); index_next_message(sp->st->ix, id, &id, &m) == INDEX_OK; id++) {
		found = id;
		if (i-- == 0)
			break;
	}
	return found;
}

static void random_operation(struct spool *sp)
{
	struct str answer = STR_INIT(1000);
	struct operate op = { .op = (uint8_t)(1 + chance(6)), .id = random_message(sp),
		.index = chance(3) ? OPERATION_ALL_RCPTS : chance(4), .who = LIT("root"), .reason = LIT("test") };
	if (op.op == OP_FLUSH_DESTINATION)
		op.reason = LIT("r:b.example");
	enum store_result r = store_operate(sp->st, &op, sp->now, &answer);
	assert_true(r == STORE_OK || r == STORE_NONE);
	assert_true(answer.len > 0);
	str_free(&answer);
}

static void random_bounce(struct spool *sp)
{
	struct store_bounce bounce;
	if (store_claim_bounce(sp->st, sp->now, &bounce) == STORE_OK && chance(4) != 0)
		spool_accept_bounce(sp, bounce.begin.id, bounce.begin.batch);
	if (chance(10) == 0)
		store_give_back_bounces(sp->st, sp->now);
}

static void random_step(struct spool *sp, struct busy *b)
{
	switch (chance(12)) {
	case 0: case 1: case 2: random_accept(sp); break;
	case 3: case 4: random_claim(sp, b); break;
	case 5: case 6: case 7: random_finish(sp, b); break;
	case 8: random_operation(sp); break;
	case 9: random_bounce(sp); break;
	case 10: sp->now += chance(3) ? chance(2000) : chance(5000000); break;
	default: spool_tick(sp); break;
	}
	if (chance(100) == 0) {
		store_give_back(sp->st, CHANNEL_REMOTE, sp->now);
		store_give_back(sp->st, CHANNEL_LOCAL, sp->now);
		b->jobs = 0;
	}
}

/* Work of every kind at random; again and again the spool as a crash would leave it is opened, and knows the same. */
static void crash_anywhere(uint64_t first_seed)
{
	struct spool sp, copy;
	static struct busy busy;
	seed = first_seed;
	busy.jobs = 0;
	print_message("seed %lu\n", (unsigned long)seed);
	spool_begin(&sp);
	sp.settings.queuelifetime = 20 * 86400;
	sp.settings.delaywarn = 3600;
	sp.settings.delaywarnall = true;
	spool_open(&sp);
	for (unsigned step = 1; step <= 3000; step++) {
		random_step(&sp, &busy);
		if (step % 60 != 0)
			continue;
		assert_int_equal(store_sync(sp.st), STORE_OK);
		spool_check(&sp);
		checked_crash(&sp);
		spool_crashed_copy(&sp, &copy);
		spool_open(&copy);
		spool_check(&copy);
		spool_assert_same(sp.st, copy.st);
		store_close(copy.st);
		copy.st = NULL;
		checked_is(copy.dir, copy.now, "");
		spool_end(&copy);
		assert_int_equal(chdir(sp.dir), 0);
		str_clear(&sp.events);
		if (step % 600 == 0) {
			spool_crash(&sp);     /* and go on in the copy */
			busy.jobs = 0;
		}
	}
	spool_end(&sp);
}

static void test_crash_anywhere(void **state)
{
	(void)state;
	for (uint64_t s = 1; s <= 4; s++)
		crash_anywhere(s);
}

static void segment_file(const struct spool *sp, uint64_t segment, char out[256])
{
	char name[PLACE_MAX];
	place_segment(segment, name);
	snprintf(out, 256, "%s/%s", sp->dir, name);
}

static void overwrite(const struct spool *sp, struct place at, const void *data, size_t n)
{
	char path[256];
	segment_file(sp, at.segment, path);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(io_pwrite_full(fd, data, n, at.offset), 0);
	close(fd);
}

/* The last record is torn after each of its octets: the message before it is whole, the last one is whole or not there at all. */
static void test_torn_message(void **state)
{
	struct spool sp, copy;
	static char zeros[1024];
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept_sync(&sp, "s@a.example r@b.example");
	struct place last = msglog_end(sp.st->log);
	msgid_t b = spool_accept_sync(&sp, "s@a.example r@b.example r2@c.example");
	size_t size = (size_t)(msglog_end(sp.st->log).offset - last.offset);
	for (size_t k = 0; k < size; k++) {
		spool_crashed_copy(&sp, &copy);
		overwrite(&copy, (struct place){ last.segment, last.offset + k }, zeros, size - k);
		spool_open(&copy);
		assert_true(spool_exists(&copy, a));
		if (spool_exists(&copy, b))
			assert_true(k + 16 > size);
		assert_string_equal(str_c(&copy.events), "");
		msgid_t c = spool_accept(&copy, "s@a.example r@b.example");
		assert_true(c > a);
		spool_check(&copy);
		spool_end(&copy);
		assert_int_equal(chdir(sp.dir), 0);
	}
	spool_end(&sp);
}

/* A damaged record among synced ones: set aside, told, and the rest of the mail goes on. */
static void test_damaged_message(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept_sync(&sp, "s@a.example r@b.example");
	struct place middle = msglog_end(sp.st->log);
	msgid_t b = spool_accept_sync(&sp, "s@a.example r@b.example");
	msgid_t c = spool_accept_sync(&sp, "s@a.example r@b.example");
	overwrite(&sp, (struct place){ middle.segment, middle.offset + 120 }, "!!", 2);
	str_clear(&sp.events);
	spool_crash(&sp);
	assert_true(spool_exists(&sp, a));
	assert_false(spool_exists(&sp, b));
	assert_true(spool_exists(&sp, c));
	assert_true(bytes_starts_nocase(str_bytes(&sp.events), LIT("quarantined ")));
	char path[256];
	snprintf(path, sizeof path, "%s/log/quarantine-%016lx-%08lx", sp.dir, (unsigned long)middle.segment, (unsigned long)middle.offset);
	assert_int_equal(access(path, F_OK), 0);
	spool_check(&sp);
	spool_end(&sp);
}

/* The index is gone: what the log still holds is delivered. */
static void test_index_lost(void **state)
{
	struct spool sp;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t a = spool_accept_sync(&sp, "s@a.example r@b.example");
	assert_true(spool_deliver(&sp, CHANNEL_REMOTE, V_OK));
	msgid_t b = spool_accept_sync(&sp, "s@a.example r@b.example");
	spool_reopen(&sp);
	store_close(sp.st);
	spool_remove("index");
	mkdir("index", 0755);
	spool_open(&sp);
	assert_false(spool_exists(&sp, a));
	assert_true(spool_exists(&sp, b));
	spool_check(&sp);
	spool_end(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash_anywhere),
		cmocka_unit_test(test_torn_message),
		cmocka_unit_test(test_damaged_message),
		cmocka_unit_test(test_index_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
