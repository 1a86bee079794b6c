/* test_conn - what a server said before it closed counts, also when it came after the look at the socket. send is answered here (link with --wrap). */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"
#include "remote/conn.h"

static int server;
static const char *last_words;

ssize_t __wrap_send(int fd, const void *octets, size_t n, int flags);

/* Between poll and send the server spoke, perhaps, and reset the connection. */
ssize_t __wrap_send(int fd, const void *octets, size_t n, int flags)
{
	(void)fd;
	(void)octets;
	(void)n;
	(void)flags;
	assert_int_equal(write(server, last_words, strlen(last_words)), strlen(last_words));
	errno = ECONNRESET;
	return -1;
}

static enum conn_result send_to_one_that_says(struct conn *c, const char *words)
{
	int pair[2];

	last_words = words;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	conn_init(c);
	c->fd = pair[0];
	server = pair[1];
	return conn_send(c, LIT("the message\r\n"), deadline_in(clock_monotonic_ms(), 120 * SECOND_MS));
}

static void test_refusal_with_the_reset(void **state)
{
	struct conn c;

	(void)state;
	assert_int_equal(send_to_one_that_says(&c, "554 5.6.0 no\r\n"), CONN_EARLY);
	assert_int_equal(conn_reply(&c, deadline_in(clock_monotonic_ms(), 120 * SECOND_MS)), CONN_OK);
	assert_int_equal(c.reply.code, 554);
	close(server);
	conn_free(&c);
}

static void test_reset_without_a_word(void **state)
{
	struct conn c;

	(void)state;
	assert_int_equal(send_to_one_that_says(&c, ""), CONN_LOST);
	assert_int_equal(c.error, ECONNRESET);
	close(server);
	conn_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusal_with_the_reset),
		cmocka_unit_test(test_reset_without_a_word),
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
