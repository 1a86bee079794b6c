/* worker - room: queue (spawn). See worker.h. */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"

#define FILLS_A_TURN 16     /* reads of one worker in a turn: none can keep the others waiting */
#define HEAD_MAX (2u << 20)

static void bind_to(struct worker *w, struct bytes destination, const struct mailbox *box) {
	w->destination_len = destination.len;
	memcpy(w->destination, destination.at, destination.len);
	if (box)
		w->box = *box;
}

struct worker *worker_new(const struct launched *launched, struct bytes destination, const struct mailbox *box) {
	struct worker *w = calloc(1, sizeof *w);
	if (!w || destination.len > DESTINATION_MAX) {
		free(w);
		return NULL;
	}
	w->pid = launched->pid;
	w->to = launched->to;
	w->from = launched->from;
	w->is_local = box != NULL;
	w->place_to = w->place_from = -1;
	bind_to(w, destination, box);
	str_init(&w->head, HEAD_MAX);
	record_reader_init(&w->in, w->from);
	return w;
}

bool worker_serves(const struct worker *w, const struct mailbox *box) {
	return w->is_local && w->box.is_virtual && box->is_virtual && w->box.uid == box->uid && w->box.gid == box->gid;
}

void worker_move(struct worker *w, struct bytes destination, const struct mailbox *box) {
	if (destination.len <= DESTINATION_MAX)
		bind_to(w, destination, box);
}

void worker_free(struct worker *w) {
	io_close(&w->to);
	io_close(&w->from);
	record_reader_free(&w->in);
	str_free(&w->head);
	free(w);
}

/* ---- stopping ---- */

/* A local worker leads its own session: what it started goes with it. A remote one has another uid than spawn: it has
 * deadlines of its own, and sees the end of its stdin. */
static void stop_process(struct worker *w) {
	io_close(&w->to);
	if (w->pid == 0 || !w->is_local)
		return;
	kill(-w->pid, SIGKILL);
	kill(w->pid, SIGKILL);
}

static void enter_closing(struct worker *w, deadline_t now) {
	w->state = WORKER_CLOSING;
	w->deadline = deadline_in(now, WORKER_CLOSING_MS);
}

void worker_retire(struct worker *w, deadline_t now) {
	io_close(&w->to);
	enter_closing(w, now);
}

static void caught_lying(struct worker *w, const char *how) {
	log_warn("delivery process %ld for %s broke the protocol: %s; stopped", (long)w->pid,
		log_text((struct bytes){ w->destination, w->destination_len }), how);
	w->fault = "the delivery process broke its protocol";
	stop_process(w);
	w->ended = true;
}

static void progress(struct worker *w, deadline_t now) {
	if (w->state == WORKER_BUSY)
		w->deadline = deadline_in(now, w->is_local ? WORKER_LOCAL_LIMIT_MS : WORKER_REMOTE_LIMIT_MS);
}

/* ---- to the worker ---- */

/* Records first: 0 all gone, 1 the pipe is full, -1 nobody reads. */
static int feed_head(struct worker *w, deadline_t now) {
	while (w->sent < w->head.len) {
		ssize_t put = write(w->to, w->head.at + w->sent, w->head.len - w->sent);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN ? 1 : -1;
		w->sent += (size_t)put;
		progress(w, now);
	}
	return 0;
}

/* A worker that does not read its job to the end may still have an answer: only its stdin is closed. */
static void feed(struct worker *w, deadline_t now) {
	size_t moved = 0;
	int head = w->to < 0 || !w->flight ? 1 : feed_head(w, now);
	if (head < 0)
		io_close(&w->to);
	if (head != 0 || w->flight->body.fd < 0)
		return;
	enum body_result result = body_send(&w->flight->body, w->to, &moved);
	if (moved > 0)
		progress(w, now);
	if (result == BODY_MORE)
		return;
	if (result == BODY_BROKEN && errno == EBADMSG) {
		flight_damaged(w->flight);
		w->fault = FLIGHT_DAMAGED;
	} else if (result == BODY_BROKEN) {
		log_error("cannot read the body of a message for %s: %m", log_text((struct bytes){ w->destination, w->destination_len }));
		w->fault = "the message could not be read from the queue";
	}
	if (result != BODY_DONE)
		io_close(&w->to);
	body_close(&w->flight->body);
}

static bool has_all(const struct worker *w) {
	return w->to >= 0 && w->sent == w->head.len && (!w->flight || w->flight->body.fd < 0);
}

/* What only a local worker is told, behind the orders. */
static bool add_mailbox(struct worker *w, uint64_t job) {
	struct job_mailbox box = { .job = job, .user = bytes_of(w->box.user), .extension = bytes_of(w->box.extension) };
	struct job_home home = { .job = job, .home = bytes_of(w->box.home) };
	return job_mailbox_encode(&box, &w->head) && (!w->box.is_virtual || job_home_encode(&home, &w->head));
}

void worker_give(struct worker *w, struct flight *f, deadline_t now) {
	str_clear(&w->head);
	w->sent = 0;
	w->flight = f;
	w->state = WORKER_BUSY;
	progress(w, now);
	if (!str_add(&w->head, str_bytes(&f->orders)) || (w->is_local && !add_mailbox(w, f->job.job))) {
		w->fault = "out of memory";
		io_close(&w->to);
		return;
	}
	feed(w, now);
}

/* ---- from the worker ---- */

static void take_done(struct worker *w, const struct job_done *done, deadline_t now, uint64_t idle_ms) {
	bool reusable = done->reusable && !w->is_last && has_all(w);
	struct outcome missing = outcome_make(V_TEMP, STAGE_NONE, "4.3.0", LIT("the delivery process said nothing about this recipient"));
	flight_answer_rest(w->flight, &missing);
	flight_finish(w->flight, done->destination_failed, reusable);
	w->job_over = true;
	w->carried++;
	if (!reusable) {
		worker_retire(w, now);
		return;
	}
	w->state = WORKER_IDLE;
	w->idle_since = now;
	w->deadline = deadline_in(now, idle_ms);
}

static void take_record(struct worker *w, const struct record *record, deadline_t now, uint64_t idle_ms) {
	struct result result;
	struct job_done done;
	if (!w->flight || w->job_over) {
		caught_lying(w, "a record without a job");
	} else if (record->type == REC_result && result_decode(record->payload, &result)) {
		const char *fault = flight_take_result(w->flight, &result);
		if (fault)
			caught_lying(w, fault);
	} else if (record->type == REC_job_done && job_done_decode(record->payload, &done)) {
		if (done.job != w->flight->job.job)
			caught_lying(w, "the end of another job");
		else
			take_done(w, &done, now, idle_ms);
	} else {
		caught_lying(w, "not a result");
	}
}

static void take_records(struct worker *w, deadline_t now, uint64_t idle_ms) {
	struct record record;
	while (!w->ended) {
		enum record_result got = record_reader_next(&w->in, &record);
		if (got == RECORD_MORE)
			return;
		if (got == RECORD_BAD)
			caught_lying(w, "a bad record");
		else
			take_record(w, &record, now, idle_ms);
	}
}

/* Its stdout ended. How the process did is known a moment later. */
static void enter_dead(struct worker *w, deadline_t now) {
	io_close(&w->to);
	io_close(&w->from);
	w->state = WORKER_DEAD;
	w->deadline = deadline_in(now, WORKER_REAP_MS);
	w->ended = w->pid == 0;
}

static void listen_to(struct worker *w, deadline_t now, uint64_t idle_ms) {
	for (int i = 0; i < FILLS_A_TURN && !w->ended && w->from >= 0; i++) {
		ssize_t got = record_reader_fill(&w->in);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			enter_dead(w, now);
			return;
		}
		progress(w, now);
		take_records(w, now, idle_ms);
	}
}

void worker_reaped(struct worker *w, int status, deadline_t now) {
	w->pid = 0;
	w->status = status;
	listen_to(w, now, 0);
	io_close(&w->to);
	w->ended = true;
}

/* ---- the turn ---- */

void worker_prepare(struct worker *w, struct turn *turn) {
	bool feeding = w->state == WORKER_BUSY && !has_all(w);
	w->place_from = turn_watch(turn, w->from, POLLIN);
	w->place_to = feeding ? turn_watch(turn, w->to, POLLOUT) : -1;
	turn_until(turn, w->deadline);
}

static void overdue(struct worker *w, deadline_t now) {
	switch (w->state) {
	case WORKER_IDLE:
		worker_retire(w, now);
		return;
	case WORKER_BUSY:
		log_warn("delivery process %ld for %s made no progress; stopped", (long)w->pid,
			log_text((struct bytes){ w->destination, w->destination_len }));
		w->fault = "the delivery process made no progress";
		stop_process(w);
		enter_closing(w, now);
		return;
	case WORKER_CLOSING:
	case WORKER_DEAD:
		stop_process(w);
		w->ended = true;
		return;
	}
}

void worker_run(struct worker *w, const struct turn *turn, deadline_t now, uint64_t idle_ms) {
	if (turn_events(turn, w->place_from))
		listen_to(w, now, idle_ms);
	if (!w->ended && turn_events(turn, w->place_to))
		feed(w, now);
	if (!w->ended && deadline_passed(w->deadline, now))
		overdue(w, now);
	w->place_to = w->place_from = -1;
}

struct outcome worker_outcome(const struct worker *w, char *text, size_t size) {
	if (w->fault)
		snprintf(text, size, "%s", w->fault);
	else if (w->pid != 0)
		snprintf(text, size, "the delivery process closed its output");
	else if (WIFSIGNALED(w->status))
		snprintf(text, size, "the delivery process was killed by signal %d", WTERMSIG(w->status));
	else
		snprintf(text, size, "the delivery process ended with code %d and without a result", WEXITSTATUS(w->status));
	return outcome_make(V_TEMP, STAGE_NONE, "4.3.0", bytes_of(text));
}
