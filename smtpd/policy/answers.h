/*
 * answers - what the DNS said, in short, for as long as the question is asked: a session asks each of them once, though it has many recipients
 * and messages.
 *
 *   answers_forget_wants, answers_want ..., answers_drop_unwanted, answers_ask
 */
#ifndef SMTPD_ANSWERS_H
#define SMTPD_ANSWERS_H

#include "common/dns.h"

#define ANSWER_VALUES 8u

struct answer {
	enum dns_kind kind;
	char name[DNS_NAME_MAX + 1];
	bool wanted, answered;
	enum dns_status status;
	bool has_client;                 /* the client's address is among those that were found */
	bool unsure;                     /* DNS_REVERSE: not all names could be looked up */
	char host[DNS_NAME_MAX + 1];     /* DNS_REVERSE: a name that has the client's address, or the first one */
	struct netaddr value[ANSWER_VALUES];   /* DNS_LIST */
	size_t values;
	char text[200];                  /* DNS_LIST: the reason; else why there is no answer */
};

/* All zero: empty. Owns its memory. */
struct answers { struct answer *at; size_t count, room; };

void answers_free(struct answers *a);
void answers_forget_wants(struct answers *a);
/* Ask this, unless it has an answer. What can be no name is left out, and what is more than DNS_QUESTIONS_MAX. */
void answers_want(struct answers *a, enum dns_kind kind, struct bytes name);
void answers_drop_unwanted(struct answers *a);
void answers_drop_temporary(struct answers *a);     /* to be asked again */
/* All that has no answer yet, at once. Blocks until the deadline at most; then all have one, DNS_TEMPORARY if need be. How many were asked. */
size_t answers_ask(struct answers *a, const struct netaddr *client, deadline_t deadline);

/* NULL: not asked. Valid until the next of the above. */
const struct answer *answers_find(const struct answers *a, enum dns_kind kind, struct bytes name);

static inline bool answer_is_temporary(const struct answer *a)
{
	return a->status == DNS_TEMPORARY || a->status == DNS_BOGUS;
}

#endif
