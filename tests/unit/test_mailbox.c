/*
 * test_mailbox - which account a local recipient has. getpwnam and stat are answered here (link with --wrap), so that the accounts
 * of the machine do not matter.
 */
#include <errno.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/mailbox.h"

struct passwd *__wrap_getpwnam(const char *name);
int __wrap_stat(const char *path, struct stat *st);

static const struct account { const char *name; uid_t uid; gid_t gid; const char *home; uid_t home_owner; int getpwnam_error, stat_error; } accounts[] = {
	{ "joe", 1001, 1001, "/home/joe", 1001, 0, 0 },
	{ "joe-work", 1002, 1002, "/home/joe-work", 1002, 0, 0 },
	{ "young", 500, 500, "/home/young", 500, 0, 0 },
	{ "root", 0, 0, "/root", 0, 0, 0 },
	{ "wheel", 1003, 0, "/home/wheel", 1003, 0, 0 },
	{ "daemon", 1004, 1004, "/usr/sbin", 0, 0, 0 },
	{ "homeless", 1005, 1005, "/nonexistent", 0, 0, ENOENT },
	{ "private", 1006, 1006, "/private/home", 0, 0, EACCES },
	{ "nfs", 1007, 1007, "/nfs/home", 0, 0, EIO },
	{ "relative", 1008, 1008, "home", 1008, 0, 0 },
	{ "slow", 0, 0, "", 0, ETIMEDOUT, 0 },
	{ "tappal-alias", 120, 120, "/var/lib/tappal-alias", 120, 0, 0 },
};

static const struct account *account_by(const char *text, bool by_home)
{
	for (size_t i = 0; i < sizeof accounts / sizeof accounts[0]; i++)
		if (strcmp(by_home ? accounts[i].home : accounts[i].name, text) == 0)
			return &accounts[i];
	return NULL;
}

struct passwd *__wrap_getpwnam(const char *name)
{
	static struct passwd pw;
	const struct account *a = account_by(name, false);
	if (!a || a->getpwnam_error) {
		errno = a ? a->getpwnam_error : ENOENT;
		return NULL;
	}
	pw = (struct passwd){ .pw_name = (char *)(uintptr_t)a->name, .pw_uid = a->uid, .pw_gid = a->gid, .pw_dir = (char *)(uintptr_t)a->home };
	return &pw;
}

int __wrap_stat(const char *path, struct stat *st)
{
	const struct account *a = account_by(path, true);
	if (!a || a->stat_error) {
		errno = a ? a->stat_error : ENOENT;
		return -1;
	}
	memset(st, 0, sizeof *st);
	st->st_mode = S_IFDIR | 0755;
	st->st_uid = a->home_owner;
	return 0;
}

static struct bytes users[] = {
	LIT("=info@example.org:vmail:5000:5001:/var/vmail/info:::"),
	LIT("=sales:vmail:5000:5001:/var/vmail/sales:::"),
	LIT("=both@example.org:one:11:11:/one:::"),
	LIT("=both:two:12:12:/two:::"),
	LIT("+list:vmail:5000:5001:/var/vmail/list:::"),
	LIT("+list-dev-:dev:5002:5002:/var/vmail/dev:-:x:"),
	LIT("."),
};
static struct bytes aliases[] = { LIT("postmaster"), LIT("root"), LIT("joe") };
static struct bytes locals[] = { LIT("example.org") };
static uint32_t numbers[] = { 1, 2, 3, 4, 5, 6, 7 };
static struct settings settings;
static struct mailbox box;

static enum mailbox_result find(const char *text)
{
	struct mailaddr addr = { .kind = ADDR_BARE, .text = bytes_of(text), .local = bytes_of(text) };
	struct route route;
	if (strchr(text, '@'))
		assert_int_equal(mailaddr_parse(bytes_of(text), &addr), ADDR_OK);
	route_find(&settings, &addr, &route);
	return mailbox_find(&settings, &addr, &route, &box);
}

static void is(const char *text, const char *user, uid_t uid, const char *home, const char *extension, bool is_virtual)
{
	assert_int_equal(find(text), MAILBOX_FOUND);
	assert_string_equal(box.user, user);
	assert_int_equal(box.uid, uid);
	assert_true(box.gid != 0);
	assert_string_equal(box.home, home);
	assert_string_equal(box.extension, extension);
	assert_int_equal(box.is_virtual, is_virtual);
}

static void assigned(void **state)
{
	(void)state;
	is("info@example.org", "vmail", 5000, "/var/vmail/info", "", true);
	is("INFO@example.org", "vmail", 5000, "/var/vmail/info", "", true);
	is("sales@example.org", "vmail", 5000, "/var/vmail/sales", "", true);
	is("both@example.org", "one", 11, "/one", "", true);
	is("list@example.org", "vmail", 5000, "/var/vmail/list", "", true);
	is("list-Users@example.org", "vmail", 5000, "/var/vmail/list", "-users", true);
	is("list-dev-all@example.org", "dev", 5002, "/var/vmail/dev", "xall", true);
}

static void system_users(void **state)
{
	(void)state;
	is("joe@example.org", "joe", 1001, "/home/joe", "", false);
	is("JOE@example.org", "joe", 1001, "/home/joe", "", false);
	is("joe-news@example.org", "joe", 1001, "/home/joe", "news", false);
	is("joe-news-2@example.org", "joe", 1001, "/home/joe", "news-2", false);
	is("joe-work@example.org", "joe-work", 1002, "/home/joe-work", "", false);
	is("joe-work-x@example.org", "joe-work", 1002, "/home/joe-work", "x", false);
	is("joe-@example.org", "joe", 1001, "/home/joe", "", false);
	is("private@example.org", "private", 1006, "/private/home", "", false);
	assert_int_equal(find("nobody@example.org"), MAILBOX_NONE);
	assert_int_equal(find("-joe@example.org"), MAILBOX_NONE);
	assert_int_equal(find("\"joe/x\"@example.org"), MAILBOX_NONE);
	assert_int_equal(find("\"jo:e\"@example.org"), MAILBOX_NONE);
}

/* Root, members of group 0, and accounts that are nobody's own receive nothing. */
static void refused(void **state)
{
	(void)state;
	assert_int_equal(find("wheel@example.org"), MAILBOX_NONE);
	assert_int_equal(find("daemon@example.org"), MAILBOX_NONE);
	assert_int_equal(find("homeless@example.org"), MAILBOX_NONE);
	assert_int_equal(find("relative@example.org"), MAILBOX_NONE);
	assert_int_equal(find("root-x@example.org"), MAILBOX_NONE);
	assert_int_equal(find("young@example.org"), MAILBOX_FOUND);
	settings.minuid = 1000;
	assert_int_equal(find("young@example.org"), MAILBOX_NONE);
	assert_int_equal(find("postmaster@example.org"), MAILBOX_FOUND);
	settings.minuid = 1;
}

static void unsure(void **state)
{
	(void)state;
	assert_int_equal(find("slow@example.org"), MAILBOX_UNSURE);
	assert_int_equal(find("nfs@example.org"), MAILBOX_UNSURE);
	assert_int_equal(find("slow-x@example.org"), MAILBOX_UNSURE);
}

static void alias_names(void **state)
{
	(void)state;
	is("postmaster@example.org", "tappal-alias", 120, "/var/lib/tappal-alias", "postmaster", false);
	is("Postmaster", "tappal-alias", 120, "/var/lib/tappal-alias", "postmaster", false);
	is("root@example.org", "tappal-alias", 120, "/var/lib/tappal-alias", "root", false);
	is("joe@example.org", "joe", 1001, "/home/joe", "", false);
	assert_int_equal(find("postmaster-x@example.org"), MAILBOX_NONE);
	struct bytes name = settings.aliasuser;
	settings.aliasuser = LIT("");
	assert_int_equal(find("postmaster@example.org"), MAILBOX_NONE);
	settings.aliasuser = name;
}

static void other_extension(void **state)
{
	(void)state;
	settings.extensionchar = LIT("+");
	is("joe+news@example.org", "joe", 1001, "/home/joe", "news", false);
	assert_int_equal(find("joe-news@example.org"), MAILBOX_NONE);
	settings.extensionchar = LIT("");
	assert_int_equal(find("joe+news@example.org"), MAILBOX_NONE);
	settings.extensionchar = LIT("-");
}

static void virtual_domain(void **state)
{
	(void)state;
	struct bytes line = LIT("virtual.example:joe");
	settings.virtualdomains = (struct lines){ .at = &line, .number = numbers, .count = 1 };
	is("shop@virtual.example", "joe", 1001, "/home/joe", "shop", false);
	char address[LOCALPART_MAX + 20], extension[LOCALPART_MAX + 1];
	snprintf(extension, sizeof extension, "%0*d", LOCALPART_MAX, 7);
	snprintf(address, sizeof address, "%s@virtual.example", extension);
	is(address, "joe", 1001, "/home/joe", extension, false);
	settings.virtualdomains.count = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(assigned),
		cmocka_unit_test(system_users),
		cmocka_unit_test(refused),
		cmocka_unit_test(unsure),
		cmocka_unit_test(alias_names),
		cmocka_unit_test(other_extension),
		cmocka_unit_test(virtual_domain),
	};
	settings.users = (struct lines){ .at = users, .number = numbers, .count = 7 };
	settings.aliasnames = (struct lines){ .at = aliases, .number = numbers, .count = 3 };
	settings.locals = (struct lines){ .at = locals, .number = numbers, .count = 1 };
	settings.aliasuser = LIT("tappal-alias");
	settings.extensionchar = LIT("-");
	settings.minuid = 1;
	return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
