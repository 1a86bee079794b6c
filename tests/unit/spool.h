/*
 * spool - for tests of the store: a spool of its own in a temporary directory, a clock that the test turns, envelopes, events as text,
 * the index as text, and a crash: a copy of the directory as it is, opened as if the first had died.
 */
#ifndef TESTS_SPOOL_H
#define TESTS_SPOOL_H

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/places.h"
#include "queue/store/store_inside.h"
#include "unit.h"

#define SPOOL_START UINT64_C(1790000000000)
#define SEGMENT_TINY 65536u
#define DAY_MS (UINT64_C(86400) * SECOND_MS)

static struct bytes spool_locals[] = { { "local.example", 13 } };

struct spool {
	char top[512];          /* where the test was started */
	char dir[64];
	struct settings settings;
	wall_ms_t now;
	size_t segment_size;
	struct store *st;
	struct str events;      /* one line each; cleared by the test */
	uint64_t token;
};

/* ---- directories ---- */

static inline int spool_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void spool_remove(const char *dir)
{
	nftw(dir, spool_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char spool_copy_to[64];
static size_t spool_copy_from;

static inline void spool_copy_file(const char *from, const char *to)
{
	static char buffer[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ssize_t n;
	if (in < 0) {       /* the preparer renamed it this instant */
		close(out);
		unlink(to);
		return;
	}
	assert_true(out >= 0);
	while ((n = read(in, buffer, sizeof buffer)) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	close(in);
	close(out);
}

static inline int spool_copy_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	char to[512];
	(void)st;
	(void)ftw;
	snprintf(to, sizeof to, "%s%s", spool_copy_to, path + spool_copy_from);
	if (flag == FTW_D)
		mkdir(to, 0755);
	else if (flag == FTW_F)
		spool_copy_file(path, to);
	return 0;
}

static inline void spool_copy(const char *from, const char *to)
{
	snprintf(spool_copy_to, sizeof spool_copy_to, "%s", to);
	spool_copy_from = strlen(from);
	assert_int_equal(nftw(from, spool_copy_one, 16, FTW_PHYS), 0);
}

/* ---- events ---- */

static const char *const spool_event_name[] = { "accepted", "result", "expired", "bounced", "dropped", "operated", "finished", "quarantined" };

static inline void spool_event(void *context, const struct store_event *e)
{
	struct spool *sp = context;
	str_addf(&sp->events, "%s", spool_event_name[e->kind]);
	if (e->row) {
		str_addf(&sp->events, " %u ", e->rcpt);
		str_add(&sp->events, e->row->address);
		str_addf(&sp->events, " %s", rcpt_state_name(e->row->state));
	}
	if (e->text.len > 0) {
		str_add_c(&sp->events, " ");
		str_add(&sp->events, e->text);
	}
	str_add_c(&sp->events, "\n");
}

/* ---- open, close, crash ---- */

static inline struct settings spool_settings(void)
{
	return (struct settings){
		.queuelifetime = 604800, .bouncelifetime = 86400, .retryfirst = 400, .retrymax = 28800, .retrycurve = LIT("quadratic"),
		.destinationwindow = 20, .destinationstart = 5, .rcptpertransaction = 100, .finishedkeep = 10000, .indexsize = UINT64_C(1) << 28,
		.me = LIT("mx.example"), .locals = { .at = spool_locals, .count = 1 },
	};
}

static inline bool spool_try_open(struct spool *sp)
{
	struct str error = STR_INIT(1000);
	assert_int_equal(chdir(sp->dir), 0);
	sp->st = store_open_sized(&sp->settings, sp->now, spool_event, sp, sp->segment_size, &error);
	if (!sp->st)
		print_message("%s\n", str_c(&error));
	str_free(&error);
	return sp->st != NULL;
}

static inline void spool_open(struct spool *sp)
{
	assert_true(spool_try_open(sp));
}

static inline void spool_begin(struct spool *sp)
{
	*sp = (struct spool){ .settings = spool_settings(), .now = SPOOL_START, .segment_size = SEGMENT_TINY, .events = STR_INIT(1 << 20) };
	assert_non_null(getcwd(sp->top, sizeof sp->top));
	snprintf(sp->dir, sizeof sp->dir, "/tmp/tappal-test-XXXXXX");
	assert_non_null(mkdtemp(sp->dir));
	assert_int_equal(chdir(sp->dir), 0);
	mkdir("log", 0755);
	mkdir("index", 0755);
	mkdir("large", 0755);
	mkdir("intake", 0755);
}

static inline void spool_end(struct spool *sp)
{
	store_close(sp->st);
	str_free(&sp->events);
	assert_int_equal(chdir(sp->top), 0);
	spool_remove(sp->dir);
}

static inline void spool_reopen(struct spool *sp)
{
	store_close(sp->st);
	spool_open(sp);
}

/* What a crash would leave behind right now: a spool of its own, not yet opened. */
static inline void spool_crashed_copy(const struct spool *sp, struct spool *copy)
{
	spool_begin(copy);
	snprintf(copy->top, sizeof copy->top, "%s", sp->top);
	copy->settings = sp->settings;
	copy->now = sp->now;
	copy->segment_size = sp->segment_size;
	spool_copy(sp->dir, copy->dir);
}

/* Crash and go on. The dead one is thrown away without a sync or commit. */
static inline void spool_crash(struct spool *sp)
{
	struct spool copy;
	spool_crashed_copy(sp, &copy);
	sp->st->fatal = true;
	uint64_t token = sp->token;
	spool_end(sp);
	*sp = copy;
	sp->token = token;
	spool_open(sp);
}

/* ---- mail ---- */

/* "sender recipient recipient..."; recipient?NOTIFY; !WHO among them: held, by WHO */
static inline void spool_envelope(struct str *out, const char *words)
{
	struct bytes rest = bytes_of(words);
	struct mailaddr a;
	str_clear(out);
	struct bytes sender = bytes_cut(&rest, ' ');
	if (bytes_equal(sender, LIT("<>")))
		sender = LIT("");
	assert_int_equal(mailaddr_parse(sender, &a), ADDR_OK);
	assert_true(envelope_begin(out, &a));
	while (rest.len > 0) {
		struct bytes word = bytes_cut(&rest, ' ');
		if (word.at[0] == '!') {
			assert_true(envelope_add(out, 'Q', bytes_slice(word, 1, word.len)));
			continue;
		}
		struct bytes address = bytes_cut(&word, '?');
		assert_int_equal(mailaddr_parse(address, &a), ADDR_OK);
		assert_true(envelope_add_rcpt(out, &a));
		assert_true(word.len == 0 || envelope_add(out, 'N', word));
	}
	assert_true(envelope_end(out));
}

static inline enum store_result spool_try_accept(struct spool *sp, const char *words, struct bytes body, msgid_t *id_r)
{
	struct str raw = STR_INIT(ENVELOPE_MAX);
	struct envelope env;
	spool_envelope(&raw, words);
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	sp->token++;
	struct store_new in = { .envelope = &env, .body = body, .token_a = sp->token, .token_b = 99, .uid = 1000 };
	enum store_result r = store_accept(sp->st, &in, sp->now, id_r);
	str_free(&raw);
	return r;
}

static inline msgid_t spool_accept(struct spool *sp, const char *words)
{
	msgid_t id = 0;
	assert_int_equal(spool_try_accept(sp, words, LIT("Subject: test\r\n\r\nhello\r\n"), &id), STORE_OK);
	return id;
}

static inline msgid_t spool_accept_sync(struct spool *sp, const char *words)
{
	msgid_t id = spool_accept(sp, words);
	assert_int_equal(store_sync(sp->st), STORE_OK);
	return id;
}

/* The bounce of a batch, as the bounce program's enqueue brings it. */
static inline msgid_t spool_accept_bounce(struct spool *sp, msgid_t of, uint32_t batch)
{
	struct str raw = STR_INIT(4096);
	struct envelope env;
	msgid_t id = 0;
	spool_envelope(&raw, "<> sender@a.example");
	assert_int_equal(envelope_parse(str_bytes(&raw), &env), ENV_OK);
	env.bounce_of = of;
	env.bounce_batch = batch;
	struct store_new in = { .envelope = &env, .body = LIT("bounce\r\n"), .token_a = ++sp->token, .token_b = 99, .from_bounce = true };
	assert_int_equal(store_accept(sp->st, &in, sp->now, &id), STORE_OK);
	str_free(&raw);
	return id;
}

static inline void spool_tick(struct spool *sp)
{
	assert_int_equal(store_tick(sp->st, sp->now, true), STORE_OK);
}

/* ---- deliveries ---- */

static inline enum store_result spool_report(struct spool *sp, uint64_t job, uint32_t n, enum verdict v)
{
	static const uint16_t code[] = { 250, 451, 550 };
	struct result res = { .job = job, .index = n, .verdict = (uint8_t)v, .stage = STAGE_RCPT, .code = code[v],
		.e_class = (uint8_t)(code[v] / 100), .e_subject = 1,
		.e_detail = 1, .host = LIT("mx.b.example"), .ip = LIT("192.0.2.9"), .text = LIT("said so") };
	return store_report(sp->st, &res, sp->now);
}

static inline void spool_done(struct spool *sp, uint64_t job, bool destination_failed)
{
	struct job_done done = { .job = job, .destination_failed = destination_failed };
	assert_int_equal(store_job_done(sp->st, &done, sp->now), STORE_OK);
}

/* Claim one job and give all its recipients this verdict. False: there was none. */
static inline bool spool_deliver(struct spool *sp, enum channel channel, enum verdict v)
{
	struct store_job job;
	uint32_t n[STORE_RCPTS];
	if (store_claim(sp->st, channel, sp->now, &job) != STORE_OK)
		return false;
	uint32_t count = job.job.rcpt_count;
	uint64_t number = job.job.job;
	for (uint32_t i = 0; i < count; i++)
		n[i] = job.rcpts[i].index;
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(spool_report(sp, number, n[i], v), STORE_OK);
	spool_done(sp, number, false);
	return true;
}

/* ---- what became of it ---- */

static inline bool spool_exists(struct spool *sp, msgid_t id)
{
	struct row_message m;
	return index_get_message(sp->st->ix, id, &m) == INDEX_OK;
}

static inline struct row_rcpt spool_rcpt(struct spool *sp, msgid_t id, uint32_t n)
{
	struct row_rcpt r;
	assert_int_equal(index_get_rcpt(sp->st->ix, id, n, &r), INDEX_OK);
	return r;
}

static inline struct store_bounce spool_claim_bounce(struct spool *sp)
{
	struct store_bounce b;
	assert_int_equal(store_claim_bounce(sp->st, sp->now, &b), STORE_OK);
	return b;
}

static inline bool spool_has_bounce(struct spool *sp)
{
	struct store_bounce b;
	enum store_result r = store_claim_bounce(sp->st, sp->now, &b);
	assert_true(r == STORE_OK || r == STORE_NONE);
	return r == STORE_OK;
}

/* ---- the index as text ---- */

static inline void spool_dump_rcpts(struct index *ix, msgid_t id, struct str *out)
{
	struct row_rcpt r;
	for (uint32_t n = 0; index_next_rcpt(ix, id, n, &n, &r) == INDEX_OK; n++) {
		struct due due;
		bool is_due = index_next_due(ix, r.destination, (struct due){ r.next_try_ms, id, n }, &due) == INDEX_OK &&
			due.at == r.next_try_ms && due.id == id && due.n == n;
		str_addf(out, "  %u ", n);
		str_add(out, r.address);
		str_addf(out, " %s attempts=%u next=%lu due=%d batch=%u code=%u\n", rcpt_state_name(r.state), r.attempts,
			(unsigned long)(r.next_try_ms - SPOOL_START), is_due,
			r.batch, r.code);
	}
}

/* Everything that a replay must restore. Times of bounces are hints and not shown, nor is what is memory only. */
static inline void spool_dump(struct store *st, struct str *out)
{
	struct row_message m;
	struct row_finished f;
	msgid_t id;
	char text[MSGID_TEXT + 1];
	str_clear(out);
	for (id = 0; index_next_message(st->ix, id, &id, &m) == INDEX_OK; id++) {
		msgid_format(id, text);
		str_addf(out, "%s from=", text);
		str_add(out, m.sender);
		str_addf(out, " size=%lu at=%lu+%lu rcpts=%u unfinished=%u failed=%u delivered=%u batch=%u/%u held=%d bounce=%d\n",
			(unsigned long)m.body_size,
			(unsigned long)m.segment, (unsigned long)m.body_offset, m.rcpt_count, m.unfinished, m.failed, m.delivered, m.batch,
				m.batch_failed, m.held_ms != 0,
			m.bounce_due_ms != 0);
		spool_dump_rcpts(st->ix, id, out);
	}
	for (id = 0; index_next_finished(st->ix, id, &id, &f) == INDEX_OK; id++) {
		msgid_format(id, text);
		str_addf(out, "%s finished how=%u delivered=%u of %u\n", text, f.how, f.delivered, f.rcpt_count);
	}
	struct row_status *s = &st->apply.status;
	str_addf(out, "messages=%lu recipients=%lu held=%lu accepted=%lu delivered=%lu deferred=%lu bounced=%lu\n",
		(unsigned long)s->messages, (unsigned long)s->recipients,
		(unsigned long)s->held, (unsigned long)s->accepted, (unsigned long)s->delivered, (unsigned long)s->deferred, (unsigned long)s->bounced);
	assert_false(out->failed);
}

/* Rules of schedule.h: who waits and is not held has a due row, and its destination a wake row; a wake row that is later than the due row
 * is that of a back-off, or has done its work: the destination is active. Sums agree with what they sum. */
static inline void spool_check_rcpt(struct store *st, msgid_t id, uint32_t n, const struct row_rcpt *r, bool held, wall_ms_t now)
{
	struct row_destination d;
	struct due due;
	wall_ms_t at = 0;
	struct bytes name = { NULL, 0 };
	bool is_due = index_next_due(st->ix, r->destination, (struct due){ r->next_try_ms, id, n }, &due) == INDEX_OK &&
		due.at == r->next_try_ms && due.id == id && due.n == n;
	assert_int_equal(is_due, r->state == RCPT_WAITING && !held);
	if (!is_due)
		return;
	assert_int_equal(index_get_destination(st->ix, r->destination, &d), INDEX_OK);
	assert_true(d.wake_ms != 0);
	if (d.wake_ms > r->next_try_ms && d.wake_ms > d.until_ms && d.wake_ms > now)
		fail_msg("%.*s wakes at %lu, has mail due at %lu and back-off until %lu", (int)r->destination.len, r->destination.at,
			(unsigned long)d.wake_ms,
			(unsigned long)r->next_try_ms, (unsigned long)d.until_ms);
	assert_int_equal(index_next_wake(st->ix, d.wake_ms, r->destination, &at, &name), INDEX_OK);
	assert_int_equal(at, d.wake_ms);
	assert_true(bytes_equal(name, r->destination));
}

static inline void spool_check(struct spool *sp)
{
	struct store *st = sp->st;
	struct row_message m;
	struct row_rcpt r;
	uint64_t bytes = 0, live = 0, messages = 0;
	for (msgid_t id = 0; index_next_message(st->ix, id, &id, &m) == INDEX_OK; id++) {
		uint32_t waiting = 0, failed = 0;
		for (uint32_t n = 0; index_next_rcpt(st->ix, id, n, &n, &r) == INDEX_OK; n++) {
			waiting += r.state == RCPT_WAITING;
			failed += rcpt_reports(&r);
			spool_check_rcpt(st, id, n, &r, m.held_ms != 0, sp->now);
		}
		assert_int_equal(waiting, m.unfinished);
		assert_int_equal(failed, m.failed);
		assert_true(waiting + failed > 0);
		assert_int_equal(failed > 0, m.bounce_due_ms != 0);
		bytes += m.record_size;
		messages++;
	}
	for (size_t i = 0; i < usage_count(st->usage); i++) {
		live += usage_at(st->usage, i)->live_bytes;
		messages -= usage_at(st->usage, i)->live_messages;
	}
	assert_int_equal(bytes, live);
	assert_int_equal(messages, 0);
}

static inline void spool_assert_same(struct store *a, struct store *b)
{
	struct str x = STR_INIT(16 << 20), y = STR_INIT(16 << 20);
	spool_dump(a, &x);
	spool_dump(b, &y);
	if (!bytes_equal(str_bytes(&x), str_bytes(&y)))
		fail_msg("live:\n%s\nreplayed:\n%s", str_c(&x), str_c(&y));
	str_free(&x);
	str_free(&y);
}

#endif
