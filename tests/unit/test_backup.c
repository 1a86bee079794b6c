/*
 * test_backup - a copy made while the store goes on: between any two of its steps mail is taken, delivered, and segments are recycled. Each copy is
 * checked, opened, and knows every message that was there before it was begun and is there still. And the manifest's text.
 */
#include "checked.h"

#include "queue/intakefile.h"
#include "queue/store/backup.h"

static uint64_t seed;

static uint32_t chance(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

/* ---- work between the steps ---- */

struct busy { struct spool *sp; unsigned steps; };

static void take_large(struct spool *sp)
{
	static char octets[INTAKE_HEAD + 8192];
	struct str raw = STR_INIT(4096);
	struct envelope env;
	msgid_t id;
	spool_envelope(&raw, "s@a.example large@l.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	struct intake_head head = { .state = INTAKE_PENDING, .token_a = ++sp->token, .body_size = 4000, .envelope_size = (uint32_t)raw.len };
	memcpy(octets + INTAKE_HEAD + 4000, raw.at, raw.len);
	intake_head_encode(&head, octets);
	int fd = open("intake/large", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_int_equal(write(fd, octets, INTAKE_HEAD + 4000 + raw.len), INTAKE_HEAD + 4000 + raw.len);
	close(fd);
	struct store_new in = { .envelope = &env, .large_file = "large", .body_offset = INTAKE_HEAD, .body_size = 4000, .token_a = head.token_a };
	assert_int_equal(store_accept(sp->st, &in, sp->now, &id), STORE_OK);
	str_free(&raw);
}

static void work(struct spool *sp, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		switch (chance(6)) {
		case 0: spool_accept(sp, "s@a.example r@b.example q@c.example"); break;
		case 1: take_large(sp); break;
		case 2: case 3: case 4: spool_deliver(sp, CHANNEL_REMOTE, chance(4) ? V_OK : V_TEMP); break;
		default: sp->now += 700; spool_tick(sp); break;
		}
		assert_int_equal(store_sync(sp->st), STORE_OK);
	}
}

static void go_on(void *context)
{
	struct busy *busy = context;
	work(busy->sp, busy->steps);
}

static struct backup backup_into(struct spool *sp, const char *to, unsigned steps)
{
	struct busy busy = { sp, steps };
	struct backup b = { .now = sp->now, .pause = go_on, .context = &busy };
	assert_int_equal(mkdir(to, 0700), 0);
	b.to = open(to, O_RDONLY | O_DIRECTORY);
	if (!backup_run(&b))
		fail_msg("%s", b.error);
	close(b.to);
	return b;
}

/* Ids that are unfinished, as text. */
static void ids_of(struct store *st, struct str *out)
{
	struct row_message m;
	char text[MSGID_TEXT + 2];
	for (msgid_t id = 0; index_next_message(st->ix, id, &id, &m) == INDEX_OK; id++) {
		msgid_format(id, text);
		str_addf(out, "%s\n", text);
	}
}

static void assert_all_of(const struct str *before, const struct str *after, const struct str *copied)
{
	struct bytes rest = str_bytes(before);
	while (rest.len > 0) {
		char line[MSGID_TEXT + 1];
		assert_true(bytes_to_cstring(bytes_cut(&rest, '\n'), line, sizeof line));
		if (strstr(str_c(after), line) && !strstr(str_c(copied), line))
			fail_msg("%s was there before and is there still, and is not in the copy", line);
	}
}

/* How often it was begun. */
static unsigned copy_while_busy(uint64_t first_seed, unsigned steps)
{
	struct spool sp, copy;
	struct str before = STR_INIT(1 << 20), after = STR_INIT(1 << 20), copied = STR_INIT(1 << 20);
	seed = first_seed;
	spool_begin(&sp);
	spool_open(&sp);
	work(&sp, 400);
	ids_of(sp.st, &before);
	spool_begin(&copy);
	copy.now = sp.now;
	assert_int_equal(chdir(sp.dir), 0);
	spool_remove(copy.dir);
	struct backup b = backup_into(&sp, copy.dir, steps);
	assert_int_equal(b.lost, 0);
	ids_of(sp.st, &after);
	checked_is(copy.dir, copy.now, "");
	spool_open(&copy);
	spool_check(&copy);
	ids_of(copy.st, &copied);
	assert_all_of(&before, &after, &copied);
	while (spool_deliver(&copy, CHANNEL_REMOTE, V_OK))
		;
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	spool_end(&sp);
	str_free(&before);
	str_free(&after);
	str_free(&copied);
	return b.tries;
}

static void test_quiet(void **state)
{
	(void)state;
	for (uint64_t s = 1; s <= 2; s++)
		assert_int_equal(copy_while_busy(s, 0), 1);
}

static void test_busy(void **state)
{
	(void)state;
	for (uint64_t s = 1; s <= 8; s++) {
		unsigned tries = copy_while_busy(s, 5 + (unsigned)s * 30);
		print_message("seed %lu: begun %u times\n", (unsigned long)s, tries);
	}
}

/* Behind the first look at the log so much comes and goes that the segments that follow are full, dead and recycled before the next look. */
static void rush(void *context)
{
	struct busy *busy = context;
	if (busy->steps++ > 0)
		return;
	for (unsigned i = 0; i < 2000; i++) {
		spool_accept(busy->sp, "s@a.example r@b.example");
		while (spool_deliver(busy->sp, CHANNEL_REMOTE, V_OK))
			;
		if (i % 100 == 0) {
			busy->sp->now += 2000;
			spool_tick(busy->sp);
		}
	}
	busy->sp->now += 2000;
	spool_tick(busy->sp);
}

static void test_recycled_meanwhile(void **state)
{
	struct spool sp, copy;
	struct busy busy = { &sp, 0 };
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	msgid_t id = spool_accept_sync(&sp, "s@a.example r@b.example");
	sp.now += 2000;
	spool_tick(&sp);
	spool_begin(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	struct backup b = { .now = sp.now, .pause = rush, .context = &busy };
	spool_remove(copy.dir);
	assert_int_equal(mkdir(copy.dir, 0700), 0);
	b.to = open(copy.dir, O_RDONLY | O_DIRECTORY);
	assert_true(backup_run(&b));
	close(b.to);
	assert_int_equal(b.tries, 2);
	copy.now = sp.now;
	checked_is(copy.dir, copy.now, "");
	spool_open(&copy);
	struct row_message m;
	assert_int_equal(index_get_message(copy.st->ix, id, &m), INDEX_NONE);      /* delivered meanwhile */
	spool_end(&copy);
	assert_int_equal(chdir(sp.dir), 0);
	spool_end(&sp);
}

static void test_texts_that_are_lost(void **state)
{
	struct spool sp, copy;
	struct row_segment row;
	uint64_t segment = 0;
	(void)state;
	spool_begin(&sp);
	spool_open(&sp);
	while (msglog_end(sp.st->log).segment < 3)
		spool_accept(&sp, "s@a.example r@b.example");
	sp.now += 2000;
	spool_tick(&sp);
	assert_int_equal(index_next_segment(sp.st->ix, 0, &segment, &row), INDEX_OK);
	assert_true(row.live_messages > 0 && segment < 3);
	char path[PLACE_MAX];
	place_segment(segment, path);
	assert_int_equal(unlink(path), 0);
	spool_begin(&copy);
	spool_remove(copy.dir);
	assert_int_equal(chdir(sp.dir), 0);
	struct backup b = backup_into(&sp, copy.dir, 0);
	assert_int_equal(b.lost, row.live_messages);
	assert_int_equal(b.damaged.count, 0);
	spool_remove(copy.dir);
	spool_end(&sp);
}

/* ---- the manifest ---- */

static void make_text(struct str *out)
{
	manifest_begin(out, SPOOL_START);
	manifest_add(out, "log/0000000000000001", 4711, 0xdeadbeef);
	manifest_add(out, "index/data.mdb", UINT64_MAX, 1);
	assert_true(manifest_end(out, 2));
}

static void test_manifest(void **state)
{
	struct str text = STR_INIT(4096);
	struct manifest_file file;
	struct bytes files;
	uint64_t count;
	(void)state;
	make_text(&text);
	assert_null(manifest_parse(str_bytes(&text), &files, &count));
	assert_int_equal(count, 2);
	assert_true(manifest_next(&files, &file));
	assert_bytes(file.path, "log/0000000000000001");
	assert_int_equal(file.size, 4711);
	assert_int_equal(file.crc, 0xdeadbeef);
	assert_true(manifest_next(&files, &file));
	assert_true(file.size == UINT64_MAX);
	assert_false(manifest_next(&files, &file));
	/* Cut anywhere, or with any octet changed, it is none. */
	for (size_t n = 0; n < text.len; n++) {
		struct bytes cut = unit_exact(bytes_slice(str_bytes(&text), 0, n));
		assert_non_null(manifest_parse(cut, &files, &count));
		unit_free(cut);
		text.at[n] ^= 1;
		assert_non_null(manifest_parse(str_bytes(&text), &files, &count));
		text.at[n] ^= 1;
	}
	str_free(&text);
}

static void test_manifest_paths(void **state)
{
	static const char *const bad[] = { "", "log", "/etc/passwd", "log/../x", "../x/y", "log/", "/log", "log/a/b", "log/a b", "log/\033x", "./x", "log/.x",
		"log/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	struct manifest_file file;
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct str line = STR_INIT(200);
		manifest_add(&line, bad[i], 1, 2);
		struct bytes files = str_bytes(&line);
		assert_true(manifest_next(&files, &file));
		assert_int_equal(file.path.len, 0);
		str_free(&line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet), cmocka_unit_test(test_busy), cmocka_unit_test(test_recycled_meanwhile),
		cmocka_unit_test(test_texts_that_are_lost), cmocka_unit_test(test_manifest), cmocka_unit_test(test_manifest_paths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
