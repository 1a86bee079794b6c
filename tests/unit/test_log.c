/*
 * test_log - no peer can forge a line, a field or a colour; a line has its shape and its bounds; NDJSON is JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/child.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/logsocket.h"
#include "common/sibling.h"

static int saved_stderr = -1, pipe_end = -1;
static char caught[140000];

static void catch_begin(void)
{
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	saved_stderr = dup(2);
	dup2(fds[1], 2);
	close(fds[1]);
	pipe_end = fds[0];
}

static const char *catch_end(void)
{
	dup2(saved_stderr, 2);
	close(saved_stderr);
	ssize_t n = io_read_full(pipe_end, caught, sizeof caught - 1);
	close(pipe_end);
	assert_true(n >= 0);
	caught[n] = 0;
	return caught;
}

static bool matches(const char *text, const char *pattern)
{
	regex_t re;
	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	bool ok = regexec(&re, text, 0, NULL, 0) == 0;
	regfree(&re);
	if (!ok)
		print_error("no match for %s in: %s\n", pattern, text);
	return ok;
}

#define STAMP "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{6}[+-][0-9]{2}:[0-9]{2} "

/* The pid is remembered, and forgotten in a child. */
static void pids(void **state)
{
	char pattern[100];
	(void)state;
	log_init("smtpd", "mx", LOG_TO_STDERR, LOG_LINE);
	catch_begin();
	log_info("one");
	pid_t child = fork();
	if (child == 0) {
		log_info("two");
		log_info("three");
		_exit(0);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	log_info("four");
	snprintf(pattern, sizeof pattern, "\\[%ld\\]: one\n.*\\[%ld\\]: two\n.*\\[%ld\\]: three\n.*\\[%ld\\]: four\n", (long)getpid(), (long)child, (long)child,
		(long)getpid());
	assert_true(matches(catch_end(), pattern));
}

static void shape(void **state)
{
	(void)state;
	log_init("smtpd", "mx", LOG_TO_STDERR, LOG_LINE);
	catch_begin();
	log_info("client=%s", "unknown[192.0.2.1]");
	assert_true(matches(catch_end(), STAMP "mx tappal/smtpd\\[[0-9]+\\]: client=unknown\\[192\\.0\\.2\\.1\\]\n$"));
	catch_begin();
	log_msg(UINT64_C(0x0123456789abcde), "removed");
	assert_true(matches(catch_end(), "\\]: [0-9A-Z]{12}: removed\n$"));
	catch_begin();
	log_msg(0, "reject");
	assert_true(matches(catch_end(), "\\]: NOQUEUE: reject\n$"));
	catch_begin();
	log_warn("slow");
	log_error("stuck");
	assert_true(matches(catch_end(), "\\]: warning: slow\n.*\\]: error: stuck\n$"));
	log_program("qmgr");
	catch_begin();
	log_info("x");
	assert_true(matches(catch_end(), " tappal/qmgr\\["));
}

static size_t count(const char *text, char c)
{
	size_t n = 0;
	for (; *text; text++)
		n += *text == c;
	return n;
}

/* All octets that a peer could send, in a text and through log_text. */
static void neutered(void **state)
{
	(void)state;
	char hostile[300];
	size_t n = 0;
	for (int c = 1; c < 256; c++)
		hostile[n++] = (char)c;
	memcpy(hostile + n, "\r\nDec 1 mx postfix/smtpd: forged", sizeof "\r\nDec 1 mx postfix/smtpd: forged");
	for (enum log_format format = LOG_LINE; format <= LOG_JSON; format++) {
		log_init("smtpd", "mx\n\x1b[31m", LOG_TO_STDERR, format);
		catch_begin();
		log_info("%s", hostile);
		log_msg(7, "helo=<%s>", log_text((struct bytes){ hostile, sizeof hostile }));
		const char *text = catch_end();
		assert_int_equal(count(text, '\n'), 2);
		for (const char *c = text; *c; c++)
			assert_true(*c == '\n' || (*c >= 32 && *c < 127));
	}
}

static void long_lines(void **state)
{
	(void)state;
	static char text[9000];
	for (enum log_format format = LOG_LINE; format <= LOG_JSON; format++) {
		for (size_t len = 1700; len < sizeof text; len += 37) {
			memset(text, len % 2 ? '"' : 'x', len);
			text[len] = 0;
			log_init("smtpd", "mx", LOG_TO_STDERR, format);
			catch_begin();
			log_info("%s", text);
			const char *line = catch_end();
			size_t got = strlen(line);
			assert_in_range(got, 1700, 2000);
			assert_int_equal(count(line, '\n'), 1);
			assert_int_equal(line[got - 1], '\n');
			if (format == LOG_JSON) {
				json_t *json = json_loads(line, 0, NULL);
				assert_non_null(json);
				json_decref(json);
			}
		}
	}
}

static void ndjson(void **state)
{
	(void)state;
	log_init("smtpd", "mx", LOG_TO_STDERR, LOG_JSON);
	catch_begin();
	log_msg(0x123456, "from=<\"odd\\\"@example.org>, \x01 x");
	json_t *json = json_loads(catch_end(), 0, NULL);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "host")), "mx");
	assert_string_equal(json_string_value(json_object_get(json, "program")), "tappal/smtpd");
	assert_string_equal(json_string_value(json_object_get(json, "level")), "info");
	assert_int_equal(json_integer_value(json_object_get(json, "pid")), getpid());
	assert_int_equal(strlen(json_string_value(json_object_get(json, "id"))), MSGID_TEXT);
	assert_string_equal(json_string_value(json_object_get(json, "text")), "from=<\"odd\\\"@example.org>, ? x");
	json_decref(json);
}

static void text_buffers(void **state)
{
	(void)state;
	static char big[600];
	memset(big, 'a', sizeof big);
	const char *cut = log_text((struct bytes){ big, sizeof big });
	assert_int_equal(strlen(cut), 511);
	assert_string_equal(cut + 508, "...");
	assert_int_equal(strlen(log_text((struct bytes){ big, 511 })), 511);
	assert_string_equal(log_text((struct bytes){ NULL, 0 }), "");
	const char *eight[8];
	for (int i = 0; i < 8; i++) {
		char c = (char)('0' + i);
		eight[i] = log_text((struct bytes){ &c, 1 });
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(eight[i][0], '0' + i);
}

static int exit_of(void (*act)(void))
{
	int status;
	catch_begin();
	pid_t pid = fork();
	if (pid == 0) {
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void act_usage(void)
{
	die_usage("%s is wrong", "it");
}

static void act_system(void)
{
	errno = ENOENT;
	die_system("cannot open it");
}

static void act_arguments(void)
{
	die_on_arguments("guard", 1);
	die_on_arguments("guard", 2);
}

static void deaths(void **state)
{
	(void)state;
	log_init("queued", "mx", LOG_TO_STDERR, LOG_LINE);
	assert_int_equal(exit_of(act_usage), EXIT_YOUR_FAULT);
	assert_true(matches(catch_end(), "fatal: it is wrong\n$"));
	assert_int_equal(exit_of(act_system), EXIT_SYSTEM);
	assert_true(matches(catch_end(), "fatal: cannot open it: No such file or directory\n$"));
	assert_int_equal(exit_of(act_arguments), EXIT_YOUR_FAULT);
	assert_true(matches(catch_end(), "/guard.*fatal: usage: guard .no arguments"));
}

/* A logged error must not disturb the errno that a caller still wants to look at. */
static void keeps_errno(void **state)
{
	(void)state;
	catch_begin();
	errno = EDQUOT;
	log_info("x");
	assert_int_equal(errno, EDQUOT);
	catch_end();
}

/* Held lines leave when they are released, when there are many, and before an error: none is lost, none changes its place. */
static void held_lines(void **state)
{
	(void)state;
	log_init("queued", "mx", LOG_TO_STDERR, LOG_LINE);
	catch_begin();
	log_hold();
	log_info("first");
	struct pollfd p = { .fd = pipe_end, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 0), 0);
	log_release();
	assert_int_equal(poll(&p, 1, 0), 1);
	log_hold();
	log_info("second");
	log_error("third");
	log_info("fourth");
	log_release();
	log_info("fifth");
	assert_true(matches(catch_end(), "first\n.*second\n.*error: third\n.*fourth\n.*fifth\n$"));
	catch_begin();
	fcntl(2, F_SETPIPE_SZ, 1 << 20);
	p.fd = pipe_end;
	log_hold();
	char word[500] = { 0 };
	memset(word, 'x', sizeof word - 1);
	for (int i = 0; i < 130; i++)
		log_info("%d %s", i, word);
	assert_int_equal(poll(&p, 1, 0), 1);
	log_release();
	const char *at = catch_end();
	for (int i = 0; i < 130; i++, at = strchr(at, '\n') + 1)
		assert_int_equal(strtol(strstr(at, "]: ") + 3, NULL, 10), i);
	assert_string_equal(at, "");
}

/* A pipe in packet mode keeps writes apart: each is whole lines, and no more than the kernel keeps together. */
static void held_writes(void **state)
{
	(void)state;
	char packet[8192], word[900] = { 0 };
	int fds[2], lines = 0;
	ssize_t n;
	memset(word, 'y', sizeof word - 1);
	log_init("queued", "mx", LOG_TO_STDERR, LOG_LINE);
	assert_int_equal(pipe2(fds, O_DIRECT), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	int saved = dup(2);
	dup2(fds[1], 2);
	close(fds[1]);
	log_hold();
	for (int i = 0; i < 60; i++)
		log_info("%.*s", i * 15, word);
	log_release();
	dup2(saved, 2);
	close(saved);
	while ((n = read(fds[0], packet, sizeof packet)) > 0) {
		assert_true(n <= PIPE_BUF && packet[n - 1] == '\n');
		for (ssize_t i = 0; i < n; i++)
			lines += packet[i] == '\n';
	}
	close(fds[0]);
	assert_int_equal(lines, 60);
}

/* ---- the system's log reader */

static char reader_path[] = "/tmp/tappal-log.XXXXXX/log";

static int reader_bind_as(int type)
{
	struct sockaddr_un sa;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0 && sibling_address(reader_path, &sa));
	(void)unlink(reader_path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof sa), 0);
	return fd;
}

static int reader_bind(void)
{
	return reader_bind_as(SOCK_DGRAM);
}

static const char *reader_line(int fd)
{
	static char line[4096];
	ssize_t n = recv(fd, line, sizeof line - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	return line;
}

static int reader_begin(enum log_format format)
{
	memcpy(reader_path, "/tmp/tappal-log.XXXXXX", sizeof "/tmp/tappal-log.XXXXXX");
	assert_non_null(mkdtemp(reader_path));
	reader_path[strlen(reader_path)] = '/';
	int fd = reader_bind();
	logsocket_use();
	logsocket_open(reader_path);
	log_init("smtpd", "mx", LOG_TO_SYSLOG, format);
	return fd;
}

static void reader_end(int fd)
{
	log_init("smtpd", "mx", LOG_TO_STDERR, LOG_LINE);
	assert_int_equal(logsocket_descriptor(), -1);
	close(fd);
	(void)unlink(reader_path);
	*strrchr(reader_path, '/') = '\0';
	assert_int_equal(rmdir(reader_path), 0);
}

#define SYSLOG_STAMP "[A-Z][a-z]{2} [ 1-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} tappal/smtpd\\[[0-9]+\\]: "

static void syslog_shape(void **state)
{
	(void)state;
	int fd = reader_begin(LOG_LINE);
	log_msg(7, "re\nmoved");
	assert_true(matches(reader_line(fd), "^<22>" SYSLOG_STAMP "[0-9A-Z]{12}: re\\?moved$"));
	log_warn("slow");
	assert_true(matches(reader_line(fd), "^<20>" SYSLOG_STAMP "warning: slow$"));
	log_error("stuck");
	assert_true(matches(reader_line(fd), "^<19>" SYSLOG_STAMP "error: stuck$"));
	log_init("smtpd", "mx", LOG_TO_SYSLOG, LOG_JSON);
	log_info("%3000s", "\"");
	const char *line = reader_line(fd);
	assert_true(matches(line, "^<22>" SYSLOG_STAMP "[{]"));
	json_t *json = json_loads(strchr(line, '{'), 0, NULL);
	assert_non_null(json);
	json_decref(json);
	reader_end(fd);
}

/* One that is started again is found by the same descriptor, which is in nobody's way; what nobody takes goes to stderr. */
static void syslog_restarted(void **state)
{
	(void)state;
	int fd = reader_begin(LOG_LINE), own = logsocket_descriptor();
	assert_true(own >= 10 && (fcntl(own, F_GETFD) & FD_CLOEXEC) != 0);
	log_info("one");
	assert_true(matches(reader_line(fd), ": one$"));
	close(fd);
	catch_begin();
	log_info("two");
	assert_true(matches(catch_end(), STAMP "mx tappal/smtpd\\[[0-9]+\\]: two\n$"));
	fd = reader_bind();
	log_info("three");
	assert_true(matches(reader_line(fd), ": three$"));
	assert_int_equal(logsocket_descriptor(), own);
	reader_end(fd);
}

/* As syslog(3): one that listens for streams has a NUL behind each line. It may be started again, also for datagrams. */
static void syslog_by_stream(void **state)
{
	(void)state;
	int fd = reader_begin(LOG_LINE), own = logsocket_descriptor(), stream;
	for (int i = 0; i < 2; i++) {
		close(fd);
		fd = reader_bind_as(SOCK_STREAM);
		assert_int_equal(listen(fd, 4), 0);
		log_info("one");
		stream = accept(fd, NULL, NULL);
		assert_true(stream >= 0);
		logsocket_reach();
		log_info("two");
		assert_int_equal(accept(fd, NULL, NULL), -1);
		char octets[400] = "";
		ssize_t n = recv(stream, octets, sizeof octets - 1, MSG_DONTWAIT);
		assert_true(n > 2 && octets[n - 1] == '\0');
		assert_true(matches(octets, "^<22>" SYSLOG_STAMP "one$"));
		assert_true(matches(octets + strlen(octets) + 1, "^<22>" SYSLOG_STAMP "two$"));
		close(stream);
	}
	close(fd);
	catch_begin();
	log_info("three");
	assert_true(matches(catch_end(), "\\]: three\n$"));
	fd = reader_bind();
	log_info("four");
	assert_true(matches(reader_line(fd), ": four$"));
	assert_int_equal(logsocket_descriptor(), own);
	assert_true((fcntl(own, F_GETFD) & FD_CLOEXEC) != 0);
	reader_end(fd);
}

/* One that has stopped stops nobody else, and gets lines again when it goes on. */
static void syslog_stalled(void **state)
{
	(void)state;
	int fd = reader_begin(LOG_LINE), lines = 0, got = 0;
	catch_begin();
	struct pollfd p = { .fd = pipe_end, .events = POLLIN };
	for (; poll(&p, 1, 0) == 0; lines++)
		log_info("%d", lines);
	for (int i = 0; i < 100; i++)
		log_info("%d", lines++);
	const char *here = catch_end();
	assert_int_equal(count(here, '\n'), 101);
	for (; *reader_line(fd) != '\0'; got++)
		continue;
	assert_int_equal(got, lines - 101);
	log_info("at last");
	assert_true(matches(reader_line(fd), ": at last$"));
	reader_end(fd);
}

/* A child has its parent's socket, and no line goes down the channel between them. */
static void syslog_of_a_child(void **state)
{
	(void)state;
	char octets[100];
	int fd = reader_begin(LOG_LINE), channel;
	pid_t pid = child_start(&channel);
	assert_true(pid >= 0);
	if (pid == 0) {
		log_warn("from the child");
		_exit(logsocket_descriptor() >= 0 ? 0 : 1);
	}
	assert_int_equal(io_read_full(channel, octets, sizeof octets), 0);
	close(channel);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(matches(reader_line(fd), "warning: from the child$"));
	reader_end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_lines),
		cmocka_unit_test(held_writes),
		cmocka_unit_test(pids),
		cmocka_unit_test(shape),
		cmocka_unit_test(neutered),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(ndjson),
		cmocka_unit_test(text_buffers),
		cmocka_unit_test(deaths),
		cmocka_unit_test(keeps_errno),
		cmocka_unit_test(syslog_shape),
		cmocka_unit_test(syslog_restarted),
		cmocka_unit_test(syslog_by_stream),
		cmocka_unit_test(syslog_stalled),
		cmocka_unit_test(syslog_of_a_child),
	};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
