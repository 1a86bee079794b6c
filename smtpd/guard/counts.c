/* counts - guard's room: limits, unknown recipients, bans. See counts.h. */
#include "counts.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

/* What one event adds to which count; errors and octets are charged apart. */
static const bool adds[GUARD_EVENTS][LIMIT_WHATS] = {
	[GUARD_CONNECT] = { [LIMIT_CONNECTIONS] = true },
	[GUARD_MAIL] = { [LIMIT_MESSAGES] = true },
	[GUARD_RCPT] = { [LIMIT_RECIPIENTS] = true },
};

/* A line that counts the same for the same would count twice. */
static bool says_the_same(const struct limit *a, const struct limit *b)
{
	return a->subject == b->subject && a->what == b->what && a->none == b->none && a->window_s == b->window_s && bytes_equal_nocase(a->who, b->who);
}

static bool is_new(const struct rules *r, const struct limit *limit)
{
	for (size_t i = 0; i < r->count; i++)
		if (says_the_same(&r->limit[i], limit))
			return false;
	return true;
}

bool rules_init(struct rules *r, const struct lines *lines)
{
	const char *why;
	*r = (struct rules){ .limit = calloc(lines->count + 1, sizeof *r->limit) };
	for (size_t i = 0; r->limit != NULL && i < lines->count; i++)
		if (limit_parse(lines->at[i], &r->limit[r->count], &why) && is_new(r, &r->limit[r->count]))
			r->count++;
	return r->limit != NULL;
}

void rules_free(struct rules *r)
{
	free(r->limit);
	*r = (struct rules){ 0 };
}

/* ---- which rules hold */

static bool subject_holds(const struct visitor *v, enum guard_event event, enum limit_subject subject)
{
	switch (subject) {
	case LIMIT_ADDRESS:
	case LIMIT_NETWORK:
		return !v->spared && v->client.family != 0 && (v->login.len == 0 || event == GUARD_CONNECT);
	case LIMIT_LOGIN:
		return v->login.len > 0;
	default:
		return event == GUARD_RCPT;
	}
}

static struct bytes name_of(const struct visitor *v, enum limit_subject subject, struct bytes domain, char out[NETADDR_TEXT + 4])
{
	switch (subject) {
	case LIMIT_ADDRESS:
	case LIMIT_NETWORK:
		return keys_address(&v->client, subject == LIMIT_NETWORK, out);
	case LIMIT_LOGIN:
		return v->login;
	default:
		return domain;
	}
}

/* The narrowest WHO of each subject and what; 0: none fits. */
static void find_narrowest(const struct rules *rules, const struct visitor *v, struct bytes domain, unsigned best_r[LIMIT_SUBJECTS][LIMIT_WHATS])
{
	memset(best_r, 0, LIMIT_SUBJECTS * sizeof *best_r);
	for (size_t i = 0; i < rules->count; i++) {
		const struct limit *l = &rules->limit[i];
		unsigned fits = limit_fits(l, l->subject == LIMIT_LOGIN ? v->login : domain, &v->client);
		if (fits > best_r[l->subject][l->what])
			best_r[l->subject][l->what] = fits;
	}
}

static bool is_narrowest(const struct limit *l, struct bytes name, const struct visitor *v, unsigned best[LIMIT_SUBJECTS][LIMIT_WHATS])
{
	unsigned fits = limit_fits(l, name, &v->client);
	return !l->none && fits > 0 && fits == best[l->subject][l->what];
}

/* ---- counting */

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* With peek: `aside`, as the row is or would be. */
static struct row *row_for(const struct counts *c, unsigned subject, unsigned what, uint32_t window_s, struct bytes name, wall_ms_t now, struct row *aside)
{
	uint64_t key = keys_of(c->keys, subject, what, window_s, (const struct bytes[3]){ name });
	struct row *row = c->peek ? table_find(c->table, key, now) : table_place(c->table, key, now);
	if (c->peek) {
		*aside = row != NULL ? *row : (struct row){ 0 };
		row = aside;
	}
	if (row->until == 0) {
		row->until = now + (wall_ms_t)window_s * SECOND_MS;
		row->subject = (uint8_t)subject;
		row->what = (uint8_t)what;
		row->window_s = window_s;
		keys_name(row, name);
	}
	return row;
}

static void row_changed(const struct counts *c, const struct row *row)
{
	if (!c->peek)
		table_changed(c->table, row);
}

static uint32_t seconds_until(wall_ms_t until, wall_ms_t now)
{
	uint64_t s = until > now ? (until - now + SECOND_MS - 1) / SECOND_MS : 0;
	return s > UINT32_MAX ? UINT32_MAX : (uint32_t)s;
}

/* Add to the count of this limit, and say what it is then. */
static struct guard_answer count_up(const struct counts *c, const struct limit *l, struct bytes name, uint64_t n, wall_ms_t now)
{
	struct row aside, *row = row_for(c, l->subject, l->what, l->window_s, name, now, &aside);
	row->count = add(row->count, n);
	row->limit = l->count;
	row_changed(c, row);
	return (struct guard_answer){ .subject = (uint8_t)l->subject, .what = (uint8_t)l->what, .window_s = l->window_s, .count = row->count, .limit = l->count,
		.wait_s = seconds_until(row->until, now) };
}

static struct guard_answer count_now(const struct counts *c, const struct limit *l, struct bytes name, wall_ms_t now)
{
	const struct row *row = table_find(c->table, keys_of(c->keys, l->subject, l->what, l->window_s, (const struct bytes[3]){ name }), now);
	return (struct guard_answer){ .subject = (uint8_t)l->subject, .what = (uint8_t)l->what, .window_s = l->window_s, .count = row == NULL ? 0 : row->count,
		.limit = l->count, .wait_s = row == NULL ? 0 : seconds_until(row->until, now) };
}

static struct guard_answer count_here(const struct limit *l, const struct visitor *v)
{
	return (struct guard_answer){ .subject = (uint8_t)l->subject, .what = (uint8_t)l->what, .limit = l->count,
		.count = l->subject == LIMIT_ADDRESS ? v->here_address : v->here_network };
}

/* A message to several recipients of a domain is one message to it. */
static bool is_first_of_domain(const struct counts *c, const struct visitor *v, struct bytes domain)
{
	uint64_t key = keys_of(c->keys, LIMIT_DOMAIN, LIMIT_MESSAGES, 0, (const struct bytes[3]){ domain });
	for (size_t i = 0; i < DOMAINS_COUNTED; i++) {
		if (v->domain[i] == key)
			return false;
		if (v->domain[i] == 0) {
			v->domain[i] = key;
			return true;
		}
	}
	return true;
}

void counts_charge(const struct counts *c, const struct visitor *v, uint32_t errors, uint64_t octets, wall_ms_t now)
{
	unsigned best[LIMIT_SUBJECTS][LIMIT_WHATS];
	char text[NETADDR_TEXT + 4];
	find_narrowest(c->rules, v, (struct bytes){ NULL, 0 }, best);
	for (size_t i = 0; i < c->rules->count; i++) {
		const struct limit *l = &c->rules->limit[i];
		uint64_t n = l->what == LIMIT_ERRORS ? errors : l->what == LIMIT_OCTETS ? octets : 0;
		struct bytes name = name_of(v, l->subject, (struct bytes){ NULL, 0 }, text);
		if (n > 0 && subject_holds(v, GUARD_END, l->subject) && is_narrowest(l, name, v, best))
			(void)count_up(c, l, name, n, now);
	}
}

static bool breaks(const struct counts *c, const struct limit *l, const struct visitor *v, enum guard_event event, struct bytes name, bool first,
	struct guard_answer *answer_r, wall_ms_t now)
{
	bool domain_message = l->subject == LIMIT_DOMAIN && l->what == LIMIT_MESSAGES;
	if (l->what == LIMIT_CONNECTIONS && l->window_s == 0) {
		*answer_r = count_here(l, v);
		return event == GUARD_CONNECT && answer_r->count > l->count;
	}
	if (l->what == LIMIT_ERRORS || l->what == LIMIT_OCTETS) {
		*answer_r = count_now(c, l, name, now);
		return answer_r->count >= l->count;
	}
	if (!adds[event][l->what] && !domain_message)
		return false;
	*answer_r = domain_message && !first ? count_now(c, l, name, now) : count_up(c, l, name, 1, now);
	return answer_r->count > l->count;
}

struct guard_answer counts_event(const struct counts *c, const struct visitor *v, enum guard_event event, struct bytes domain, wall_ms_t now)
{
	struct guard_answer broken = { .verdict = GUARD_GO }, answer;
	unsigned best[LIMIT_SUBJECTS][LIMIT_WHATS];
	char text[NETADDR_TEXT + 4];
	bool first = event == GUARD_RCPT && is_first_of_domain(c, v, domain);
	find_narrowest(c->rules, v, domain, best);
	for (size_t i = 0; i < c->rules->count; i++) {
		const struct limit *l = &c->rules->limit[i];
		struct bytes name = name_of(v, l->subject, domain, text);
		if (!subject_holds(v, event, l->subject) || !is_narrowest(l, name, v, best) || !breaks(c, l, v, event, name, first, &answer, now))
			continue;
		if (broken.verdict == GUARD_GO)
			broken = answer;
		broken.verdict = GUARD_OVER;
	}
	return broken;
}

/* ---- unknown recipients */

struct guard_answer counts_ban(const struct counts *c, const struct visitor *v, wall_ms_t now)
{
	char text[NETADDR_TEXT + 4];
	struct bytes name = keys_client(&v->client, text);
	const struct row *row = table_find(c->table, keys_of(c->keys, LIMIT_ADDRESS, ROW_BAN, 0, (const struct bytes[3]){ name }), now);
	if (row == NULL || v->spared)
		return (struct guard_answer){ .verdict = GUARD_GO };
	return (struct guard_answer){ .verdict = GUARD_BANNED, .count = row->count, .limit = row->limit, .window_s = row->window_s,
		.wait_s = seconds_until(row->until, now) };
}

static void ban(const struct counts *c, struct bytes name, struct guard_answer *answer, wall_ms_t now)
{
	struct row *row = table_place(c->table, keys_of(c->keys, LIMIT_ADDRESS, ROW_BAN, 0, (const struct bytes[3]){ name }), now);
	row->until = now + c->settings->bantime * SECOND_MS;
	row->subject = LIMIT_ADDRESS;
	row->what = ROW_BAN;
	row->rank = 1;
	row->window_s = answer->window_s;
	row->count = answer->count;
	row->limit = answer->limit;
	keys_name(row, name);
	table_changed(c->table, row);
	answer->wait_s = seconds_until(row->until, now);
	log_info("ban: %.*s for %us: %llu unknown recipients within %us (banafter %llu)", (int)name.len, name.at, answer->wait_s, (unsigned long long)answer->count,
		answer->window_s, (unsigned long long)answer->limit);
}

static bool reached(uint64_t count, uint64_t limit)
{
	return limit > 0 && count >= limit;
}

struct guard_answer counts_unknown(const struct counts *c, const struct visitor *v, wall_ms_t now)
{
	const struct settings *s = c->settings;
	struct guard_answer answer = { .verdict = GUARD_GO };
	char text[NETADDR_TEXT + 4];
	struct bytes name = keys_client(&v->client, text);
	if (v->spared || v->login.len > 0 || v->client.family == 0)
		return answer;
	struct row aside, *row = row_for(c, LIMIT_ADDRESS, ROW_UNKNOWN, (uint32_t)s->unknownwindow, name, now, &aside);
	row->count = add(row->count, 1);
	answer = (struct guard_answer){ .verdict = GUARD_GO, .what = ROW_UNKNOWN, .window_s = row->window_s, .count = row->count, .wait_s = seconds_until(row->until, now) };
	if (reached(row->count, s->banafter)) {
		answer.verdict = GUARD_BANNED;
		answer.limit = row->limit = s->banafter;
	} else if (reached(row->count, s->hangupafter)) {
		answer.verdict = GUARD_HANGUP;
		answer.limit = row->limit = s->hangupafter;
	} else if (reached(row->count, s->tarpitafter)) {
		answer.verdict = GUARD_TARPIT;
		answer.limit = row->limit = s->tarpitafter;
		answer.delay_ms = (uint32_t)(s->tarpitdelay * SECOND_MS);
	}
	row_changed(c, row);
	if (answer.verdict == GUARD_BANNED && c->peek) {
		answer.wait_s = (uint32_t)s->bantime;
	} else if (answer.verdict == GUARD_BANNED) {
		table_forget(c->table, row);   /* the ban stands for it: who is let in again begins anew */
		ban(c, name, &answer, now);
	}
	return answer;
}
