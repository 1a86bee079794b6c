/* logsocket - the socket of the system's log reader. Room: common. See logsocket.h. */
#include "logsocket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
	bool stream;              /* it is connected to one that listens for streams */
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

static int new_socket(int type)
{
	struct timeval wait = { .tv_usec = LOGSOCKET_WAIT_MS * 1000 };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	return fd;
}

void logsocket_open(const char *path)
{
	int fd = reader.fd < 0 && sibling_address(path, &reader.address) ? new_socket(SOCK_DGRAM) : -1;
	if (fd < 0)
		return;
	reader.stream = false;
	reader.fd = out_of_the_way(fd);
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

static bool joined(int fd)
{
	return connect(fd, (const struct sockaddr *)&reader.address, sizeof reader.address) == 0;
}

/* Another socket under the same number. False: errno. */
static bool replaced(int type)
{
	int fd = new_socket(type), error;
	bool good = fd >= 0 && joined(fd) && dup3(fd, reader.fd, O_CLOEXEC) >= 0;
	error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	if (good)
		reader.stream = type == SOCK_STREAM;
	return good;
}

/* A socket for datagrams finds a reader that was started again; a stream that has ended is over. */
static bool reach(void)
{
	if (!reader.stream)
		return joined(reader.fd) || (errno == EPROTOTYPE && replaced(SOCK_STREAM));
	return replaced(SOCK_STREAM) || (errno == EPROTOTYPE && replaced(SOCK_DGRAM));
}

static bool has_ended(void)
{
	struct pollfd p = { .fd = reader.fd };
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

void logsocket_reach(void)
{
	if (reader.fd >= 0 && (!reader.stream || has_ended()))
		(void)reach();
}

/* The kernel takes all of so short a line or nothing, so processes that share a stream do not mix theirs. */
static bool put(const char *line, size_t n)
{
	size_t all = n + reader.stream;
	ssize_t sent;
	do
		sent = send(reader.fd, line, all, MSG_NOSIGNAL | (reader.stalled ? MSG_DONTWAIT : 0));
	while (sent < 0 && errno == EINTR);
	reader.stalled = sent < 0 && errno == EAGAIN;
	return sent == (ssize_t)all;
}

/* In all processes that share a socket for datagrams, it is the same one after its reader was lost and found; a lost stream, each of them replaces. */
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
