/* manager - room: queue (spawn). See manager.h. */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define OUT_MAX (16u << 20)         /* inflight records of all slots, and some */
#define OUT_ENOUGH (256u << 10)     /* results wait as flights beyond it */
#define RETRY_MS 200u
#define READ_MS 200u                /* results lie in the fifo: has queued read them? */
#define PARTING_MS SECOND_MS        /* a queued that stops reads what it was told before, to the end */
#define PARTING_LOOK_MS 10u
#define PARTIAL_MS (10u * SECOND_MS)   /* half a job is not waited for longer: behind a false length everything would be swallowed */

void manager_init(struct manager *m, struct crew *crew) {
	bool is_local = crew->channel == CHANNEL_LOCAL;
	*m = (struct manager){ .crew = crew, .jobs = -1, .place_jobs = -1, .place_report = -1 };
	m->jobs_name = is_local ? FIFO_JOBS_LOCAL : FIFO_JOBS_REMOTE;
	m->report_name = is_local ? FIFO_REPORT_LOCAL : FIFO_REPORT_REMOTE;
	record_writer_init(&m->out, -1, OUT_MAX);
	record_reader_init(&m->in, -1);
	flights_init(&m->leaving);
	m->retry = 1;
}

void manager_stop(struct manager *m) {
	m->stopping = true;
}

/* Without a queued the results are in `done`, for the next one; with one they leave, until it has read them. Those that the last queued has read are told
 * again, should it have died behind that, but nobody waits for the next one with them alone. */
bool manager_has_told_all(const struct manager *m) {
	for (const struct flight *f = m->crew->done.first; f; f = f->next)
		if (f->told == 0)
			return false;
	return !m->leaving.first && (m->out.fd < 0 || !record_writer_pending(&m->out));
}

/* ---- what queued has read ---- */

/* Octets that are in the fifo still. */
static uint64_t unread(const struct manager *m) {
	int octets = 0;
	return ioctl(m->out.fd, FIONREAD, &octets) == 0 && octets >= 0 ? (uint64_t)octets : m->sent;
}

static bool is_read(const struct manager *m, const struct flight *f, uint64_t unread_octets) {
	return f->told + unread_octets <= m->sent;
}

static bool has_queued(const struct manager *m) {
	struct pollfd jobs = { .fd = m->jobs };
	return poll(&jobs, 1, 0) == 0;
}

/* What queued takes from the fifo it also keeps, unless it dies; and then the next one, which has no session yet, empties the fifo unheard. So what is
 * gone from it was read only if queued is there after the question. What is told twice, the second queued passes over. One gap is left: a fifo that
 * had no writer yet looks like one that has. If this looks when queued has read the greeting and not opened the jobs fifo yet, and queued dies right
 * then, the results in that greeting are lost, and those deliveries are made again. */
static void forget_read(struct manager *m) {
	uint64_t octets = m->leaving.first ? unread(m) : 0;
	if (!m->leaving.first || !has_queued(m))
		return;
	while (m->leaving.first && is_read(m, m->leaving.first, octets))
		flight_free(flights_pop(&m->leaving));
}

/* ---- going ---- */

static void drop_connection(struct manager *m, deadline_t now, const char *why) {
	uint64_t octets = m->out.fd >= 0 ? unread(m) : m->sent;
	struct flights untold;
	flights_init(&untold);
	for (struct flight *f = m->leaving.first; f; f = f->next)
		if (!is_read(m, f, octets))
			f->told = 0;
	flights_append(&untold, &m->leaving);
	flights_append(&untold, &m->crew->done);
	flights_append(&m->crew->done, &untold);
	crew_drop_waiting(m->crew);
	flight_free(m->assembling);
	m->assembling = NULL;
	m->partial = m->parting = 0;
	if (m->out.fd >= 0)
		close(m->out.fd);
	close(m->jobs);
	record_reader_free(&m->in);
	record_writer_free(&m->out);
	record_writer_init(&m->out, -1, OUT_MAX);
	m->jobs = -1;
	m->retry = deadline_in(now, RETRY_MS);
	log_info("queued is gone (%s); deliveries go on", why);
}

/* ---- coming ---- */

/* The read end comes first: a fifo without a reader would turn queued away. A lock on it keeps a second spawn out. */
static bool open_jobs(struct manager *m) {
	if (m->jobs >= 0)
		return true;
	m->jobs = io_open_fifo_read(AT_FDCWD, m->jobs_name);
	if (m->jobs < 0)
		die_system("cannot open %s", m->jobs_name);
	if (flock(m->jobs, LOCK_EX | LOCK_NB) < 0)
		die_system("%s is in use: another spawn of this channel runs", m->jobs_name);
	record_reader_init(&m->in, m->jobs);
	return true;
}

static void write_inflight(void *context, const struct flight *f) {
	struct manager *m = context;
	if (!flight_encode_inflight(f, &m->out.buffer))
		log_warn("no room to tell queued of a job in flight");
}

/* The next finished flight's results into the buffer; false when there is none or no room. */
static bool write_finished(struct manager *m) {
	struct flight *f = m->crew->done.first;
	if (!f || f->results.len > m->out.buffer.max - m->out.buffer.len || !str_add(&m->out.buffer, str_bytes(&f->results)))
		return false;
	f->told = m->sent + m->out.buffer.len - m->out.sent;
	flights_push(&m->leaving, flights_pop(&m->crew->done));
	return true;
}

static void write_greeting(struct manager *m) {
	struct hello hello = { .session = m->session, .channel = (uint8_t)m->crew->channel };
	m->told_slots = crew_slots(m->crew);
	struct ready ready = { .session = m->session, .slots = m->told_slots };
	hello_encode(&hello, &m->out.buffer);
	crew_each(m->crew, write_inflight, m);
	for (const struct flight *f = m->crew->done.first; f; f = f->next)
		write_inflight(m, f);
	while (write_finished(m))
		;
	ready_encode(&ready, &m->out.buffer);
}

static void connect_manager(struct manager *m, deadline_t now) {
	m->retry = deadline_in(now, RETRY_MS);
	if (!open_jobs(m))
		return;
	int fd = io_open_fifo_write(AT_FDCWD, m->report_name);
	if (fd < 0 && errno != ENXIO)
		die_system("cannot open %s", m->report_name);
	if (fd < 0)
		return;
	if (getrandom(&m->session, sizeof m->session, 0) != (ssize_t)sizeof m->session)
		die_system("no random octets");
	m->session |= 1;    /* never 0, which is no session */
	m->out.fd = fd;
	m->sent = 0;
	m->retry = 0;
	write_greeting(m);
}

/* ---- results out ---- */

static void push(struct manager *m, deadline_t now) {
	if (m->out.fd < 0)
		return;
	while (m->out.buffer.len < OUT_ENOUGH && write_finished(m))
		;
	size_t pending = m->out.buffer.len - m->out.sent;
	int left = record_writer_push(&m->out);
	m->sent += pending - (m->out.buffer.len - m->out.sent);
	if (left < 0)
		drop_connection(m, now, "its report fifo closed");
}

static void tell_slots(struct manager *m) {
	struct ready ready = { .session = m->session, .slots = crew_slots(m->crew) };
	if (m->out.fd < 0 || ready.slots == m->told_slots)
		return;
	m->told_slots = ready.slots;
	ready_encode(&ready, &m->out.buffer);
}

/* ---- jobs in ---- */

/* False: what queued says makes no sense. */
static bool take_job(struct manager *m, struct bytes payload) {
	struct job job;
	if (m->assembling || !job_decode(payload, &job))
		return false;
	if (job.session != m->session)
		return true;
	m->assembling = flight_begin(&job);
	return m->assembling != NULL;
}

static bool take_rcpt(struct manager *m, struct bytes payload) {
	struct job_rcpt rcpt;
	if (!job_rcpt_decode(payload, &rcpt))
		return false;
	if (!m->assembling)
		return true;    /* of a job of another session */
	if (!flight_add_rcpt(m->assembling, &rcpt))
		return false;
	if (flight_is_whole(m->assembling)) {
		crew_take(m->crew, m->assembling);
		m->assembling = NULL;
	}
	return true;
}

static bool take_records(struct manager *m) {
	struct record record;
	for (;;) {
		enum record_result got = record_reader_next(&m->in, &record);
		if (got == RECORD_MORE)
			return true;
		if (got == RECORD_BAD)
			return false;
		m->partial = 0;
		if (record.type == REC_job ? !take_job(m, record.payload) : record.type != REC_job_rcpt || !take_rcpt(m, record.payload))
			return false;
	}
}

static void begin_anew(struct manager *m, deadline_t now, const char *why) {
	log_error("%s; starting anew with it", why);
	drop_connection(m, now, "bad record");
}

/* Queued keeps to the slots; should it not, its jobs wait in the fifo. */
static bool wants_jobs(const struct manager *m) {
	uint32_t slots = crew_slots(m->crew);
	return !m->stopping && !m->parting && m->out.fd >= 0 && crew_busy(m->crew) + m->crew->done.count < (slots > 0 ? slots : 1);
}

static void read_jobs(struct manager *m, deadline_t now) {
	while (wants_jobs(m)) {
		ssize_t got = record_reader_fill(&m->in);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			m->parting = now;
			return;
		}
		if (!take_records(m)) {
			begin_anew(m, now, "a record from queued makes no sense");
			return;
		}
	}
}

/* Queued writes a job at once, records and recipients. */
static void watch_partial(struct manager *m, deadline_t now) {
	if (!wants_jobs(m) || (record_reader_rest(&m->in).len == 0 && !m->assembling))
		m->partial = 0;
	else if (!m->partial)
		m->partial = now;
	else if (deadline_passed(deadline_in(m->partial, PARTIAL_MS), now))
		begin_anew(m, now, "half a record from queued is all that came");
}

/* ---- the turn ---- */

/* A queued that stops closes the jobs fifo first and reads the results to their end. */
static bool is_hearing_out(const struct manager *m, deadline_t now) {
	return unread(m) > 0 && !deadline_passed(deadline_in(m->parting, PARTING_MS), now);
}

void manager_prepare(struct manager *m, struct turn *turn) {
	if (m->out.fd < 0 && deadline_passed(m->retry, turn->now))
		connect_manager(m, turn->now);
	tell_slots(m);
	push(m, turn->now);
	if (m->out.fd < 0) {
		turn_until(turn, m->retry);
		return;
	}
	if (m->leaving.first)
		turn_until(turn, deadline_in(turn->now, READ_MS));
	if (m->parting)
		turn_until(turn, deadline_in(turn->now, PARTING_LOOK_MS));
	else
		m->place_jobs = turn_watch(turn, m->jobs, wants_jobs(m) ? POLLIN : 0);
	m->place_report = turn_watch(turn, m->out.fd, record_writer_pending(&m->out) ? POLLOUT : 0);
	if (m->partial)
		turn_until(turn, deadline_in(m->partial, PARTIAL_MS));
}

void manager_run(struct manager *m, const struct turn *turn, deadline_t now) {
	short jobs = turn_events(turn, m->place_jobs), report = turn_events(turn, m->place_report);
	m->place_jobs = m->place_report = -1;
	if (m->out.fd < 0)
		return;
	if (jobs & POLLIN)
		read_jobs(m, now);
	else if (jobs & (POLLHUP | POLLERR))
		m->parting = now;
	if (m->out.fd >= 0 && (report & POLLERR))
		drop_connection(m, now, "its report fifo closed");
	else
		push(m, now);
	if (m->out.fd >= 0 && m->parting && !is_hearing_out(m, now))
		drop_connection(m, now, "its jobs fifo closed");
	if (m->out.fd < 0)
		return;
	forget_read(m);
	watch_partial(m, now);
}
