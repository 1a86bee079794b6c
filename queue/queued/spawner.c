/* spawner - room: queue (queued). See spawner.h. */
#include "spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define OUT_MAX (8u << 20)
#define OUT_ENOUGH (256u << 10)     /* no more jobs are claimed while so much waits for spawn */
#define TURN_RECORDS 8192u
#define REOPEN_MS 200u
#define PARTIAL_MS (5u * SECOND_MS)   /* half a record is not waited for longer: behind a false length everything would be swallowed */

bool spawner_open(struct spawner *sp, enum channel channel, struct store *store, struct events *events) {
	bool local = channel == CHANNEL_LOCAL;
	memset(sp, 0, sizeof(*sp));
	sp->channel = channel;
	sp->store = store;
	sp->events = events;
	sp->name = local ? "spawn local" : "spawn remote";
	sp->jobs_name = local ? FIFO_JOBS_LOCAL : FIFO_JOBS_REMOTE;
	sp->report_name = local ? FIFO_REPORT_LOCAL : FIFO_REPORT_REMOTE;
	sp->place_jobs = sp->place_report = -1;
	sp->report = io_open_fifo_read(AT_FDCWD, sp->report_name);
	record_reader_init(&sp->in, sp->report);
	record_writer_init(&sp->out, -1, OUT_MAX);
	return sp->report >= 0;
}

static void end_jobs(struct spawner *sp) {
	if (sp->out.fd >= 0)
		close(sp->out.fd);
	sp->out.fd = -1;
}

void spawner_close(struct spawner *sp) {
	end_jobs(sp);
	if (sp->report >= 0)
		close(sp->report);
	record_reader_free(&sp->in);
	record_writer_free(&sp->out);
}

/* ---- coming and going ---- */

static void end_session(struct spawner *sp, wall_ms_t now, const char *why) {
	end_jobs(sp);
	record_writer_free(&sp->out);
	record_writer_init(&sp->out, -1, OUT_MAX);
	if (sp->state != SPAWNER_AWAY) {
		log_info("%s: %s; %zu jobs are due again", sp->name, why, sp->flying);
		store_give_back(sp->store, sp->channel, now);
	}
	sp->state = SPAWNER_AWAY;
	sp->flying = 0;
	sp->session = 0;
	sp->slots = 0;
}

/* The fifo ended. Opened anew it is silent until the next spawn comes; the new end is opened first, so that no spawn finds none. Without a
 * descriptor for it, the old one, which says that it ended over and over, is not watched. */
static void reopen_report(struct spawner *sp, deadline_t now) {
	int fd = io_open_fifo_read(AT_FDCWD, sp->report_name);
	sp->reopen = fd < 0 ? deadline_in(now, REOPEN_MS) : 0;
	if (fd < 0)
		return;
	if (sp->report >= 0)
		close(sp->report);
	record_reader_free(&sp->in);
	sp->report = fd;
	record_reader_init(&sp->in, fd);
}

/* Nobody reads the report fifo for a moment: spawn sees it, and says hello again. */
static void hang_up(struct spawner *sp, deadline_t now) {
	if (sp->report >= 0)
		close(sp->report);
	record_reader_free(&sp->in);
	sp->report = -1;
	record_reader_init(&sp->in, -1);
	sp->more = sp->deaf = false;
	sp->reopen = deadline_in(now, REOPEN_MS);
}

/* A spawn that is there but was not understood must hear that its session is over: its jobs fifo ends. If it has none open, it gets
 * one that ends at once. */
static void refuse(struct spawner *sp, const struct turn *turn, wall_ms_t now) {
	bool had_jobs = sp->out.fd >= 0;
	if (!sp->parting && (!sp->complained || turn->now - sp->complained >= SECOND_MS))
		log_warn("%s: a record in %s makes no sense; starting anew with it", sp->name, sp->report_name);
	sp->complained = turn->now;
	end_session(sp, now, "its session is ended");
	int fd = had_jobs ? -1 : io_open_fifo_write(AT_FDCWD, sp->jobs_name);
	sp->deaf |= !had_jobs && fd < 0 && errno != ENXIO;
	if (fd >= 0)
		close(fd);
	if (sp->parting)
		hang_up(sp, turn->now);
}

/* ---- what spawn says ---- */

/* The place of a job in sp->job, or sp->flying. */
static size_t find_job(const struct spawner *sp, uint64_t job) {
	size_t i = 0;
	while (i < sp->flying && sp->job[i].job != job)
		i++;
	return i;
}

static bool keep(struct spawner *sp, enum store_result result) {
	if (result == STORE_FATAL)
		sp->lost = true;
	return result != STORE_FATAL;
}

static bool on_hello(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct hello hello;
	if (!hello_decode(payload, &hello) || hello.channel != (uint8_t)sp->channel || hello.session == 0)
		return false;
	end_session(sp, now, "it started anew");
	sp->out.fd = io_open_fifo_write(AT_FDCWD, sp->jobs_name);
	if (sp->out.fd < 0 && errno != ENXIO) {
		sp->deaf = true;
		log_warn("%s cannot be given jobs by %s: %s", sp->name, sp->jobs_name, strerror(errno));
		return true;
	}
	sp->session = hello.session;
	sp->state = SPAWNER_GREETING;
	if (sp->parting)
		end_jobs(sp);   /* it has come to tell what it had in hand, and goes; as does one that reads its jobs no more */
	return true;
}

static bool on_inflight(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct inflight inflight;
	if (sp->state != SPAWNER_GREETING || sp->flying == SPAWNER_FLYING || !inflight_decode(payload, &inflight))
		return false;
	enum store_result result = store_still_flying(sp->store, sp->channel, &inflight);
	if (result == STORE_OK)
		sp->job[sp->flying++] = (struct spawner_job){ inflight.job, now };
	return keep(sp, result);
}

static bool on_ready(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct ready ready;
	(void)now;
	if (!ready_decode(payload, &ready) || ready.session != sp->session)
		return false;
	if (sp->state == SPAWNER_GREETING)
		log_info("%s is ready for %u deliveries at a time; %zu in flight", sp->name, (unsigned)ready.slots, sp->flying);
	sp->slots = ready.slots;
	sp->state = SPAWNER_READY;
	return true;
}

static bool result_makes_sense(const struct result *r) {
	return r->verdict <= V_PERM && r->stage < STAGE_COUNT && r->code <= 999 && r->e_class <= 5 && r->e_subject <= 999 && r->e_detail <= 999;
}

static bool on_result(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct result result;
	if (!result_decode(payload, &result) || !result_makes_sense(&result))
		return false;
	size_t place = find_job(sp, result.job);
	if (place == sp->flying) {
		log_warn("%s: a result of a job that is not in flight is ignored", sp->name);
		return true;
	}
	sp->events->handed = sp->job[place].handed;
	enum store_result done = store_report(sp->store, &result, now);
	sp->events->handed = 0;
	if (done == STORE_NONE)
		log_warn("%s: a result of a recipient that is not in flight is ignored", sp->name);
	return keep(sp, done);
}

static bool on_damaged(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct damaged damaged;
	if (!damaged_decode(payload, &damaged))
		return false;
	enum store_result done = store_damaged(sp->store, &damaged, now);
	if (done == STORE_NONE)
		log_warn("%s: a damaged message of a job that is not in flight is ignored", sp->name);
	return keep(sp, done);
}

static bool on_job_done(struct spawner *sp, struct bytes payload, wall_ms_t now) {
	struct job_done done;
	if (!job_done_decode(payload, &done))
		return false;
	size_t place = find_job(sp, done.job);
	if (place == sp->flying) {
		log_warn("%s: the end of a job that is not in flight is ignored", sp->name);
		return true;
	}
	sp->events->handed = sp->job[place].handed;
	sp->job[place] = sp->job[--sp->flying];
	enum store_result result = store_job_done(sp->store, &done, now);
	sp->events->handed = 0;
	return keep(sp, result);
}

static const struct verb {
	unsigned type;
	enum spawner_state from;     /* the first state in which it is legal */
	bool (*act)(struct spawner *sp, struct bytes payload, wall_ms_t now);
} verbs[] = {
	{ REC_hello, SPAWNER_AWAY, on_hello },
	{ REC_inflight, SPAWNER_GREETING, on_inflight },
	{ REC_ready, SPAWNER_GREETING, on_ready },
	{ REC_result, SPAWNER_GREETING, on_result },
	{ REC_damaged, SPAWNER_GREETING, on_damaged },
	{ REC_job_done, SPAWNER_GREETING, on_job_done },
};

static bool act(struct spawner *sp, const struct record *record, wall_ms_t now) {
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (verbs[i].type == record->type)
			return sp->state >= verbs[i].from && verbs[i].act(sp, record->payload, now);
	return false;
}

/* ---- the turn ---- */

/* Without a session everything up to the next hello is passed over, whatever its frame. A hello has a fixed size, hence a fixed head. */
static void skip_to_hello(struct spawner *sp) {
	static const char head[RECORD_HEAD] = { RECORD_HEAD + 9, 0, 0, 0, REC_hello, 0, RECORD_MAGIC & 0xff, RECORD_MAGIC >> 8 };
	struct bytes rest = record_reader_rest(&sp->in);
	const char *found = rest.len >= sizeof(head) ? memmem(rest.at, rest.len, head, sizeof(head)) : NULL;
	size_t kept = rest.len < sizeof(head) - 1 ? rest.len : sizeof(head) - 1;   /* the beginning of one, perhaps */
	record_reader_take(&sp->in, found ? (size_t)(found - rest.at) : rest.len - kept);
}

void spawner_prepare(struct spawner *sp, struct turn *turn) {
	if (!sp->parting && deadline_passed(sp->reopen, turn->now))
		reopen_report(sp, turn->now);
	if (!sp->parting)
		turn_until(turn, sp->reopen);
	sp->place_report = sp->reopen ? -1 : turn_watch(turn, sp->report, POLLIN);
	sp->place_jobs = turn_watch(turn, sp->out.fd, record_writer_pending(&sp->out) ? POLLOUT : 0);
	if (sp->more)
		turn_until(turn, turn->now);
	if (sp->partial)
		turn_until(turn, deadline_in(sp->partial, PARTIAL_MS));
}

static void fill(struct spawner *sp, const struct turn *turn, wall_ms_t now) {
	ssize_t got = record_reader_fill(&sp->in);
	if (got > 0)
		return;
	sp->more = false;
	if (got == 0) {
		end_session(sp, now, "it has gone");
		if (sp->parting)
			hang_up(sp, turn->now);
		else
			reopen_report(sp, turn->now);
	}
}

static void read_report(struct spawner *sp, const struct turn *turn, wall_ms_t now) {
	struct record record;
	sp->more = true;
	for (size_t count = 0; sp->more && !sp->lost && count < TURN_RECORDS; count++) {
		if (sp->state == SPAWNER_AWAY)
			skip_to_hello(sp);
		enum record_result got = record_reader_next(&sp->in, &record);
		if (got == RECORD_OK)
			sp->partial = 0;
		if (got == RECORD_MORE)
			fill(sp, turn, now);
		else if (got == RECORD_BAD || !act(sp, &record, now)) {
			if (!sp->lost)
				refuse(sp, turn, now);
		}
		if (sp->deaf)
			hang_up(sp, turn->now);
	}
}

static void watch_partial(struct spawner *sp, const struct turn *turn, wall_ms_t now) {
	if (sp->state == SPAWNER_AWAY || record_reader_rest(&sp->in).len == 0 || sp->more)
		sp->partial = 0;
	else if (!sp->partial)
		sp->partial = turn->now;
	else if (deadline_passed(deadline_in(sp->partial, PARTIAL_MS), turn->now))
		refuse(sp, turn, now);
}

bool spawner_run(struct spawner *sp, const struct turn *turn, wall_ms_t now) {
	uint64_t session = sp->session;   /* the events of the jobs fifo are those of its session */
	if (sp->more || turn_events(turn, sp->place_report))
		read_report(sp, turn, now);
	watch_partial(sp, turn, now);
	bool unread_jobs = sp->out.fd < 0 || (turn_events(turn, sp->place_jobs) & POLLERR) != 0;
	if (sp->state != SPAWNER_AWAY && sp->session == session && unread_jobs && !sp->more && !sp->parting)
		end_session(sp, now, "it reads its jobs no more");
	sp->place_jobs = sp->place_report = -1;
	return !sp->lost;
}

void spawner_part(struct spawner *sp, deadline_t now) {
	end_jobs(sp);
	sp->parting = sp->more = true;   /* read at once: where no spawn is, the fifo ends */
	if (sp->reopen)
		hang_up(sp, now);
}

bool spawner_has_parted(const struct spawner *sp) {
	return sp->parting && sp->report < 0;
}

/* ---- jobs out ---- */

static bool write_job(struct spawner *sp, struct store_job *claimed) {
	struct str *out = &sp->out.buffer;
	size_t before = out->len;
	claimed->job.session = sp->session;
	bool whole = job_encode(&claimed->job, out);
	for (uint32_t i = 0; whole && i < claimed->job.rcpt_count; i++)
		whole = job_rcpt_encode(&claimed->rcpts[i], out);
	if (!whole)
		str_truncate(out, before);
	return whole;
}

static bool wants_jobs(const struct spawner *sp) {
	uint32_t slots = sp->slots < SPAWNER_FLYING ? sp->slots : SPAWNER_FLYING;
	return sp->state == SPAWNER_READY && sp->out.fd >= 0 && sp->flying < slots && sp->out.buffer.len - sp->out.sent < OUT_ENOUGH;
}

bool spawner_claim(struct spawner *sp, wall_ms_t now, size_t *claimed_r) {
	struct store_job claimed;
	enum store_result result = STORE_OK;
	while (wants_jobs(sp) && (result = store_claim(sp->store, sp->channel, now, &claimed)) == STORE_OK) {
		if (!write_job(sp, &claimed)) {
			log_warn("%s: a job could not be written", sp->name);
			store_unclaim(sp->store, claimed.job.job, now);
			break;
		}
		sp->job[sp->flying++] = (struct spawner_job){ claimed.job.job, now };
		++*claimed_r;
	}
	if (sp->out.fd >= 0 && record_writer_push(&sp->out) < 0) {
		end_jobs(sp);
		sp->more = true;   /* what it told before it went is taken first; then spawner_run ends the session */
	}
	return keep(sp, result);
}
