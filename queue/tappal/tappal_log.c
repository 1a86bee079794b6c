/*
 * tappal_log - `tappal log ID`: the lines about a message in the log file of setting logfiles and in the older files beside it.
 * Room: queue, the operator's own uid.
 *
 * Older files are those in the same directory whose names begin with the file's ("mail.log.1", "current-20261121"), and beside a file
 * called "current" multilog's and svlogd's, too ("@4000...s"). They are read oldest first; those that ended before the message came are
 * left out, and compressed ones are counted and named, not read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"
#include "arguments.h"
#include "show.h"
#include "tappal.h"

#define CHUNK (1u << 20)
#define FILES_MAX 10000u

struct log_file { char *name; struct timespec changed; bool written, numbered; };   /* written: the file itself; numbered: "mail.log.1" */

struct search {
	char id[MSGID_TEXT + 1];
	struct log_file *files;
	size_t count, compressed;
	uint64_t lines;
};

/* ---- which files ---- */

static bool is_beside(const char *name, const char *base)
{
	size_t n = strlen(base);

	if (strcmp(base, "current") == 0 && name[0] == '@')
		return true;
	return strncmp(name, base, n) == 0 && (name[n] == '\0' || name[n] == '.' || name[n] == '-');
}

static bool ends_with(const char *name, const char *tail)
{
	return bytes_ends_nocase(bytes_of(name), bytes_of(tail));
}

static void add_file(struct search *s, int dir, const char *name, const char *base, wall_ms_t since)
{
	struct log_file *f = &s->files[s->count];
	struct stat st;

	if (fstatat(dir, name, &st, 0) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_mtime + 1 < since / SECOND_MS)
		return;
	if (ends_with(name, ".gz") || ends_with(name, ".xz") || ends_with(name, ".bz2") || ends_with(name, ".zst")) {
		s->compressed++;
		return;
	}
	if (s->count == FILES_MAX)
		return;
	*f = (struct log_file){ .name = strdup(name), .changed = st.st_mtim, .written = strcmp(name, base) == 0, .numbered = name[0] != '@' && name[strlen(base)] == '.' };
	if (f->name == NULL)
		tool_stop("out of memory");
	s->count++;
}

static int older_first(const void *a, const void *b)
{
	const struct log_file *x = a, *y = b;

	if (x->changed.tv_sec != y->changed.tv_sec)
		return x->changed.tv_sec < y->changed.tv_sec ? -1 : 1;
	if (x->changed.tv_nsec != y->changed.tv_nsec)
		return x->changed.tv_nsec < y->changed.tv_nsec ? -1 : 1;
	if (x->written != y->written)
		return x->written ? 1 : -1;
	return x->numbered ? strverscmp(y->name, x->name) : strverscmp(x->name, y->name);   /* "mail.log.2" stands before "mail.log.1" */
}

static void find_files(struct search *s, const char *directory, const char *base, wall_ms_t since)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	if (dir == NULL)
		tool_stop("%s: %s; where the log goes is setting logfiles", directory, strerror(errno));
	s->files = calloc(FILES_MAX, sizeof(*s->files));
	if (s->files == NULL)
		tool_stop("out of memory");
	while ((entry = readdir(dir)) != NULL)
		if (is_beside(entry->d_name, base))
			add_file(s, dirfd(dir), entry->d_name, base, since);
	closedir(dir);
	qsort(s->files, s->count, sizeof(*s->files), older_first);
}

/* ---- what they say ---- */

static bool is_id_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool holds_id(struct bytes line, const char *id)
{
	for (size_t i = 0; i + MSGID_TEXT <= line.len; i++) {
		const char *at = memmem(line.at + i, line.len - i, id, MSGID_TEXT);

		if (at == NULL)
			return false;
		i = (size_t)(at - line.at);
		if ((i == 0 || !is_id_char(line.at[i - 1])) && (i + MSGID_TEXT == line.len || !is_id_char(line.at[i + MSGID_TEXT])))
			return true;
	}
	return false;
}

static void print_matching(struct search *s, struct bytes text, struct str *out)
{
	while (text.len > 0) {
		struct bytes line = bytes_cut(&text, '\n');

		if (!holds_id(line, s->id))
			continue;
		str_clear(out);
		show_clean(line, out);
		puts(str_c(out));
		s->lines++;
	}
}

/* Whole lines of a chunk at a time; a line of over a chunk is taken in pieces. */
static void read_file(struct search *s, const char *directory, const char *name)
{
	struct str text = STR_INIT(2 * CHUNK), out = STR_INIT(2 * CHUNK);
	char path[4096];
	ssize_t n = 0;
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		tool_stop("%s: %s", path, strerror(errno));
	do {
		char *space = str_reserve(&text, CHUNK);
		struct bytes all;
		size_t whole;

		n = space != NULL ? io_read_full(fd, space, CHUNK) : -1;
		if (n < 0)
			tool_stop("%s: %s", path, strerror(errno));
		str_grew(&text, (size_t)n);
		all = str_bytes(&text);
		whole = bytes_find_last(all, '\n');
		whole = n == 0 || whole == all.len ? all.len : whole + 1;
		print_matching(s, bytes_slice(all, 0, whole), &out);
		str_remove_front(&text, whole);
	} while (n > 0);
	close(fd);
	str_free(&text);
	str_free(&out);
}

/* The whole id of what a person typed: an id, or the unique beginning of one that the queue knows. */
static msgid_t whole_id(const char *text)
{
	struct id_range range = arguments_range(text);
	msgid_t ids[2] = { 0, 0 }, more[2] = { 0, 0 };
	unsigned count = 0, ended = 0;
	struct index *ix;

	if (range.first == range.last)
		return range.first;
	ix = tool_open_index();
	tool_read_begin(ix);
	if (select_resolve(ix, range, false, &count, ids) == INDEX_FATAL || select_resolve(ix, range, true, &ended, more) == INDEX_FATAL)
		tool_index_failed(ix);
	index_read_end(ix);
	index_close(ix);
	if (count + ended != 1)
		tool_usage("%s message has an id that begins with %s; give the whole id", count + ended == 0 ? "no" : "more than one", show_text(bytes_of(text)));
	return count == 1 ? ids[0] : more[0];
}

int command_log(int argc, char **argv)
{
	struct search s = { .count = 0 };
	struct settings settings;
	char path[4096], *slash;
	msgid_t id;

	if (argc != 2)
		tool_usage("`tappal log` wants an id");
	id = whole_id(argv[1]);
	msgid_format(id, s.id);
	tool_settings(&settings);
	if (!bytes_to_cstring(settings.logfiles, path, sizeof(path)) || (slash = strrchr(path, '/')) == NULL)
		tool_usage("setting logfiles is no absolute path");
	*slash = '\0';
	find_files(&s, path[0] != '\0' ? path : "/", slash + 1, msgid_time(id));
	for (size_t i = 0; i < s.count; i++)
		read_file(&s, path, s.files[i].name);
	if (s.count == 0)
		tool_say("there is no log file %s/%s that is as young as the message; where the log goes is setting logfiles", path, slash + 1);
	else if (s.lines == 0)
		tool_say("the log says nothing about %s", s.id);
	if (s.compressed > 0)
		tool_say("%zu compressed file%s beside %s/%s %s not read (zgrep and its kin can)", s.compressed, s.compressed == 1 ? "" : "s", path, slash + 1, s.compressed == 1 ? "was" : "were");
	for (size_t i = 0; i < s.count; i++)
		free(s.files[i].name);
	free(s.files);
	settings_free(&settings);
	return s.lines > 0 ? EXIT_OK : EXIT_NOTHING;
}
