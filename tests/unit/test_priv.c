/*
 * test_priv - what is given up is gone. As root, in children; as anybody else only what needs no root.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/exits.h"
#include "common/priv.h"

/* The leak checker must trace the process at its end, which is just what these children forbid. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* What /etc/group is said to hold; NULL: it cannot be opened. Only in children. */
static const char *group_file = "/etc/group";
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (strcmp(path, "/etc/group") != 0 || (group_file && group_file[0] == '/'))
		return __real_fopen(path, mode);
	errno = EMFILE;
	return group_file ? fmemopen((void *)(uintptr_t)group_file, strlen(group_file), "r") : NULL;
}

static void need_root(void)
{
	if (getuid() != 0)
		skip();
}

/* The exit code of a child that does this; its lines on stderr are not of interest. */
static int exit_of(void (*act)(void))
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY), 2);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void claim(bool ok)
{
	if (!ok)
		_exit(1);
}

static bool wholly(uid_t uid, gid_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;
	return getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0 && r == uid && e == uid && s == uid && rg == gid && eg == gid && sg == gid;
}

static void act_groups_unknown(void)
{
	group_file = NULL;
	priv_become("test", "games");
}

static void act_groups_not_told(void)
{
	group_file = "other:x:4241:root\nplayers:x:4242:root,games\n";
	priv_become("test", "games");
}

static void act_groups_of_others(void)
{
	group_file = "other:x:4241:root,gamesters\nempty:x:4242:\n";
	priv_become("test", "games");
}

/* A program that went on without its groups would fail at what it is there for, as long as it lives. */
static void groups_that_cannot_be_learnt(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(exit_of(act_groups_unknown), EXIT_SYSTEM);
	assert_int_equal(exit_of(act_groups_not_told), EXIT_SYSTEM);
	assert_int_equal(exit_of(act_groups_of_others), 0);
}

static void act_become(void)
{
	struct passwd *pw = getpwnam("games");
	gid_t groups[64];
	claim(pw);
	priv_become("test", "games");
	claim(wholly(pw->pw_uid, pw->pw_gid));
	claim(setuid(0) < 0 && setgid(0) < 0);
	int count = getgroups(64, groups);
	for (int i = 0; i < count; i++)
		claim(groups[i] != 0 && groups[i] != pw->pw_gid);
	claim(prctl(PR_GET_DUMPABLE) == 0);
	priv_become("test", "games");   /* already that account: only checked */
}

static void act_become_other(void)
{
	priv_become("test", "games");
	priv_become("test", "daemon");
}

static void act_become_nobody_there(void)
{
	priv_become("test", "no-such-account");
}

static void act_become_root(void)
{
	priv_become("test", "root");
}

static void become(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(exit_of(act_become), 0);
	assert_int_equal(exit_of(act_become_other), EXIT_YOUR_FAULT);
	assert_int_equal(exit_of(act_become_nobody_there), EXIT_YOUR_FAULT);
	assert_int_equal(exit_of(act_become_root), EXIT_YOUR_FAULT);
}

static void act_user(void)
{
	priv_become_user(NULL, 12345, 12346);
	claim(wholly(12345, 12346));
	claim(getgroups(0, NULL) == 0);
}

static void act_user_named(void)
{
	priv_become_user("games", 12345, 12346);
	claim(wholly(12345, 12346));
}

static void act_user_root(void)
{
	priv_become_user(NULL, 0, 12346);
}

static void act_user_root_group(void)
{
	priv_become_user(NULL, 12345, 0);
}

static void become_user(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(exit_of(act_user), 0);
	assert_int_equal(exit_of(act_user_named), 0);
	assert_int_equal(exit_of(act_user_root), EXIT_YOUR_FAULT);
	assert_int_equal(exit_of(act_user_root_group), EXIT_YOUR_FAULT);
}

/* As after exec of the set-uid file by a user: real ids the caller's, effective and saved ones the file's. */
static void as_set_uid(const char *account, uid_t caller, bool set_gid)
{
	struct passwd *pw = getpwnam(account);
	claim(pw);
	claim(setgroups(0, NULL) == 0);
	claim(setresgid(caller, set_gid ? pw->pw_gid : caller, set_gid ? pw->pw_gid : caller) == 0);
	claim(setresuid(caller, pw->pw_uid, pw->pw_uid) == 0);
}

static void spoil(void)
{
	struct rlimit small = { 100, 100000 };
	sigset_t all;
	setenv("IFS", "x", 1);
	claim(dup2(2, 77) == 77);
	setrlimit(RLIMIT_FSIZE, &small);
	signal(SIGTERM, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	alarm(1000);
	umask(0);
}

static void claim_clean(void)
{
	struct rlimit limit;
	struct sigaction action;
	sigset_t mask;
	claim(getenv("IFS") == NULL && getenv("PATH") == NULL);
	claim(fcntl(77, F_GETFD) < 0 && errno == EBADF);
	claim(getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == 100000);
	claim(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	claim(sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
	claim(sigaction(SIGXFSZ, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
	claim(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGTERM));
	claim(alarm(0) == 0);
	claim(umask(0) == 077);
	claim(prctl(PR_GET_DUMPABLE) == 0);
}

static void act_set_uid(void)
{
	int took = -1;
	spoil();
	as_set_uid("games", 12345, true);
	claim(priv_setuid_start("games", &took) == 12345);
	claim(took == 1);
	claim_clean();
	struct passwd *pw = getpwnam("games");
	claim(wholly(pw->pw_uid, pw->pw_gid));
}

static void act_set_uid_by_root(void)
{
	struct passwd *pw = getpwnam("games");
	gid_t groups[64] = { 0, 5 };
	int took = -1;
	claim(setgroups(2, groups) == 0);
	claim(setresuid(0, pw->pw_uid, pw->pw_uid) == 0);
	claim(priv_setuid_start("games", &took) == 0);
	claim(took == 1);
	claim(wholly(pw->pw_uid, pw->pw_gid));
	claim(getgroups(64, groups) == 0);
}

static void act_no_effect(void)
{
	int took = -1;
	spoil();
	claim(setresgid(12345, 12345, 12345) == 0 && setresuid(12345, 12345, 12345) == 0);
	claim(priv_setuid_start("games", &took) == 12345);
	claim(took == 0);
	claim_clean();
	claim(wholly(12345, 12345));
}

/* Owned by the wrong account: it must not go on as that. */
static void act_wrong_owner(void)
{
	int took;
	as_set_uid("daemon", 12345, false);
	priv_setuid_start("games", &took);
}

static void act_closed_descriptors(void)
{
	int took;
	as_set_uid("games", 12345, true);
	close(0);
	close(1);
	close(2);
	priv_setuid_start("games", &took);
	claim(fcntl(0, F_GETFD) == 0 && fcntl(1, F_GETFD) == 0 && fcntl(2, F_GETFD) == 0);
}

static void set_uid_start(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(exit_of(act_set_uid), 0);
	assert_int_equal(exit_of(act_set_uid_by_root), 0);
	assert_int_equal(exit_of(act_no_effect), 0);
	assert_int_equal(exit_of(act_wrong_owner), EXIT_YOUR_FAULT);
	assert_int_equal(exit_of(act_closed_descriptors), 0);
}

static void act_limit(void)
{
	struct rlimit limit;
	priv_limit((size_t)1 << 40, 50);
	claim(getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur <= (rlim_t)1 << 40);
	claim(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 50 && limit.rlim_max == 50);
	claim(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	priv_limit(0, 0);
	claim(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 50);
}

static void limits(void **state)
{
	(void)state;
	assert_int_equal(exit_of(act_limit), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_that_cannot_be_learnt), cmocka_unit_test(become),
		cmocka_unit_test(become_user),
		cmocka_unit_test(set_uid_start),
		cmocka_unit_test(limits),
	};
	return cmocka_run_group_tests_name("priv", tests, NULL, NULL);
}
