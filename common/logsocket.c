/* logsocket - datagrams to the system's log reader. Room: common. See logsocket.h. */
#include "logsocket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "io.h"
#include "paths.h"
#include "sibling.h"

#define NUMBER 100                /* or above */
#define NUMBER_LOW 10             /* where RLIMIT_NOFILE allows no such */

static struct {
	int fd;
	struct sockaddr_un address;
	bool stalled;             /* the line before found no room */
} reader = { .fd = -1 };

static int out_of_the_way(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, NUMBER);
	if (high < 0)
		high = fcntl(fd, F_DUPFD_CLOEXEC, NUMBER_LOW);
	close(fd);
	return high;
}

void logsocket_open(const char *path)
{
	struct timeval wait = { .tv_usec = LOGSOCKET_WAIT_MS * 1000 };
	int fd = reader.fd < 0 && sibling_address(path, &reader.address) ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return;
	reader.fd = out_of_the_way(fd);
	if (reader.fd < 0)
		return;
	(void)setsockopt(reader.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	logsocket_reach();
}

void logsocket_close(void)
{
	io_close(&reader.fd);
}

int logsocket_descriptor(void)
{
	return reader.fd;
}

static bool reach(void)
{
	return connect(reader.fd, (const struct sockaddr *)&reader.address, sizeof reader.address) == 0;
}

void logsocket_reach(void)
{
	if (reader.fd >= 0)
		(void)reach();
}

static bool put(const char *line, size_t n)
{
	ssize_t sent;
	do
		sent = send(reader.fd, line, n, MSG_NOSIGNAL | (reader.stalled ? MSG_DONTWAIT : 0));
	while (sent < 0 && errno == EINTR);
	reader.stalled = sent < 0 && errno == EAGAIN;
	return sent >= 0;
}

/* A socket that has lost its reader is the same one afterwards, and so in all processes that share it. */
bool logsocket_send(const char *line, size_t n)
{
	if (reader.fd < 0)
		return false;
	return put(line, n) || (!reader.stalled && reach() && put(line, n));
}

static void open_reader(void)
{
	logsocket_open(path_syslog);
}

void logsocket_use(void)
{
	static const struct log_way way = { .open = open_reader, .close = logsocket_close, .put = logsocket_send };
	log_use(&way);
}
