/*
 * settings - the snapshot: reading the directory of control files. Room: common. Reads path_etc only.
 */
#include "settings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "domain.h"
#include "io.h"
#include "log.h"
#include "mailaddr.h"
#include "paths.h"
#include "settings_parse.h"

#define FILE_MAX (64u << 20)
#define FAULTS_MAX (256u << 10)

struct load {
	struct settings *s;
	const char *dir;
	int dir_fd;
	unsigned used_by;
	struct str *faults;
	bool ok;
	struct str text;          /* of the file at hand: one buffer for all */
};

/* Which file is it, in which state? */
static uint32_t stamp_file(uint32_t stamp, size_t setting, const struct stat *st)
{
	const uint64_t what[] = { setting, st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec,
		(uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec };
	/* The table: the other form asks CPUID, which in a virtual machine costs more than all these sums. */
	return crc32c_table(stamp, what, sizeof what);
}

/* A fault of a file as a whole. */
static void load_fault(struct load *l, const char *name, const char *what, const char *next)
{
	str_addf(l->faults, "%s/%s:1: %s; %s\n", l->dir, name, what, next);
	l->ok = false;
}

/* The text of one control file: 1 read, 0 there is none, -1 a fault. */
static int read_file(struct load *l, const struct setting_row *row)
{
	const char *name = row->name;
	struct stat st;
	str_clear(&l->text);
	int fd = io_open_regular(l->dir_fd, name);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && errno == EACCES) {
		load_fault(l, name, "this program may not read it", "chmod 644 it");
		return -1;
	}
	if (fd < 0) {
		load_fault(l, name, errno == EINVAL || errno == ELOOP ? "it is no regular file" : strerror(errno), "put a plain file in its place, or remove it");
		return -1;
	}
	/* Stamped before it is read: what changes meanwhile differs afterwards. */
	int result = fstat(fd, &st);
	if (result == 0) {
		l->s->stamp = stamp_file(l->s->stamp, (size_t)(row - setting_table), &st);
		result = io_slurp(fd, &l->text);
	}
	int error = errno;
	close(fd);
	if (result < 0) {
		load_fault(l, name, error == EFBIG ? "it is larger than 64 MiB" : strerror(error), "shorten it, or repair the disk");
		return -1;
	}
	return 1;
}

static void load_one(struct load *l, const struct setting_row *row)
{
	void *member = (char *)l->s + row->offset;
	struct parse p = { row, l->dir, l->s->memory, l->faults, true };
	int there = row->used_by & l->used_by ? read_file(l, row) : 0;
	if (there > 0 && !parse_setting(&p, str_bytes(&l->text), member))
		l->ok = false;
	/* A default that depends on others is empty here and filled in by fill_defaults. */
	bool own_default = row->type == SETTING_TYPE_DOMAIN && !row->default_text[0];
	if (there == 0 && !own_default && !parse_setting(&p, bytes_of(row->default_text), member))
		l->ok = false;
}

static bool is_file(int dir_fd, const char *name)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode);
}

static void check_unknown(struct load *l, const char *name)
{
	char what[400];
	if (name[0] == '.' || setting_find(bytes_of(name)) || !is_file(l->dir_fd, name))
		return;
	const char *nearest = setting_nearest(bytes_of(name));
	snprintf(what, sizeof what, "there is no setting of this name%s%s%s", nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
	load_fault(l, log_text(bytes_of(name)), what, "rename the file or remove it");
}

static void check_names(struct load *l)
{
	int fd = openat(l->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		load_fault(l, ".", "the directory cannot be listed", "chmod 755 it");
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		check_unknown(l, entry->d_name);
	closedir(dir);
}

/* ---- defaults that depend on `me` ---- */

static bool keep(struct load *l, const char *text, struct bytes *value_r)
{
	size_t len = strlen(text);
	char *copy = settings_allocate(l->s->memory, len + 1);
	if (!copy) {
		load_fault(l, "me", "no memory", "free some memory and try again");
		return false;
	}
	memcpy(copy, text, len + 1);
	*value_r = (struct bytes){ copy, len };
	return true;
}

static void default_me(struct load *l)
{
	char host[DOMAIN_MAX + 1] = "", lower[DOMAIN_MAX + 1];
	if (gethostname(host, sizeof host - 1) < 0 || !domain_valid(bytes_of(host), false))
		snprintf(host, sizeof host, "localhost");
	domain_lower(bytes_of(host), lower);
	keep(l, lower, &l->s->me);
}

static void default_locals(struct load *l)
{
	struct lines *locals = &l->s->locals;
	locals->at = settings_allocate(l->s->memory, sizeof *locals->at);
	locals->number = settings_allocate(l->s->memory, sizeof *locals->number);
	if (!locals->at || !locals->number) {
		load_fault(l, "locals", "no memory", "free some memory and try again");
		return;
	}
	locals->at[0] = l->s->me;
	locals->number[0] = 0;
	locals->count = 1;
}

/* qmail's file of this name has a local part. */
static void complete_doublebounceto(struct load *l)
{
	struct bytes *to = &l->s->doublebounceto;
	char whole[ADDRESS_MAX + 1];
	if (to->len == 0 || bytes_find(*to, '@') < to->len)
		return;
	if ((size_t)snprintf(whole, sizeof whole, "%.*s@%.*s", (int)to->len, to->at, (int)l->s->me.len, l->s->me.at) < sizeof whole)
		keep(l, whole, to);
	else
		load_fault(l, "doublebounceto", "with me behind it it is too long", "write a whole address");
}

static bool file_exists(const struct load *l, const char *name)
{
	return faccessat(l->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void fill_defaults(struct load *l)
{
	struct settings *s = l->s;
	struct bytes *from_me[] = { &s->bouncehost, &s->helohost, &s->defaulthost };
	if (s->me.len == 0)
		default_me(l);
	for (size_t i = 0; i < sizeof from_me / sizeof from_me[0]; i++)
		if (from_me[i]->len == 0)
			*from_me[i] = s->me;
	if (s->locals.count == 0 && !file_exists(l, "locals"))
		default_locals(l);
	complete_doublebounceto(l);
	if (s->smtpgreeting.len == 0) {
		char greeting[DOMAIN_MAX + 16];
		snprintf(greeting, sizeof greeting, "%.*s ESMTP", (int)s->me.len, s->me.at);
		keep(l, greeting, &s->smtpgreeting);
	}
}

/* ---- the interface ---- */

static uint32_t stamp_of(int dir_fd, unsigned used_by)
{
	uint32_t stamp = 0;
	for (size_t i = 0; i < setting_count; i++) {
		struct stat st;
		if (setting_table[i].used_by & used_by && fstatat(dir_fd, setting_table[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			stamp = stamp_file(stamp, i, &st);
	}
	return stamp;
}

bool settings_changed(const struct settings *s, const char *dir, unsigned used_by)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	uint32_t stamp = stamp_of(fd, used_by);
	close(fd);
	return stamp != s->stamp;
}

bool settings_load(struct settings *s, const char *dir, unsigned used_by, struct str *faults)
{
	struct load l = { .s = s, .dir = dir, .dir_fd = -1, .used_by = used_by, .faults = faults, .ok = true, .text = STR_INIT(FILE_MAX) };
	memset(s, 0, sizeof *s);
	s->memory = calloc(1, sizeof *s->memory);
	l.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!s->memory)
		load_fault(&l, ".", "no memory", "free some memory and try again");
	else if (l.dir_fd < 0)
		load_fault(&l, ".", strerror(errno), "`make install` makes the directory of the settings");
	for (size_t i = 0; s->memory && l.dir_fd >= 0 && i < setting_count; i++)
		load_one(&l, &setting_table[i]);
	if (l.dir_fd >= 0 && used_by == USED_ALL)
		check_names(&l);
	if (l.ok)
		fill_defaults(&l);
	if (l.dir_fd >= 0)
		close(l.dir_fd);
	str_free(&l.text);
	if (!l.ok)
		settings_free(s);
	return l.ok;
}

void settings_free(struct settings *s)
{
	if (s->memory)
		settings_memory_free(s->memory);
	free(s->memory);
	memset(s, 0, sizeof *s);
}

bool setting_check(const struct setting_row *row, struct bytes text, struct str *fault)
{
	struct settings_memory memory = { NULL };
	union { uint64_t number; bool flag; struct bytes text; struct lines lines; } value;
	struct parse p = { row, NULL, &memory, fault, true };
	bool ok = parse_setting(&p, text, &value);
	settings_memory_free(&memory);
	return ok;
}

/* ---- for programs ---- */

void settings_warn_names(void)
{
	struct str faults = STR_INIT(FAULTS_MAX);
	struct load l = { .dir = path_etc, .dir_fd = open(path_etc, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .used_by = USED_ALL, .faults = &faults, .ok = true };
	if (l.dir_fd < 0)
		return;
	check_names(&l);
	close(l.dir_fd);
	for (struct bytes rest = str_bytes(&faults); rest.len > 0;)
		log_warn("%s", log_text(bytes_cut(&rest, '\n')));
	str_free(&faults);
}

static void log_faults(const struct str *faults)
{
	struct bytes rest = str_bytes(faults);
	while (rest.len > 0) {
		struct bytes line = bytes_cut(&rest, '\n');
		log_error("%.*s", (int)line.len, line.at);
	}
}

static enum log_to to_of(const struct settings *s)
{
	return bytes_equal(s->logto, LIT("syslog")) ? LOG_TO_SYSLOG : LOG_TO_STDERR;
}

static enum log_format format_of(const struct settings *s)
{
	return bytes_equal(s->logformat, LIT("json")) ? LOG_JSON : LOG_LINE;
}

void settings_or_die(struct settings *s, const char *program, unsigned used_by)
{
	struct str faults = STR_INIT(FAULTS_MAX);
	log_program(program);
	if (!settings_load(s, path_etc, used_by, &faults)) {
		log_faults(&faults);
		die_usage("%s does not start with faults in its settings; mend them, then see `tappal config check`", program);
	}
	str_free(&faults);
	log_init(program, s->me.at, to_of(s), format_of(s));   /* text of a snapshot has a NUL behind it */
}

bool settings_reload(struct settings *s, unsigned used_by)
{
	struct str faults = STR_INIT(FAULTS_MAX);
	struct settings fresh;
	bool ok = settings_load(&fresh, path_etc, used_by, &faults);
	if (ok) {
		settings_free(s);
		*s = fresh;
		log_target(s->me.at, to_of(s), format_of(s));
		log_info("settings reloaded");
	} else {
		log_faults(&faults);
		log_error("the settings were not reloaded: the old ones stay in force until the faults are mended");
	}
	str_free(&faults);
	return ok;
}
