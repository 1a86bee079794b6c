/* test_commandline - programs with arguments, and files that may not be executed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "common/commandline.h"

static void lines(void **state)
{
	struct commandline c;
	char text[2200];
	(void)state;
	assert_true(commandline_parse(LIT("/bin/a"), &c));
	assert_int_equal(c.count, 1);
	assert_string_equal(commandline_name(&c), "a");
	assert_null(c.word[1]);
	assert_true(commandline_parse(LIT("/usr/bin/spamc -x  \"a b\"\t$HOME ;rm "), &c));
	static const char *const words[] = { "/usr/bin/spamc", "-x", "\"a", "b\"", "$HOME", ";rm" };
	assert_int_equal(c.count, COUNT(words));
	for (size_t i = 0; i < COUNT(words); i++)
		assert_string_equal(c.word[i], words[i]);
	assert_null(c.word[COUNT(words)]);
	static const struct bytes bad[] = { { "", 0 }, { "bin/a", 5 }, { " /bin/a", 7 }, { "/bin/\0a", 7 } };
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(commandline_parse(bad[i], &c));
	memset(text, 'x', sizeof text);
	text[0] = '/';
	assert_true(commandline_parse((struct bytes){ text, COMMANDLINE_MAX }, &c));
	assert_false(commandline_parse((struct bytes){ text, COMMANDLINE_MAX + 1 }, &c));
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i % 2 == 0 ? '/' : ' ';
	assert_true(commandline_parse((struct bytes){ text, 2 * COMMANDLINE_WORDS }, &c));
	assert_int_equal(c.count, COMMANDLINE_WORDS);
	assert_false(commandline_parse((struct bytes){ text, 2 * COMMANDLINE_WORDS + 1 }, &c));
}

/* What only root can make is tested in tests/smtpd/test_filters.py. */
static void faults(void **state)
{
	char directory[] = "/tmp/test_commandline.XXXXXX", path[60];
	(void)state;
	assert_null(commandline_fault("/bin/sh"));
	assert_string_equal(commandline_fault("/bin"), "it is no file; name a program");
	assert_non_null(strstr(commandline_fault("/nonexistent"), "does not exist"));
	assert_non_null(strstr(commandline_fault("/etc/passwd"), "may not be executed"));
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/a", directory);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	assert_true(fd >= 0 && fchmod(fd, 0722) == 0);
	close(fd);
	assert_non_null(strstr(commandline_fault(path), "can change it"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(lines), cmocka_unit_test(faults) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
