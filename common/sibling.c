/* sibling - connecting to another program of the suite. Room: common. */
#include "sibling.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "accounts.h"
#include "clock.h"
#include "io.h"
#include "paths.h"

bool sibling_address(const char *name, struct sockaddr_un *address_r)
{
	bool whole = name[0] == '/';
	*address_r = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(address_r->sun_path, sizeof address_r->sun_path, "%s%s%s", whole ? "" : path_run, whole ? "" : "/", name);
	errno = ENAMETOOLONG;
	return n > 0 && (size_t)n < sizeof address_r->sun_path;
}

bool sibling_uid(int fd, uid_t *uid_r)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	*uid_r = peer.uid;
	return true;
}

static bool is_his(int fd, const char *account)
{
	struct account his;
	uid_t uid;
	if (account == NULL)
		return true;
	if (!sibling_uid(fd, &uid))
		return false;
	bool good = uid == 0 || (account_by_name(account, &his) == ACCOUNT_FOUND && uid == his.uid);
	errno = EPERM;
	return good;
}

int sibling_connect(const char *name, const char *account, uint64_t wait_ms)
{
	struct sockaddr_un address;
	struct timeval wait = { .tv_sec = (time_t)(wait_ms / SECOND_MS), .tv_usec = (suseconds_t)(wait_ms % SECOND_MS * 1000) };
	int fd = sibling_address(name, &address) ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0
		&& is_his(fd, account))
		return fd;
	io_close(&fd);
	return -1;
}
