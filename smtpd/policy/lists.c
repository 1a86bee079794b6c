/* lists - smtpd's room: DNS lists, their weights and their sum. See inside.h. */
#include "inside.h"

#include <string.h>

#define SUBJECTS 4u
static const unsigned subjects[SUBJECTS] = { LIST_CLIENT, LIST_HELO, LIST_REVERSE, LIST_SENDER };

/* The name to look up for this in this list; false: there is nothing to look up, or not yet. RFC 5782 2. */
static bool list_name(const struct check_facts *facts, const struct answers *a, const struct dnslist *list, unsigned of,
	char name_r[DNS_NAME_MAX + 1])
{
	struct bytes subject = of == LIST_HELO ? helo_domain(facts) : of == LIST_SENDER ? sender_domain(facts) : bytes_of(check_client_name(facts, a));
	struct str name = STR_INIT(DNS_NAME_MAX);
	if (of == LIST_CLIENT)
		return dns_reverse_name(&facts->client, list->zone, name_r);
	bool good = subject.len > 0 && str_add(&name, subject) && str_add_char(&name, '.') && str_add(&name, list->zone)
		&& bytes_to_cstring(str_bytes(&name), name_r, DNS_NAME_MAX + 1);
	str_free(&name);
	return good;
}

static const struct answer *list_answer(const struct check_facts *facts, const struct answers *a, const struct dnslist *list, unsigned of)
{
	char name[DNS_NAME_MAX + 1];
	return list_name(facts, a, list, of, name) ? answers_find(a, DNS_LIST, bytes_of(name)) : NULL;
}

void want_lists(const struct settings *settings, const struct check_facts *facts, struct answers *a)
{
	char name[DNS_NAME_MAX + 1];
	struct dnslist list;
	for (size_t i = 0; i < settings->dnslists.count; i++) {
		if (!dnslist_parse(settings->dnslists.at[i], &list))
			continue;
		if (list.of & LIST_REVERSE)
			want_client_name(settings, facts, a);
		for (size_t k = 0; k < SUBJECTS; k++)
			if ((list.of & subjects[k]) && list_name(facts, a, &list, subjects[k], name))
				answers_want(a, DNS_LIST, bytes_of(name));
	}
}

static bool is_listed(const struct dnslist *list, const struct answer *answer)
{
	bool listed = false;
	if (answer == NULL || answer->status != DNS_OK)
		return false;
	for (size_t i = 0; i < answer->values; i++) {
		enum dnslist_meaning meaning = dnslist_meaning(list, &answer->value[i]);
		if (meaning == LIST_DEAD || meaning == LIST_REFUSES)
			return false;
		listed |= meaning == LISTED;
	}
	return listed;
}

bool check_listing(const struct settings *settings, const struct check_facts *facts, const struct answers *a, size_t i, struct listing *l_r)
{
	size_t line = i / SUBJECTS;
	if (line >= settings->dnslists.count)
		return false;
	*l_r = (struct listing){ .line = settings->dnslists.number != NULL ? settings->dnslists.number[line] : 0 };
	if (!dnslist_parse(settings->dnslists.at[line], &l_r->list) || !(l_r->list.of & subjects[i % SUBJECTS]))
		return true;
	l_r->of = subjects[i % SUBJECTS];
	l_r->answer = list_answer(facts, a, &l_r->list, l_r->of);
	l_r->listed = is_listed(&l_r->list, l_r->answer);
	return true;
}

/* ---- the reply: dnslistsreply with its words put in */

static void add_subject(struct str *out, const struct check_facts *facts, const struct answers *a, unsigned of)
{
	char ip[NETADDR_TEXT];
	netaddr_format(&facts->client, ip);
	if (of == LIST_CLIENT)
		str_addf(out, "Client host [%s]", ip);
	else if (of == LIST_HELO)
		str_addf(out, "Helo name %.*s", (int)facts->helo.len, facts->helo.at);
	else if (of == LIST_REVERSE)
		str_addf(out, "Client name %s", check_client_name(facts, a));
	else
		str_addf(out, "Sender domain %.*s", (int)sender_domain(facts).len, sender_domain(facts).at);
}

static bool take_word(struct bytes *rest, struct bytes word)
{
	if (!bytes_starts_nocase(*rest, word))
		return false;
	*rest = bytes_slice(*rest, word.len, rest->len);
	return true;
}

static void write_reply(const struct settings *settings, const struct check_facts *facts, const struct answers *a, const struct listing *l,
	struct str *out)
{
	struct bytes rest = settings->dnslistsreply;
	while (rest.len > 0) {
		if (take_word(&rest, LIT("$what")))
			add_subject(out, facts, a, l->of);
		else if (take_word(&rest, LIT("$list")))
			str_add(out, l->list.zone);
		else if (take_word(&rest, LIT("$reason")))
			str_add_c(out, l->answer->text[0] != '\0' ? l->answer->text : "no reason given");
		else {
			str_add_char(out, rest.at[0]);
			rest = bytes_slice(rest, 1, rest.len);
		}
	}
}

/* The sum over all lines, each once for every thing that it lists; the strongest one speaks. */
void judge_lists(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j)
{
	struct listing one, strongest = { 0 };
	int64_t sum = 0;
	for (size_t i = 0; check_listing(settings, facts, a, i, &one); i++) {
		if (!one.listed)
			continue;
		sum += one.list.weight;
		if (one.list.weight > strongest.list.weight)
			strongest = one;
	}
	if (strongest.answer == NULL || sum < (int64_t)settings->dnslistsscore)
		return;
	struct str text = STR_INIT(sizeof j->text - 1);
	write_reply(settings, facts, a, &strongest, &text);
	judgement_fail(j, 554, "5.7.1", "%s", str_c(&text));
	str_free(&text);
}
