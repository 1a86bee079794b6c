/*
 * handshakes - sessions with STARTTLS against a server on a loopback address:
 *
 *   handshakes ADDRESS:PORT -s SESSIONS -w SECONDS   in so many processes, one after the other for so long: connect, EHLO, STARTTLS, a full handshake
 *                                                    (none is resumed, no certificate is judged), EHLO, QUIT
 *   handshakes ADDRESS:PORT -s SESSIONS -i           so many sessions up to the EHLO within TLS, held until the end of stdin
 *
 * Prints {"handshakes":, "failures":, "wall_s":, "per_s":, "cpu_s":, "protocol":} or {"idle":}. A session that fails is counted and costs its
 * process a pause, so that a server that refuses is not asked a million times.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 30         /* seconds for each answer */
#define PAUSE_US 50000
#define SESSIONS 1000

struct shared { atomic_ulong done, failed; char protocol[32]; };

static struct {
	struct sockaddr_in peer;
	unsigned long sessions;
	double seconds;
	bool idle;
	SSL_CTX *context;
	struct shared *shared;
} g = { .sessions = 10, .seconds = 1 };

struct client { int fd; SSL *ssl; };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static ssize_t take(const struct client *c, char *at, size_t n) {
	return c->ssl != NULL ? SSL_read(c->ssl, at, (int)n) : recv(c->fd, at, n, 0);
}

static bool give(const struct client *c, const char *text) {
	size_t n = strlen(text);
	return (c->ssl != NULL ? SSL_write(c->ssl, text, (int)n) : send(c->fd, text, n, MSG_NOSIGNAL)) == (ssize_t)n;
}

/* Is the whole answer, its last line included, one with this code? */
static bool answered(const struct client *c, const char *code) {
	char text[8192];
	size_t len = 0;
	for (;;) {
		ssize_t n = take(c, text + len, sizeof text - 1 - len);
		if (n <= 0) return false;
		len += (size_t)n;
		text[len] = '\0';
		if (text[len - 1] != '\n') continue;
		const char *line = text + len - 1;
		while (line > text && line[-1] != '\n') line--;
		if (strlen(line) > 3 && line[3] != '-') return strncmp(line, code, 3) == 0;
		if (len == sizeof text - 1) return false;
	}
}

static bool ask(const struct client *c, const char *command, const char *code) {
	return give(c, command) && answered(c, code);
}

static bool open_secure(struct client *c) {
	struct timeval wait = { .tv_sec = PATIENCE };
	c->ssl = NULL;
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0) return false;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	if (connect(c->fd, (struct sockaddr *)&g.peer, sizeof g.peer) < 0 || !answered(c, "220") || !ask(c, "EHLO client.bench\r\n", "250")
		|| !ask(c, "STARTTLS\r\n", "220")) return false;
	SSL *ssl = SSL_new(g.context);
	if (ssl == NULL || !SSL_set_fd(ssl, c->fd)) return false;
	c->ssl = ssl;
	return SSL_connect(ssl) == 1 && ask(c, "EHLO client.bench\r\n", "250");
}

static void close_client(struct client *c) {
	if (c->ssl != NULL) SSL_free(c->ssl);
	if (c->fd >= 0) close(c->fd);
}

static void one(void) {
	struct client c;
	if (open_secure(&c)) {
		if (atomic_fetch_add(&g.shared->done, 1) == 0) snprintf(g.shared->protocol, sizeof g.shared->protocol, "%s", SSL_get_version(c.ssl));
		ask(&c, "QUIT\r\n", "221");
		close_client(&c);
		return;
	}
	close_client(&c);
	atomic_fetch_add(&g.shared->failed, 1);
	usleep(PAUSE_US);
}

static int shake_hands(void) {
	struct rusage u;
	double began = now();
	for (unsigned long i = 0; i < g.sessions; i++) {
		pid_t pid = fork();
		if (pid < 0) return 111;
		if (pid == 0) {
			while (now() - began < g.seconds) one();
			_exit(0);
		}
	}
	while (wait(NULL) > 0) continue;
	double wall = now() - began;
	getrusage(RUSAGE_CHILDREN, &u);
	unsigned long done = atomic_load(&g.shared->done);
	printf("{\"handshakes\":%lu,\"failures\":%lu,\"wall_s\":%.3f,\"per_s\":%.1f,\"cpu_s\":%.6f,\"protocol\":\"%s\"}\n", done, atomic_load(&g.shared->failed),
		wall, (double)done / wall, (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6, g.shared->protocol);
	return 0;
}

static int hold(void) {
	static struct client clients[SESSIONS];
	unsigned long held = 0;
	char drain[16];
	while (held < g.sessions && open_secure(&clients[held])) held++;
	printf("{\"idle\":%lu}\n", held);
	fflush(stdout);
	while (read(0, drain, sizeof drain) > 0) continue;
	return 0;
}

static void usage(void) {
	fprintf(stderr, "usage: handshakes 127.N.N.N:PORT -s SESSIONS (-w SECONDS | -i)\n");
	exit(100);
}

static void read_arguments(int argc, char **argv) {
	int c;
	while ((c = getopt(argc, argv, "s:w:i")) != -1) {
		if (c == 's') g.sessions = strtoul(optarg, NULL, 10);
		else if (c == 'w') g.seconds = strtod(optarg, NULL);
		else if (c == 'i') g.idle = true;
		else usage();
	}
	char *colon = optind + 1 == argc ? strrchr(argv[optind], ':') : NULL;
	if (colon == NULL || g.sessions < 1 || g.sessions > SESSIONS) usage();
	*colon = '\0';
	g.peer = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10)) };
	if (inet_pton(AF_INET, argv[optind], &g.peer.sin_addr) != 1 || ntohl(g.peer.sin_addr.s_addr) >> 24 != 127) usage();
}

int main(int argc, char **argv) {
	read_arguments(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	g.context = SSL_CTX_new(TLS_client_method());
	g.shared = mmap(NULL, sizeof *g.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g.context == NULL || g.shared == MAP_FAILED) return 111;
	SSL_CTX_set_verify(g.context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(g.context, SSL_SESS_CACHE_OFF);
	return g.idle ? hold() : shake_hands();
}
