/* test_enqueuer - what leaves the session on its way to enqueue is what common/channel.c would write, however it was gathered; and who is
 * believed about what became of it. The other ends are read and written here: no program is started. */
#include "unit.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/io.h"
#include "smtpd/ask/enqueuer.h"

struct setup { struct enqueuer e; int to, from; };

static void open_setup(struct setup *s)
{
	int in[2], out[2];
	enqueuer_init(&s->e);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
	fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	io_set_nonblocking(in[1], true);
	s->e.to = in[1];
	s->e.from = out[0];
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
	static char octets[250000], address[100000];
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
		{ 10, 8193, 3 }, { 10, 32768, 9 }, { 32768, 100, 2 }, { 32769, 40000, 2 }, { 100000, 7, 7 },
		{ 10, 66000, 1 }, { 10, 250000, 2 } };
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

/* ---- who tells the answer */

struct fifo { int read, write; };

/* The next answer of the child is there already, and the fifo's read end with it. */
static struct fifo put_lending_answer(struct setup *s, unsigned result, msgid_t id)
{
	struct str out = STR_INIT(100);
	struct fifo fifo;
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	fifo = (struct fifo){ ends[0], ends[1] };
	assert_true(mail_result_encode(&(struct mail_result){ .result = (uint8_t)result, .id = id }, &out));
	union { char octets[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = { .octets = "" };
	struct iovec iov = { out.at, out.len };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof control.octets };
	*CMSG_FIRSTHDR(&message) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fifo.read, sizeof fifo.read);
	assert_int_equal(sendmsg(s->from, &message, 0), (ssize_t)out.len);
	close(fifo.read);
	str_free(&out);
	return fifo;
}

static void put_ack(const struct fifo *fifo, uint64_t token_a, uint64_t token_b, unsigned result, msgid_t id)
{
	struct str out = STR_INIT(100);
	assert_true(ack_encode(&(struct ack){ token_a, token_b, (uint8_t)result, id }, &out));
	assert_int_equal(write(fifo->write, out.at, out.len), (ssize_t)out.len);
	str_free(&out);
}

/* What the child hears, "begin body offer:5" and so on; nothing: "". */
static void assert_heard(struct setup *s, const char *expected)
{
	struct record_reader reader;
	struct record record;
	struct mail_offer mail_offer = { 0 };
	struct mail_answered answered = { 0 };
	struct str heard = STR_INIT(1000);
	record_reader_init(&reader, s->to);
	io_set_nonblocking(s->to, true);
	while (record_reader_fill(&reader) > 0)
		while (record_reader_next(&reader, &record) == RECORD_OK) {
			str_addf(&heard, "%s%s", heard.len ? " " : "", record_name(record.type));
			if (mail_offer_decode(record.payload, &mail_offer) && record.type == REC_mail_offer)
				str_addf(&heard, ":%u", (unsigned)mail_offer.token_b);
			if (mail_answered_decode(record.payload, &answered) && record.type == REC_mail_answered)
				str_addf(&heard, ":%u", (unsigned)answered.token_a);
		}
	assert_string_equal(str_c(&heard), expected);
	str_free(&heard);
	record_reader_free(&reader);
}

#define TRACE LIT("id ............")

static void begin(struct setup *s)
{
	enqueuer_begin(&s->e, LIT("F"), TRACE, 3);
}

static void assert_committed(struct setup *s, int result, msgid_t expected)
{
	msgid_t id;
	begin(s);
	assert_int_equal(enqueuer_commit(&s->e, &id), result);
	assert_int_equal(id, expected);
}

/* A setup whose child has answered once and lent its fifo; the next message is number 101. */
static struct fifo open_lent(struct setup *s)
{
	open_setup(s);
	s->e.number = 100;
	struct fifo fifo = put_lending_answer(s, 0, 1);
	assert_committed(s, 0, 1);
	assert_true(s->e.ack >= 0);
	assert_heard(s, "mail_begin envelope_part body_part mail_commit");
	return fifo;
}

static void close_lent(struct setup *s, struct fifo *fifo)
{
	close(fifo->write);
	close_setup(s);
}

static void test_queued_tells(void **state)
{
	struct setup s;
	(void)state;
	struct fifo fifo = open_lent(&s);
	put_ack(&fifo, 7, 101, 0, 55);
	assert_committed(&s, 0, 55);
	assert_heard(&s, "mail_begin envelope_part body_part mail_offer:101");
	/* It was answered: there is nothing to abort. */
	enqueuer_abort(&s.e);
	assert_heard(&s, "");
	/* The proof goes before the next message, once, whatever queued said; not before there is one. */
	begin(&s);
	enqueuer_abort(&s.e);
	assert_heard(&s, "");
	put_ack(&fifo, 8, 102, 59, 0);
	assert_committed(&s, 59, 0);
	assert_heard(&s, "mail_answered:7 mail_begin envelope_part body_part mail_offer:102");
	put_ack(&fifo, 9, 103, 0, 57);
	assert_committed(&s, 0, 57);
	assert_heard(&s, "mail_answered:8 mail_begin envelope_part body_part mail_offer:103");
	close_lent(&s, &fifo);
}

/* Answers about earlier messages, and what is no answer at all. */
static void test_late_answers(void **state)
{
	struct setup s;
	(void)state;
	struct fifo fifo = open_lent(&s);
	for (unsigned i = 0; i < 1000; i++)
		put_ack(&fifo, 6, 100, 0, 54);
	put_ack(&fifo, 6, 102, 0, 54);
	put_ack(&fifo, 7, 101, 0, 55);
	put_ack(&fifo, 7, 101, 66, 0);
	assert_committed(&s, 0, 55);
	assert_int_equal(write(fifo.write, "garbage that is no record", 25), 25);
	put_ack(&fifo, 7, 102, 0, 56);
	put_answer(&s, 66, 0);
	assert_committed(&s, 66, 0);
	close_lent(&s, &fifo);
}

/* Nothing came: the child is asked, and only the child is heard from then on. A fifo that it does not lend again is not used again. */
static void test_no_answer_in_time(void **state)
{
	struct setup s;
	(void)state;
	struct fifo fifo = open_lent(&s);
	pid_t child = fork();
	if (child == 0) {
		struct record_reader reader;
		struct record record;
		record_reader_init(&reader, s.to);
		while (record_reader_wait(&reader, &record, 0) == 1 && record.type != REC_mail_unanswered)
			continue;
		put_ack(&fifo, 7, 101, 0, 55);
		put_answer(&s, 0, 77);
		_exit(0);
	}
	assert_true(child > 0);
	assert_committed(&s, 0, 77);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(s.e.ack, -1);
	put_answer(&s, 0, 78);
	assert_committed(&s, 0, 78);
	assert_heard(&s, "mail_begin envelope_part body_part mail_commit");
	close_lent(&s, &fifo);
}

/* The child could not offer it. What it lends now takes the place of what it had lent. */
static void test_child_tells(void **state)
{
	struct setup s;
	(void)state;
	struct fifo old = open_lent(&s), fifo = put_lending_answer(&s, 0, 0);
	assert_committed(&s, 0, 0);
	assert_heard(&s, "mail_begin envelope_part body_part mail_offer:101");
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(write(old.write, "x", 1), -1);   /* nobody reads it any more */
	put_ack(&fifo, 8, 102, 0, 55);
	assert_committed(&s, 0, 55);
	assert_heard(&s, "mail_begin envelope_part body_part mail_offer:102");
	close(old.write);
	close_lent(&s, &fifo);
}

/* An answer that is there counts, whatever became of the child: the message is on disk. Without one nothing is promised. */
static void test_child_dies(void **state)
{
	struct setup s;
	(void)state;
	struct fifo fifo = open_lent(&s);
	put_ack(&fifo, 7, 101, 0, 55);
	shutdown(s.from, SHUT_RDWR);
	assert_committed(&s, 0, 55);
	msgid_t id;
	begin(&s);
	assert_int_not_equal(enqueuer_commit(&s.e, &id), 0);
	assert_int_equal(id, 0);
	assert_int_equal(s.e.to, -1);
	assert_int_equal(s.e.ack, -1);
	close_lent(&s, &fifo);
}

/* A message whose body has `octets` octets, begin's included. */
static void give(struct setup *s, size_t octets)
{
	static char body[MAIL_OFFER_MAX + 1];
	begin(s);
	for (size_t left = octets - TRACE.len, piece; left > 0; left -= piece) {
		piece = left < 50000 ? left : 50000;
		enqueuer_body(&s->e, &(struct bytes){ body, piece }, 1);
	}
}

/* Long messages are not offered, and after an abort that the child was told of its fifo may be another. */
static void test_not_offered(void **state)
{
	struct setup s;
	msgid_t id;
	(void)state;
	struct fifo fifo = open_lent(&s);
	put_ack(&fifo, 7, 101, 0, 76);
	give(&s, MAIL_OFFER_MAX);
	assert_int_equal(enqueuer_commit(&s.e, &id), 0);
	assert_heard(&s, "mail_begin envelope_part body_part body_part body_part mail_offer:101");
	put_answer(&s, 0, 77);
	give(&s, MAIL_OFFER_MAX + 1);
	assert_int_equal(enqueuer_commit(&s.e, &id), 0);
	assert_heard(&s, "mail_answered:7 mail_begin envelope_part body_part body_part body_part mail_commit");
	assert_int_equal(s.e.ack, -1);
	close(fifo.write);
	fifo = put_lending_answer(&s, 0, 78);
	assert_committed(&s, 0, 78);
	give(&s, 60000);
	enqueuer_abort(&s.e);
	assert_int_equal(s.e.ack, -1);
	close_lent(&s, &fifo);
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

/* A child that does not end at once is not waited for, and leaves no zombie when it does. */
static void test_slow_child(void **state)
{
	struct setup s;
	msgid_t id;
	int hold[2];
	char octet;
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	open_setup(&s);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid_t child = s.e.pid = fork();
	if (child == 0) {
		close(hold[1]);
		_exit(read(hold[0], &octet, 1) != 0);
	}
	enqueuer_begin(&s.e, LIT("F"), LIT("id ............"), 3);
	shutdown(s.from, SHUT_RDWR);
	assert_int_not_equal(enqueuer_commit(&s.e, &id), 0);
	assert_int_equal(kill(child, 0), 0);
	close(hold[1]);
	for (int tries = 0; tries < 12000 && kill(child, 0) == 0; tries++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	assert_int_equal(kill(child, 0), -1);
	close(hold[0]);
	close_setup(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_messages), cmocka_unit_test(test_abort), cmocka_unit_test(test_queued_tells),
		cmocka_unit_test(test_late_answers), cmocka_unit_test(test_no_answer_in_time), cmocka_unit_test(test_child_tells), cmocka_unit_test(test_child_dies),
		cmocka_unit_test(test_not_offered), cmocka_unit_test(test_dead_child), cmocka_unit_test(test_slow_child) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
