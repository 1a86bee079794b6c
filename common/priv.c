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
#include "accounts.h"
#include "log.h"
#include "paths.h"

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

enum account_result priv_account(const char *name, struct account *account_r)
{
	if (account_by_name(name, account_r) == ACCOUNT_FOUND)
		return ACCOUNT_FOUND;
	errno = 0;
	const struct passwd *pw = getpwnam(name);
	if (!pw)
		return errno != 0 && errno != ENOENT ? ACCOUNT_UNREADABLE : ACCOUNT_NONE;
	account_r->uid = pw->pw_uid;
	account_r->gid = pw->pw_gid;
	return ACCOUNT_FOUND;
}

static struct account account_or_die(const char *name)
{
	struct account a;
	enum account_result result = priv_account(name, &a);
	if (result == ACCOUNT_UNREADABLE)
		die_system("cannot look up the account %s", name);
	if (result == ACCOUNT_NONE)
		die_usage("the account %s does not exist; `make install` (or etc/accounts) makes it", name);
	if (a.uid == 0 || a.gid == 0)
		die_usage("the account %s must be neither uid 0 nor gid 0; make it anew with etc/accounts", name);
	return a;
}

static bool is_member(const struct group *g, const char *account)
{
	char **member = g->gr_mem;
	while (*member && strcmp(*member, account) != 0)
		member++;
	return *member != NULL;
}

static bool has_gid(const gid_t *all, int count, gid_t gid)
{
	while (count > 0 && all[count - 1] != gid)
		count--;
	return count > 0;
}

/* getgrouplist says nothing of a group file that it could not read: the program would go on, without what it may do. */
static void check_group_file(const char *account, const gid_t *all, int count)
{
	const struct group *g;
	FILE *in = fopen("/etc/group", "re");
	if (!in && errno == ENOENT)
		return;
	while (in && (g = fgetgrent(in)) != NULL)
		if (is_member(g, account) && !has_gid(all, count, g->gr_gid)) {
			errno = 0;
			die_system("cannot learn the groups of %s: %s is not among them", account, g->gr_name);
		}
	if (!in || ferror(in) || !feof(in))
		die_system("cannot read /etc/group");
	fclose(in);
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
	check_group_file(account, all, count);
	for (int i = 0; i < count; i++)
		if (all[i] != primary)
			all[kept++] = all[i];
	if (setgroups((size_t)kept, all) < 0)
		die_system("cannot take the groups of %s", account);
}

static void leave_all_groups(void)
{
	if (setgroups(0, NULL) < 0)
		die_system("cannot leave this process's groups");
}

static void become(const char *program, const char *account, bool alone)
{
	struct account a = account_or_die(account);
	if (geteuid() == 0) {
		if (alone)
			leave_all_groups();
		else
			take_supplementary_groups(account, a.gid);
		change_ids(a.uid, a.gid);
		return;
	}
	if (geteuid() != a.uid)
		die_usage("%s must be started as root or as %s, and this is uid %lu", program, account, (unsigned long)geteuid());
	check_ids(a.uid, a.gid);
	make_undumpable();
}

void priv_become(const char *program, const char *account)
{
	become(program, account, false);
}

void priv_become_alone(const char *program, const char *account)
{
	become(program, account, true);
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

/* Root's own groups must not stay: while the real uid is still 0, take the way through root. */
static void leave_root_groups(gid_t gid)
{
	if (seteuid(0) < 0 || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0)
		die_system("cannot leave root's groups");
}

uid_t priv_setuid_start(const char *account, int *took_effect_r)
{
	uid_t caller = getuid(), owner = geteuid();
	struct account self;
	clearenv();
	priv_standard_descriptors();
	if (close_range(3, ~0u, 0) < 0)
		die_system("cannot close inherited descriptors");
	reset_process();
	priv_limit(0, 0);
	make_undumpable();
	*took_effect_r = 0;
	enum account_result found = account_by_name(account, &self);
	if (found == ACCOUNT_UNREADABLE)
		die_system("cannot look up the account %s", account);
	if (found == ACCOUNT_NONE)
		die_usage("the account %s is not in /etc/passwd; `make install` (or etc/accounts) makes it", account);
	if (owner != self.uid && owner == caller)
		return caller;
	if (owner != self.uid || self.uid == 0)
		die_usage("this program must be owned by %s and set-uid; `make install` repairs it", account);
	if (caller == 0)
		leave_root_groups(self.gid);
	else if (getegid() == self.gid && setresgid(self.gid, self.gid, self.gid) < 0)
		die_system("cannot take the group of %s for good", account);
	if (setresuid(self.uid, self.uid, self.uid) < 0)
		die_system("cannot become %s for good", account);
	check_ids(self.uid, getgid());
	make_undumpable();
	*took_effect_r = 1;
	return caller;
}

void priv_run_directory(void)
{
	struct account dns;
	if (geteuid() != 0 || account_by_name(ACCOUNT_DNS, &dns) != ACCOUNT_FOUND || mkdir(path_run, 0755) < 0)
		return;
	if (chmod(path_run, 0755) < 0 || chown(path_run, dns.uid, dns.gid) < 0)
		die_system("cannot give %s to %s", path_run, ACCOUNT_DNS);
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
