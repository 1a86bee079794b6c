/* crew - room: queue (spawn). See crew.h. */
#include "crew.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/paths.h"
#include "recipient.h"

#define CLOSING_SPARE 16u     /* processes beyond twice the slots: those that take their time to end */

void crew_init(struct crew *crew, enum channel channel, struct settings *settings) {
	*crew = (struct crew){ .channel = channel, .settings = settings };
	flights_init(&crew->waiting);
	flights_init(&crew->done);
}

uint32_t crew_slots(const struct crew *crew) {
	const struct settings *s = crew->settings;
	uint64_t slots = crew->channel == CHANNEL_LOCAL ? s->concurrencylocal : s->concurrencyremote;
	return slots < CREW_SLOTS_MAX ? (uint32_t)slots : CREW_SLOTS_MAX;
}

size_t crew_busy(const struct crew *crew) {
	size_t busy = crew->waiting.count;
	for (const struct worker *w = crew->workers; w; w = w->next)
		busy += w->flight != NULL;
	return busy;
}

void crew_each(const struct crew *crew, void (*see)(void *context, const struct flight *f), void *context) {
	for (const struct worker *w = crew->workers; w; w = w->next)
		if (w->flight)
			see(context, w->flight);
}

/* ---- jobs that end ---- */

static void finish(struct crew *crew, struct flight *f, const struct outcome *rest) {
	flight_answer_rest(f, rest);
	flight_finish(f, false, false);
	flights_push(&crew->done, f);
}

static void fail_flight(struct crew *crew, struct flight *f, enum verdict verdict, const char *enhanced, const char *text) {
	struct outcome outcome = outcome_make(verdict, crew->channel == CHANNEL_LOCAL ? STAGE_LOCAL : STAGE_NONE, enhanced, bytes_of(text));
	finish(crew, f, &outcome);
}

/* An idle worker may end (its server hung up) in the moment in which it is given a job. If it had carried a job before, ended in
 * good order and said nothing of this one, the job gets one new worker instead of a long wait. */
static bool may_restart(const struct worker *w) {
	const struct flight *f = w->flight;
	return w->carried > 0 && f->restarts == 0 && f->answered == 0 && !w->fault && w->pid == 0 && WIFEXITED(w->status) && WEXITSTATUS(w->status) == 0;
}

static void settle_unfinished(struct crew *crew, struct worker *w) {
	char text[200];
	struct flight *f = w->flight;
	if (may_restart(w)) {
		f->restarts++;
		body_close(&f->body);
		flights_push_front(&crew->waiting, f);
		return;
	}
	struct outcome rest = worker_outcome(w, text, sizeof text);
	log_warn("delivery to %s: %s", log_text((struct bytes){ w->destination, w->destination_len }), text);
	finish(crew, f, &rest);
}

/* Act on what a worker says of itself. *at is its place in the list; returns the place of the next one. */
static struct worker **settle(struct crew *crew, struct worker **at) {
	struct worker *w = *at;
	if (w->job_over) {
		flights_push(&crew->done, w->flight);
		w->flight = NULL;
		w->job_over = false;
	}
	if (!w->ended)
		return &w->next;
	if (w->flight)
		settle_unfinished(crew, w);
	*at = w->next;
	crew->count--;
	worker_free(w);
	return at;
}

/* ---- jobs that begin ---- */

static struct worker *find_worker(const struct crew *crew, struct bytes destination, enum worker_state state) {
	for (struct worker *w = crew->workers; w; w = w->next)
		if (w->state == state && bytes_equal(destination, (struct bytes){ w->destination, w->destination_len }))
			return w;
	return NULL;
}

/* A mailbox that was added a moment ago is known to an smtpd that reads the settings for each connection, and to sendmail: mail for it must
 * not be returned only because nobody has told spawn. */
static enum mailbox_result find_mailbox(struct crew *crew, const struct flight *f, struct mailbox *box, const char **text_r) {
	enum mailbox_result result = recipient_find(crew->settings, f, box, text_r);
	if (result == MAILBOX_FOUND || !settings_changed(crew->settings, path_etc, USED_SPAWN))
		return result;
	if (settings_reload(crew->settings, USED_SPAWN))
		return recipient_find(crew->settings, f, box, text_r);
	*text_r = "the mailbox could not be looked up: the settings have faults";
	return MAILBOX_UNSURE;
}

/* False: the flight has its end already. */
static bool know_mailbox(struct crew *crew, struct flight *f) {
	const char *text = "out of memory";
	enum mailbox_result result = MAILBOX_FOUND;
	if (!f->box) {
		f->box = calloc(1, sizeof *f->box);
		result = f->box ? find_mailbox(crew, f, f->box, &text) : MAILBOX_UNSURE;
	}
	if (result == MAILBOX_NONE)
		fail_flight(crew, f, V_PERM, "5.1.1", text);
	else if (result == MAILBOX_UNSURE)
		fail_flight(crew, f, V_TEMP, "4.3.0", text);
	else if (f->box->uid == 0 || f->box->gid == 0)
		fail_flight(crew, f, V_PERM, "5.7.0", "mail is never delivered as root");
	else
		return true;
	return false;
}

static void give_new_worker(struct crew *crew, struct flight *f, deadline_t now) {
	struct launched launched;
	bool is_local = crew->channel == CHANNEL_LOCAL;
	if (is_local && !know_mailbox(crew, f))
		return;
	if ((is_local ? launch_local(f->box, &launched) : launch_remote(&launched)) < 0) {
		log_warn("cannot start a delivery process: %m");
		fail_flight(crew, f, V_TEMP, "4.3.2", "no delivery process could be started");
		return;
	}
	struct worker *w = worker_new(&launched, f->job.destination, f->box);
	if (!w) {
		close(launched.to);
		close(launched.from);
		fail_flight(crew, f, V_TEMP, "4.3.0", "out of memory");
		return;
	}
	w->next = crew->workers;
	crew->workers = w;
	crew->count++;
	worker_give(w, f, now);
}

static struct worker *longest_idle(struct crew *crew) {
	struct worker *longest = NULL;
	for (struct worker *w = crew->workers; w; w = w->next)
		if (w->state == WORKER_IDLE && (!longest || w->idle_since < longest->idle_since))
			longest = w;
	return longest;
}

static size_t slots_used(const struct crew *crew) {
	size_t used = 0;
	for (const struct worker *w = crew->workers; w; w = w->next)
		used += w->state == WORKER_IDLE || w->flight != NULL;
	return used;
}

/* Is there a place for a new worker, if need be that of an idle one? Not when the destination has a worker that is busy: to wait for it
 * costs less than the connection of another destination, and an idle one that nobody needs ends soon by itself (connectionidle). */
static bool make_place(struct crew *crew, struct bytes destination, deadline_t now) {
	uint32_t slots = crew_slots(crew);
	if (crew->count >= 2 * (size_t)slots + CLOSING_SPARE)
		return false;
	if (slots_used(crew) < slots)
		return true;
	if (find_worker(crew, destination, WORKER_BUSY))
		return false;
	struct worker *idle = longest_idle(crew);
	if (idle)
		worker_retire(idle, now);
	return idle != NULL;
}

static struct worker *idle_virtual(struct worker *from) {
	while (from && (from->state != WORKER_IDLE || !from->box.is_virtual))
		from = from->next;
	return from;
}

/* The account that has all virtual mailboxes, as on most hosts that have any, needs no process for each: an idle worker of the same account goes on
 * to this mailbox, whose home must be there (a missing one is made by root, between fork and exec). *ended_r: nothing more to do for it. */
static struct worker *find_sibling(struct crew *crew, struct flight *f, bool *ended_r) {
	struct stat st;
	struct worker *w = crew->channel == CHANNEL_LOCAL ? idle_virtual(crew->workers) : NULL;
	*ended_r = w && !know_mailbox(crew, f);
	if (!w || *ended_r || !f->box->is_virtual || lstat(f->box->home, &st) < 0)
		return NULL;
	while (w && !worker_serves(w, f->box))
		w = idle_virtual(w->next);
	if (w)
		worker_move(w, f->job.destination, f->box);
	return w;
}

static void no_body(struct crew *crew, struct flight *f) {
	if (errno == EBADMSG) {
		flight_damaged(f);
		fail_flight(crew, f, V_TEMP, "4.3.0", FLIGHT_DAMAGED);
		return;
	}
	log_msg(f->job.id, "cannot open its body: %m");
	fail_flight(crew, f, V_TEMP, "4.3.0", "the message could not be read from the queue");
}

/* True: the flight has a worker, or its end. */
static bool begin(struct crew *crew, struct flight *f, deadline_t now) {
	bool ended = false;
	struct worker *w = find_worker(crew, f->job.destination, WORKER_IDLE);
	if (!w)
		w = find_sibling(crew, f, &ended);
	if (ended)
		return true;
	if (!w && !make_place(crew, f->job.destination, now))
		return false;
	if (f->body.fd < 0 && flight_open_body(f) < 0) {
		no_body(crew, f);
	} else if (w) {
		worker_give(w, f, now);
	} else {
		give_new_worker(crew, f, now);
	}
	return true;
}

static void begin_waiting(struct crew *crew, deadline_t now) {
	struct flights rest;
	flights_init(&rest);
	for (struct flight *f; (f = flights_pop(&crew->waiting)) != NULL;)
		if (!begin(crew, f, now))
			flights_push(&rest, f);
	crew->waiting = rest;
	if (!rest.first)
		flights_init(&crew->waiting);
}

void crew_take(struct crew *crew, struct flight *f) {
	flights_push(&crew->waiting, f);
}

void crew_drop_waiting(struct crew *crew) {
	flights_free(&crew->waiting);
}

void crew_retire(struct crew *crew, deadline_t now) {
	for (struct worker *w = crew->workers; w; w = w->next) {
		w->is_last = true;
		if (w->state == WORKER_IDLE)
			worker_retire(w, now);
	}
}

/* ---- the turn ---- */

void crew_reap(struct crew *crew, deadline_t now) {
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		struct worker **at = &crew->workers;
		while (*at && (*at)->pid != pid)
			at = &(*at)->next;
		if (!*at)
			continue;   /* one that was given up before */
		worker_reaped(*at, status, now);
		settle(crew, at);
	}
}

void crew_prepare(struct crew *crew, struct turn *turn) {
	begin_waiting(crew, turn->now);
	for (struct worker *w = crew->workers; w; w = w->next)
		worker_prepare(w, turn);
}

void crew_run(struct crew *crew, const struct turn *turn, deadline_t now) {
	uint64_t idle_ms = crew->settings->connectionidle * SECOND_MS;
	for (struct worker **at = &crew->workers; *at;) {
		worker_run(*at, turn, now, idle_ms);
		at = settle(crew, at);
	}
}
