/* serve - smtpd's room: one process of the pool. See serve.h. */
#include "serve.h"

#include "smtpd/content/content.h"
#include "passed.h"
#include "smtpd/session/session.h"

#include "common/exits.h"
#include "common/log.h"
#include "common/logsocket.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS 1000

/* From connection to connection. Nothing of a client is in it. */
struct kept {
	struct enqueuer enqueuer;
	struct content *content, judges;      /* NULL: none are configured */
	struct guardask guard;
	struct linein lines;
	enum { SOCKETS_UNKNOWN, SOCKETS_INHERIT, SOCKETS_BARE } sockets;   /* has an accepted one the options of the listening one? */
};

/* Set by signal handlers, the only writers. */
static struct { volatile sig_atomic_t stop, retire; } told;

/* ---- the scoreboard */

struct board *board_create(size_t slots, int32_t low)
{
	void *at = mmap(NULL, sizeof(struct board) + slots * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	struct board *b = at;
	b->low = low;
	return b;
}

static void board_wait(struct board *b, size_t slot)
{
	if (atomic_exchange(&b->slots[slot].waiting, 1) == 0)
		atomic_fetch_add(&b->idle, 1);
}

/* True: few are left that wait. */
static bool board_busy(struct board *b, size_t slot)
{
	if (atomic_exchange(&b->slots[slot].waiting, 0) == 0)
		return false;
	return atomic_fetch_sub(&b->idle, 1) <= b->low;
}

void board_take(struct board *b, size_t slot)
{
	atomic_store(&b->slots[slot].ready, 0);
	board_wait(b, slot);
}

bool board_release(struct board *b, size_t slot)
{
	board_busy(b, slot);
	return atomic_load(&b->slots[slot].ready) != 0;
}

bool slot_is_waiting(const struct slot *slot)
{
	return atomic_load(&slot->waiting) == 1;
}

/* ---- signals */

static void on_signal(int number)
{
	if (number == SIGHUP)
		told.retire = 1;
	else
		told.stop = 1;
}

/* Handlers without SA_RESTART: a read that waits for a client returns. They stay blocked but while waiting and serving. */
static void prepare_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	action.sa_handler = SIG_DFL;
	sigaction(SIGCHLD, &action, NULL);
}

static bool told_to_end(void)
{
	return told.stop || told.retire;
}

/* ---- accepting */

bool accept_wants_pause(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static int prepare_waiting(const struct server *server)
{
	int queue = epoll_create1(EPOLL_CLOEXEC);
	if (queue < 0)
		return -1;
	for (size_t i = 0; i < server->listeners->count; i++) {
		/* Exclusive: a connection wakes one process, not all that wait. */
		struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = server->listeners->fd[i] };
		if (epoll_ctl(queue, EPOLL_CTL_ADD, server->listeners->fd[i], &event) < 0)
			return -1;
	}
	return queue;
}

static void pause_accepting(const sigset_t *open_mask, int *pause_ms)
{
	if (*pause_ms == 0)
		log_warn("cannot accept a connection: %s; waiting", strerror(errno));
	*pause_ms = *pause_ms == 0 ? PAUSE_FIRST_MS : *pause_ms * 2;
	if (*pause_ms > PAUSE_MAX_MS)
		*pause_ms = PAUSE_MAX_MS;
	epoll_pwait(-1, &(struct epoll_event){ 0 }, 1, 0, open_mask);   /* lets a pending signal in */
	if (!told_to_end())
		usleep((useconds_t)*pause_ms * 1000);
}

/* The next connection, its client and the socket it came in by, or -1: the process is to end (told_to_end) or the sockets are of no use any more. */
static int next_connection(int queue, const sigset_t *open_mask, struct peer *peer_r, int *listener_r)
{
	struct sockaddr_storage sa;
	int pause_ms = 0;
	while (!told_to_end()) {
		struct epoll_event event;
		int n = epoll_pwait(queue, &event, 1, -1, open_mask);
		if (n < 0 && errno != EINTR)
			return -1;
		if (n <= 0)
			continue;
		*listener_r = event.data.fd;
		socklen_t len = sizeof sa;
		int fd = accept4(event.data.fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC);
		if (fd >= 0) {
			peer_of_address(&sa, len, peer_r);
			return fd;
		}
		if (accept_wants_pause(errno))
			pause_accepting(open_mask, &pause_ms);
		else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EOPNOTSUPP)
			return -1;
	}
	return -1;
}

static size_t listener_of(const struct listeners *l, int fd)
{
	size_t i = 0;
	while (i + 1 < l->count && l->fd[i] != fd)
		i++;
	return i;
}

/* What every session here has. */
static struct session_start session_with(const struct access *access, struct kept *kept, const struct peer *peer, int fd)
{
	return (struct session_start){
		.access = access, .enqueuer = &kept->enqueuer, .guard = &kept->guard, .content = kept->content, .stop = &told.stop, .peer = peer, .lines = &kept->lines,
		.may_relay = access_client_may_relay(access, &peer->addr), .in = fd, .out = fd,
	};
}

static void serve_signalled(const struct session_start *start, const sigset_t *open_mask)
{
	sigset_t shut;
	sigprocmask(SIG_SETMASK, open_mask, &shut);
	session_serve(start);
	sigprocmask(SIG_SETMASK, &shut, NULL);
}

static void serve_one(const struct server *server, struct kept *kept, int fd, enum smtpd_role role, const struct peer *peer,
	const sigset_t *open_mask)
{
	struct session_start start = session_with(server->access, kept, peer, fd);
	if (kept->sockets == SOCKETS_UNKNOWN)
		kept->sockets = session_is_prepared(fd, server->access->settings) ? SOCKETS_INHERIT : SOCKETS_BARE;
	start.prepared = kept->sockets == SOCKETS_INHERIT;
	start.role = role;
	serve_signalled(&start, open_mask);
	close(fd);
}

static void serve_passed(const struct server *server, struct kept *kept, int control, const sigset_t *open_mask)
{
	static struct settings limited;   /* with this connection's own DATABYTES; what it points to stays theirs */
	struct access access = *server->access;
	struct passed p;
	if (!passed_take(control, &p))
		return;
	if (p.limited) {
		limited = *access.settings;
		limited.databytes = p.databytes;
		access.settings = &limited;
	}
	struct session_start start = session_with(&access, kept, &p.peer, p.client);
	start.may_relay |= p.relays;
	start.role = p.role;
	start.relay_suffix = bytes_of(p.relay_suffix);
	serve_signalled(&start, open_mask);
	passed_end(&p);
}

static int serve_until_told(const struct server *server, struct kept *kept, int queue)
{
	uint64_t reuse = server->access->settings->smtpdreuse, one = 1;
	struct peer peer;
	sigset_t open_mask;
	sigemptyset(&open_mask);
	atomic_store(&server->board->slots[server->slot].ready, 1);
	for (uint64_t served = 0; served < reuse; served++) {
		board_wait(server->board, server->slot);
		int listener = -1, fd = next_connection(queue, &open_mask, &peer, &listener);
		bool few = board_busy(server->board, server->slot);
		if (fd < 0)
			return told_to_end() ? EXIT_OK : EXIT_SYSTEM;
		if (few)
			(void)!write(server->news, &one, sizeof one);
		size_t from = listener_of(server->listeners, listener);
		if (server->listeners->passes[from])
			serve_passed(server, kept, fd, &open_mask);
		else
			serve_one(server, kept, fd, server->listeners->role[from], &peer, &open_mask);
	}
	return EXIT_OK;
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The parent's other descriptors, its signal pipe above all, are no business of ours. */
static void close_others(const struct server *server)
{
	int keep[POOL_LISTENERS + 3];
	size_t n = 0;
	keep[n++] = STDERR_FILENO;
	keep[n++] = server->news;
	if (logsocket_descriptor() >= 0)
		keep[n++] = logsocket_descriptor();
	for (size_t i = 0; i < server->listeners->count; i++)
		keep[n++] = server->listeners->fd[i];
	qsort(keep, n, sizeof *keep, compare_fds);
	/* inetd gives the listening socket as descriptor 0. */
	for (size_t i = 0; i < n; i++) {
		unsigned from = (unsigned)keep[i] + 1, to = i + 1 < n ? (unsigned)keep[i + 1] : 0;
		if (from > STDERR_FILENO && (to == 0 || from < to))
			close_range(from, to == 0 ? ~0u : to - 1, 0);
	}
}

int serve_connections(const struct server *server)
{
	struct kept kept = { .sockets = SOCKETS_UNKNOWN };
	prepare_signals();
	close_others(server);
	/* The parent's end is ours, too; if it came before the call, getppid tells. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != server->parent)
		return EXIT_SYSTEM;
	int queue = prepare_waiting(server);
	if (queue < 0) {
		log_error("cannot wait on the listening sockets: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (content_is_configured(server->access->settings) && !content_init(kept.content = &kept.judges, server->access->settings))
		return EXIT_SYSTEM;
	enqueuer_init(&kept.enqueuer);
	guardask_init(&kept.guard);
	int code = serve_until_told(server, &kept, queue);
	enqueuer_free(&kept.enqueuer);
	if (kept.content != NULL)
		content_free(kept.content);
	guardask_free(&kept.guard);
	linein_free(&kept.lines);
	return code;
}
