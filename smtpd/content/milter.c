/* milter - smtpd's room: the connection to one milter. See milter.h. */
#include "milter.h"

#include "common/io.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRESS_LIMITS 12u     /* a milter that only says that it is busy has so many of its limits */
#define READ_AT_ONCE 16384u
#define KEPT 32768u          /* a buffer that has grown beyond is given back */

void milter_init(struct milter *m, const struct milter_line *line)
{
	*m = (struct milter){ .line = *line, .fd = -1, .in = STR_INIT(2 * MILTER_PACKET_MAX), .out = STR_INIT(MILTER_OUT_MAX) };
	for (size_t i = 0; i < MILTER_STAGES; i++)
		m->macros[i] = STR_INIT(4096);
}

static void disconnect(struct milter *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
	m->in_message = m->at_end = false;
	m->taken = 0;
	str_free(&m->in);
	str_free(&m->out);
}

void milter_free(struct milter *m)
{
	disconnect(m);
	for (size_t i = 0; i < MILTER_STAGES; i++)
		str_free(&m->macros[i]);
}

void milter_lost(struct milter *m, const char *why)
{
	log_warn("milter %s: %s", log_text(m->line.name), why);
	disconnect(m);
	m->state = MILTER_AWAY;
}

/* ---- octets */

bool milter_push(struct milter *m, uint64_t limit_ms)
{
	m->at_end = m->at_end && m->out.len == 0;
	if (m->out.failed) {
		milter_lost(m, "out of memory");
		return false;
	}
	if (m->out.len > 0 && io_write_by(m->fd, m->out.at, m->out.len, deadline_in(clock_monotonic_ms(), limit_ms)) < 0) {
		milter_lost(m, strerror(errno));
		return false;
	}
	str_clear(&m->out);
	return true;
}

static bool read_more(struct milter *m, deadline_t deadline)
{
	char *at = str_reserve(&m->in, READ_AT_ONCE);
	ssize_t n;
	if (at == NULL) {
		milter_lost(m, "out of memory");
		return false;
	}
	do
		n = io_read_some(m->fd, at, READ_AT_ONCE, deadline);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		milter_lost(m, n == 0 ? "closed the connection" : errno == ETIMEDOUT ? "did not answer in time" : strerror(errno));
		return false;
	}
	str_grew(&m->in, (size_t)n);
	return true;
}

/* The packet that was handed out last goes with the next call. */
static bool next_packet(struct milter *m, deadline_t deadline, struct bytes *packet_r)
{
	size_t used;
	str_remove_front(&m->in, m->taken);
	m->taken = 0;
	for (;;) {
		switch (milter_take(str_bytes(&m->in), packet_r, &used)) {
		case MILTER_PACKET:
			m->taken = used;
			return true;
		case MILTER_BROKEN:
			milter_lost(m, "sent a packet of an impossible length");
			return false;
		default:
			if (!read_more(m, deadline))
				return false;
		}
	}
}

bool milter_ask(struct milter *m, uint64_t limit_ms, struct milter_reply *reply_r)
{
	struct bytes packet;
	deadline_t last = deadline_in(clock_monotonic_ms(), PROGRESS_LIMITS * limit_ms);
	if (!milter_push(m, limit_ms))
		return false;
	do {
		if (!next_packet(m, deadline_earlier(last, deadline_in(clock_monotonic_ms(), limit_ms)), &packet))
			return false;
		if (!milter_parse(packet, reply_r)) {
			milter_lost(m, "sent a packet that is none");
			return false;
		}
	} while (reply_r->kind == ANSWER_PROGRESS);
	return true;
}

/* ---- connecting */

static socklen_t address_of(const struct milter_line *line, struct sockaddr_storage *sa_r)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	if (line->path.len == 0)
		return netaddr_to_sockaddr(&line->addr, sa_r);
	bytes_to_cstring(line->path, un.sun_path, sizeof un.sun_path);
	memcpy(sa_r, &un, sizeof un);
	return sizeof un;
}

static int connected(int fd, const struct sockaddr_storage *sa, socklen_t len, deadline_t deadline)
{
	int error = 0;
	socklen_t size = sizeof error;
	if (connect(fd, (const struct sockaddr *)sa, len) == 0)
		return 0;
	if (errno != EINPROGRESS && errno != EINTR)
		return errno;
	int ready = io_wait_writable(fd, deadline);
	if (ready <= 0)
		return ready == 0 ? ETIMEDOUT : errno;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

static bool open_connection(struct milter *m)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(&m->line, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error = fd < 0 ? errno : connected(fd, &sa, len, deadline_in(clock_monotonic_ms(), m->line.connect_ms));
	m->fd = fd;
	if (error != 0)
		milter_lost(m, strerror(error));
	return error == 0;
}

static bool note_options(struct milter *m, const struct milter_options *options)
{
	m->options = *options;
	for (size_t i = 0; i < MILTER_STAGES; i++) {
		str_clear(&m->macros[i]);
		if (options->macros[i].at != NULL && !str_add(&m->macros[i], options->macros[i]))
			return false;
		if (options->macros[i].at != NULL)
			m->options.macros[i] = m->macros[i].len > 0 ? str_bytes(&m->macros[i]) : LIT("");
	}
	return true;
}

static bool agree(struct milter *m)
{
	struct milter_reply reply;
	milter_offer(&m->out);
	if (!milter_ask(m, m->line.command_ms, &reply))
		return false;
	if (reply.kind != ANSWER_OPTIONS || !note_options(m, &reply.options)) {
		milter_lost(m, "does not agree on options");
		return false;
	}
	return true;
}

/* Between two sessions a milter has nothing to say; an end of file is what most of them do after hours. */
static bool still_there(const struct milter *m)
{
	char octet;
	return m->fd >= 0 && recv(m->fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

bool milter_session(struct milter *m)
{
	m->state = MILTER_ON;
	m->was_there = still_there(m);
	if (m->was_there)
		return true;
	disconnect(m);
	m->was_there = open_connection(m) && agree(m);
	return m->was_there;
}

void milter_message_end(struct milter *m)
{
	if (m->state == MILTER_PAST_MESSAGE)
		m->state = MILTER_ON;
	if (m->in_message && m->fd >= 0) {
		milter_end(&m->out, milter_begin(&m->out, MILTER_ABORT));
		milter_push(m, m->line.command_ms);
	}
	m->in_message = false;
}

/* Versions before 6 know no QUIT_NC. */
void milter_session_end(struct milter *m)
{
	milter_message_end(m);
	if (m->fd >= 0) {
		bool stays = m->at_end && m->options.version >= MILTER_VERSION && m->in.len == m->taken;
		milter_end(&m->out, milter_begin(&m->out, stays ? MILTER_QUIT_NEW : MILTER_QUIT));
		if (milter_push(m, m->line.command_ms) && !stays)
			disconnect(m);
	}
	if (m->in.room > KEPT)
		str_free(&m->in);
	if (m->out.room > KEPT)
		str_free(&m->out);
	str_clear(&m->in);
	m->taken = 0;
	m->state = MILTER_OFF;
}

bool milter_wants(const struct milter *m, uint32_t no_step)
{
	return m->state == MILTER_ON && (m->options.steps & no_step) == 0;
}
