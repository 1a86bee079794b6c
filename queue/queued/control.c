/* control - room: queue (queued). See control.h. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define ANSWER_MAX 1000u
#define STEPS_MAX (8 * CONTROL_TURN)

bool control_open(struct control *c, struct store *store) {
	memset(c, 0, sizeof(*c));
	c->store = store;
	c->place = c->keep = -1;
	for (size_t i = 0; i < CONTROL_TURN; i++)
		str_init(&c->answer[i].text, ANSWER_MAX);
	c->dir = open(SPOOL_REPLY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_PATH);
	c->fifo = io_open_fifo_read(AT_FDCWD, FIFO_CONTROL);
	if (c->fifo >= 0)
		c->keep = io_open_fifo_write(AT_FDCWD, FIFO_CONTROL);
	record_reader_init(&c->in, c->fifo);
	return c->dir >= 0 && c->keep >= 0;
}

void control_close(struct control *c) {
	for (size_t i = 0; i < CONTROL_TURN; i++)
		str_free(&c->answer[i].text);
	record_reader_free(&c->in);
	const int fds[] = { c->dir, c->fifo, c->keep };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

void control_prepare(struct control *c, struct turn *turn) {
	c->place = turn_watch(turn, c->fifo, POLLIN);
	if (c->more)
		turn_until(turn, turn->now);
}

/* A name in reply/ and nothing else: no path, no hidden file. */
static bool reply_name_valid(struct bytes name) {
	static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
	if (name.len == 0 || name.len > 64)
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (!memchr(alphabet, name.at[i], sizeof(alphabet) - 1))
			return false;
	return true;
}

static bool take_operation(struct control *c, const struct record *record, wall_ms_t now) {
	struct operate op;
	if (record->type != REC_operate || !operate_decode(record->payload, &op) || !reply_name_valid(op.reply))
		return false;
	struct control_answer *answer = &c->answer[c->answers++];
	bytes_to_cstring(op.reply, answer->reply, sizeof(answer->reply));
	answer->token = op.token;
	str_clear(&answer->text);
	enum store_result result = store_operate(c->store, &op, now, &answer->text);
	answer->done = result == STORE_OK;
	c->lost |= result == STORE_FATAL;
	return true;
}

static void complain(struct control *c, deadline_t now) {
	if (turn_may_say(&c->complained, now))
		log_warn("garbage in %s is skipped", FIFO_CONTROL);
}

/* What each operator writes comes as a whole: so when the fifo is empty no record is half there. */
static bool fill(struct control *c) {
	if (record_reader_fill(&c->in) > 0)
		return true;
	c->more = false;
	return false;
}

/* Who lost his command by it asks again. */
static void drop_garbage(struct control *c) {
	record_reader_take(&c->in, record_reader_rest(&c->in).len);
}

bool control_run(struct control *c, const struct turn *turn, wall_ms_t now) {
	struct record record;
	if (!c->more && !turn_events(turn, c->place))
		return true;
	c->more = true;
	for (size_t steps = 0; steps < STEPS_MAX && c->more && c->answers < CONTROL_TURN && !c->lost; steps++) {
		enum record_result got = record_reader_next(&c->in, &record);
		bool bad = got == RECORD_BAD;
		if (got == RECORD_OK)
			bad = !take_operation(c, &record, now);
		else if (got == RECORD_MORE && !fill(c))
			bad = record_reader_rest(&c->in).len > 0;
		if (bad && got != RECORD_OK)
			drop_garbage(c);
		if (bad)
			complain(c, turn->now);
	}
	return !c->lost;
}

static void send_answer(const struct control *c, const struct control_answer *answer, bool lost, struct str *octets) {
	struct operated operated = { .token = answer->token, .done = answer->done && !lost, .text = str_bytes(&answer->text) };
	if (lost)
		operated.text = LIT("the queue failed; it starts anew");
	str_clear(octets);
	int fd = operated_encode(&operated, octets) ? io_open_fifo_write(c->dir, answer->reply) : -1;
	if (fd < 0)
		return;
	(void)!write(fd, octets->at, octets->len);   /* refused: he has gone or does not read */
	close(fd);
}

void control_answer_all(struct control *c, bool lost) {
	struct str octets = STR_INIT(PIPE_BUF);
	for (size_t i = 0; i < c->answers; i++)
		send_answer(c, &c->answer[i], lost, &octets);
	c->answers = 0;
	str_free(&octets);
}
