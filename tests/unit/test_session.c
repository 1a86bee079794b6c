/* test_session - what connections of one process share: the line buffer, without an octet of the client before, and the options of the listening
 * socket. */
#include "unit.h"
#include "smtpd/session/session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static struct settings settings = { .me = LIT("mx.test"), .databytes = 100000, .maxrcpt = 2, .maxhops = 10, .maxerrors = 1000, .timeoutsmtpd = 300 };
static struct access access_rules;

static int prepare(void **state)
{
	(void)state;
	return access_init(&access_rules, &settings) ? 0 : -1;
}

/* A client says so many octets, without an end of line, and goes. */
static void be_told(struct linein *kept, char octet, size_t n)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]" };
	struct enqueuer enqueuer;
	struct session s;
	size_t room;
	enqueuer_init(&enqueuer);
	assert_true(session_init(&s, &(struct session_start){ .access = &access_rules, .enqueuer = &enqueuer, .peer = &peer, .in = -1, .out = -1, .lines = kept }));
	char *at = linein_space(&s.lines, &room);
	assert_true(room >= SESSION_READ);
	memset(at, octet, n);
	linein_fed(&s.lines, n);
	assert_false(session_process(&s));
	session_free(&s);
	enqueuer_free(&enqueuer);
}

static void test_buffer(void **state)
{
	struct linein kept = { 0 };
	(void)state;
	be_told(&kept, 'a', 5000);
	assert_non_null(kept.buffer);
	const char *first = kept.buffer;
	for (size_t i = 0; i < kept.room; i++)
		assert_int_equal(kept.buffer[i], 0);
	assert_false(kept.skipping);
	assert_int_equal(linein_rest(&kept).len, 0);
	be_told(&kept, 'b', 10);
	assert_ptr_equal(kept.buffer, first);
	/* One that used much of it gives the memory back. */
	be_told(&kept, 'c', 30000);
	assert_null(kept.buffer);
	be_told(&kept, 'd', 10);
	assert_non_null(kept.buffer);
	linein_free(&kept);
}

static void test_options(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	struct settings others = settings;
	(void)state;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listening, 1), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &len), 0);
	assert_false(session_is_prepared(listening, &settings));
	session_prepare_socket(listening, &settings);
	assert_true(session_is_prepared(listening, &settings));
	assert_int_equal(connect(client, (struct sockaddr *)&at, len), 0);
	int accepted = accept(listening, NULL, NULL);
	assert_true(accepted >= 0);
	assert_true(session_is_prepared(accepted, &settings));   /* Linux; elsewhere each connection would be prepared */
	assert_false(session_is_prepared(client, &settings));
	others.timeoutsmtpd = 5;
	assert_false(session_is_prepared(accepted, &others));
	assert_false(session_is_prepared(-1, &settings));
	close(accepted);
	close(client);
	close(listening);
}

static void say(struct session *s, const char *octets)
{
	size_t room, n = strlen(octets);
	memcpy(linein_space(&s->lines, &room), octets, n);
	linein_fed(&s->lines, n);
	assert_false(session_process(s));
	str_clear(&s->replies);
}

/* Time for slow data is one message's: a further chunk does not begin it anew. One that is of no message has its own. */
static void test_time_of_chunks(void **state)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]" };
	struct enqueuer enqueuer;
	struct session s;
	(void)state;
	enqueuer_init(&enqueuer);
	assert_true(session_init(&s, &(struct session_start){ .access = &access_rules, .enqueuer = &enqueuer, .peer = &peer, .may_relay = true, .in = -1, .out = -1 }));
	say(&s, "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 6\r\nA: b");
	assert_int_equal(s.state, ST_CHUNK);
	deadline_t began = s.data_began -= 5000;
	say(&s, "\r\nBDAT 100\r\n");
	assert_int_equal(s.state, ST_CHUNK);
	assert_true(s.chunk.wanted && s.data_began == began);
	for (int i = 0; i < 10; i++)
		say(&s, "A: 567890\n");
	assert_int_equal(s.state, ST_GREETED);   /* a bare LF: the next chunk is not wanted */
	say(&s, "BDAT 100 LAST\r\n");
	assert_true(s.state == ST_CHUNK && !s.chunk.wanted && s.data_began > began);
	session_free(&s);
	enqueuer_free(&enqueuer);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_buffer), cmocka_unit_test(test_time_of_chunks), cmocka_unit_test(test_options) };
	return cmocka_run_group_tests(tests, prepare, NULL);
}
