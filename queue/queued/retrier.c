/* retrier - room: queue (queued). See retrier.h. */
#include "retrier.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "queue/operation.h"

#define RETRY_EVERY_MS (60 * SECOND_MS)
#define TAKE_TURN 16u            /* wishes taken in one turn */
#define LOOK_TURN 200u           /* destinations looked at in one turn */

bool retrier_open(struct retrier *r, struct store *store, const struct settings *settings) {
	*r = (struct retrier){ .store = store, .settings = settings, .place = -1, .keep = -1, .cursor = STR_INIT(DESTINATION_MAX + 1) };
	r->fifo = io_open_fifo_read(AT_FDCWD, FIFO_RETRY);
	if (r->fifo >= 0)
		r->keep = io_open_fifo_write(AT_FDCWD, FIFO_RETRY);
	record_reader_init(&r->in, r->fifo);
	return r->keep >= 0;
}

void retrier_close(struct retrier *r) {
	record_reader_free(&r->in);
	str_free(&r->cursor);
	if (r->fifo >= 0)
		close(r->fifo);
	if (r->keep >= 0)
		close(r->keep);
}

static bool has_work(const struct retrier *r) {
	for (size_t i = 0; i < RETRIER_MAX; i++)
		if (r->retry[i].waits)
			return true;
	return r->current != NULL;
}

void retrier_prepare(struct retrier *r, struct turn *turn) {
	r->place = turn_watch(turn, r->fifo, POLLIN);
	if (has_work(r))
		turn_until(turn, turn->now);
}

/* ---- wishes ---- */

/* A place for it, or NULL: it was wished for a short while ago, or too many were. */
static struct retry *find_place(struct retrier *r, struct bytes domain, bool below, deadline_t now, bool *again_r) {
	struct retry *place = NULL;
	*again_r = false;
	for (size_t i = 0; i < RETRIER_MAX; i++) {
		struct retry *t = &r->retry[i];
		bool over = !t->waits && t != r->current && (t->until == 0 || deadline_passed(t->until, now));
		if (over)
			place = t;
		else if (t->below == below && bytes_equal_nocase(bytes_of(t->domain), domain))
			*again_r = true;
	}
	return *again_r ? NULL : place;
}

static bool take_wish(struct retrier *r, const struct record *record, deadline_t now) {
	struct retry_domain wish;
	bool again;
	if (record->type != REC_retry_domain || !retry_domain_decode(record->payload, &wish) || !domain_valid(wish.domain, true) || wish.below > 1)
		return false;
	struct retry *t = find_place(r, wish.domain, wish.below == 1, now, &again);
	log_info("ETRN %s%s from %s%s", wish.below ? "@" : "", log_text(wish.domain), log_text(wish.client),
		t ? "" : again ? ": let go, it was tried within the last minute" : ": let go, too many domains within the last minute");
	if (t == NULL)
		return true;
	*t = (struct retry){ .below = wish.below == 1, .waits = true, .until = deadline_in(now, RETRY_EVERY_MS) };
	bytes_to_cstring(wish.domain, t->domain, sizeof t->domain);
	return true;
}

static void complain(struct retrier *r, deadline_t now) {
	if (turn_may_say(&r->complained, now))
		log_warn("garbage in %s is skipped", FIFO_RETRY);
}

/* What one smtpd writes comes as a whole: behind octets that make no record nothing can be told apart, and they are let go. */
static void take_wishes(struct retrier *r, deadline_t now) {
	struct record record;
	for (unsigned i = 0; i < TAKE_TURN; i++) {
		enum record_result got = record_reader_next(&r->in, &record);
		bool bad = got == RECORD_BAD;
		if (got == RECORD_OK)
			bad = !take_wish(r, &record, now);
		else if (got == RECORD_MORE && record_reader_fill(&r->in) <= 0)
			bad = record_reader_rest(&r->in).len > 0;
		if (bad) {
			complain(r, now);
			if (got != RECORD_OK)
				record_reader_take(&r->in, record_reader_rest(&r->in).len);
		} else if (got == RECORD_MORE && record_reader_rest(&r->in).len == 0) {
			return;
		}
	}
}

/* ---- carrying out ---- */

static bool flush(struct retrier *r, struct bytes destination, wall_ms_t now) {
	struct operate op = { .op = OP_FLUSH_DESTINATION, .index = OPERATION_ALL_RCPTS, .reason = destination, .who = LIT("ETRN") };
	struct str answer = STR_INIT(1000);
	enum store_result result = store_operate(r->store, &op, now, &answer);
	str_free(&answer);
	return result != STORE_FATAL;
}

/* Where mail for the domain itself goes: by its name, or by an smtproute. What is delivered here has no destination that could be tried. */
static bool flush_domain(struct retrier *r, wall_ms_t now) {
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	struct route route = { .channel = CHANNEL_LOCAL };
	str_add_c(&text, "postmaster@");
	str_add_c(&text, r->current->domain);
	if (!text.failed && mailaddr_parse(str_bytes(&text), &addr) == ADDR_OK)
		route_find(r->settings, &addr, &route);
	bool good = route.channel != CHANNEL_REMOTE || flush(r, (struct bytes){ route.destination, route.destination_len }, now);
	str_free(&text);
	return good;
}

static bool is_below(struct bytes destination, const char *domain) {
	struct bytes host = bytes_slice(destination, 2, destination.len), name = bytes_of(domain);
	return bytes_starts_nocase(destination, LIT("r:")) && host.len > name.len && bytes_ends_nocase(host, name) && host.at[host.len - name.len - 1] == '.';
}

/* One after the other: a second flush would have to wait for the first anyway, and hold up the turn meanwhile. */
static bool look_below(struct retrier *r, wall_ms_t now) {
	for (unsigned i = 0; i < LOOK_TURN && !store_flushing(r->store); i++) {
		enum store_result result = store_next_destination(r->store, &r->cursor);
		if (result != STORE_OK) {
			r->current = NULL;
			return result != STORE_FATAL;
		}
		if (is_below(str_bytes(&r->cursor), r->current->domain) && !flush(r, str_bytes(&r->cursor), now))
			return false;
	}
	return true;
}

static bool begin_next(struct retrier *r, wall_ms_t now) {
	struct retry *t = r->retry;
	while (t < r->retry + RETRIER_MAX && !t->waits)
		t++;
	if (t == r->retry + RETRIER_MAX)
		return true;
	t->waits = false;
	r->current = t;
	str_clear(&r->cursor);
	bool good = flush_domain(r, now);
	if (!t->below)
		r->current = NULL;
	return good;
}

bool retrier_run(struct retrier *r, const struct turn *turn, wall_ms_t now) {
	if (turn_events(turn, r->place))
		take_wishes(r, turn->now);
	if (store_flushing(r->store))
		return true;
	return r->current != NULL ? look_below(r, now) : begin_next(r, now);
}
