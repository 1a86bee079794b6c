/* service - a daemon's socket, its clients and its loop. Room: common. See service.h. */
#include "service.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "logsocket.h"
#include "priv.h"
#include "sibling.h"

#define PAUSE_MS 200u             /* before the next try to accept when descriptors have run out */
#define AGAIN_MS 50               /* between two looks whether another one still serves */

enum { POLL_SIGNAL, POLL_LISTEN, POLL_OWN };

/* ---- who may ask */

void askers_add(struct askers *askers, const char *account)
{
	struct account found;
	enum account_result result = priv_account(account, &found);
	if (result != ACCOUNT_FOUND)
		log_warn("the account %s %s; nobody is admitted by that name", account, result == ACCOUNT_NONE ? "does not exist" : "cannot be looked up");
	else if (askers->count < ASKERS_MAX)
		askers->uid[askers->count++] = found.uid;
	else
		die_usage("there is no room for %s among those who may ask", account);
}

bool askers_admit(const struct askers *askers, int fd)
{
	uid_t uid;
	if (!sibling_uid(fd, &uid))
		return false;
	bool good = uid == 0;
	for (size_t i = 0; i < askers->count; i++)
		good = good || uid == askers->uid[i];
	if (!good)
		log_warn("uid %lu asked, who is not admitted", (unsigned long)uid);
	return good;
}

/* ---- the socket */

/* A queue of connections that is full is somebody's, too (EAGAIN). */
static bool somebody_serves(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		die_system("cannot make a socket");
	bool yes = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;
	close(fd);
	return yes;
}

struct service_socket service_bind(const char *program, const char *name, uint64_t patience_ms)
{
	struct service_socket s;
	deadline_t until = deadline_in(clock_monotonic_ms(), patience_ms);
	if (!sibling_address(name, &s.address))
		die_usage("%s... is too long for a socket's name", s.address.sun_path);
	while (somebody_serves(&s.address)) {
		if (deadline_passed(until, clock_monotonic_ms()))
			die_usage("another %s serves %s", program, s.address.sun_path);
		(void)poll(NULL, 0, AGAIN_MS);
	}
	s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)unlink(s.address.sun_path);
	(void)umask(0);
	if (s.fd < 0 || bind(s.fd, (const struct sockaddr *)&s.address, sizeof s.address) < 0)
		die_system("cannot bind %s", s.address.sun_path);
	(void)umask(077);
	return s;
}

void service_unbind(struct service_socket *socket)
{
	(void)unlink(socket->address.sun_path);
	close(socket->fd);
	socket->fd = -1;
}

/* ---- clients */

void service_send(struct service_client *c, bool encoded)
{
	c->gone = c->gone || !encoded || record_writer_push(&c->out) < 0;
}

struct service_client *service_next(const struct service *s, size_t *i)
{
	while (*i < s->kind->slots) {
		struct service_client *c = &s->client[(*i)++];
		if (c->fd >= 0)
			return c;
	}
	return NULL;
}

static void client_wipe(struct service_client *c)
{
	if (c->in.buffer.at != NULL)
		explicit_bzero(c->in.buffer.at, c->in.buffer.room);
}

static void passed_close(struct service_client *c)
{
	for (size_t i = 0; i < PASSING_MAX; i++)
		io_close(&c->passed[i]);
}

static void client_close(struct service *s, struct service_client *c)
{
	if (s->kind->closing != NULL)
		s->kind->closing(s->owner, c);
	if (s->kind->secret_room > 0)
		client_wipe(c);
	record_reader_free(&c->in);
	record_writer_free(&c->out);
	passed_close(c);
	close(c->fd);
	c->fd = -1;
}

static void clients_sweep(struct service *s)
{
	struct service_client *c;
	for (size_t i = 0; (c = service_next(s, &i)) != NULL;)
		if (c->gone)
			client_close(s, c);
}

/* The one that has been silent longest and waits for nothing; its place is free then. NULL: there is none. */
static struct service_client *client_close_idle(struct service *s)
{
	struct service_client *c, *oldest = NULL;
	for (size_t i = 0; (c = service_next(s, &i)) != NULL;)
		if ((s->kind->idle == NULL || s->kind->idle(c)) && (oldest == NULL || c->last < oldest->last))
			oldest = c;
	if (oldest != NULL)
		client_close(s, oldest);
	return oldest;
}

static struct service_client *client_place(struct service *s)
{
	for (size_t i = 0; i < s->kind->slots; i++)
		if (s->client[i].fd < 0)
			return &s->client[i];
	return client_close_idle(s);
}

static void client_begin(const struct service *s, struct service_client *c, int fd, deadline_t now)
{
	*c = (struct service_client){ .fd = fd, .last = now, .own = c->own };
	for (size_t i = 0; i < PASSING_MAX; i++)
		c->passed[i] = -1;
	if (s->kind->own_size > 0)
		memset(c->own, 0, s->kind->own_size);
	record_reader_init(&c->in, fd);
	record_writer_init(&c->out, fd, s->kind->answers_max);
	c->gone = s->kind->secret_room > 0 && str_reserve(&c->in.buffer, s->kind->secret_room) == NULL;
}

static void client_accept(struct service *s, deadline_t now)
{
	int fd = accept4(s->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	/* A connection that cannot be taken stays and would wake us without end. */
	if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && client_close_idle(s) == NULL)
		s->accept_after = deadline_in(now, PAUSE_MS);
	if (fd < 0)
		return;
	struct service_client *c = askers_admit(&s->askers, fd) ? client_place(s) : NULL;
	if (c != NULL)
		client_begin(s, c, fd, now);
	else
		close(fd);
}

/* ---- their records */

static bool is_wanted(const struct service *s, const struct service_client *c)
{
	return s->kind->wants == NULL || s->kind->wants(c);
}

/* Those that are already here, as long as they are wanted. */
static void records_take(struct service *s, struct service_client *c, deadline_t now)
{
	while (!c->gone && is_wanted(s, c)) {
		struct record record;
		enum record_result result = record_reader_next(&c->in, &record);
		if (result == RECORD_MORE)
			return;
		c->last = now;
		if (result == RECORD_BAD || !s->kind->take(s->owner, c, &record, now)) {
			log_warn("a client sent what it may not send now; its connection is closed");
			c->gone = true;
		}
	}
}

/* As record_reader_fill, with what came along. */
static ssize_t fill_passed(struct service_client *c, size_t passes)
{
	char piece[4096];
	int got[PASSING_MAX];
	ssize_t n = passing_receive(c->fd, piece, sizeof piece, 0, got, passes);
	if (got[0] >= 0) {
		passed_close(c);
		memcpy(c->passed, got, passes * sizeof *got);
	}
	if (n > 0 && !str_add(&c->in.buffer, (struct bytes){ piece, (size_t)n }))
		return 0;
	return n;
}

static void client_read(struct service *s, struct service_client *c, deadline_t now)
{
	ssize_t got = s->kind->passes > 0 ? fill_passed(c, s->kind->passes) : record_reader_fill(&c->in);
	if (got == 0 || (got < 0 && errno != EAGAIN))
		c->gone = true;
	records_take(s, c, now);
	if (s->kind->secret_room > 0 && record_reader_rest(&c->in).len == 0)
		client_wipe(c);
}

static void client_turn(struct service *s, struct service_client *c, short events, deadline_t now)
{
	if ((events & POLLIN) != 0)
		client_read(s, c, now);
	else if ((events & (POLLHUP | POLLERR)) != 0)
		c->gone = true;
	else
		records_take(s, c, now);
	if ((events & POLLOUT) != 0)
		service_send(c, true);
	if (!deadline_passed(c->due, now))
		return;
	c->due = 0;
	if (s->kind->due != NULL)
		s->kind->due(s->owner, c, now);
	else
		c->gone = true;
}

/* ---- the loop */

static void signals_take(struct service *s)
{
	unsigned char number;
	while (read(s->signals, &number, 1) == 1) {
		if (number == SIGHUP)
			s->kind->reload(s->owner);
		else
			s->stop = true;
	}
}

/* Only what is open: poll(2) takes no more entries than the process may have descriptors. */
static nfds_t poll_prepare(struct service *s, nfds_t n, deadline_t now, deadline_t *next)
{
	struct service_client *c;
	if (deadline_passed(s->accept_after, now))
		s->accept_after = 0;
	*next = deadline_earlier(*next, s->accept_after);
	s->poll[POLL_SIGNAL] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	s->poll[POLL_LISTEN] = (struct pollfd){ .fd = s->accept_after == 0 ? s->socket.fd : -1, .events = POLLIN };
	for (size_t i = 0; (c = service_next(s, &i)) != NULL;) {
		int events = (is_wanted(s, c) ? POLLIN : 0) | (record_writer_pending(&c->out) ? POLLOUT : 0);
		c->place = n;
		s->poll[n++] = (struct pollfd){ .fd = c->fd, .events = (short)events };
		*next = deadline_earlier(*next, c->due);
	}
	return n;
}

void service_turn(struct service *s)
{
	struct service_client *c;
	deadline_t now = clock_monotonic_ms(), next = 0;
	size_t own = s->kind->prepare != NULL ? s->kind->prepare(s->owner, s->poll + POLL_OWN, now, &next) : 0;
	clients_sweep(s);
	nfds_t n = poll_prepare(s, POLL_OWN + own, now, &next);
	if (poll(s->poll, n, deadline_poll_ms(next, now)) < 0) {
		if (errno != EINTR)
			die_system("cannot poll");
		return;
	}
	now = clock_monotonic_ms();
	if (s->kind->run != NULL)
		s->kind->run(s->owner, s->poll + POLL_OWN, own, now);
	for (size_t i = 0; (c = service_next(s, &i)) != NULL;)
		client_turn(s, c, s->poll[c->place].revents, now);
	clients_sweep(s);
	if (s->poll[POLL_LISTEN].revents != 0)
		client_accept(s, now);
	if (s->poll[POLL_SIGNAL].revents != 0)
		signals_take(s);
}

/* ---- begin and end */

void service_enter(struct service *s, struct settings *settings, const struct service_origin *o)
{
	priv_standard_descriptors();
	logsocket_use();
	settings_or_die(settings, o->program, o->used_by);
	askers_add(&s->askers, o->asker);   /* before descriptors are given up: it may ask the name service */
	priv_run_directory();
	s->socket = service_bind(o->program, o->socket, o->patience_ms);
	io_want_files(o->files);
	priv_become_alone(o->program, o->account);
	priv_limit(0, 0);
}

void service_start(struct service *s, const struct service_kind *kind, void *owner)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, 0 };
	s->kind = kind;
	s->owner = owner;
	s->client = calloc(kind->slots, sizeof *s->client);
	s->own = calloc(kind->slots, kind->own_size > 0 ? kind->own_size : 1);
	s->poll = calloc(POLL_OWN + kind->own_fds + kind->slots, sizeof *s->poll);
	if (s->client == NULL || s->own == NULL || s->poll == NULL)
		die_system("no memory");
	for (size_t i = 0; i < kind->slots; i++) {
		s->client[i].fd = -1;
		s->client[i].own = (char *)s->own + i * kind->own_size;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	s->signals = io_signal_pipe(signals);
	if (s->signals < 0)
		die_system("cannot take signals");
	if (listen(s->socket.fd, SERVICE_BACKLOG) < 0)
		die_system("cannot listen on %s", s->socket.address.sun_path);
}

void service_end(struct service *s)
{
	struct service_client *c;
	service_unbind(&s->socket);
	for (size_t i = 0; (c = service_next(s, &i)) != NULL;)
		client_close(s, c);
	close(s->signals);
	free(s->client);
	free(s->own);
	free(s->poll);
}
