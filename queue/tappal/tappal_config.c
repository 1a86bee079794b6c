/*
 * tappal_config - `tappal config show, check, set, unset` and `tappal reload`. Room: queue, the operator's own uid (root for set and reload).
 *
 * A control file is replaced whole: written under a passing name that no program reads (it begins with a dot), synced, renamed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/commandline.h"
#include "common/io.h"
#include "common/paths.h"
#include "common/route.h"
#include "smtpd/ask/places.h"
#include "show.h"
#include "tappal.h"

static const struct { unsigned bit; const char *name; bool keeps; /* its settings until SIGHUP */ } users[] = {
	{ USED_SMTPD, "smtpd", true }, { USED_QUEUED, "queued", true }, { USED_SPAWN, "spawn", true }, { USED_BOUNCE, "bounce", true }, { USED_REMOTE, "remote", true },
	{ USED_RESOLVER, "resolver", true }, { USED_INJECT, "inject and sendmail", false }, { USED_AUTH, "auth", true }, { USED_TLSD, "tlsd", true }, { USED_GUARD, "guard", true },
	{ USED_FILTERD, "filterd", true },
	{ USED_CALLOUT, "callout", true },
};
#define USERS (sizeof(users) / sizeof(users[0]))

static const struct setting_row *find(const char *name)
{
	const struct setting_row *row = setting_find(bytes_of(name));
	const char *nearest;

	if (row != NULL)
		return row;
	nearest = setting_nearest(bytes_of(name));
	tool_usage("there is no setting %s%s%s%s; `tappal config show` lists them", show_text(bytes_of(name)), nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
		nearest != NULL ? "?" : "");
}

static bool is_set(const struct setting_row *row)
{
	char path[512];

	return snprintf(path, sizeof(path), "%s/%s", path_etc, row->name) < (int)sizeof(path) && access(path, F_OK) == 0;
}

static void load(struct settings *s)
{
	struct str faults = STR_INIT(1 << 20);

	if (!settings_load(s, path_etc, USED_ALL, &faults)) {
		fprintf(stderr, "%s", str_c(&faults));
		tool_usage("the settings have faults; correct them, or use `tappal config set`");
	}
	str_free(&faults);
}

/* ---- show ---- */

static int show_one(const struct settings *s, const char *name)
{
	const struct setting_row *row = find(name);
	struct str text = STR_INIT(1 << 26);

	setting_show(s, row, &text);
	fwrite(str_c(&text), 1, text.len, stdout);
	if (text.len > 0 && text.at[text.len - 1] != '\n')
		putchar('\n');
	str_free(&text);
	return EXIT_OK;
}

static int show_all(const struct settings *s)
{
	static const struct show_column columns[] = { { "SETTING", 0.1, false, false }, { "VALUE", 0.3, false, true }, { "FROM", 7, false, false }, { "MEANING", 0.5, false, true } };
	struct show_table *table = show_table_new(columns, 4, true);
	struct str text = STR_INIT(1 << 26);

	if (table == NULL)
		tool_stop("out of memory");
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting_row *row = &setting_table[i];

		str_clear(&text);
		setting_show(s, row, &text);
		while (text.len > 0 && text.at[text.len - 1] == '\n')
			str_truncate(&text, text.len - 1);
		for (size_t k = 0; k < text.len; k++)
			if (text.at[k] == '\n')
				text.at[k] = ' ';
		show_table_row(table, (struct bytes[4]){ bytes_of(row->name), bytes_slice(str_bytes(&text), 0, 4000), is_set(row) ? LIT("file") : LIT("default"), bytes_of(row->help) });
	}
	show_table_print(table);
	str_free(&text);
	return EXIT_OK;
}

static int config_show(int argc, char **argv)
{
	struct settings s;
	int code = EXIT_OK;

	load(&s);
	if (argc < 2)
		code = show_all(&s);
	for (int i = 1; i < argc && code == EXIT_OK; i++)
		code = show_one(&s, argv[i]);
	settings_free(&s);
	return code;
}

/* ---- check ---- */

/* What is no fault and yet may be a slip. */
static void note_nothing_local(const struct settings *s)
{
	if (s->locals.count == 0 && s->virtualdomains.count == 0)
		printf("Note: locals and virtualdomains are empty: no mail is delivered on this host.\n");
}

/* Neither delivered here nor given to a relay. */
static bool goes_to_mx(const struct settings *s, struct bytes domain)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct bytes relay;
	struct mailaddr addr;
	struct route route = { .channel = CHANNEL_LOCAL };
	uint16_t port;

	str_add_c(&text, "postmaster@");
	str_add(&text, domain);
	if (mailaddr_parse(str_bytes(&text), &addr) == ADDR_OK && !route_smtp(s, addr.domain, &relay, &port))
		route_find(s, &addr, &route);
	str_free(&text);
	return route.channel == CHANNEL_REMOTE;
}

static void note_bare_names(const struct settings *s)
{
	if (goes_to_mx(s, s->defaulthost))
		printf("Note: mail to a name without a domain, like cron's to root, goes to the MX of %s; to deliver it here, put that host into locals, or a domain of locals into defaulthost.\n",
			show_text(s->defaulthost));
}

static void note_taken_and_sent_on(const struct settings *s)
{
	for (size_t i = 0; i < s->rcpthosts.count; i++)
		if (s->rcpthosts.at[i].at[0] != '.' && goes_to_mx(s, s->rcpthosts.at[i]))
			printf("Note: %s/rcpthosts:%lu: mail for %s is taken from anybody and sent on to its MX; to deliver it here, put the domain into locals or virtualdomains.\n",
				path_etc, (unsigned long)s->rcpthosts.number[i], show_text(s->rcpthosts.at[i]));
}

static void note_other_uid(const struct settings *s)
{
	for (size_t i = 0; i < s->users.count; i++) {
		struct bytes rest = s->users.at[i], user;
		char name[64];
		uint64_t uid;

		bytes_cut(&rest, ':');
		user = bytes_cut(&rest, ':');
		const struct passwd *pw = bytes_to_cstring(user, name, sizeof(name)) ? getpwnam(name) : NULL;
		if (pw != NULL && bytes_to_u64(bytes_cut(&rest, ':'), UINT32_MAX, &uid) && uid != pw->pw_uid)
			printf("Note: %s/users:%lu: the account %s has uid %lu, not %llu.\n", path_etc, (unsigned long)s->users.number[i], show_text(user), (unsigned long)pw->pw_uid,
				(unsigned long long)uid);
	}
}

static void note_places(const char *sentence)
{
	printf("Note: %s.\n", sentence);
}

/* A filter that cannot be used puts every message off: that is a fault. */
static bool filters_check(const struct settings *s)
{
	struct commandline line;
	bool good = true;

	for (size_t i = 0; i < s->filters.count; i++) {
		const char *fault = commandline_parse(s->filters.at[i], &line) ? commandline_fault(line.word[0]) : "it is no program";

		if (fault != NULL)
			fprintf(stderr, "%s/filters:%lu: %s: %s\n", path_etc, (unsigned long)s->filters.number[i], show_text(bytes_of(line.word[0])), fault);
		good = good && fault == NULL;
	}
	return good;
}

static int config_check(int argc, char **argv)
{
	struct str faults = STR_INIT(1 << 20);
	struct settings s;
	bool good;

	(void)argv;
	if (argc > 1)
		tool_usage("`tappal config check` takes no arguments");
	good = settings_load(&s, path_etc, USED_ALL, &faults);
	if (good && !(good = passwd_check() && filters_check(&s)))
		settings_free(&s);
	if (good) {
		printf("The settings in %s are good.\n", path_etc);
		note_nothing_local(&s);
		note_bare_names(&s);
		note_taken_and_sent_on(&s);
		note_other_uid(&s);
		places_look(&s, note_places);
		settings_free(&s);
	} else {
		fprintf(stderr, "%s", str_c(&faults));
	}
	str_free(&faults);
	return good ? EXIT_OK : EXIT_YOUR_FAULT;
}

/* ---- set, unset ---- */

/* What a program takes once: addresses are bound, the index is mapped and tables are made when it starts. NULL: it is read again. */
static const char *starts_with(const struct setting_row *row)
{
	static const struct { const char *setting, *program; } rows[] = {
		{ "smtpdlisten", "smtpd" }, { "indexsize", "queued" }, { "guardrows", "guard" }, { "calloutrows", "callout" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(row->name, rows[i].setting) == 0)
			return rows[i].program;
	return NULL;
}

static void say_effect(const struct setting_row *row)
{
	if (starts_with(row) != NULL) {
		printf("%s uses it when it starts: restart it.\n", starts_with(row));
		return;
	}
	struct str now = STR_INIT(500), later = STR_INIT(500);

	for (size_t i = 0; i < USERS; i++) {
		struct str *out = users[i].keeps ? &later : &now;

		if (!(row->used_by & users[i].bit))
			continue;
		str_add_c(out, out->len > 0 ? ", " : "");
		str_add_c(out, users[i].name);
	}
	if (now.len > 0)
		printf("%s will use it when they start next, which is with their next message.\n", str_c(&now));
	if (later.len > 0)
		printf("%s: running ones use it after `tappal reload` (SIGHUP).\n", str_c(&later));
	if (row->used_by == USED_TOOLS)
		printf("It is used by tappal alone, from now on.\n");
	str_free(&now);
	str_free(&later);
}

static int open_etc(void)
{
	int dir = open(path_etc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		tool_stop("%s: %s", path_etc, strerror(errno));
	return dir;
}

static _Noreturn void write_failed(int dir, const char *temporary, const char *name)
{
	int error = errno;

	unlinkat(dir, temporary, 0);
	tool_stop("%s/%s could not be written: %s; it is as it was%s", path_etc, name, strerror(error), error == EACCES || error == EPERM ? ". Settings are root's" : "");
}

static void replace(const char *name, struct bytes text)
{
	int dir = open_etc(), fd;
	char temporary[128];

	snprintf(temporary, sizeof(temporary), ".%s.%ld", name, (long)getpid());
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		write_failed(dir, temporary, name);
	if (fchmod(fd, 0644) != 0 || io_write_full(fd, text.at, text.len) != 0 || fsync(fd) != 0 || close(fd) != 0 || renameat(dir, temporary, dir, name) != 0)
		write_failed(dir, temporary, name);
	if (fsync(dir) != 0)
		tool_stop("%s: %s; after a power failure now, the old value may come back", path_etc, strerror(errno));
	close(dir);
}

static int config_set(int argc, char **argv)
{
	struct str text = STR_INIT(1 << 26), fault = STR_INIT(1 << 16);
	const struct setting_row *row;

	if (argc < 3)
		tool_usage("`tappal config set NAME VALUE`; lists take several values, one for each line");
	row = find(argv[1]);
	if (argc > 3 && row->type != SETTING_TYPE_LIST)
		tool_usage("%s takes one value; put it in quotes if it holds blanks", row->name);
	for (int i = 2; i < argc; i++) {
		if (strchr(argv[i], '\n') != NULL && row->type != SETTING_TYPE_LIST)
			tool_usage("%s is one line", row->name);
		str_add_c(&text, argv[i]);
		str_add_char(&text, '\n');
	}
	if (text.failed)
		tool_stop("the value is too long");
	if (!setting_check(row, str_bytes(&text), &fault)) {
		struct bytes faults = str_bytes(&fault);
		tool_usage("%s; %s is as it was", show_text(bytes_cut(&faults, '\n')), row->name);
	}
	replace(row->name, str_bytes(&text));
	say_effect(row);
	str_free(&text);
	str_free(&fault);
	return EXIT_OK;
}

static int config_unset(int argc, char **argv)
{
	const struct setting_row *row;
	int dir;

	if (argc != 2)
		tool_usage("`tappal config unset NAME` removes the control file, so that the default counts");
	row = find(argv[1]);
	dir = open_etc();
	if (unlinkat(dir, row->name, 0) != 0) {
		if (errno == ENOENT) {
			tool_say("%s is not set: its default counts already", row->name);
			return EXIT_NOTHING;
		}
		tool_stop("%s/%s: %s", path_etc, row->name, strerror(errno));
	}
	if (fsync(dir) != 0)
		tool_stop("%s: %s", path_etc, strerror(errno));
	close(dir);
	say_effect(row);
	return EXIT_OK;
}

int command_config(int argc, char **argv)
{
	static const struct { const char *name; int (*act)(int, char **); } actions[] = {
		{ "show", config_show }, { "check", config_check }, { "set", config_set }, { "unset", config_unset },
	};

	for (size_t i = 0; argc >= 2 && i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(argv[1], actions[i].name) == 0)
			return actions[i].act(argc - 1, argv + 1);
	tool_usage("tappal config show [NAME ...], check, set NAME VALUE ..., or unset NAME");
}

/* ---- reload ---- */

/* The program of this instance that process `pid` runs: its name below libexec, or NULL. Readable for root. */
static const char *program_of(const char *pid, char path[512])
{
	char link[64];
	size_t n = strlen(path_libexec);
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%.20s/exe", pid);
	len = readlink(link, path, 511);
	if (len < 0)
		return NULL;
	path[len] = '\0';
	return (size_t)len > n + 1 && strncmp(path, path_libexec, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

/* A small file of /proc as a C string; empty when it cannot be read. */
static void read_proc(const char *pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = io_read_full(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
}

/* The number behind a name in /proc/PID/status, 0 when it is not there. */
static uint64_t status_of(const char *pid, const char *name, int base)
{
	char text[8192];
	const char *at;

	read_proc(pid, "status", text, sizeof(text));
	at = strstr(text, name);
	return at != NULL ? strtoull(at + strlen(name), NULL, base) : 0;
}

/* A daemon is what runs a program of ours, catches SIGHUP, and was not started by the same program: a session without a handler would
 * die of the signal, and the pool tells its own processes. */
static bool is_daemon(const char *pid, const char *program)
{
	char parent[32], path[512];
	const char *parents;

	if (!(status_of(pid, "\nSigCgt:\t", 16) & UINT64_C(1) << (SIGHUP - 1)))
		return false;
	snprintf(parent, sizeof(parent), "%llu", (unsigned long long)status_of(pid, "\nPPid:\t", 10));
	parents = program_of(parent, path);
	return parents == NULL || strcmp(parents, program) != 0;
}

int command_reload(int argc, char **argv)
{
	struct dirent *entry;
	unsigned found = 0;
	DIR *proc;

	(void)argv;
	if (argc > 1)
		tool_usage("`tappal reload` takes no arguments");
	if (geteuid() != 0)
		tool_stop("only root may signal the daemons; use sudo");
	if (config_check(1, argv) != EXIT_OK)
		tool_usage("nothing was told to reload: correct the settings first");
	proc = opendir("/proc");
	if (proc == NULL)
		tool_stop("/proc: %s", strerror(errno));
	while ((entry = readdir(proc)) != NULL) {
		char path[512];
		const char *program = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? program_of(entry->d_name, path) : NULL;

		if (program == NULL || !is_daemon(entry->d_name, program) || kill((pid_t)strtol(entry->d_name, NULL, 10), SIGHUP) != 0)
			continue;
		printf("%s (pid %s) was told to reload\n", program, entry->d_name);
		found++;
	}
	closedir(proc);
	if (found == 0)
		tool_say("no daemon of this instance (%s) is running", path_libexec);
	return found > 0 ? EXIT_OK : EXIT_NOTHING;
}
