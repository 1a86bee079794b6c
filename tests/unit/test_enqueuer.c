/* test_enqueuer - what leaves the session on its way to enqueue is what common/channel.c would write, however it was gathered. The pipe's
 * other end is read here: no program is started. */
#include "unit.h"
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "common/io.h"
#include "smtpd/enqueuer.h"

struct setup { struct enqueuer e; int to, from; };

static void open_setup(struct setup *s)
{
	int in[2], out[2];
	enqueuer_init(&s->e);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	io_set_nonblocking(in[1], true);
	s->e.to = in[1];
	s->e.from = out[0];
	record_reader_init(&s->e.reader, s->e.from);
	s->to = in[0];
	s->from = out[1];
}

static void close_setup(struct setup *s)
{
	enqueuer_free(&s->e);
	close(s->to);
	close(s->from);
}

/* Everything in the pipe: envelope and body put together, and the body_size of the commit. */
static void read_message(struct setup *s, struct str *envelope, struct str *body, uint64_t *size_r)
{
	struct record_reader reader;
	struct record record;
	struct envelope_part envelope_part;
	struct body_part body_part;
	struct mail_begin mail_begin;
	struct mail_commit commit = { 0 };
	record_reader_init(&reader, s->to);
	assert_int_equal(record_reader_wait(&reader, &record, 0), 1);
	assert_int_equal(record.type, REC_mail_begin);
	assert_true(mail_begin_decode(record.payload, &mail_begin));
	assert_int_equal(mail_begin.id_offset, 3);
	while (record_reader_wait(&reader, &record, 0) == 1 && record.type != REC_mail_commit) {
		if (envelope_part_decode(record.payload, &envelope_part) && record.type == REC_envelope_part)
			str_add(envelope, envelope_part.octets);
		else if (record.type == REC_body_part && body_part_decode(record.payload, &body_part))
			str_add(body, body_part.octets);
		else
			fail();
	}
	assert_true(mail_commit_decode(record.payload, &commit));
	*size_r = commit.body_size;
	record_reader_free(&reader);
}

static void put_answer(struct setup *s, unsigned result, msgid_t id)
{
	struct str out = STR_INIT(100);
	assert_true(mail_result_encode(&(struct mail_result){ .result = (uint8_t)result, .id = id }, &out));
	assert_int_equal(io_write_full(s->from, out.at, out.len), 0);
	str_free(&out);
}

static void send_one(struct setup *s, size_t envelope_size, size_t piece, size_t pieces)
{
	struct str envelope = STR_INIT(1 << 20), body = STR_INIT(1 << 20), expected = STR_INIT(1 << 20);
	static char octets[40000], address[100000];
	msgid_t id;
	uint64_t size;
	for (size_t i = 0; i < sizeof octets; i++)
		octets[i] = (char)(i * 7 + i / 256);
	memset(address, 'e', sizeof address);
	put_answer(s, 0, 77);
	enqueuer_begin(&s->e, (struct bytes){ address, envelope_size }, LIT("id ............\r\n"), 3);
	str_add(&expected, LIT("id ............\r\n"));
	for (size_t i = 0; i < pieces; i++) {
		struct bytes spans[3] = { { octets, piece / 3 }, { octets + piece / 3, 0 }, { octets + piece / 3, piece - piece / 3 } };
		enqueuer_body(&s->e, spans, 3);
		str_add(&expected, (struct bytes){ octets, piece });
	}
	assert_int_equal(enqueuer_commit(&s->e, &id), 0);
	assert_int_equal(id, 77);
	read_message(s, &envelope, &body, &size);
	assert_int_equal(envelope.len, envelope_size);
	assert_int_equal(size, expected.len);
	assert_true(bytes_equal(str_bytes(&body), str_bytes(&expected)));
	str_free(&envelope);
	str_free(&body);
	str_free(&expected);
}

static void test_messages(void **state)
{
	static const struct { size_t envelope, piece, pieces; } cases[] = { { 10, 0, 0 }, { 10, 1, 1 }, { 10, 1, 9000 }, { 10, 4096, 1 }, { 10, 8191, 3 }, { 10, 8192, 3 },
		{ 10, 8193, 3 }, { 10, 32768, 9 }, { 32768, 100, 2 }, { 32769, 40000, 2 }, { 100000, 7, 7 } };
	struct setup s;
	(void)state;
	open_setup(&s);
	for (size_t i = 0; i < COUNT(cases); i++)
		send_one(&s, cases[i].envelope, cases[i].piece, cases[i].pieces);
	close_setup(&s);
}

static void test_abort(void **state)
{
	struct setup s;
	char octets[65536];
	static char body[20000];
	(void)state;
	open_setup(&s);
	/* Nothing was written yet: nothing is. */
	enqueuer_begin(&s.e, LIT("F"), LIT("id ............"), 3);
	enqueuer_abort(&s.e);
	io_set_nonblocking(s.to, true);
	assert_int_equal(read(s.to, octets, sizeof octets), -1);
	/* Something was: the last record says so. */
	enqueuer_begin(&s.e, LIT("F"), LIT("id ............"), 3);
	enqueuer_body(&s.e, &(struct bytes){ body, sizeof body }, 1);
	enqueuer_abort(&s.e);
	ssize_t n = read(s.to, octets, sizeof octets);
	assert_true(n > 20000);
	struct record record;
	size_t used;
	assert_int_equal(record_take((struct bytes){ octets + n - RECORD_HEAD - 1, RECORD_HEAD + 1 }, &record, &used), RECORD_OK);
	assert_int_equal(record.type, REC_mail_abort);
	close_setup(&s);
}

/* A child that is not there any more: no message is lost to it, and none is called queued. */
static void test_dead_child(void **state)
{
	struct setup s;
	msgid_t id;
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	open_setup(&s);
	enqueuer_begin(&s.e, LIT("F"), LIT("id ............"), 3);
	close(s.from);
	s.from = dup(s.to);
	assert_int_not_equal(enqueuer_commit(&s.e, &id), 0);
	assert_int_equal(id, 0);
	assert_int_equal(s.e.to, -1);
	close_setup(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_messages), cmocka_unit_test(test_abort), cmocka_unit_test(test_dead_child) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
