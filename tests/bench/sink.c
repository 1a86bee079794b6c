/*
 * sink - a fast SMTP server that counts and keeps nothing, for benchmarks. One process, epoll, loopback only.
 *
 *   sink HOST:PORT SECONDS [ADDRESSES]
 *
 * Listens on HOST, and on the addresses that follow it when there shall be several destinations; says "ready" then. Each line on stdin tells how
 * many distinct recipients are expected by then, perhaps when many have come. When they got a message (and half a second of quiet, for what
 * comes twice), or after SECONDS, it answers with one JSON line: messages, recipients, distinct recipients, repeats, connections, the times
 * of the first and the last message, CPU time, all since it began, and the latency since the answer before of recipients that tell when they were
 * sent (tNANOSECONDS-, load -S). It ends with stdin, or after SECONDS.
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
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RCPTS 1000

/* One that listens is no client: it has a descriptor and nothing else. */
struct client {
	int fd;
	bool listens, in_data;
	size_t line_len, out_len, rcpts;
	uint64_t rcpt[RCPTS];
	double sent[RCPTS];   /* 0: not known */
	char line[2048], out[RCPTS * 24];
};

static struct {
	uint64_t *slot;       /* open addressing: hashes of recipients seen, 0 empty */
	size_t room, used;
	unsigned long messages, recipients, repeats, connections, open, expected;
	bool told, ended;     /* expected is known; stdin has ended */
	double first, last;
	double *latency;
	size_t latencies, latency_room;
} g;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void place(uint64_t *slot, size_t room, uint64_t hash) {
	size_t i = hash & (room - 1);
	while (slot[i] && slot[i] != hash) i = (i + 1) & (room - 1);
	slot[i] = hash;
}

static bool seen(uint64_t hash) {
	size_t i = hash & (g.room - 1);
	while (g.slot[i] && g.slot[i] != hash) i = (i + 1) & (g.room - 1);
	return g.slot[i] == hash;
}

static void remember(uint64_t hash) {
	if (seen(hash)) {
		g.repeats++;
		return;
	}
	if (g.used * 2 >= g.room) {
		size_t room = g.room * 2;
		uint64_t *slot = calloc(room, sizeof *slot);
		for (size_t i = 0; i < g.room; i++) if (g.slot[i]) place(slot, room, g.slot[i]);
		free(g.slot);
		g.slot = slot, g.room = room;
	}
	place(g.slot, g.room, hash);
	g.used++;
}

static uint64_t hash_of(const char *text, size_t len) {
	uint64_t hash = 1469598103934665603u;
	for (size_t i = 0; i < len && text[i] != '>'; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
	return hash | 1;
}

static void say(struct client *c, const char *reply) {
	size_t n = strlen(reply);
	if (c->out_len + n > sizeof c->out) return;
	memcpy(c->out + c->out_len, reply, n);
	c->out_len += n;
}

static void flush_replies(struct client *c) {
	ssize_t n = c->out_len ? write(c->fd, c->out, c->out_len) : 0;
	if (n > 0) {
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
	}
}

static void measure(double sent) {
	if (sent <= 0) return;
	if (g.latencies == g.latency_room) {
		g.latency_room = g.latency_room ? g.latency_room * 2 : 4096;
		g.latency = realloc(g.latency, g.latency_room * sizeof *g.latency);
	}
	g.latency[g.latencies++] = g.last - sent;
}

static void end_of_message(struct client *c) {
	c->in_data = false;
	g.messages++;
	g.last = now();
	if (g.first == 0) g.first = g.last;
	for (size_t i = 0; i < c->rcpts; i++) {
		remember(c->rcpt[i]);
		measure(c->sent[i]);
	}
	c->rcpts = 0;
	say(c, "250 2.0.0 taken\r\n");
}

static bool verb_is(const struct client *c, const char *verb) { return c->line_len >= 4 && strncasecmp(c->line, verb, 4) == 0; }

/* The stamp is no part of the address: a message that is sent again has another. */
static void take_rcpt(struct client *c, const char *address, size_t len) {
	const char *dash = *address == 't' ? memchr(address, '-', len) : NULL;
	c->sent[c->rcpts] = 0;
	if (dash) {
		c->sent[c->rcpts] = (double)strtoull(address + 1, NULL, 10) / 1e9;
		len -= (size_t)(dash + 1 - address);
		address = dash + 1;
	}
	c->rcpt[c->rcpts++] = hash_of(address, len);
}

static void on_rcpt(struct client *c) {
	g.recipients++;
	if (c->rcpts < RCPTS && c->line_len > 9) take_rcpt(c, c->line + 9, c->line_len - 9);
	say(c, "250 2.1.5 ok\r\n");
}

/* One line without its LF; false: the client said QUIT. */
static bool on_line(struct client *c) {
	if (c->line_len && c->line[c->line_len - 1] == '\r') c->line_len--;
	if (c->in_data) {
		if (c->line_len == 1 && c->line[0] == '.') end_of_message(c);
		return true;
	}
	if (verb_is(c, "EHLO")) say(c, "250-sink\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 8BITMIME\r\n");
	else if (verb_is(c, "MAIL")) {
		c->rcpts = 0;
		say(c, "250 2.1.0 ok\r\n");
	} else if (verb_is(c, "RCPT")) on_rcpt(c);
	else if (verb_is(c, "DATA")) {
		c->in_data = true;
		say(c, "354 go\r\n");
	} else if (verb_is(c, "QUIT")) {
		say(c, "221 bye\r\n");
		flush_replies(c);
		return false;
	} else if (verb_is(c, "HELO") || verb_is(c, "RSET") || verb_is(c, "NOOP")) say(c, "250 ok\r\n");
	else say(c, "502 5.5.2 what\r\n");
	return true;
}

static bool on_octets(struct client *c, const char *at, size_t n) {
	while (n > 0) {
		const char *newline = memchr(at, '\n', n);
		size_t part = newline ? (size_t)(newline - at) : n;
		size_t fits = part < sizeof c->line - c->line_len ? part : sizeof c->line - c->line_len;
		memcpy(c->line + c->line_len, at, fits);
		c->line_len += fits;
		if (!newline) return true;
		if (!on_line(c)) return false;
		c->line_len = 0;
		at += part + 1, n -= part + 1;
	}
	return true;
}

static void serve(struct client *c) {
	static char buffer[65536];
	ssize_t n = read(c->fd, buffer, sizeof buffer);
	if (n < 0 && errno == EAGAIN) return;
	if (n > 0 && on_octets(c, buffer, (size_t)n)) {
		flush_replies(c);
		return;
	}
	close(c->fd);
	free(c);
	g.open--;
}

static void take_all(int listener, int epoll) {
	int fd, one = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct client *c = calloc(1, sizeof *c);
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
		c->fd = fd;
		g.connections++, g.open++;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
		say(c, "220 sink ESMTP\r\n");
		flush_replies(c);
	}
}

static void fail(const char *what) {
	perror(what);
	exit(111);
}

static struct sockaddr_in address_of(const char *where) {
	struct sockaddr_in address = { .sin_family = AF_INET };
	char host[64];
	char *colon;
	snprintf(host, sizeof host, "%s", where);
	colon = strchr(host, ':');
	if (colon) *colon = 0;
	if (!colon || inet_pton(AF_INET, host, &address.sin_addr) != 1 || ntohl(address.sin_addr.s_addr) >> 24 != 127) {
		fprintf(stderr, "sink: %s is no loopback address with a port\n", where);
		exit(100);
	}
	address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	return address;
}

static void listen_at(struct sockaddr_in address, int epoll) {
	struct client *c = calloc(1, sizeof *c);
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	int one = 1;
	c->listens = true;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(c->fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(c->fd, 1024) < 0) fail("sink");
	epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
}

static void listen_at_all(const char *where, unsigned long addresses, int epoll) {
	struct sockaddr_in address = address_of(where);
	for (; addresses > 0; addresses--) {
		listen_at(address, epoll);
		address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) + 1);
	}
}

static void take_expectation(void) {
	char line[32];
	ssize_t n = read(0, line, sizeof line - 1);
	if (n <= 0) {
		g.ended = true;
		return;
	}
	line[n] = 0;
	g.expected = strtoul(line, NULL, 10);
	g.told = true;
}

static void raise_files(void) {
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

static bool satisfied(double end) { return g.told && ((g.used >= g.expected && now() - g.last > 0.5) || now() > end); }

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double latency_ms(size_t percent) { return g.latencies ? g.latency[g.latencies * percent / 100] * 1e3 : 0; }

static void print_result(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	qsort(g.latency, g.latencies, sizeof *g.latency, by_size);
	printf("{\"messages\":%lu,\"recipients\":%lu,\"distinct\":%zu,\"repeats\":%lu,\"connections\":%lu,\"first\":%.6f,\"last\":%.6f,"
	       "\"cpu_s\":%.6f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
		g.messages, g.recipients, g.used, g.repeats, g.connections, g.first, g.last,
		(double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
		latency_ms(50), latency_ms(99));
}

int main(int argc, char **argv) {
	struct epoll_event events[256], input = { .events = EPOLLIN };
	double end;
	int epoll = epoll_create1(0);

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: sink HOST:PORT SECONDS [ADDRESSES]\n");
		return 100;
	}
	end = now() + strtod(argv[2], NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_files();
	g.room = 1 << 16;
	g.slot = calloc(g.room, sizeof *g.slot);
	listen_at_all(argv[1], argc == 4 ? strtoul(argv[3], NULL, 10) : 1, epoll);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input) < 0) fail("sink: stdin must be a pipe");
	puts("ready");
	fflush(stdout);
	while (now() < end + 1 && !g.ended) {
		int n = epoll_wait(epoll, events, 256, 100);
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (!c) take_expectation();
			else if (c->listens) take_all(c->fd, epoll);
			else serve(c);
		}
		if (!satisfied(end)) continue;
		print_result();
		fflush(stdout);
		g.told = false;
		g.latencies = 0;
	}
	return 0;
}
