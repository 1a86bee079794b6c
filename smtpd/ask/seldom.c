/* seldom - smtpd's room: warnings of all sessions. See seldom.h. */
#include "seldom.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crc32c.h"
#include "common/paths.h"

#define SLOTS 256u

static wall_ms_t own[SLOTS];

static bool is_over(wall_ms_t said, wall_ms_t now)
{
	return said > now || now - said >= SELDOM_PAUSE_MS;   /* said > now: a clock that was set back, or damage */
}

static int open_file(void)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s/%s", path_spool, SPOOL_DRAFT, SELDOM_FILE);
	return n < (int)sizeof path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600) : -1;
}

/* One who holds the lock is about to say something: the next one will find it said. *usable_r false: the file tells nothing. */
static bool ask_file(int fd, size_t slot, wall_ms_t now, bool *usable_r)
{
	wall_ms_t said = 0;
	*usable_r = true;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return (*usable_r = errno == EWOULDBLOCK, false);
	ssize_t got = pread(fd, &said, sizeof said, (off_t)(slot * sizeof said));
	if (got == (ssize_t)sizeof said && said != 0 && !is_over(said, now))
		return false;
	*usable_r = got >= 0 && pwrite(fd, &now, sizeof now, (off_t)(slot * sizeof now)) == (ssize_t)sizeof now;
	return *usable_r;
}

bool seldom(const char *what, struct bytes about)
{
	wall_ms_t now = clock_wall_ms();
	size_t slot = crc32c(crc32c(0, what, strlen(what)), about.at, about.len) % SLOTS;
	if (own[slot] != 0 && !is_over(own[slot], now))
		return false;
	int fd = open_file();
	bool usable = false, may = fd >= 0 && ask_file(fd, slot, now, &usable);
	if (fd >= 0)
		close(fd);
	if (!may && usable)
		return false;
	own[slot] = now;
	return true;
}
