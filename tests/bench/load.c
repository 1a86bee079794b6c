/*
 * load - SMTP load from loopback, for benchmarks: one process, one thread, epoll; bounded in count and time.
 *
 *   load HOST:PORT [-s SESSIONS] [-m MESSAGES] [-l OCTETS] [-d PER_CONNECTION] [-r RECIPIENTS] [-t TO] [-k USERS] [-D DOMAINS]
 *        [-b NUMBER] [-w SECONDS] [-R PER_SECOND] [-P] [-S] [-i] [-T SECONDS]
 *
 *   -d   messages before QUIT and a new connection; 0: no limit      -r   recipients of each message
 *   -t   recipient, %lu in it is the recipient's running number      -k   that number counts from 1 to USERS and again
 *   -b   the first message's number
 *   -D   a second %lu in -t is the running number modulo DOMAINS     -w   no message begins later than that after the first connect
 *   -R   so many messages a second, not as many as can be            -P   MAIL, RCPT, DATA in one write (RFC 2920), where the server offers it
 *   -S   recipients begin with tNANOSECONDS- of their message's beginning, for the sink
 *   -i   open the sessions, say EHLO, then wait for the end of stdin
 *
 * Prints one JSON line: counts, wall time from the first connect to the last 2xx after a final dot, latency from MAIL (for the first message
 * of a connection, from connect) to that 2xx, CPU time of this process. A message that was refused or cut off is sent again under its number.
 * For a message that does not pipeline: four reads, four writes; pipelined: two of each, or a read more when replies come apart; no other
 * system call but one epoll_wait for all that is ready.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_FAILURES 20000u
#define REFUSALS 1000u
#define AT_ONCE 5u            /* sessions that wait for their first greeting: there are servers with a backlog of so many */
#define PATIENCE 5.0          /* seconds without a greeting, after which a connection is given up: its server's backlog was full */

enum state { CONNECTING, SAID_EHLO, SAID_MAIL, SAID_RCPT, SAID_DATA, SENT_BODY, SAID_QUIT, PAUSED, IDLE };

struct session {
	int fd;
	enum state state;
	bool writing;                 /* epoll was told that octets are left */
	bool pipelines;
	unsigned long message, accepted, rcpts_left;
	size_t in_len;
	struct iovec left[2];         /* what is still to be written: a command, or a head of its own and the common body */
	double began, asked;          /* the message, with the connection that it needed; this connection */
	char in[4096], command[65536];
};

static struct {
	struct sockaddr_in peer;
	unsigned long sessions, messages, first_number, per_connection, rcpts, users, domains;
	size_t size;
	const char *to;
	bool pipelined, idle, stamped;
	double seconds, window, rate;
	int epoll;
	unsigned long next, retries, accepted, refused, cut, connections, connect_failures, unanswered, idlers, open, paused;
	unsigned long begun, waiting; /* sessions that were opened once; connections without a greeting */
	unsigned long *retry;         /* numbers to be sent again */
	double now, first, last, *latency;
	char *body;
	size_t body_len;
} g = { .sessions = 1, .messages = 1000, .per_connection = 1, .rcpts = 1, .size = 4096, .to = "rcpt%lu@b.tappal", .seconds = 600, .window = 1e9 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return g.now = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void watch(struct session *s, uint32_t events, int how) {
	struct epoll_event e = { .events = events, .data.ptr = s };
	epoll_ctl(g.epoll, how, s->fd, &e);
}

static size_t left(const struct session *s) { return s->left[0].iov_len + s->left[1].iov_len; }

static void written(struct iovec *v, size_t n) {
	size_t first = n < v[0].iov_len ? n : v[0].iov_len;
	v[0].iov_base = (char *)v[0].iov_base + first, v[0].iov_len -= first;
	v[1].iov_base = (char *)v[1].iov_base + (n - first), v[1].iov_len -= n - first;
}

static void push(struct session *s) {
	bool two = s->left[0].iov_len > 0 && s->left[1].iov_len > 0;
	const struct iovec *one = s->left[0].iov_len > 0 ? &s->left[0] : &s->left[1];
	ssize_t n = two ? writev(s->fd, s->left, 2) : write(s->fd, one->iov_base, one->iov_len);
	if (n > 0) written(s->left, (size_t)n);
	if ((left(s) > 0) == s->writing) return;
	s->writing = !s->writing;
	watch(s, s->writing ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void say_both(struct session *s, char *what, size_t len, char *more, size_t more_len) {
	s->left[0] = (struct iovec){ what, len };
	s->left[1] = (struct iovec){ more, more_len };
	push(s);
}

static void say(struct session *s, char *what, size_t len) { say_both(s, what, len, NULL, 0); }

static void open_session(struct session *s) {
	int one = 1;
	s->in_len = 0, s->accepted = 0, s->state = CONNECTING, s->writing = s->pipelines = false;
	s->left[0].iov_len = s->left[1].iov_len = 0;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	s->began = s->asked = now();
	if (g.first == 0) g.first = s->began;
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (s->fd < 0 || (connect(s->fd, (struct sockaddr *)&g.peer, sizeof g.peer) < 0 && errno != EINPROGRESS)) {
		g.connect_failures++;
		if (s->fd >= 0) close(s->fd);
		s->fd = -1;
		return;
	}
	g.connections++, g.open++, g.waiting++;
	watch(s, EPOLLIN, EPOLL_CTL_ADD);
}

static bool more(void) {
	if (g.connect_failures >= CONNECT_FAILURES || g.refused + g.cut >= REFUSALS || g.now - g.first > g.window) return false;
	return g.retries > 0 || g.next < g.messages;
}

static void close_session(struct session *s) {
	close(s->fd);
	s->fd = -1;
	g.open--;
	if (more()) open_session(s);
}

static void quit(struct session *s) {
	s->state = SAID_QUIT;
	say(s, "QUIT\r\n", 6);
}

static size_t add_rcpt(const struct session *s, char *out, size_t room, unsigned long n) {
	unsigned long number = s->message * g.rcpts + n;
	char address[300], stamp[32] = "";
	snprintf(address, sizeof address, g.to, g.users ? number % g.users + 1 : number, g.domains ? number % g.domains : 0);
	if (g.stamped) snprintf(stamp, sizeof stamp, "t%llu-", (unsigned long long)(s->began * 1e9));
	return (size_t)snprintf(out, room, "RCPT TO:<%s%s>\r\n", stamp, address);
}

static void begin_message(struct session *s) {
	size_t n;
	s->message = g.retries > 0 ? g.retry[--g.retries] : g.first_number + g.next++;
	s->rcpts_left = g.rcpts;
	if (s->accepted) s->began = g.now;
	n = (size_t)snprintf(s->command, sizeof s->command, "MAIL FROM:<sender@a.tappal>\r\n");
	s->state = SAID_MAIL;
	if (s->pipelines) {
		for (unsigned long i = 0; i < g.rcpts && n < sizeof s->command - 400; i++) n += add_rcpt(s, s->command + n, sizeof s->command - n, i);
		n += (size_t)snprintf(s->command + n, sizeof s->command - n, "DATA\r\n");
	}
	say(s, s->command, n);
}

/* When the next message may begin, with -R. */
static double due(void) { return g.first + (double)g.next / g.rate; }

static void begin_when_due(struct session *s) {
	if (g.rate > 0 && g.now < due()) {
		s->state = PAUSED;
		g.paused++;
	} else begin_message(s);
}

static void begin_paused(struct session *sessions) {
	for (unsigned long i = 0; g.paused > 0 && i < g.sessions; i++) {
		if (sessions[i].fd < 0 || sessions[i].state != PAUSED) continue;
		if (more() && g.now < due()) return;
		g.paused--;
		sessions[i].began = g.now;
		if (more()) begin_message(&sessions[i]);
		else quit(&sessions[i]);
	}
}

/* A server that refuses all is not asked for ever: what is not sent again is missing in the counts. */
static void again(const struct session *s) {
	if (g.retries < g.sessions && g.refused + g.cut < REFUSALS) g.retry[g.retries++] = s->message;
}

static void refused(struct session *s) {
	g.refused++;
	again(s);
	quit(s);
}

static void after_rcpt(struct session *s) {
	if (s->rcpts_left > 0) {
		s->state = SAID_RCPT;
		if (!s->pipelines) say(s, s->command, add_rcpt(s, s->command, sizeof s->command, g.rcpts - s->rcpts_left));
		s->rcpts_left--;
		return;
	}
	s->state = SAID_DATA;
	if (!s->pipelines) say(s, "DATA\r\n", 6);
}

static void send_body(struct session *s) {
	int n = snprintf(s->command, sizeof s->command, "Message-Id: <bench-%lu@load.tappal>\r\n", s->message);
	s->state = SENT_BODY;
	say_both(s, s->command, (size_t)n, g.body, g.body_len);
}

static void accepted(struct session *s) {
	g.last = now();
	g.latency[g.accepted++] = g.last - s->began;
	s->accepted++;
	if (more() && (g.per_connection == 0 || s->accepted < g.per_connection)) begin_when_due(s);
	else quit(s);
}

static void after_ehlo(struct session *s) {
	if (g.idle) {
		s->state = IDLE;
		g.idlers++;
	} else if (more()) begin_when_due(s);
	else quit(s);
}

static void on_reply(struct session *s, int code) {
	bool good = code / 100 == 2;
	switch (s->state) {
	case CONNECTING:
		g.waiting--;
		if (!good) {
			g.connect_failures++;
			quit(s);
			return;
		}
		s->state = SAID_EHLO;
		say(s, "EHLO load.tappal\r\n", 18);
		return;
	case SAID_EHLO: after_ehlo(s); return;
	case SAID_MAIL:
	case SAID_RCPT: good ? after_rcpt(s) : refused(s); return;
	case SAID_DATA: code == 354 ? send_body(s) : refused(s); return;
	case SENT_BODY: good ? accepted(s) : refused(s); return;
	case SAID_QUIT: close_session(s); return;
	case PAUSED:
	case IDLE: return;
	}
}

static void on_end(struct session *s) {
	if (s->state >= SAID_MAIL && s->state <= SENT_BODY) {
		g.cut++;
		again(s);
	} else if (s->state != SAID_QUIT) g.connect_failures++;
	if (s->state == CONNECTING) g.waiting--;
	if (s->state == PAUSED) g.paused--;
	close_session(s);
}

static void on_input(struct session *s) {
	unsigned long connection = g.connections;
	ssize_t n = read(s->fd, s->in + s->in_len, sizeof s->in - s->in_len);
	char *line = s->in, *end, *newline;
	if (n < 0 && errno == EAGAIN) return;
	if (n <= 0) {
		on_end(s);
		return;
	}
	s->in_len += (size_t)n;
	end = s->in + s->in_len;
	while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
		bool last_line = newline - line < 4 || line[3] != '-';
		int code = (int)strtol(line, NULL, 10);
		if (s->state == SAID_EHLO && g.pipelined && newline - line >= 14 && memcmp(line + 4, "PIPELINING", 10) == 0) s->pipelines = true;
		line = newline + 1;
		if (last_line) on_reply(s, code);
		if (s->fd < 0 || g.connections != connection) return;     /* this connection is over, perhaps a new one began inside */
	}
	s->in_len = (size_t)(end - line);
	if (s->in_len > 0) memmove(s->in, line, s->in_len);
}

static void make_body(void) {
	size_t n;
	g.body = malloc(g.size + 1024);
	n = (size_t)snprintf(g.body, 1024, "From: <sender@a.tappal>\r\nTo: <r@b.tappal>\r\nSubject: bench\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\n");
	while (n + 38 < g.size) {     /* 38: the Message-Id line */
		size_t width = g.size - n > 120 ? 78 : 20;
		memset(g.body + n, 'X', width);
		n += width;
		memcpy(g.body + n, "\r\n", 2);
		n += 2;
	}
	memcpy(g.body + n, ".\r\n", 3);
	g.body_len = n + 3;
}

static void read_arguments(int argc, char **argv) {
	char host[64];
	char *colon;
	int option;
	snprintf(host, sizeof host, "%s", argc > 1 ? argv[1] : "");
	if (!(colon = strchr(host, ':'))) {
		fprintf(stderr, "usage: load HOST:PORT [options]; see the head of tests/bench/load.c\n");
		exit(100);
	}
	*colon = 0;
	optind = 2;
	while ((option = getopt(argc, argv, "s:m:b:l:d:r:t:k:D:w:R:PSiT:")) != -1) switch (option) {
	case 's': g.sessions = strtoul(optarg, NULL, 10); break;
	case 'm': g.messages = strtoul(optarg, NULL, 10); break;
	case 'b': g.first_number = strtoul(optarg, NULL, 10); break;
	case 'l': g.size = strtoul(optarg, NULL, 10); break;
	case 'd': g.per_connection = strtoul(optarg, NULL, 10); break;
	case 'r': g.rcpts = strtoul(optarg, NULL, 10); break;
	case 't': g.to = optarg; break;
	case 'k': g.users = strtoul(optarg, NULL, 10); break;
	case 'D': g.domains = strtoul(optarg, NULL, 10); break;
	case 'w': g.window = strtod(optarg, NULL); break;
	case 'R': g.rate = strtod(optarg, NULL); break;
	case 'P': g.pipelined = true; break;
	case 'S': g.stamped = true; break;
	case 'i': g.idle = true; break;
	case 'T': g.seconds = strtod(optarg, NULL); break;
	default: exit(100);
	}
	g.peer = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10)) };
	if (inet_pton(AF_INET, host, &g.peer.sin_addr) != 1 || ntohl(g.peer.sin_addr.s_addr) >> 24 != 127) {
		fprintf(stderr, "load: %s is no loopback address; this program loads nothing else\n", host);
		exit(100);
	}
}

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void print_idle(double started) {
	char drain[16];
	printf("{\"idle\":%lu,\"connect_failures\":%lu,\"wall_s\":%.3f}\n", g.idlers, g.connect_failures, now() - started);
	fflush(stdout);
	while (read(0, drain, sizeof drain) > 0) continue;
}

static double cpu_seconds(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_result(void) {
	double wall = g.last - g.first, cpu = cpu_seconds();
	qsort(g.latency, g.accepted, sizeof *g.latency, by_size);
	printf("{\"accepted\":%lu,\"begun\":%lu,\"refused\":%lu,\"cut\":%lu,\"connect_failures\":%lu,\"unanswered\":%lu,\"connections\":%lu,"
	       "\"wall_s\":%.3f,\"per_s\":%.1f,"
	       "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.1f,\"cpu_s\":%.6f,\"first\":%.6f,\"last\":%.6f}\n",
		g.accepted, g.next, g.refused, g.cut, g.connect_failures, g.unanswered, g.connections, wall, wall > 0 ? (double)g.accepted / wall : 0,
		g.accepted ? g.latency[g.accepted / 2] * 1e3 : 0, g.accepted ? g.latency[g.accepted * 99 / 100] * 1e3 : 0,
		g.accepted ? g.latency[g.accepted - 1] * 1e3 : 0, cpu, g.first, g.last);
}

/* Looked for once a second; the latency of the message goes on counting. */
static void give_up_waiting(struct session *sessions) {
	static double looked;
	if (g.waiting == 0 || g.now - looked < 1) return;
	looked = g.now;
	for (unsigned long i = 0; i < g.begun; i++) {
		struct session *s = &sessions[i];
		double began = s->began;
		if (s->fd < 0 || s->state != CONNECTING || g.now - s->asked < PATIENCE) continue;
		g.unanswered++, g.waiting--;
		close_session(s);
		s->began = began;
	}
}

static void open_first(struct session *sessions) {
	while (g.begun < g.sessions && g.waiting < AT_ONCE && (g.begun == 0 || g.idle || more())) open_session(&sessions[g.begun++]);
}

/* Looked at after each turn, so nothing here but counters, until all are closed. */
static bool finished(struct session *sessions, double started) {
	if (g.now - started > g.seconds) return true;
	if (g.idle) return g.idlers + g.connect_failures >= g.sessions;
	if (g.open == g.begun && g.begun > 0) return false;
	for (unsigned long i = 0; i < g.begun && more(); i++) if (sessions[i].fd < 0) open_session(&sessions[i]);
	return g.open == 0;
}

static int patience_ms(void) {
	double wait = g.paused > 0 ? (due() - g.now) * 1e3 : 50;
	return wait < 0 ? 0 : wait > 50 ? 50 : (int)wait + 1;
}

int main(int argc, char **argv) {
	struct epoll_event events[256];
	struct rlimit files;
	struct session *sessions;
	double started = now();

	read_arguments(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	make_body();
	g.latency = calloc(g.messages + 1, sizeof *g.latency);
	g.retry = calloc(g.sessions, sizeof *g.retry);
	sessions = calloc(g.sessions, sizeof *sessions);
	g.epoll = epoll_create1(0);
	open_first(sessions);
	while (!finished(sessions, started)) {
		int n = epoll_wait(g.epoll, events, 256, patience_ms());
		now();
		for (int i = 0; i < n; i++) {
			struct session *s = events[i].data.ptr;
			if (s->fd >= 0 && events[i].events & EPOLLOUT && left(s) > 0) push(s);
			if (s->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_input(s);
		}
		if (g.paused > 0) begin_paused(sessions);
		open_first(sessions);
		give_up_waiting(sessions);
	}
	if (g.idle) print_idle(started);
	else print_result();
	return 0;
}
