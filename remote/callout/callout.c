/*
 * callout - ask a sender's mail exchanger whether there is such a sender, for smtpd's check of that name, and remember what it said.
 *   runs as   tappal-remote (started as root it binds its socket, then becomes that account)
 *   reads     questions on its socket, from root and tappal-smtpd only (SO_PEERCRED); the control files marked for callout; its children
 *   writes    answers on the socket; the socket itself, path_run/callout
 *   starts    a child for each callout (dialogue.h), by fork alone: it reads the network and the resolver's socket, this process neither
 *   never     mail, the queue, exec
 *   signals   TERM ends it and its children, HUP reads the settings again
 *   exit      0 TERM | 100 an argument, settings, another callout runs | 111 the system
 *   killed    its children go with it; sessions that wait know nothing of the sender; what was remembered is gone
 */
#include <stdlib.h>
#include <string.h>

#include "common/exits.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/service.h"
#include "inquiry.h"

#define ASKING_MAX 1024u          /* sessions of smtpd that wait at a time, and some of tappal */
#define FILES (ASKING_MAX + CHILDREN_MAX + 64u)
#define ANSWERS_MAX 4096u
#define PATIENCE_MS 10000u        /* for the callout before this one to end */
#define GRACE_MS 1000u            /* for a callout to say itself why it came to nothing */

struct asking { const struct inquiry *inquiry; };     /* NULL: nothing is asked */

struct callout {
	struct settings settings;
	struct inquiries *inquiries;
	struct service service;
};

/* ---- questions and answers ---- */

static void answer(struct service_client *c, const struct callout_said *said, bool kept)
{
	struct asking *asking = c->own;
	struct callout_answer record = { .verdict = (uint8_t)said->verdict, .kept = kept, .host = bytes_of(said->host), .text = bytes_of(said->text) };
	asking->inquiry = NULL;
	c->due = 0;
	service_send(c, callout_answer_encode(&record, &c->out.buffer));
}

static void answer_with(struct service_client *c, enum callout_verdict verdict, const char *text)
{
	struct callout_said said = { .verdict = verdict };
	(void)bytes_to_cstring(bytes_of(text), said.text, sizeof said.text);
	answer(c, &said, false);
}

static bool question_take(void *owner, struct service_client *c, const struct record *record, deadline_t now)
{
	struct callout *all = owner;
	struct asking *asking = c->own;
	struct callout_ask ask;
	struct callout_said said;
	struct mailaddr sender;
	if (record->type != REC_callout_ask || !callout_ask_decode(record->payload, &ask) || mailaddr_parse(ask.sender, &sender) != ADDR_OK)
		return false;
	if (sender.kind != ADDR_MAILBOX) {
		answer_with(c, CALLOUT_UNASKED, "there is nobody to ask");
	} else if (inquiries_known(all->inquiries, &sender, now, &said)) {
		answer(c, &said, true);
	} else if ((asking->inquiry = inquiries_join(all->inquiries, &sender, now)) == NULL) {
		answer_with(c, CALLOUT_UNKNOWN, "too many callouts at a time");
	} else {
		c->due = deadline_in(now, all->settings.callouttimeout * SECOND_MS + GRACE_MS);
	}
	return true;
}

static void inquiry_done(void *context, const struct inquiry *i, const struct callout_said *said)
{
	struct callout *all = context;
	struct service_client *c;
	for (size_t place = 0; (c = service_next(&all->service, &place)) != NULL;) {
		const struct asking *asking = c->own;
		if (asking->inquiry == i)
			answer(c, said, false);
	}
}

/* ---- what it is to its service ---- */

static bool wants_question(const struct service_client *c)
{
	const struct asking *asking = c->own;
	return asking->inquiry == NULL;
}

static void question_due(void *owner, struct service_client *c, deadline_t now)
{
	(void)owner;
	(void)now;
	answer_with(c, CALLOUT_UNKNOWN, "the callout took too long");
}

static size_t prepare(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	struct callout *all = owner;
	return inquiries_prepare(all->inquiries, fds, now, next);
}

static void run(void *owner, const struct pollfd *fds, size_t count, deadline_t now)
{
	struct callout *all = owner;
	inquiries_run(all->inquiries, fds, count, now);
}

static void reload(void *owner)
{
	struct callout *all = owner;
	if (settings_reload(&all->settings, USED_CALLOUT))
		log_info("settings read again");
}

static const struct service_kind callout_kind = {
	.slots = ASKING_MAX, .own_size = sizeof(struct asking), .answers_max = ANSWERS_MAX, .own_fds = CHILDREN_MAX,
	.take = question_take, .wants = wants_question, .idle = wants_question, .due = question_due, .prepare = prepare, .run = run, .reload = reload,
};

/* ---- start ---- */

static const struct service_origin origin = {
	.program = "callout", .socket = SOCKET_CALLOUT, .account = ACCOUNT_REMOTE, .asker = ACCOUNT_SMTPD, .used_by = USED_CALLOUT, .files = FILES,
	.patience_ms = PATIENCE_MS,
};

static void start(struct callout *all)
{
	service_enter(&all->service, &all->settings, &origin);
	all->inquiries = inquiries_new(&all->settings, inquiry_done, all);
	if (all->inquiries == NULL)
		die_system("no memory");
	service_start(&all->service, &callout_kind, all);
}

int main(int argc, char **argv)
{
	struct callout *all = calloc(1, sizeof *all);
	(void)argv;
	die_on_arguments("callout", argc);
	if (all == NULL)
		die_system("no memory");
	start(all);
	log_info("ready");
	while (!all->service.stop)
		service_turn(&all->service);
	service_end(&all->service);
	inquiries_free(all->inquiries);
	settings_free(&all->settings);
	free(all);
	return EXIT_OK;
}
