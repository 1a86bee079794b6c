/*
 * priv - giving up privilege. Room: common. Each function succeeds wholly or ends the program.
 */
#include "priv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "exits.h"
#include "log.h"

#define GROUPS_MAX 64

static void make_undumpable(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		die_system("cannot become undumpable");
}

/* All three ids of both kinds are what they must be, and there is no way back. */
static void check_ids(uid_t uid, gid_t gid)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;
	errno = 0;
	if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0)
		die_system("cannot read this process's ids");
	if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid)
		die_system("this process did not wholly become uid %lu gid %lu", (unsigned long)uid, (unsigned long)gid);
	if (setuid(0) == 0 || seteuid(0) == 0)
		die_system("uid %lu could become root again", (unsigned long)uid);
}

static void change_ids(uid_t uid, gid_t gid)
{
	if (setresgid(gid, gid, gid) < 0)
		die_system("cannot become gid %lu", (unsigned long)gid);
	if (setresuid(uid, uid, uid) < 0)
		die_system("cannot become uid %lu", (unsigned long)uid);
	check_ids(uid, gid);
	make_undumpable();
}

static struct passwd account_or_die(const char *account)
{
	errno = 0;
	struct passwd *pw = getpwnam(account);
	if (!pw && errno != 0 && errno != ENOENT)
		die_system("cannot look up the account %s", account);
	if (!pw)
		die_usage("the account %s does not exist; `make install` (or etc/accounts) makes it", account);
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		die_usage("the account %s must be neither uid 0 nor gid 0; make it anew with etc/accounts", account);
	return *pw;
}

/* The account's supplementary groups without its primary one, which initgroups(3) would add. What spawn and bounce may read they
 * may by their uid and primary gid; a set-uid and set-gid program that they start (remote, enqueue) replaces both, and so
 * inherits none of it. Supplementary groups would stay with it. */
static void take_supplementary_groups(const char *account, gid_t primary)
{
	gid_t all[GROUPS_MAX];
	int count = GROUPS_MAX, kept = 0;
	if (getgrouplist(account, primary, all, &count) < 0)
		die_usage("the account %s is in more than %d groups; take it out of some", account, GROUPS_MAX);
	for (int i = 0; i < count; i++)
		if (all[i] != primary)
			all[kept++] = all[i];
	if (setgroups((size_t)kept, all) < 0)
		die_system("cannot take the groups of %s", account);
}

void priv_become(const char *program, const char *account)
{
	struct passwd pw = account_or_die(account);
	if (geteuid() == 0) {
		take_supplementary_groups(account, pw.pw_gid);
		change_ids(pw.pw_uid, pw.pw_gid);
		return;
	}
	if (geteuid() != pw.pw_uid)
		die_usage("%s must be started as root or as %s, and this is uid %lu", program, account, (unsigned long)geteuid());
	check_ids(pw.pw_uid, pw.pw_gid);
	make_undumpable();
}

void priv_become_user(const char *user, uid_t uid, gid_t gid)
{
	if (uid == 0 || gid == 0)
		die_usage("mail is never delivered as uid 0 or gid 0");
	if (geteuid() == 0 && (user ? initgroups(user, gid) : setgroups(0, NULL)) < 0)
		die_system("cannot take the groups of %s", user ? user : "nobody");
	change_ids(uid, gid);
}

/* ---- a set-uid program's first breath ---- */

void priv_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			_exit(EXIT_SYSTEM);
}

static void limit_soft(__rlimit_resource_t resource, rlim_t soft)
{
	struct rlimit limit;
	if (getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	setrlimit(resource, &limit);
}

/* A caller's limits, timers and signals must not be able to stop the program at a place of his choosing. His hard limits
 * stay: what they forbid fails as an error, since SIGXFSZ is ignored. */
static void reset_process(void)
{
	static const struct itimerval off;
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGXFSZ, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setitimer(ITIMER_REAL, &off, NULL);
	setitimer(ITIMER_VIRTUAL, &off, NULL);
	setitimer(ITIMER_PROF, &off, NULL);
	limit_soft(RLIMIT_FSIZE, RLIM_INFINITY);
	limit_soft(RLIMIT_CPU, RLIM_INFINITY);
	limit_soft(RLIMIT_DATA, RLIM_INFINITY);
	limit_soft(RLIMIT_AS, RLIM_INFINITY);
	limit_soft(RLIMIT_NOFILE, 1024);
	umask(077);
}

/* The account as /etc/passwd has it, read without the name service: a set-uid program opens no socket to a cache and loads
 * no module. */
static bool passwd_ids(const char *account, uid_t *uid_r, gid_t *gid_r)
{
	FILE *in = fopen("/etc/passwd", "re");
	bool found = false;
	for (struct passwd *pw; in && !found && (pw = fgetpwent(in)) != NULL;) {
		if (strcmp(pw->pw_name, account) != 0)
			continue;
		*uid_r = pw->pw_uid;
		*gid_r = pw->pw_gid;
		found = true;
	}
	if (in)
		fclose(in);
	return found;
}

/* Root's own groups must not stay: while the real uid is still 0, take the way through root. */
static void leave_root_groups(gid_t gid)
{
	if (seteuid(0) < 0 || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0)
		die_system("cannot leave root's groups");
}

uid_t priv_setuid_start(const char *account, int *took_effect_r)
{
	uid_t caller = getuid(), owner = geteuid(), uid = 0;
	gid_t gid = 0;
	clearenv();
	priv_standard_descriptors();
	if (close_range(3, ~0u, 0) < 0)
		die_system("cannot close inherited descriptors");
	reset_process();
	priv_limit(0, 0);
	make_undumpable();
	*took_effect_r = 0;
	if (!passwd_ids(account, &uid, &gid))
		die_usage("the account %s is not in /etc/passwd; `make install` (or etc/accounts) makes it", account);
	if (owner != uid && owner == caller)
		return caller;
	if (owner != uid || uid == 0)
		die_usage("this program must be owned by %s and set-uid; `make install` repairs it", account);
	if (caller == 0)
		leave_root_groups(gid);
	else if (getegid() == gid && setresgid(gid, gid, gid) < 0)
		die_system("cannot take the group of %s for good", account);
	if (setresuid(uid, uid, uid) < 0)
		die_system("cannot become %s for good", account);
	check_ids(uid, getgid());
	make_undumpable();
	*took_effect_r = 1;
	return caller;
}

void priv_limit(size_t address_space, unsigned nofile)
{
	struct rlimit core = { 0, 0 };
	if (setrlimit(RLIMIT_CORE, &core) < 0)
		die_system("cannot forbid core files");
	struct rlimit limit;
	if (address_space > 0 && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_max > address_space) {
		limit.rlim_cur = limit.rlim_max = address_space;
		if (setrlimit(RLIMIT_AS, &limit) < 0)
			die_system("cannot limit memory");
	}
	if (nofile > 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > nofile) {
		limit.rlim_cur = limit.rlim_max = nofile;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			die_system("cannot limit open files");
	}
}
