/* crew - auth's room: its workers. See crew.h. */
#include "crew.h"

#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/child.h"
#include "common/log.h"

#define GRACE_MS 5000u       /* beyond authtimeout, which a worker keeps itself where it waits for others */
#define QUESTION_MAX 8192u

void authcrew_init(struct authcrew *crew, const struct settings *settings, authcrew_answer_fn *answer, void *context)
{
	*crew = (struct authcrew){ .settings = settings, .answer = answer, .context = context };
}

static void worker_close(struct authworker *w)
{
	child_end(w->pid);
	record_reader_free(&w->in);
	close(w->fd);
	*w = (struct authworker){ 0 };
}

static bool worker_start(const struct authcrew *crew, struct authworker *w)
{
	int fd;
	pid_t pid = child_start(&fd);
	if (pid == 0)
		_exit(verify_serve(fd, crew->settings));
	if (pid < 0)
		return false;
	*w = (struct authworker){ .pid = pid, .fd = fd };
	record_reader_init(&w->in, w->fd);
	return true;
}

static size_t limit_of(const struct authcrew *crew)
{
	return crew->settings->authworkers < AUTHCREW_MAX ? (size_t)crew->settings->authworkers : AUTHCREW_MAX;
}

/* An idle worker, or a free place below the limit; NULL: neither. */
static struct authworker *find_room(const struct authcrew *crew)
{
	const struct authworker *place = NULL;
	size_t alive = 0;
	for (size_t i = 0; i < AUTHCREW_MAX; i++) {
		const struct authworker *w = &crew->worker[i];
		if (w->pid != 0 && w->asked == NULL && !w->retired)
			return (struct authworker *)(uintptr_t)w;
		alive += w->pid != 0;
		if (w->pid == 0 && place == NULL)
			place = w;
	}
	return alive < limit_of(crew) ? (struct authworker *)(uintptr_t)place : NULL;
}

bool authcrew_has_room(const struct authcrew *crew)
{
	return find_room(crew) != NULL;
}

bool authcrew_ask(struct authcrew *crew, const struct auth_check *check, void *asked, deadline_t now)
{
	struct authworker *w = find_room(crew);
	struct str text = STR_INIT(QUESTION_MAX);
	if (w == NULL || (w->pid == 0 && !worker_start(crew, w)))
		return false;
	/* Room at once: a buffer that grew would leave the password behind. */
	bool sent = str_reserve(&text, QUESTION_MAX) != NULL && auth_check_encode(check, &text) && send(w->fd, text.at, text.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)text.len;
	if (text.at != NULL)
		sodium_memzero(text.at, text.room);
	str_free(&text);
	if (!sent) {
		log_warn("a worker took no question; it is replaced");
		worker_close(w);
		return false;
	}
	w->asked = asked;
	w->until = deadline_in(now, crew->settings->authtimeout * SECOND_MS + GRACE_MS);
	return true;
}

/* The worker cannot be told to stop computing: it goes on, and its answer is nobody's. */
void authcrew_forget(struct authcrew *crew, const void *asked)
{
	for (size_t i = 0; i < AUTHCREW_MAX; i++)
		if (crew->worker[i].asked == asked && asked != NULL)
			crew->worker[i].asked = crew;
}

static void worker_answered(struct authcrew *crew, struct authworker *w, enum verify_result result, struct bytes login, deadline_t now)
{
	void *asked = w->asked;
	w->asked = NULL;
	w->until = 0;
	if (asked != NULL && asked != crew)
		crew->answer(crew->context, asked, result, login, now);
}

static void worker_lost(struct authcrew *crew, struct authworker *w, const char *why, deadline_t now)
{
	log_warn("a worker %s; it is replaced", why);
	worker_answered(crew, w, VERIFY_LATER, (struct bytes){ NULL, 0 }, now);
	worker_close(w);
}

static void worker_read(struct authcrew *crew, struct authworker *w, deadline_t now)
{
	struct record record;
	struct auth_checked answer;
	ssize_t got = record_reader_fill(&w->in);
	if (got <= 0) {
		worker_lost(crew, w, "ended", now);
		return;
	}
	enum record_result result = record_reader_next(&w->in, &record);
	if (result == RECORD_MORE)
		return;
	if (result == RECORD_BAD || w->asked == NULL || record.type != REC_auth_checked || !auth_checked_decode(record.payload, &answer) || answer.result > VERIFY_LATER
		|| (answer.login.len > 0 && !password_login_valid(answer.login))) {
		worker_lost(crew, w, "answered nonsense", now);
		return;
	}
	worker_answered(crew, w, (enum verify_result)answer.result, answer.login, now);
	if (w->retired)
		worker_close(w);
}

size_t authcrew_prepare(struct authcrew *crew, struct pollfd *fds, deadline_t *deadline)
{
	size_t n = 0;
	for (size_t i = 0; i < AUTHCREW_MAX; i++) {
		if (crew->worker[i].pid == 0)
			continue;
		fds[n++] = (struct pollfd){ .fd = crew->worker[i].fd, .events = POLLIN };
		*deadline = deadline_earlier(*deadline, crew->worker[i].until);
	}
	return n;
}

void authcrew_run(struct authcrew *crew, const struct pollfd *fds, size_t count, deadline_t now)
{
	for (size_t i = 0; i < AUTHCREW_MAX; i++) {
		struct authworker *w = &crew->worker[i];
		for (size_t k = 0; w->pid != 0 && k < count; k++)
			if (fds[k].fd == w->fd && fds[k].revents != 0) {
				worker_read(crew, w, now);
				break;
			}
		if (w->pid != 0 && w->until != 0 && deadline_passed(w->until, now))
			worker_lost(crew, w, "took too long", now);
	}
}

void authcrew_renew(struct authcrew *crew, const struct settings *settings)
{
	crew->settings = settings;
	for (size_t i = 0; i < AUTHCREW_MAX; i++) {
		struct authworker *w = &crew->worker[i];
		if (w->pid != 0 && w->asked == NULL)
			worker_close(w);
		else if (w->pid != 0)
			w->retired = true;
	}
}

void authcrew_stop(struct authcrew *crew)
{
	for (size_t i = 0; i < AUTHCREW_MAX; i++)
		if (crew->worker[i].pid != 0)
			worker_close(&crew->worker[i]);
}
