/*
 * check_manifest - a backup against its manifest: every file it names, and none besides. Room: queue (tappal).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "common/crc32c.h"
#include "common/io.h"
#include "common/paths.h"
#include "manifest.h"

#define TEXT_MAX ((size_t)MANIFEST_LINES_MAX * 100)

static const char *judge(int fd, const struct manifest_file *file)
{
	char chunk[65536];
	struct stat st;
	ssize_t got;
	uint32_t crc = 0;
	if (fstat(fd, &st) != 0)
		return strerror(errno);
	if ((uint64_t)st.st_size != file->size)
		return "its size is not that of the manifest";
	for (uint64_t at = 0; (got = io_pread_full(fd, chunk, sizeof chunk, at)) > 0; at += (size_t)got)
		crc = crc32c(crc, chunk, (size_t)got);
	if (got < 0)
		return strerror(errno);
	return crc == file->crc ? NULL : "its checksum is not that of the manifest";
}

static void check_one(struct check *c, const struct manifest_file *file)
{
	char path[MANIFEST_PATH_MAX];
	if (!bytes_to_cstring(file->path, path, sizeof path) || path[0] == '\0') {
		check_say(c, CHECK_MANIFEST, MANIFEST_FILE, "a line of it is none");
		return;
	}
	int fd = io_open_regular(AT_FDCWD, path);
	const char *wrong = fd < 0 ? strerror(errno) : judge(fd, file);
	if (wrong)
		check_say(c, CHECK_MANIFEST, path, "%s", wrong);
	if (fd >= 0)
		close(fd);
}

static uint64_t count_files(const char *directory)
{
	const struct dirent *e;
	uint64_t count = 0;
	DIR *dir = opendir(directory);
	while (dir && (e = readdir(dir)) != NULL)
		count += e->d_name[0] != '.' && strcmp(e->d_name, "lock.mdb") != 0;
	if (dir)
		closedir(dir);
	return count;
}

static void check_text(struct check *c, struct bytes text)
{
	struct manifest_file file;
	struct bytes files;
	uint64_t named = 0, count = 0;
	const char *wrong = manifest_parse(text, &files, &count);
	if (wrong) {
		check_say(c, CHECK_MANIFEST, MANIFEST_FILE, "%s", wrong);
		return;
	}
	for (; manifest_next(&files, &file); named++)
		check_one(c, &file);
	uint64_t there = count_files(SPOOL_INDEX) + count_files(SPOOL_LOG) + count_files(SPOOL_LARGE) + count_files(SPOOL_INTAKE);
	if (named != count || there != count)
		check_say(c, CHECK_MANIFEST, MANIFEST_FILE, "%llu files are there, and it names %llu", (unsigned long long)there, (unsigned long long)count);
}

bool check_manifest(struct check *c)
{
	struct str text = STR_INIT(TEXT_MAX);
	if (access(MANIFEST_INCOMPLETE, F_OK) == 0)
		check_say(c, CHECK_MANIFEST, MANIFEST_INCOMPLETE, "this backup was begun, and did not come to its end");
	int fd = io_open_regular(AT_FDCWD, MANIFEST_FILE);
	if (fd < 0 && errno == ENOENT) {
		check_say(c, CHECK_NOTE, MANIFEST_FILE, "there is none: what is here is compared with itself only");
		return true;
	}
	bool good = fd >= 0 && io_slurp(fd, &text) == 0;
	if (good)
		check_text(c, str_bytes(&text));
	else
		check_stop(c, MANIFEST_FILE);
	if (fd >= 0)
		close(fd);
	str_free(&text);
	return good;
}
