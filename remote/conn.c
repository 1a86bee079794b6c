/* conn - a connection to a server. Room: remote, bytes from strangers. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "conn.h"

void conn_init(struct conn *c)
{
	memset(c, 0, sizeof *c);
	c->fd = -1;
	str_init(&c->out, CONN_OUT_MAX);
}

void conn_free(struct conn *c)
{
	conn_close(c);
	str_free(&c->out);
}

bool conn_is_open(const struct conn *c)
{
	return c->fd != -1;
}

void conn_close(struct conn *c)
{
	if (c->fd != -1)
		(void)close(c->fd);
	c->fd = -1;
	str_clear(&c->out);
	c->sent = 0;
	c->in_start = c->in_end = 0;
}

static int finish_connect(int fd, deadline_t deadline)
{
	int error = 0;
	socklen_t len = sizeof error;
	int ready = io_wait_writable(fd, deadline);

	if (ready <= 0)
		return ready == 0 ? ETIMEDOUT : errno;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		return errno;
	return error;
}

static int bind_source(int fd, const struct netaddr *to, const struct netaddr *from)
{
	struct sockaddr_storage sa;
	socklen_t len;

	if (from->family != to->family)
		return 0;
	len = netaddr_to_sockaddr(from, &sa);
	return bind(fd, (const struct sockaddr *)&sa, len) == -1 ? errno : 0;
}

static int start_connect(int fd, const struct netaddr *to, deadline_t deadline)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(to, &sa);

	if (connect(fd, (const struct sockaddr *)&sa, len) == 0)
		return 0;
	return errno == EINPROGRESS || errno == EINTR ? finish_connect(fd, deadline) : errno;
}

static void learn_source(struct conn *c)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	c->source = (struct netaddr){ 0 };
	if (getsockname(c->fd, (struct sockaddr *)&sa, &len) == 0)
		(void)netaddr_from_sockaddr((const struct sockaddr *)&sa, len, &c->source);
}

/* Groups of commands are written whole, so Nagle's delay could only hurt. */
static void set_nodelay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool conn_open(struct conn *c, const struct netaddr *to, const struct netaddr *from, deadline_t deadline)
{
	conn_close(c);
	c->peer = *to;
	c->source = (struct netaddr){ 0 };
	c->fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd == -1) {
		c->error = errno;
		return false;
	}
	c->error = bind_source(c->fd, to, from);
	if (c->error == 0)
		c->error = start_connect(c->fd, to, deadline);
	if (c->error != 0) {
		conn_close(c);
		return false;
	}
	set_nodelay(c->fd);
	learn_source(c);
	return true;
}

bool conn_is_quiet(const struct conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return c->in_start == c->in_end && poll(&p, 1, 0) == 0;
}

void conn_say(struct conn *c, struct bytes octets)
{
	(void)str_add(&c->out, octets);
}

static enum conn_result lost(struct conn *c, int error)
{
	c->error = error;
	return error == ETIMEDOUT ? CONN_TIMEOUT : CONN_LOST;
}

/* Write what the socket takes now. */
static enum conn_result push(struct conn *c)
{
	ssize_t n;

	if (c->out.failed)
		return lost(c, ENOMEM);
	if (c->sent == c->out.len)
		return CONN_OK;
	n = send(c->fd, c->out.at + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? CONN_OK : lost(c, errno);
	c->sent += (size_t)n;
	if (c->sent == c->out.len) {
		str_clear(&c->out);
		c->sent = 0;
	}
	return CONN_OK;
}

static enum conn_result pull(struct conn *c)
{
	ssize_t n;

	c->in_start = c->in_end = 0;
	n = recv(c->fd, c->in, sizeof c->in, 0);
	if (n == 0)
		return lost(c, 0);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? CONN_OK : lost(c, errno);
	c->in_end = (size_t)n;
	return CONN_OK;
}

/* Wait for octets (and for room, while commands are queued), then read and write what goes. A failing write is not looked at before
 * what the server said last has been read: it often says why it closes. */
static enum conn_result turn(struct conn *c, deadline_t deadline)
{
	struct pollfd p = { .fd = c->fd };
	deadline_t now = clock_monotonic_ms();
	enum conn_result wrote = push(c);
	int n;

	if (deadline_passed(deadline, now))
		return lost(c, ETIMEDOUT);
	p.events = (short)(POLLIN | (wrote == CONN_OK && c->sent < c->out.len ? POLLOUT : 0));
	n = poll(&p, 1, wrote == CONN_OK ? deadline_poll_ms(deadline, now) : 0);
	if (n == -1 && errno != EINTR)
		return lost(c, errno);
	if (n > 0 && (p.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
		return pull(c);
	return wrote;
}

void conn_hang_up(struct conn *c, deadline_t deadline)
{
	enum conn_result step = CONN_OK;

	for (size_t waste = 0; step == CONN_OK && waste <= REPLY_OCTETS_MAX; waste += c->in_end)
		step = turn(c, deadline);
	conn_close(c);
}

enum conn_result conn_reply_lines(struct conn *c, deadline_t deadline, conn_line_fn *each, void *context)
{
	reply_start(&c->reply);
	for (;;) {
		struct bytes in = { c->in + c->in_start, c->in_end - c->in_start };
		enum reply_result result;
		enum conn_result step;
		size_t used;

		if (in.len == 0) {
			step = turn(c, deadline);
			if (step != CONN_OK)
				return step;
			continue;
		}
		result = reply_feed(&c->reply, in, &used);
		c->in_start += used;
		if (result == REPLY_BAD)
			return CONN_GARBAGE;
		if (each != NULL && result != REPLY_MORE)
			each(context, c->reply.line);
		if (result == REPLY_DONE)
			return CONN_OK;
	}
}

enum conn_result conn_reply(struct conn *c, deadline_t deadline)
{
	return conn_reply_lines(c, deadline, NULL, NULL);
}

/* A write failed: what the server said before it closed is still there to be read. */
static enum conn_result refused_or_lost(struct conn *c, int error)
{
	char octet;

	return recv(c->fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0 ? CONN_EARLY : lost(c, error);
}

enum conn_result conn_send(struct conn *c, struct bytes octets, deadline_t deadline)
{
	if (c->in_start != c->in_end)
		return CONN_EARLY;
	while (octets.len > 0) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN | POLLOUT };
		deadline_t now = clock_monotonic_ms();
		ssize_t sent;
		int n;

		if (deadline_passed(deadline, now))
			return lost(c, ETIMEDOUT);
		n = poll(&p, 1, deadline_poll_ms(deadline, now));
		if (n == -1 && errno != EINTR)
			return lost(c, errno);
		if (n <= 0)
			continue;
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
			return CONN_EARLY;
		sent = send(c->fd, octets.at, octets.len, MSG_NOSIGNAL);
		if (sent == -1 && errno != EAGAIN && errno != EINTR)
			return refused_or_lost(c, errno);
		if (sent > 0)
			octets = bytes_slice(octets, (size_t)sent, octets.len);
	}
	return CONN_OK;
}
