/*
 * test_service - a daemon's socket, its clients and its loop. The service runs turn by turn in this process; its clients are sockets of this process,
 * too, and what they send is there before the turn that takes it. A client's line is echoed; "hold" makes it wait, "due" asks to be called at once.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/service.h"
#include "common/sibling.h"

#define SLOTS 3u
#define NOBODY 65534
#define HANG_SECONDS 120          /* a turn that waits for nothing is a fault */

struct held { bool holds; unsigned lines; };

static char directory[] = "/tmp/test_service.XXXXXX";
static char name[sizeof directory + 8];
static struct service service;
static unsigned closed, called_due, reloads;
static int extra[2];               /* the owner's own descriptor */
static unsigned extra_read;

/* ---- the owner */

static bool echo(void *owner, struct service_client *c, const struct record *record, deadline_t now)
{
	struct held *held = c->own;
	struct auth_line line;
	assert_ptr_equal(owner, &service);
	if (record->type != REC_auth_line || !auth_line_decode(record->payload, &line))
		return false;
	held->lines++;
	held->holds = bytes_equal(line.text, LIT("hold"));
	if (bytes_equal(line.text, LIT("due")))
		c->due = now;
	else
		service_send(c, auth_line_encode(&line, &c->out.buffer));
	return true;
}

static bool is_idle(const struct service_client *c)
{
	return !((const struct held *)c->own)->holds;
}

static void count_due(void *owner, struct service_client *c, deadline_t now)
{
	(void)owner;
	assert_true(c->fd >= 0 && now > 0 && c->due == 0);
	called_due++;
}

static void count_closing(void *owner, struct service_client *c)
{
	(void)owner;
	assert_true(c->fd >= 0);
	closed++;
}

static size_t add_extra(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	(void)owner;
	(void)now;
	(void)next;
	fds[0] = (struct pollfd){ .fd = extra[0], .events = POLLIN };
	return 1;
}

static void read_extra(void *owner, const struct pollfd *fds, size_t count, deadline_t now)
{
	char octet;
	(void)owner;
	(void)now;
	assert_int_equal(count, 1);
	if (fds[0].revents != 0)
		extra_read += read(extra[0], &octet, 1) == 1;
}

static void count_reload(void *owner)
{
	(void)owner;
	reloads++;
}

static const struct service_kind kind = {
	.slots = SLOTS, .own_size = sizeof(struct held), .answers_max = 1000, .secret_room = 4096, .own_fds = 1,
	.take = echo, .idle = is_idle, .due = count_due, .closing = count_closing, .prepare = add_extra, .run = read_extra, .reload = count_reload,
};

/* ---- its clients */

static int come(void)
{
	int fd = sibling_connect(name, NULL, 1000);
	assert_true(fd >= 0);
	return fd;
}

static void say(int fd, const char *text)
{
	struct str out = STR_INIT(1000);
	assert_true(auth_line_encode(&(struct auth_line){ .text = bytes_of(text) }, &out));
	assert_int_equal(write(fd, out.at, out.len), out.len);
	str_free(&out);
}

/* What has come for this client so far: 1 a line, 0 its end, -1 nothing yet. */
static int heard(int fd, char *text, size_t room)
{
	char octets[200];
	struct record record;
	struct auth_line line;
	size_t used;
	ssize_t n = recv(fd, octets, sizeof octets, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return 0;
	if (n < 0)
		return -1;
	assert_int_equal(record_take((struct bytes){ octets, (size_t)n }, &record, &used), RECORD_OK);
	assert_true(auth_line_decode(record.payload, &line) && bytes_to_cstring(line.text, text, room));
	return 1;
}

/* Turns until this client has heard something. */
static int turn_until_heard(int fd, char text[32])
{
	int got;
	while ((got = heard(fd, text, 32)) < 0)
		service_turn(&service);
	return got;
}

static void assert_echo(int fd, const char *text)
{
	char got[32];
	say(fd, text);
	assert_int_equal(turn_until_heard(fd, got), 1);
	assert_string_equal(got, text);
}

static void assert_ended(int fd)
{
	char got[32];
	assert_int_equal(turn_until_heard(fd, got), 0);
	close(fd);
}

static size_t clients(void)
{
	size_t n = 0;
	for (size_t i = 0; service_next(&service, &i) != NULL;)
		n++;
	return n;
}

static void leave(int fd)
{
	size_t before = clients();
	close(fd);
	while (clients() == before)
		service_turn(&service);
}

static int setup(void **state)
{
	(void)state;
	alarm(HANG_SECONDS);
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chmod(directory, 0711), 0);
	snprintf(name, sizeof name, "%s/s", directory);
	assert_int_equal(pipe2(extra, O_CLOEXEC | O_NONBLOCK), 0);
	service.askers = (struct askers){ { getuid() }, 1 };
	service.socket = service_bind("test", name, 0);
	service_start(&service, &kind, &service);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	service_end(&service);
	assert_int_equal(access(name, F_OK), -1);
	return rmdir(directory);
}

/* ---- tests */

static void test_echo(void **state)
{
	(void)state;
	int a = come(), b = come();
	assert_echo(a, "one");
	assert_echo(b, "two");
	assert_echo(a, "three");
	leave(a);
	/* What the one who comes next finds in its own data is nothing of the one who left. */
	int c = come();
	assert_echo(c, "four");
	struct service_client *client;
	for (size_t i = 0; (client = service_next(&service, &i)) != NULL;)
		assert_int_equal(((struct held *)client->own)->lines, 1);
	leave(b);
	leave(c);
	assert_int_equal(closed, 3);
}

static void test_secrets_are_wiped(void **state)
{
	static const char secret[] = "correct horse";
	(void)state;
	int a = come();
	assert_echo(a, secret);
	size_t i = 0;
	const struct service_client *c = service_next(&service, &i);
	assert_true(c->in.buffer.room >= kind.secret_room);
	assert_null(memmem(c->in.buffer.at, c->in.buffer.room, secret, sizeof secret - 1));
	leave(a);
}

static void test_record_that_may_not_be(void **state)
{
	char head[RECORD_HEAD] = { 0 };
	(void)state;
	int a = come(), b = come();
	struct str out = STR_INIT(100);
	assert_true(auth_done_encode(&(struct auth_done){ .result = 0 }, &out));
	assert_int_equal(write(a, out.at, out.len), out.len);
	assert_int_equal(write(b, head, sizeof head), sizeof head);
	str_free(&out);
	assert_ended(a);
	assert_ended(b);
}

static void test_due(void **state)
{
	(void)state;
	int a = come();
	unsigned before = called_due;
	say(a, "due");
	while (called_due == before)
		service_turn(&service);
	assert_echo(a, "still here");
	assert_int_equal(called_due, before + 1);
	leave(a);
}

static void test_own_descriptor(void **state)
{
	(void)state;
	unsigned before = extra_read;
	assert_int_equal(write(extra[1], "x", 1), 1);
	service_turn(&service);
	assert_int_equal(extra_read, before + 1);
}

static void test_full_table_closes_longest_idle(void **state)
{
	(void)state;
	int a = come(), b = come(), c = come();
	assert_echo(b, "hold");
	assert_echo(a, "x");
	assert_echo(c, "x");
	/* Times are milliseconds: they differ when we say so. b is the oldest, but waits for something. */
	struct service_client *client;
	for (size_t i = 0; (client = service_next(&service, &i)) != NULL;)
		client->last = ((struct held *)client->own)->holds ? 1 : i + 1;
	int d = come();
	assert_ended(a);
	assert_echo(b, "hold");
	assert_echo(c, "y");
	assert_echo(d, "z");
	leave(b);
	leave(c);
	leave(d);
}

static void test_full_of_busy_refuses(void **state)
{
	(void)state;
	int fd[SLOTS];
	for (size_t i = 0; i < SLOTS; i++) {
		fd[i] = come();
		assert_echo(fd[i], "hold");
	}
	assert_ended(come());
	assert_int_equal(clients(), SLOTS);
	for (size_t i = 0; i < SLOTS; i++)
		leave(fd[i]);
}

/* Every descriptor below the limit is taken. */
static size_t take_descriptors(int *taken, size_t room)
{
	size_t n = 0;
	while (n < room && (taken[n] = dup(0)) >= 0)
		n++;
	assert_true(n < room && errno == EMFILE);
	return n;
}

static void test_no_descriptors(void **state)
{
	struct rlimit before, small;
	int taken[64];
	(void)state;
	int a = come(), b = come();
	assert_echo(a, "hold");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	small = (struct rlimit){ 40, before.rlim_max };
	while (clients() < 2)
		service_turn(&service);
	/* One is idle: it makes room. */
	int c = come();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
	size_t n = take_descriptors(taken, COUNT(taken));
	assert_ended(b);
	/* What b left on our side is taken again, so that its place in the service is the only one. */
	assert_echo(c, "hold");
	n += take_descriptors(taken + n, COUNT(taken) - n);
	/* None is idle: accepting pauses, and goes on when there is room. */
	close(taken[--n]);
	int d = come();
	while (service.accept_after == 0)
		service_turn(&service);
	assert_echo(a, "hold");
	close(taken[--n]);
	assert_echo(d, "at last");
	assert_int_equal(service.accept_after, 0);
	while (n > 0)
		close(taken[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	leave(a);
	leave(c);
	leave(d);
}

static void quiet(void)
{
	dup2(open("/dev/null", O_WRONLY), 2);
}

static int exit_of(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_served_already(void **state)
{
	(void)state;
	for (uint64_t patience = 0; patience <= 100; patience += 100) {
		pid_t pid = fork();
		if (pid == 0) {
			quiet();
			service_bind("test", name, patience);
			_exit(0);
		}
		assert_int_equal(exit_of(pid), EXIT_YOUR_FAULT);
	}
	/* Those that asked us so have gone again. */
	int a = come();
	assert_echo(a, "mine");
	leave(a);
	while (clients() > 0)
		service_turn(&service);
}

/* One whose queue of connections is full serves, too. */
static void test_served_with_full_queue(void **state)
{
	char path[sizeof directory + 8];
	struct sockaddr_un address;
	int fd[8];
	size_t n = 0;
	(void)state;
	snprintf(path, sizeof path, "%s/full", directory);
	struct service_socket full = service_bind("test", path, 0);
	assert_int_equal(listen(full.fd, 0), 0);
	assert_true(sibling_address(path, &address));
	do {
		assert_true(n < COUNT(fd));
		fd[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	} while (connect(fd[n++], (struct sockaddr *)&address, sizeof address) == 0);
	assert_int_equal(errno, EAGAIN);
	pid_t pid = fork();
	if (pid == 0) {
		quiet();
		service_bind("test", path, 0);
		_exit(0);
	}
	assert_int_equal(exit_of(pid), EXIT_YOUR_FAULT);
	assert_int_equal(sibling_connect(path, NULL, 20), -1);
	assert_int_equal(errno, EAGAIN);
	while (n > 0)
		close(fd[--n]);
	service_unbind(&full);
	assert_int_equal(sibling_connect(path, NULL, 20), -1);
	assert_int_equal(errno, ENOENT);
}

static void test_left_behind(void **state)
{
	char path[sizeof directory + 8];
	(void)state;
	snprintf(path, sizeof path, "%s/old", directory);
	struct service_socket old = service_bind("test", path, 0);
	close(old.fd);
	struct service_socket mine = service_bind("test", path, 0);
	assert_int_equal(listen(mine.fd, 1), 0);
	int fd = sibling_connect(path, NULL, 1000);
	assert_true(fd >= 0);
	close(fd);
	service_unbind(&mine);
}

static void test_not_admitted(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	int told[2];
	char octet;
	assert_int_equal(pipe(told), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(told[0]);
		if (setuid(NOBODY) != 0)
			_exit(2);
		int fd = sibling_connect(name, NULL, 1000);
		if (fd < 0 || write(told[1], "c", 1) != 1)
			_exit(3);
		_exit(read(fd, &octet, 1) == 0 ? 0 : 4);
	}
	close(told[1]);
	assert_int_equal(read(told[0], &octet, 1), 1);
	close(told[0]);
	size_t before = clients();
	service_turn(&service);
	assert_int_equal(exit_of(pid), 0);
	assert_int_equal(clients(), before);
}

static void test_whose_socket(void **state)
{
	(void)state;
	int fd = sibling_connect(name, "root", 1000);
	if (getuid() != 0) {
		assert_int_equal(fd, -1);
		assert_int_equal(errno, EPERM);
		return;
	}
	assert_true(fd >= 0);
	leave(fd);
}

static void test_askers(void **state)
{
	struct askers askers = { .count = 0 };
	uid_t uid;
	int pair[2];
	(void)state;
	askers_add(&askers, "nobody");
	assert_int_equal(askers.count, 1);
	assert_int_not_equal(askers.uid[0], 0);
	askers_add(&askers, "no-such-account");
	assert_int_equal(askers.count, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_true(sibling_uid(pair[0], &uid));
	assert_int_equal(uid, geteuid());
	assert_int_equal(askers_admit(&askers, pair[0]), geteuid() == 0 || geteuid() == askers.uid[0]);
	close(pair[0]);
	close(pair[1]);
}

static void test_long_name(void **state)
{
	char path[200];
	struct sockaddr_un address;
	(void)state;
	memset(path, 'x', sizeof path);
	path[0] = '/';
	path[sizeof path - 1] = 0;
	assert_false(sibling_address(path, &address));
	assert_int_equal(errno, ENAMETOOLONG);
	assert_int_equal(sibling_connect(path, NULL, 1), -1);
	assert_true(sibling_address("s", &address));
	assert_non_null(strstr(address.sun_path, "/tappal/s"));
}

static void test_signals(void **state)
{
	(void)state;
	assert_int_equal(raise(SIGHUP), 0);
	while (reloads == 0)
		service_turn(&service);
	assert_false(service.stop);
	assert_int_equal(raise(SIGTERM), 0);
	while (!service.stop)
		service_turn(&service);
	assert_int_equal(reloads, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo), cmocka_unit_test(test_secrets_are_wiped), cmocka_unit_test(test_record_that_may_not_be), cmocka_unit_test(test_due),
		cmocka_unit_test(test_own_descriptor), cmocka_unit_test(test_full_table_closes_longest_idle), cmocka_unit_test(test_full_of_busy_refuses),
		cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_served_already), cmocka_unit_test(test_served_with_full_queue),
		cmocka_unit_test(test_left_behind), cmocka_unit_test(test_not_admitted), cmocka_unit_test(test_whose_socket), cmocka_unit_test(test_askers),
		cmocka_unit_test(test_long_name), cmocka_unit_test(test_signals),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
