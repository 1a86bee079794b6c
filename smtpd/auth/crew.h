/*
 * crew - the bounded worker processes of `auth` (verify.h): started when there is work, replaced when they die, stopped when they take
 * too long. One question each at a time.
 */
#ifndef SMTPD_AUTH_CREW_H
#define SMTPD_AUTH_CREW_H

#include <poll.h>

#include "common/channel.h"
#include "verify.h"

#define AUTHCREW_MAX 64

/* login: what the back-end calls him; empty: as he was asked for. Valid during the call. */
typedef void authcrew_answer_fn(void *context, void *asked, enum verify_result result, struct bytes login, deadline_t now);

struct authworker {
	pid_t pid;                        /* 0: none */
	int fd;
	struct record_reader in;
	void *asked;                      /* whose question it has; NULL: idle */
	deadline_t until;                 /* of that question */
	bool retired;                     /* ends after it: the settings have changed */
};

struct authcrew {
	const struct settings *settings;
	struct authworker worker[AUTHCREW_MAX];
	authcrew_answer_fn *answer;
	void *context;                    /* of answer */
};

void authcrew_init(struct authcrew *crew, const struct settings *settings, authcrew_answer_fn *answer, void *context);
/* Is a worker free, or may one be started? */
bool authcrew_has_room(const struct authcrew *crew);
/* Ask; the answer comes by crew->answer in authcrew_run. False: it cannot be asked now. */
bool authcrew_ask(struct authcrew *crew, const struct auth_check *check, void *asked, deadline_t now);
void authcrew_forget(struct authcrew *crew, const void *asked);     /* nobody waits for this answer any more */
size_t authcrew_prepare(struct authcrew *crew, struct pollfd *fds, deadline_t *deadline);   /* at most AUTHCREW_MAX; returns how many */
void authcrew_run(struct authcrew *crew, const struct pollfd *fds, size_t count, deadline_t now);
void authcrew_renew(struct authcrew *crew, const struct settings *settings);   /* new settings: idle workers go, busy ones after their answer */
void authcrew_stop(struct authcrew *crew);

#endif
