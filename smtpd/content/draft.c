/* draft - smtpd's room: a message kept aside. See draft.h. */
#include "draft.h"

#include "common/io.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void draft_init(struct draft *d)
{
	*d = (struct draft){ .fd = -1, .memory = STR_INIT(DRAFT_MEMORY) };
}

void draft_free(struct draft *d)
{
	if (d->fd >= 0)
		close(d->fd);
	str_free(&d->memory);
	draft_init(d);
}

bool draft_to_file(struct draft *d)
{
	char path[PATH_MAX];
	if (d->fd >= 0 || d->error != 0)
		return d->error == 0;
	int n = snprintf(path, sizeof path, "%s/%s", path_spool, SPOOL_DRAFT);
	int fd = n < (int)sizeof path ? open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	if (fd < 0 || io_write_full(fd, d->memory.at, d->memory.len) < 0) {
		d->error = errno;
		if (fd >= 0)
			close(fd);
		return false;
	}
	d->fd = fd;
	str_free(&d->memory);
	return true;
}

bool draft_add(struct draft *d, struct bytes octets)
{
	if (d->error != 0)
		return false;
	if (d->fd < 0 && d->memory.len + octets.len > DRAFT_MEMORY && !draft_to_file(d))
		return false;
	if (d->fd < 0 ? !str_add(&d->memory, octets) : io_pwrite_full(d->fd, octets.at, octets.len, d->size) < 0)
		d->error = d->fd < 0 ? ENOMEM : errno;
	else
		d->size += octets.len;
	return d->error == 0;
}

ssize_t draft_read(const struct draft *d, uint64_t offset, char *at, size_t room)
{
	if (offset >= d->size)
		return 0;
	if (d->size - offset < room)
		room = (size_t)(d->size - offset);
	if (d->fd >= 0)
		return io_pread_full(d->fd, at, room, offset);
	memcpy(at, d->memory.at + offset, room);
	return (ssize_t)room;
}

static int memory_file(struct bytes octets)
{
	int fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && (io_write_full(fd, octets.at, octets.len) < 0 || fchmod(fd, 0444) < 0
		|| fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0))
		io_close(&fd);
	return fd;
}

int draft_share(struct draft *d)
{
	int fd = -1;
	if (d->error != 0)
		return -1;
	if (d->fd < 0)
		fd = memory_file(str_bytes(&d->memory));
	else if (fchmod(d->fd, 0444) == 0)
		fd = io_open_again(d->fd);   /* a copy of ours could write */
	if (fd < 0)
		d->error = errno;
	return fd;
}
