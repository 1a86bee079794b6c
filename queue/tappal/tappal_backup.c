/*
 * tappal_backup - `tappal queue backup DIR`: a consistent copy of the queue, also of one that works. Room: queue, as tappal-queue.
 *
 * Root makes the directory and gives it to tappal-queue, then becomes tappal-queue: the way to the directory need not be open to that account.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/io.h"
#include "common/paths.h"
#include "queue/store/backup.h"
#include "queue/store/check.h"
#include "show.h"
#include "tappal.h"

/* ---- the directory ---- */

static bool is_empty(int fd)
{
	const struct dirent *e;
	bool empty = true;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (dir == NULL)
		tool_stop("the directory of the backup cannot be read: %s", strerror(errno));
	while (empty && (e = readdir(dir)) != NULL)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(dir);
	return empty;
}

static void give_to_queue(int fd, const char *path)
{
	struct account queue;
	if (geteuid() != 0)
		return;
	if (account_by_name(ACCOUNT_QUEUE, &queue) != ACCOUNT_FOUND)
		tool_stop("there is no account %s", ACCOUNT_QUEUE);
	if (fchown(fd, queue.uid, queue.gid) != 0 || fchmod(fd, 0700) != 0)
		tool_stop("%s: %s", path, strerror(errno));
}

static int make_directory(const char *path)
{
	bool made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		tool_stop("%s: %s", path, strerror(errno));
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		tool_stop("%s: %s", path, strerror(errno));
	if (!is_empty(fd))
		tool_usage("%s is not empty; a backup wants a directory that is, or is not there yet. Nothing was done", path);
	give_to_queue(fd, path);
	/* Its own name must outlive a loss of power, too. */
	int parent = made ? openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (made && (parent < 0 || fsync(parent) != 0))
		tool_stop("%s: %s", path, strerror(errno));
	if (parent >= 0)
		close(parent);
	return fd;
}

/* ---- the copy ---- */

static void ignore(void *context, const struct check_finding *finding)
{
	(void)context;
	(void)finding;
}

/* A damaged index can end whoever reads it, and a copy of it helps nobody. */
static void require_sound_index(void)
{
	struct check c = { .now = clock_wall_ms(), .found = ignore };
	struct stat st;
	bool readable = true;
	if (stat(SPOOL_INDEX "/data.mdb", &st) != 0 || st.st_size == 0)
		return;
	if (!check_walk_index(&c, &readable))
		tool_stop("%s", c.error);
	if (c.count[CHECK_INDEX_DAMAGED] > 0 || c.count[CHECK_INDEX_ROWS] > 0)
		tool_stop("the index is damaged: see `tappal queue check`. There is no backup");
}

static void say_damaged(const struct backup *b)
{
	for (size_t i = 0; i < b->damaged.count; i++) {
		char id[MSGID_TEXT + 1];
		msgid_format(b->damaged.at[i], id);
		tool_say("the text of %s is damaged in this copy: it is not what was accepted. Whether it is in the spool, too, says `tappal queue check`",
			id);
	}
}

int command_backup(int argc, char **argv)
{
	struct backup b = { .now = clock_wall_ms() };
	struct str size = STR_INIT(64);
	if (argc != 2 || argv[1][0] == '-')
		tool_usage("`tappal queue backup` wants one directory, which is empty or not there yet");
	int spool = open(path_spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (spool < 0)
		tool_stop("%s: %s", path_spool, strerror(errno));
	tool_may_be_queue();
	b.to = make_directory(argv[1]);
	tool_become_queue(false);
	umask(022);
	if (fchdir(spool) != 0)
		tool_stop("%s: %s", path_spool, strerror(errno));
	require_sound_index();
	if (!backup_run(&b))
		tool_stop("%s is no backup: %s. What is there is not complete, which INCOMPLETE in it says; remove it", argv[1], b.error);
	show_size(b.octets, &size);
	printf("%s: %llu files, %s octets. `tappal queue check --spool` verifies it\n", argv[1], (unsigned long long)b.files, str_c(&size));
	say_damaged(&b);
	if (b.lost > 0)
		tool_say("the text of %llu messages is not in the spool any more, nor in this copy of it: see `tappal queue check`",
			(unsigned long long)b.lost);
	bool whole = b.lost == 0 && b.damaged.count == 0;
	free(b.damaged.at);
	str_free(&size);
	close(b.to);
	close(spool);
	return whole ? EXIT_OK : EXIT_FOUND;
}
