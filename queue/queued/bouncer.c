/* bouncer - room: queue (queued). See bouncer.h. */
#include "bouncer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

/* A message with 20,000 recipients that all failed, with the longest of texts. */
#define OUT_MAX (64u << 20)
#define OUT_ENOUGH 65536u
#define RETRY_MS (5u * SECOND_MS)

void bouncer_init(struct bouncer *b, struct store *store) {
	*b = (struct bouncer){ .store = store, .place = -1 };
	record_writer_init(&b->out, -1, OUT_MAX);
}

static void close_fifo(struct bouncer *b) {
	if (b->out.fd >= 0)
		close(b->out.fd);
	record_writer_free(&b->out);
	record_writer_init(&b->out, -1, OUT_MAX);
}

void bouncer_close(struct bouncer *b) {
	close_fifo(b);
	record_writer_free(&b->out);
}

void bouncer_prepare(struct bouncer *b, struct turn *turn) {
	b->place = turn_watch(turn, b->out.fd, record_writer_pending(&b->out) ? POLLOUT : 0);
	if (b->owing)
		turn_until(turn, b->retry);
}

/* What was in the fifo or in its hands may not have been reported. Should a report come all the same, the batch it names is done. */
static void lose_reader(struct bouncer *b, wall_ms_t now) {
	close_fifo(b);
	store_give_back_bounces(b->store, now);
	b->owing = true;
	log_info("bounce has gone; what it had is due again");
}

void bouncer_run(struct bouncer *b, const struct turn *turn, wall_ms_t now) {
	if (b->out.fd >= 0 && (turn_events(turn, b->place) & POLLERR))
		lose_reader(b, now);
	b->place = -1;
}

static bool has_reader(struct bouncer *b, deadline_t now) {
	if (b->out.fd >= 0)
		return true;
	if (!deadline_passed(b->retry, now) && b->retry)
		return false;
	b->out.fd = io_open_fifo_write(AT_FDCWD, FIFO_BOUNCE);
	b->retry = deadline_in(now, RETRY_MS);
	if (b->out.fd < 0 && !b->missed)
		log_warn("there are failures to report and nobody reads %s (is bounce running?): %s", FIFO_BOUNCE, strerror(errno));
	b->missed = b->out.fd < 0;
	return !b->missed;
}

static bool write_bounce(struct bouncer *b, const struct store_bounce *claimed) {
	struct str *out = &b->out.buffer;
	size_t before = out->len;
	bool whole = bounce_begin_encode(&claimed->begin, out);
	for (uint32_t i = 0; whole && i < claimed->begin.rcpt_count; i++)
		whole = bounce_rcpt_encode(&claimed->rcpts[i], out);
	if (!whole)
		str_truncate(out, before);
	return whole;
}

bool bouncer_claim(struct bouncer *b, const struct turn *turn, wall_ms_t now, size_t *claimed_r) {
	struct store_bounce claimed;
	enum store_result result = STORE_OK;
	if (b->out.fd < 0 && b->retry && !deadline_passed(b->retry, turn->now))
		return true;
	b->owing = false;
	while (b->out.buffer.len - b->out.sent < OUT_ENOUGH && (result = store_claim_bounce(b->store, now, &claimed)) == STORE_OK) {
		if (!has_reader(b, turn->now)) {
			store_give_back_bounces(b->store, now);
			b->owing = true;
			return true;
		}
		if (write_bounce(b, &claimed))
			++*claimed_r;
		else
			log_msg(claimed.begin.id, "warning: its failures could not be handed to bounce");
	}
	if (b->out.fd >= 0 && record_writer_push(&b->out) < 0)
		lose_reader(b, now);
	return result != STORE_FATAL;
}
