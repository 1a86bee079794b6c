/* answers - smtpd's room: what the DNS said. See answers.h. */
#include "answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void answers_free(struct answers *a)
{
	free(a->at);
	*a = (struct answers){ 0 };
}

void answers_forget_wants(struct answers *a)
{
	for (size_t i = 0; i < a->count; i++)
		a->at[i].wanted = false;
}

static struct answer *find(const struct answers *a, enum dns_kind kind, struct bytes name)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->at[i].kind == kind && bytes_equal_nocase(bytes_of(a->at[i].name), name))
			return &a->at[i];
	return NULL;
}

const struct answer *answers_find(const struct answers *a, enum dns_kind kind, struct bytes name)
{
	return find(a, kind, name);
}

static bool make_room(struct answers *a)
{
	if (a->count < a->room)
		return true;
	size_t room = a->room == 0 ? 4 : a->room * 2;
	struct answer *at = realloc(a->at, room * sizeof *at);
	if (at == NULL)
		return false;
	a->at = at;
	a->room = room;
	return true;
}

void answers_want(struct answers *a, enum dns_kind kind, struct bytes name)
{
	struct answer *old = find(a, kind, name);
	if (old != NULL) {
		old->wanted = true;
		return;
	}
	if (name.len == 0 || name.len > DNS_NAME_MAX || a->count >= DNS_QUESTIONS_MAX || !make_room(a))
		return;
	a->at[a->count] = (struct answer){ .kind = kind, .wanted = true };
	if (bytes_to_cstring(name, a->at[a->count].name, sizeof a->at->name))
		a->count++;
}

static bool is_kept(const struct answer *one, bool temporary)
{
	return temporary ? !(one->answered && answer_is_temporary(one)) : one->wanted;
}

static void drop(struct answers *a, bool temporary)
{
	size_t kept = 0;
	for (size_t i = 0; i < a->count; i++)
		if (is_kept(&a->at[i], temporary)) {
			if (kept != i)
				a->at[kept] = a->at[i];
			kept++;
		}
	a->count = kept;
}

void answers_drop_unwanted(struct answers *a)
{
	drop(a, false);
}

void answers_drop_temporary(struct answers *a)
{
	drop(a, true);
}

/* ---- asking */

struct taking { struct answers *answers; size_t first; const struct netaddr *client; };

static void take_host(struct answer *one, const struct dns_address *host, const struct netaddr *client)
{
	bool is_client = host->addr.family != 0 && netaddr_equal(&host->addr, client);
	if (one->kind == DNS_REVERSE && (one->host[0] == '\0' || (is_client && !one->has_client)))
		bytes_to_cstring(bytes_of(host->name), one->host, sizeof one->host);
	one->unsure |= one->kind == DNS_REVERSE && host->preference != 0;
	one->has_client |= is_client;
	if (one->kind == DNS_LIST && one->values < ANSWER_VALUES)
		one->value[one->values++] = host->addr;
}

static void take(void *context, size_t index, const struct dns_reply *reply)
{
	struct taking *t = context;
	struct answer *one = &t->answers->at[t->first + index];
	one->answered = true;
	one->status = reply->status;
	snprintf(one->text, sizeof one->text, "%.*s", (int)sizeof one->text - 1, reply->text);
	for (size_t i = 0; i < reply->count; i++)
		take_host(one, &reply->host[i], t->client);
}

/* Those without an answer were wanted last, so they stand at the end. */
size_t answers_ask(struct answers *a, const struct netaddr *client, deadline_t deadline)
{
	struct dns_question question[DNS_QUESTIONS_MAX];
	struct taking t = { .answers = a, .client = client };
	size_t count = 0;
	while (t.first < a->count && a->at[t.first].answered)
		t.first++;
	for (size_t i = t.first; i < a->count; i++)
		question[count++] = (struct dns_question){ .kind = a->at[i].kind, .name = bytes_of(a->at[i].name) };
	if (count > 0)
		dns_query_all(question, count, deadline, take, &t);
	return count;
}
