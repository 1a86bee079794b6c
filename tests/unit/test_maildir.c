/* maildir and trail: a copy is there once, whatever was there before. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#include "local/maildir.h"
#include "local/trail.h"

struct place { char path[64]; int home; struct maildir box; };

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof *p);

	assert_non_null(p);
	snprintf(p->path, sizeof p->path, "/var/tmp/tappal-test-XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->home = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->home >= 0);
	struct maildir_seen seen = { 0 };
	assert_int_equal(maildir_open(&p->box, p->home, "Maildir", &seen), 0);
	*state = p;
	return 0;
}

static void remove_dir(struct place *p, const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/Maildir%s%s", p->path, *name ? "/" : "", name);
	assert_int_equal(rmdir(path), 0);
}

static int remove_place(void **state)
{
	struct place *p = *state;

	maildir_close(&p->box);
	remove_dir(p, "tmp");
	remove_dir(p, "new");
	remove_dir(p, "cur");
	remove_dir(p, "");
	assert_int_equal(rmdir(p->path), 0);
	close(p->home);
	free(p);
	return 0;
}

static const char *name_of(msgid_t id, uint32_t index)
{
	static char name[MAILDIR_NAME];
	maildir_name(id, index, LIT("mx.example.org"), name);
	return name;
}

#define NOW_ID (clock_wall_ms() << 16)

static void names(void **state)
{
	char name[MAILDIR_NAME];
	char longest[400];
	(void)state;

	maildir_name((UINT64_C(1763758134123) << 16) + 7, 3, LIT("mx.example.org"), name);
	assert_string_equal(name, "1763758134.36N85N9PP007_3.mx.example.org");
	maildir_name((UINT64_C(1763758134123) << 16) + 7, 0, LIT("a/b:c"), name);
	assert_string_equal(name, "1763758134.36N85N9PP007_0.a\\057b\\072c");
	maildir_name(1, 0, LIT(""), name);
	assert_string_equal(name, "0.000000000001_0.localhost");
	memset(longest, '/', sizeof longest);
	maildir_name(MSGID_MAX, UINT32_MAX, (struct bytes){ longest, sizeof longest }, name);
	assert_true(strlen(name) < MAILDIR_NAME);
}

static void made_with_modes(void **state)
{
	struct place *p = *state;
	struct stat st;
	const char *dirs[] = { "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur" };

	for (size_t i = 0; i < COUNT(dirs); i++) {
		assert_int_equal(fstatat(p->home, dirs[i], &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
	}
}

static void deliver(struct place *p, const char *name, struct bytes octets)
{
	static struct copy c;
	assert_int_equal(copy_begin(&c, &p->box, name), 0);
	assert_int_equal(copy_add(&c, octets), 0);
	assert_int_equal(copy_commit(&c), 0);
}

static void delivered_once(void **state)
{
	struct place *p = *state;
	msgid_t id = NOW_ID;
	const char *name = name_of(id, 0);
	struct stat st;

	assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), 0);
	deliver(p, name, LIT("one"));
	assert_int_equal(fstatat(p->box.new, name, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), 1);
	/* a second process that did not look: its file takes the place of the first */
	deliver(p, name, LIT("one"));
	assert_int_equal(unlinkat(p->box.new, name, 0), 0);
	assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), 0);
}

/* Mail readers move it to cur/ and add flags; Dovecot puts sizes into names. */
static void found_in_cur(void **state)
{
	static const struct { const char *suffix; int found; } cases[] = {
		{ "", 1 }, { ":2,", 1 }, { ":2,RS", 1 }, { ",S=3:2,S", 1 }, { "x", 0 }, { "0:2,", 0 },
	};
	struct place *p = *state;
	msgid_t id = NOW_ID;
	char name[MAILDIR_NAME], moved[MAILDIR_NAME + 16];

	snprintf(name, sizeof name, "%s", name_of(id, 0));
	for (size_t i = 0; i < COUNT(cases); i++) {
		deliver(p, name, LIT("x"));
		snprintf(moved, sizeof moved, "%s%s", name, cases[i].suffix);
		assert_int_equal(renameat(p->box.new, name, p->box.cur, moved), 0);
		assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), cases[i].found);
		assert_int_equal(unlinkat(p->box.cur, moved, 0), 0);
	}
}

/* cur/ unchanged since the message came: it is not read, so a large mailbox costs nothing. */
static void cur_is_not_read_in_vain(void **state)
{
	struct place *p = *state;
	msgid_t id = NOW_ID;
	char name[MAILDIR_NAME];
	struct timespec old[2] = { { .tv_sec = (time_t)(msgid_time(id) / 1000) - 60 }, { .tv_sec = (time_t)(msgid_time(id) / 1000) - 60 } };
	int fd;

	snprintf(name, sizeof name, "%s", name_of(id, 0));
	fd = openat(p->box.cur, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(futimens(p->box.cur, old), 0);
	assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), 0);
	old[1].tv_sec += 60;
	assert_int_equal(futimens(p->box.cur, old), 0);
	assert_int_equal(maildir_find(&p->box, name, msgid_time(id)), 1);
	assert_int_equal(unlinkat(p->box.cur, name, 0), 0);
}

static void aborted(void **state)
{
	struct place *p = *state;
	static struct copy c;
	char name[MAILDIR_NAME];

	snprintf(name, sizeof name, "%s", name_of(NOW_ID, 0));
	assert_int_equal(copy_begin(&c, &p->box, name), 0);
	/* the leftover of an earlier process of this number is no obstacle */
	int leftover = c.fd;
	assert_int_equal(copy_begin(&c, &p->box, name), 0);
	close(leftover);
	assert_int_equal(copy_add(&c, LIT("x")), 0);
	copy_abort(&c);
	copy_abort(&c);
	assert_int_equal(maildir_find(&p->box, name, 0), 0);
}

/* Larger than the buffer, and copied for a second recipient from an offset on. */
static void large_and_copied(void **state)
{
	static struct copy first, second;
	static char chunk[1000], got[200000];
	struct place *p = *state;
	msgid_t id = NOW_ID;
	char name[MAILDIR_NAME], other[MAILDIR_NAME];
	int fd;

	snprintf(name, sizeof name, "%s", name_of(id, 0));
	snprintf(other, sizeof other, "%s", name_of(id, 1));
	assert_int_equal(copy_begin(&first, &p->box, name), 0);
	assert_int_equal(copy_add(&first, LIT("head")), 0);
	for (int i = 0; i < 150; i++) {
		memset(chunk, 'a' + i % 26, sizeof chunk);
		assert_int_equal(copy_add(&first, (struct bytes){ chunk, sizeof chunk }), 0);
	}
	assert_int_equal(first.size, 150004);
	assert_int_equal(copy_begin(&second, &p->box, other), 0);
	assert_int_equal(copy_add(&second, LIT("H")), 0);
	assert_int_equal(copy_add_from(&second, &first, 4), 0);
	assert_int_equal(copy_commit(&second), 0);
	assert_int_equal(copy_commit(&first), 0);
	fd = openat(p->box.new, other, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, got, sizeof got), 150001);
	assert_true(got[0] == 'H' && got[1] == 'a' && got[150000] == 'a' + 149 % 26 && got[1001] == 'b');
	close(fd);
	unlinkat(p->box.new, name, 0);
	unlinkat(p->box.new, other, 0);
}

/* A full disk: /dev/full stands for the file. Nothing is left behind. */
static void no_space(void **state)
{
	static struct copy c;
	struct place *p = *state;
	char name[MAILDIR_NAME];
	struct stat st;

	snprintf(name, sizeof name, "%s", name_of(NOW_ID, 0));
	assert_int_equal(copy_begin(&c, &p->box, name), 0);
	close(c.fd);
	c.fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	assert_int_equal(copy_add(&c, LIT("x")), 0);
	assert_int_equal(copy_commit(&c), -1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(fstatat(p->box.tmp, c.tmp_name, &st, 0), -1);
	assert_int_equal(fstatat(p->box.new, name, &st, 0), -1);
}

/* ---- Delivered-To ---- */

static void collect(void *context, struct bytes value)
{
	str_addf(context, "[%.*s]", (int)value.len, value.at);
}

static void trail_of(struct bytes text, size_t cut, struct str *out)
{
	struct trail t;

	trail_init(&t, collect, out);
	trail_feed(&t, bytes_slice(text, 0, cut));
	trail_feed(&t, bytes_slice(text, cut, text.len));
	trail_end(&t);
}

static void trails(void **state)
{
	static char padded[3000];
	const struct { const char *text, *expected; } cases[] = {
		{ "Delivered-To: a@x.example\nSubject: x\n\nDelivered-To: b@x.example\n", "[a@x.example]" },
		{ "delivered-TO:a@x.example  \n\n", "[a@x.example]" },
		{ "Delivered-To:\n\ta@x.example\nDelivered-To: b@x.example", "[a@x.example][b@x.example]" },
		{ "X-Delivered-To: a@x.example\nDelivered-To : b\n\n", "" },
		{ "\nDelivered-To: a@x.example\n", "" },
		{ "", "" },
		{ "Subject: x\n Delivered-To: a@x.example\n\n", "" },
		{ padded, "[b@x.example]" },
	};
	(void)state;

	memset(padded, ' ', sizeof padded - 1);
	memcpy(padded, "Delivered-To:", 13);
	memcpy(padded + 2000, "\nDelivered-To: b@x.example\n\n", 29);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bytes text = bytes_of(cases[i].text);
		for (size_t cut = 0; cut <= text.len; cut++) {
			struct str out = STR_INIT(1000);
			trail_of(text, cut, &out);
			assert_string_equal(str_c(&out), cases[i].expected);
			str_free(&out);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(trails),
		cmocka_unit_test_setup_teardown(made_with_modes, make_place, remove_place),
		cmocka_unit_test_setup_teardown(delivered_once, make_place, remove_place),
		cmocka_unit_test_setup_teardown(found_in_cur, make_place, remove_place),
		cmocka_unit_test_setup_teardown(cur_is_not_read_in_vain, make_place, remove_place),
		cmocka_unit_test_setup_teardown(aborted, make_place, remove_place),
		cmocka_unit_test_setup_teardown(large_and_copied, make_place, remove_place),
		cmocka_unit_test_setup_teardown(no_space, make_place, remove_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
