/*
 * checked - for tests: run the checker over a spool that nobody has open, and hold what it finds against what is expected.
 */
#ifndef TESTS_CHECKED_H
#define TESTS_CHECKED_H

#include "queue/store/check.h"
#include "spool.h"

struct checked { struct check check; struct str lines; };

/* "kind file id-or-0" a line; notes are not noted. */
static inline void checked_found(void *context, const struct check_finding *f)
{
	struct checked *c = context;
	char id[MSGID_TEXT + 1] = "-";
	if (f->kind == CHECK_NOTE)
		return;
	if (f->id != 0 && f->id <= MSGID_MAX)
		msgid_format(f->id, id);
	str_addf(&c->lines, "%s %s %s\n", check_kind_name(f->kind), f->file, id);
	print_message("  %s %s at %lu+%lu %s: %s\n", check_kind_name(f->kind), f->file, (unsigned long)f->offset, (unsigned long)f->size, id, f->text);
}

static inline struct checked checked_run(const char *dir, wall_ms_t now)
{
	struct checked c = { .lines = STR_INIT(1 << 20) };
	char before[512];
	assert_non_null(getcwd(before, sizeof before));
	assert_int_equal(chdir(dir), 0);
	c.check = (struct check){ .backup = true, .now = now, .found = checked_found, .context = &c };
	if (!check_run(&c.check))
		fail_msg("could not be checked: %s", c.check.error);
	assert_int_equal(chdir(before), 0);
	return c;
}

static inline void checked_is(const char *dir, wall_ms_t now, const char *expected)
{
	struct checked c = checked_run(dir, now);
	assert_string_equal(str_c(&c.lines), expected);
	str_free(&c.lines);
}

/* What is on disk this instant, as after a crash: every order of the store must be such that nothing is found. */
static inline void checked_crash(const struct spool *sp)
{
	struct spool copy;
	spool_crashed_copy(sp, &copy);
	checked_is(copy.dir, copy.now, "");
	str_free(&copy.events);
	assert_int_equal(chdir(sp->dir), 0);
	spool_remove(copy.dir);
}

#endif
