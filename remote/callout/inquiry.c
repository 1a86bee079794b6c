/* inquiry - remote's room: the callouts that wait or go on, and their children. See inquiry.h. */
#include "inquiry.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/child.h"
#include "common/log.h"
#include "common/netaddr.h"
#include "dialogue.h"
#include "pace.h"

#define PLACES 4096u          /* of pace */
#define GRACE_MS 5000u        /* for a child to end by itself, QUIT included */

enum state { FREE, WAITING, RUNNING, ENDING /* it has told, and says QUIT */ };

struct inquiry {
	enum state state;
	char text[ADDRESS_MAX + 1];
	struct mailaddr sender;          /* views into text */
	deadline_t until;                /* WAITING: given up; else the child is killed */
	pid_t pid;
	struct record_reader in;         /* its fd, too */
	char asks[NETADDR_TEXT];         /* wants to connect there; empty: nowhere */
	char host[NETADDR_TEXT];         /* is connected there, for pace */
};

struct inquiries {
	const struct settings *settings;
	struct calloutcache *cache;
	struct pace *pace;
	inquiry_done_fn *done;
	void *context;
	size_t children;
	struct inquiry at[INQUIRIES_MAX];
};

struct inquiries *inquiries_new(const struct settings *settings, inquiry_done_fn *done, void *context)
{
	struct inquiries *all = calloc(1, sizeof *all);
	if (all == NULL)
		return NULL;
	all->settings = settings;
	all->done = done;
	all->context = context;
	all->cache = calloutcache_new(settings->calloutrows);
	all->pace = pace_new(PLACES);
	if (all->cache == NULL || all->pace == NULL)
		return NULL;
	return all;
}

/* ---- limits */

static const struct bytes whole = { "", 0 };

static struct pace_limit limit_in_all(const struct inquiries *all)
{
	return (struct pace_limit){ all->settings->calloutsessions, all->settings->calloutrate };
}

static struct pace_limit limit_of_each(const struct inquiries *all)
{
	return (struct pace_limit){ all->settings->callouthostsessions, all->settings->callouthostrate };
}

static enum pace_result may_start(const struct inquiries *all, const struct inquiry *i, deadline_t now)
{
	struct pace_limit in_all = limit_in_all(all), each = limit_of_each(all);
	enum pace_result result = pace_may(all->pace, i->sender.domain, &each, now);
	if (result == PACE_GO)
		result = pace_may(all->pace, whole, &in_all, now);
	return result == PACE_GO && all->children >= CHILDREN_MAX ? PACE_WAIT : result;
}

static void enter_host(struct inquiries *all, struct inquiry *i, const char *host, deadline_t now)
{
	if (i->host[0] != '\0')
		pace_leave(all->pace, bytes_of(i->host));
	(void)bytes_to_cstring(bytes_of(host), i->host, sizeof i->host);
	if (i->host[0] != '\0')
		pace_enter(all->pace, bytes_of(i->host), now);
}

/* ---- what is known */

static bool domain_key(const struct mailaddr *sender, struct str *key)
{
	return str_add_char(key, '@') && str_add(key, sender->domain);
}

bool inquiries_known(const struct inquiries *all, const struct mailaddr *sender, deadline_t now, struct callout_said *said_r)
{
	struct str key = STR_INIT(ADDRESS_MAX);
	bool known = calloutcache_find(all->cache, sender->text, now, said_r)
		|| (domain_key(sender, &key) && calloutcache_find(all->cache, str_bytes(&key), now, said_r));
	str_free(&key);
	return known;
}

static uint64_t keep_seconds(const struct settings *s, enum callout_verdict verdict)
{
	if (verdict == CALLOUT_EXISTS)
		return s->calloutkeepgood;
	return verdict == CALLOUT_UNKNOWN ? s->calloutkeepunknown : s->calloutkeepbad;
}

static void keep(struct inquiries *all, const struct inquiry *i, enum callout_scope scope, const struct callout_said *said, deadline_t now)
{
	struct str key = STR_INIT(ADDRESS_MAX);
	deadline_t until = deadline_in(now, keep_seconds(all->settings, said->verdict) * SECOND_MS);
	bool good = scope == CALLOUT_OF_DOMAIN ? domain_key(&i->sender, &key) : scope == CALLOUT_OF_ADDRESS && str_add(&key, i->sender.text);
	if (good)
		calloutcache_keep(all->cache, str_bytes(&key), said, until, now);
	str_free(&key);
}

/* ---- beginning and end */

struct inquiry *inquiries_join(struct inquiries *all, const struct mailaddr *sender, deadline_t now)
{
	struct inquiry *free_one = NULL;
	for (struct inquiry *i = all->at; i < all->at + INQUIRIES_MAX; i++) {
		if ((i->state == WAITING || i->state == RUNNING) && bytes_equal(i->sender.text, sender->text))
			return i;
		if (i->state == FREE && free_one == NULL)
			free_one = i;
	}
	if (free_one == NULL)
		return NULL;
	*free_one = (struct inquiry){ .state = WAITING, .until = deadline_in(now, all->settings->callouttimeout * SECOND_MS) };
	if (!bytes_to_cstring(sender->text, free_one->text, sizeof free_one->text) || mailaddr_parse(bytes_of(free_one->text), &free_one->sender) != ADDR_OK) {
		*free_one = (struct inquiry){ 0 };
		return NULL;
	}
	return free_one;
}

static void log_it(const struct inquiry *i, const struct callout_said *said)
{
	static const char *const words[CALLOUT_VERDICTS] = { "unknown", "exists", "nobody", "no bounces", "not asked" };
	char sender[ADDRESS_MAX + 1];
	callout_clean(i->sender.text, sender, sizeof sender);
	log_info("callout: <%s>: %s; %s%s%s", sender, words[said->verdict], said->host, said->host[0] != '\0' ? " says: " : "", said->text);
}

static void finish(struct inquiries *all, struct inquiry *i, enum callout_scope scope, const struct callout_said *said, deadline_t now)
{
	log_it(i, said);
	keep(all, i, scope, said, now);
	all->done(all->context, i, said);
}

static void finish_unknown(struct inquiries *all, struct inquiry *i, const char *why, deadline_t now)
{
	struct callout_said said = { .verdict = CALLOUT_UNKNOWN };
	(void)bytes_to_cstring(bytes_of(why), said.text, sizeof said.text);
	finish(all, i, CALLOUT_NOW, &said, now);
}

static void give_up_waiting(struct inquiries *all, struct inquiry *i, const char *why, deadline_t now)
{
	finish_unknown(all, i, why, now);
	*i = (struct inquiry){ 0 };
}

/* The child goes, and its places with it. */
static void child_drop(struct inquiries *all, struct inquiry *i)
{
	int fd = i->in.fd;
	child_end(i->pid);
	record_reader_free(&i->in);
	close(fd);
	pace_leave(all->pace, i->sender.domain);
	pace_leave(all->pace, whole);
	enter_host(all, i, "", 0);
	all->children--;
	*i = (struct inquiry){ 0 };
}

static void child_lost(struct inquiries *all, struct inquiry *i, const char *why, deadline_t now)
{
	if (i->state == RUNNING)
		finish_unknown(all, i, why, now);
	child_drop(all, i);
}

static void start(struct inquiries *all, struct inquiry *i, deadline_t now)
{
	int fd;
	i->pid = child_start(&fd);
	if (i->pid == 0)
		_exit(dialogue_run(fd, all->settings, &i->sender));
	if (i->pid < 0) {
		log_warn("no process can be made for a callout");
		give_up_waiting(all, i, "no process can be made for it", now);
		return;
	}
	i->state = RUNNING;
	i->until = deadline_in(now, all->settings->callouttimeout * SECOND_MS + GRACE_MS);
	record_reader_init(&i->in, fd);
	pace_enter(all->pace, i->sender.domain, now);
	pace_enter(all->pace, whole, now);
	all->children++;
}

void inquiries_free(struct inquiries *all)
{
	for (struct inquiry *i = all->at; i < all->at + INQUIRIES_MAX; i++)
		if (i->state == RUNNING || i->state == ENDING)
			child_drop(all, i);
	calloutcache_free(all->cache);
	pace_free(all->pace);
	free(all);
}

/* ---- what a child says */

static void answer_may(struct inquiries *all, struct inquiry *i, bool yes, deadline_t now)
{
	struct callout_go go = { .yes = yes };
	struct str text = STR_INIT(100);
	if (yes)
		enter_host(all, i, i->asks, now);
	i->asks[0] = '\0';
	/* It waits for this, so there is room: else it is no child of ours any more. */
	bool sent = callout_go_encode(&go, &text) && send(i->in.fd, text.at, text.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)text.len;
	str_free(&text);
	if (!sent)
		child_lost(all, i, "the callout broke off", now);
}

static bool take_may(struct inquiry *i, const struct record *record)
{
	struct callout_may may;
	struct netaddr ip;
	return i->asks[0] == '\0' && callout_may_decode(record->payload, &may) && netaddr_parse(may.ip, &ip) && bytes_to_cstring(may.ip, i->asks, sizeof i->asks);
}

static bool take_end(struct inquiries *all, struct inquiry *i, const struct record *record, deadline_t now)
{
	struct callout_end end;
	struct callout_said said;
	if (!callout_end_decode(record->payload, &end) || end.verdict >= CALLOUT_VERDICTS || end.scope >= CALLOUT_SCOPES)
		return false;
	said.verdict = (enum callout_verdict)end.verdict;
	callout_clean(end.host, said.host, sizeof said.host);
	callout_clean(end.text, said.text, sizeof said.text);
	finish(all, i, (enum callout_scope)end.scope, &said, now);
	i->state = ENDING;
	i->until = deadline_in(now, GRACE_MS);
	return true;
}

static void child_read(struct inquiries *all, struct inquiry *i, deadline_t now)
{
	struct record record;
	enum record_result result;
	if (record_reader_fill(&i->in) <= 0) {
		child_lost(all, i, "the callout broke off", now);
		return;
	}
	while ((result = record_reader_next(&i->in, &record)) == RECORD_OK) {
		bool good = i->state == RUNNING
			&& (record.type == REC_callout_may ? take_may(i, &record) : record.type == REC_callout_end && take_end(all, i, &record, now));
		if (!good)
			break;
	}
	if (result == RECORD_MORE)
		return;
	log_warn("a callout's process says what it may not say; it is ended");
	child_lost(all, i, "the callout broke off", now);
}

/* ---- the loop */

/* What was found out for another address of the domain may answer it by now. */
static void begin(struct inquiries *all, struct inquiry *i, deadline_t now)
{
	struct callout_said said;
	enum pace_result result = may_start(all, i, now);
	if (inquiries_known(all, &i->sender, now, &said)) {
		all->done(all->context, i, &said);
		*i = (struct inquiry){ 0 };
	} else if (result == PACE_OVER) {
		give_up_waiting(all, i, "too many callouts in a minute", now);
	} else if (result == PACE_GO) {
		start(all, i, now);
	} else if (deadline_passed(i->until, now)) {
		give_up_waiting(all, i, "too many callouts at a time", now);
	}
}

static void let_connect(struct inquiries *all, struct inquiry *i, deadline_t now)
{
	struct pace_limit each = limit_of_each(all);
	enum pace_result result = strcmp(i->asks, i->host) == 0 ? PACE_GO : pace_may(all->pace, bytes_of(i->asks), &each, now);
	if (result != PACE_WAIT)
		answer_may(all, i, result == PACE_GO, now);
}

size_t inquiries_prepare(struct inquiries *all, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	size_t n = 0;
	for (struct inquiry *i = all->at; i < all->at + INQUIRIES_MAX; i++) {
		if (i->state == WAITING)
			begin(all, i, now);
		if (i->state == RUNNING && i->asks[0] != '\0')
			let_connect(all, i, now);
		if (i->state == FREE)
			continue;
		*next = deadline_earlier(*next, i->until);
		if (i->state != WAITING)
			fds[n++] = (struct pollfd){ .fd = i->in.fd, .events = POLLIN };
	}
	return n;
}

void inquiries_run(struct inquiries *all, const struct pollfd *fds, size_t count, deadline_t now)
{
	size_t n = 0;
	for (struct inquiry *i = all->at; i < all->at + INQUIRIES_MAX; i++) {
		if (i->state != RUNNING && i->state != ENDING)
			continue;
		bool heard = n < count && fds[n].fd == i->in.fd && fds[n].revents != 0;
		n++;
		if (heard)
			child_read(all, i, now);
		else if (deadline_passed(i->until, now))
			child_lost(all, i, "the callout took too long", now);
	}
}
