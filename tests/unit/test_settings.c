/*
 * test_settings - good and bad control files; every fault names file and line, its cause and what to do; a reload with a fault keeps
 * what was. path_etc is defined here: the program under test reads a scratch directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/settings.h"

static char dir[] = "/var/tmp/tappal-settings-XXXXXX";

int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
	return __real_open(strcmp(path, path_etc) == 0 ? dir : path, flags, 0644);
}

static void put(const char *name, const char *text)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

static void drop(const char *name)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	unlink(path);
}

/* The value that `text` in the file of this name gives, as it would be shown; NULL when it is refused. */
static const char *shown(const char *name, const char *text)
{
	static char buffer[2000];
	struct str faults = STR_INIT(10000), out = STR_INIT(sizeof buffer - 1);
	struct settings s;
	put(name, text);
	bool ok = settings_load(&s, dir, USED_ALL, &faults);
	assert_int_equal(ok, faults.len == 0);
	drop(name);
	if (ok)
		setting_show(&s, setting_find(bytes_of(name)), &out);
	assert_true(bytes_to_cstring(str_bytes(&out), buffer, sizeof buffer));
	settings_free(&s);
	str_free(&faults);
	str_free(&out);
	return ok ? buffer : NULL;
}

/* The file is refused; the fault stands at this line, says `what`, and then, behind a semicolon, what to do. */
static void refused(const char *name, const char *text, unsigned line, const char *what)
{
	char start[400];
	struct str faults = STR_INIT(10000);
	struct settings s;
	put(name, text);
	assert_false(settings_load(&s, dir, USED_ALL, &faults));
	drop(name);
	snprintf(start, sizeof start, "%s/%s:%u: ", dir, name, line);
	if (!strstr(str_c(&faults), start) || !strstr(str_c(&faults), what) || !strstr(str_c(&faults), "; "))
		fail_msg("%s: wanted \"%s\" and \"%s\" in: %s", name, start, what, str_c(&faults));
	assert_null(s.memory);
	str_free(&faults);
}

/* ---- values ---- */

static void numbers(void **state)
{
	(void)state;
	assert_string_equal(shown("maxrcpt", "50\n"), "50");
	assert_string_equal(shown("maxrcpt", "# a comment\n\n  50 \t\n"), "50");
	assert_string_equal(shown("maxrcpt", "50"), "50");
	assert_string_equal(shown("queuelifetime", "3h\n"), "3h");
	assert_string_equal(shown("queuelifetime", "180m\n"), "3h");
	assert_string_equal(shown("queuelifetime", "2w"), "14d");
	assert_string_equal(shown("queuelifetime", "90"), "90");
	assert_string_equal(shown("databytes", "0"), "0");
	assert_string_equal(shown("databytes", "2M"), "2M");
	assert_string_equal(shown("databytes", "2048"), "2K");
	assert_string_equal(shown("databytes", "2049"), "2049");
	refused("maxrcpt", "", 1, "empty");
	refused("maxrcpt", "\n# only a comment\n", 1, "empty");
	refused("maxrcpt", "\n\nmany\n", 3, "is no number");
	refused("maxrcpt", "-1", 1, "is no number");
	refused("maxrcpt", "10 000", 1, "is no number");
	refused("maxrcpt", "0", 1, "out of range");
	refused("maxrcpt", "20001", 1, "from 1 to 20000");
	refused("maxrcpt", "99999999999999999999999", 1, "is no number");
	refused("maxrcpt", "10\n20\n", 2, "second line");
	refused("maxrcpt", "5m", 1, "is no number");
	refused("queuelifetime", "5M", 1, "is no number");
	refused("queuelifetime", "m", 1, "is no number");
	refused("queuelifetime", "18446744073709551615w", 1, "is no number");
	refused("databytes", "99999999999G", 1, "is no number");
}

static void words(void **state)
{
	(void)state;
	assert_string_equal(shown("retrycurve", "exponential\n"), "exponential");
	refused("retrycurve", "linear\n", 1, "quadratic|exponential");
	refused("retrycurve", "", 1, "empty");
	assert_string_equal(shown("logformat", "json"), "json");
	refused("logformat", "line|json", 1, "unknown");
}

static void domains(void **state)
{
	(void)state;
	assert_string_equal(shown("me", "MX.Example.ORG\n"), "mx.example.org");
	refused("me", "mx.example.org.\n", 1, "is no host name");
	refused("me", "mx example.org\n", 1, "is no host name");
	refused("me", "a\nb\n", 2, "second line");
	refused("helohost", "", 1, "empty");
}

static void texts(void **state)
{
	(void)state;
	assert_string_equal(shown("smtpgreeting", "#1 mail server of the world\n"), "#1 mail server of the world");
	assert_string_equal(shown("extensionchar", "+\n"), "+");
	assert_string_equal(shown("extensionchar", ""), "");
	refused("extensionchar", "+-", 1, "one character");
	refused("smtpgreeting", "one\ntwo\n", 2, "second line");
	refused("smtpgreeting", "evil\r\n250 ok\n", 1, "carriage return");
	refused("smtpgreeting", "bell \a", 1, "control character 7");
	refused("smtpgreeting", "gr\303\274\303\237e", 1, "ASCII");
	refused("outgoingip", "2001:db8::1", 1, "192.0.2.1");
	assert_string_equal(shown("outgoingip6", "2001:db8::1"), "2001:db8::1");
	refused("doublebounceto", "post master", 1, "user@domain");
	refused("doublebounceto", "postmaster@", 1, "user@domain");
	refused("doublebounceto", "\"ops\"@here.example", 1, "write ops before the @");     /* the store would not know its own address again, and report to it for ever */
	refused("doublebounceto", "\"o\\ps\"", 1, "write ops before the @");
	refused("doublebounceto", "\"o\\ p\"@here.example", 1, "write \"o p\" before the @");
	refused("virtualdomains", "\"ops\"@here.example:joe", 1, "write ops before the @");
	refused("senderlogins", "\"ops\"@here.example:joe", 1, "write ops before the @");
	refused("bouncefrom", "a@b", 1, "without \"@\"");
	refused("logfiles", "current", 1, "absolute path");
	refused("dnstrustanchor", "root.key", 1, "absolute path");
}

static void list_grammars(void **state)
{
	(void)state;
	assert_string_equal(shown("locals", "# mine\n\nexample.org \n\t.example.net\n[192.0.2.1]"), "example.org\n.example.net\n[192.0.2.1]");
	assert_string_equal(shown("locals", ""), "");
	refused("locals", "example.org\n\nexample..org\n", 3, "is no domain");
	refused("rcpthosts", "*.example.org\n", 1, ".example.org for every name below it");
	assert_string_equal(shown("virtualdomains", "example.org:joe\njoe@example.net:jim\n.example.com:\n"), "example.org:joe\njoe@example.net:jim\n.example.com:");
	refused("virtualdomains", "example.org\n", 1, "no colon");
	refused("virtualdomains", ":joe\n", 1, "neither a domain nor an address");
	refused("virtualdomains", "@example.org:joe\n", 1, "neither a domain nor an address");
	refused("virtualdomains", "example.org:j@x\n", 1, "cannot stand before a local part");
	assert_string_equal(shown("users", "=a@b.org:v:5:6:/v/a:::\n+list-:v:5:6:/v/l:-:x:\n.\n"), "=a@b.org:v:5:6:/v/a:::\n+list-:v:5:6:/v/l:-:x:\n.");
	refused("users", "=a:v:0:6:/v/a:::\n", 1, "above 0");
	refused("users", "=a:v:5:0:/v/a:::\n", 1, "above 0");
	refused("users", "=a:v:5:4294967295:/v/a:::\n", 1, "above 0");
	refused("users", "=a:v:5:6:v/a:::\n", 1, "absolute path");
	refused("users", "=a:v:5:6:/v/../a:::\n", 1, "absolute path");
	refused("users", "=a:v:5:6:/v/a::\n", 1, "is not a mailbox");
	refused("users", "=a:v:5:6:/v/a::::\n", 1, "is not a mailbox");
	refused("users", "a:v:5:6:/v/a:::\n", 1, "is not a mailbox");
	refused("users", "=:v:5:6:/v/a:::\n", 1, "no address");
	refused("users", "=a::5:6:/v/a:::\n", 1, "no user name");
	refused("users", "=\"ops\"@b.org:v:5:6:/v/a:::\n", 1, "write ops before the @");
	refused("users", "=a..b@b.org:v:5:6:/v/a:::\n", 1, "is no address");
	assert_string_equal(shown("users", "=\"a b\"@B.org:v:5:6:/v/a:::\n=a@[192.0.2.1]:v:5:6:/v/a:::\n"), "=\"a b\"@B.org:v:5:6:/v/a:::\n=a@[192.0.2.1]:v:5:6:/v/a:::");
	assert_string_equal(shown("clients", "192.0.2.0/24\n2001:db8::/32\n127.0.0.1"), "192.0.2.0/24\n2001:db8::/32\n127.0.0.1");
	refused("clients", "192.0.2.0/24\n192.0.2.1/24\n", 2, "is no network");
	refused("clients", "everybody\n", 1, "is no network");
	assert_string_equal(shown("smtproutes", ":smart.example.org\nexample.org:\n.example.net:mx:26\na.b:[2001:db8::1]:25\nc.d:192.0.2.1\n"),
		":smart.example.org\nexample.org:\n.example.net:mx:26\na.b:[2001:db8::1]:25\nc.d:192.0.2.1");
	refused("smtproutes", "example.org\n", 1, "no colon");
	refused("smtproutes", "example.org:mx:0\n", 1, "is no port");
	refused("smtproutes", "example.org:mx:65536\n", 1, "is no port");
	refused("smtproutes", "example.org:mx:25:26\n", 1, "is no port");
	refused("smtproutes", "example.org:m x:25\n", 1, "is no relay");
	refused("smtproutes", "a.b:[2001:db8::1]25\n", 1, "is no relay");
	refused("smtproutes", "a.b:2001:db8::1\n", 1, "is no");
	assert_string_equal(shown("smtpdlisten", "25\n127.0.0.1:2525\n[::1]:25\n"), "25\n127.0.0.1:2525\n[::1]:25");
	refused("smtpdlisten", "mx.example.org:25\n", 1, "is no listening address");
	assert_string_equal(shown("dnsforward", "192.0.2.53\n192.0.2.54@5353\n"), "192.0.2.53\n192.0.2.54@5353");
	refused("dnsforward", "192.0.2.53:53\n", 1, "is no name server");
	refused("ownaddresses", "192.0.2.0/24\n", 1, "is no IP address");
	refused("aliasnames", "post master\n", 1, "is no local part");
	assert_string_equal(shown("dnslists", "zen.example.org =127.0.0.2-11 3\n# good ones\nwl.example.org -1 client helo\n"), "zen.example.org =127.0.0.2-11 3\nwl.example.org -1 client helo");
	refused("dnslists", "zen.example.org 1\nzen.example.org\n", 2, "is no list");
	assert_string_equal(shown("checkexempt", "192.0.2.0/24\n.example.org checkhelo  checkforward\n"), "192.0.2.0/24\n.example.org checkhelo  checkforward");
	refused("checkexempt", "192.0.2.1/24\n", 1, "exempts nobody");
	refused("checkexempt", "192.0.2.0/24 checkhelo checkhello\n", 1, "is no check");
	refused("checkexempt", "192.0.2.0/24 checkwhen\n", 1, "is no check");
	refused("checkhelo", "refuse\n", 1, "off");
	refused("dnslistsreply", "blocked \303\251\n", 1, "must be ASCII");
}

/* One line of a list is at one line of its file; all faults are told at once. */
static void all_faults(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	put("clients", "x\n192.0.2.1\n# c\ny\n");
	put("maxhops", "few\n");
	assert_false(settings_load(&s, dir, USED_ALL, &faults));
	assert_non_null(strstr(str_c(&faults), "/clients:1: "));
	assert_non_null(strstr(str_c(&faults), "/clients:4: "));
	assert_non_null(strstr(str_c(&faults), "/maxhops:1: "));
	drop("clients");
	drop("maxhops");
	str_free(&faults);
}

/* ---- the directory ---- */

static void unknown_names(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	refused("local", "example.org\n", 1, "did you mean locals?");
	refused("concurencyremote", "5\n", 1, "did you mean concurrencyremote?");
	refused("qmailqueue", "5\n", 1, "there is no setting of this name; rename");
	put(".hidden", "");
	assert_true(settings_load(&s, dir, USED_ALL, &faults));
	settings_free(&s);
	put("nonsense", "");
	assert_true(settings_load(&s, dir, USED_SMTPD, &faults));
	settings_free(&s);
	drop(".hidden");
	drop("nonsense");
	str_free(&faults);
}

/* A program reads only the files that it uses. */
static void only_used(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	put("retryfirst", "never\n");
	assert_true(settings_load(&s, dir, USED_SMTPD, &faults));
	settings_free(&s);
	assert_false(settings_load(&s, dir, USED_QUEUED, &faults));
	drop("retryfirst");
	str_free(&faults);
}

static void changed(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	put("users", "");
	assert_true(settings_load(&s, dir, USED_SPAWN, &faults));
	assert_false(settings_changed(&s, dir, USED_SPAWN));
	put("retryfirst", "1h\n");
	assert_false(settings_changed(&s, dir, USED_SPAWN));      /* queued's */
	put("locals", "example.org\n");
	assert_true(settings_changed(&s, dir, USED_SPAWN));
	settings_free(&s);
	assert_true(settings_load(&s, dir, USED_SPAWN, &faults));
	assert_false(settings_changed(&s, dir, USED_SPAWN));
	drop("locals");
	assert_true(settings_changed(&s, dir, USED_SPAWN));
	settings_free(&s);
	drop("retryfirst");
	drop("users");
	str_free(&faults);
}

static void no_plain_files(void **state)
{
	(void)state;
	char path[300];
	struct str faults = STR_INIT(10000);
	struct settings s;
	snprintf(path, sizeof path, "%s/me", dir);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_false(settings_load(&s, dir, USED_ALL, &faults));
	assert_non_null(strstr(str_c(&faults), "/me:1: it is no regular file; "));
	unlink(path);
	str_clear(&faults);
	assert_false(settings_load(&s, "/var/tmp/there is none", USED_ALL, &faults));
	assert_non_null(strstr(str_c(&faults), "No such file or directory; `make install`"));
	str_free(&faults);
}

static void defaults(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	assert_true(settings_load(&s, dir, USED_ALL, &faults));
	assert_true(s.me.len > 0);
	assert_true(bytes_equal(s.helohost, s.me));
	assert_int_equal(s.locals.count, 1);
	assert_true(bytes_equal(s.locals.at[0], s.me));
	assert_int_equal(s.queuelifetime, 604800);
	assert_int_equal(s.databytes, 50u << 20);
	settings_free(&s);
	put("me", "mx.example.org\n");
	put("locals", "");
	put("bouncehost", "bounces.example.org");
	put("doublebounceto", "postmaster\n");
	assert_true(settings_load(&s, dir, USED_ALL, &faults));
	assert_true(bytes_equal(s.helohost, LIT("mx.example.org")));
	assert_true(bytes_equal(s.bouncehost, LIT("bounces.example.org")));
	assert_true(bytes_equal(s.smtpgreeting, LIT("mx.example.org ESMTP")));
	assert_true(bytes_equal(s.doublebounceto, LIT("postmaster@mx.example.org")));
	assert_int_equal(s.locals.count, 0);
	settings_free(&s);
	put("doublebounceto", "ops@example.net\n");
	assert_true(settings_load(&s, dir, USED_BOUNCE, &faults));
	assert_true(bytes_equal(s.doublebounceto, LIT("ops@example.net")));
	settings_free(&s);
	drop("doublebounceto");
	drop("me");
	drop("locals");
	drop("bouncehost");
	str_free(&faults);
}

static void line_numbers(void **state)
{
	(void)state;
	struct str faults = STR_INIT(10000);
	struct settings s;
	put("locals", "# x\n\na.org\n#y\nb.org");
	assert_true(settings_load(&s, dir, USED_ALL, &faults));
	assert_int_equal(s.locals.count, 2);
	assert_int_equal(s.locals.number[0], 3);
	assert_int_equal(s.locals.number[1], 5);
	settings_free(&s);
	drop("locals");
	str_free(&faults);
}

/* ---- the table ---- */

/* Every default is a value that its own file may hold, and showing a value gives a text that means the same. */
static void table(void **state)
{
	(void)state;
	struct str fault = STR_INIT(1000);
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting_row *row = &setting_table[i];
		assert_ptr_equal(setting_find(bytes_of(row->name)), row);
		assert_string_equal(setting_nearest(bytes_of(row->name)), row->name);
		assert_true(row->help[0] != 0 && row->used_by != 0);
		if (row->type == SETTING_TYPE_DOMAIN)
			continue;
		if (!setting_check(row, bytes_of(row->default_text), &fault))
			fail_msg("%s", str_c(&fault));
		const char *text = shown(row->name, row->default_text);
		assert_non_null(text);
		char copy[2000];
		snprintf(copy, sizeof copy, "%s", text);
		assert_string_equal(shown(row->name, copy), copy);
	}
	assert_null(setting_find(LIT("nonsense")));
	assert_null(setting_nearest(LIT("completely different")));
	assert_false(setting_check(setting_find(LIT("maxrcpt")), LIT("0"), &fault));
	assert_non_null(strstr(str_c(&fault), "maxrcpt:1: 0 is out of range; "));
	str_free(&fault);
}

/* ---- reload and start, through path_etc ---- */

static void reload(void **state)
{
	(void)state;
	struct settings s;
	put("me", "one.example.org\n");
	settings_or_die(&s, "queued", USED_QUEUED);
	put("me", "two.example.org\n");
	assert_true(settings_reload(&s, USED_QUEUED));
	assert_true(bytes_equal(s.me, LIT("two.example.org")));
	put("retryfirst", "soon\n");
	put("me", "three.example.org\n");
	assert_false(settings_reload(&s, USED_QUEUED));
	assert_true(bytes_equal(s.me, LIT("two.example.org")));
	assert_int_equal(s.retryfirst, 400);
	settings_free(&s);
	drop("retryfirst");
	drop("me");
}

static void start_with_faults(void **state)
{
	(void)state;
	int status;
	put("retryfirst", "soon\n");
	pid_t pid = fork();
	if (pid == 0) {
		struct settings s;
		settings_or_die(&s, "queued", USED_QUEUED);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 100);
	drop("retryfirst");
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(words),
		cmocka_unit_test(domains),
		cmocka_unit_test(texts),
		cmocka_unit_test(list_grammars),
		cmocka_unit_test(all_faults),
		cmocka_unit_test(unknown_names),
		cmocka_unit_test(only_used), cmocka_unit_test(changed),
		cmocka_unit_test(no_plain_files),
		cmocka_unit_test(defaults),
		cmocka_unit_test(line_numbers),
		cmocka_unit_test(table),
		cmocka_unit_test(reload),
		cmocka_unit_test(start_with_faults),
	};
	return cmocka_run_group_tests_name("settings", tests, make_dir, remove_dir);
}
