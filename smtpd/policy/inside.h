/*
 * inside - what the parts of the checks share; for checks.c, helo.c, lists.c and callouts.c alone.
 */
#ifndef SMTPD_POLICY_INSIDE_H
#define SMTPD_POLICY_INSIDE_H

#include "checks.h"

/* What is wrong with the client's HELO name; NULL: nothing. RFC 5321 4.1.1.1: a host name of full length, or an address literal. */
const char *helo_fault(const struct settings *settings, const struct check_facts *facts);

void judgement_fail(struct judgement *j, unsigned code, const char *enhanced, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The name whose answer is about the client's address; false: it has none. */
bool client_reverse_name(const struct check_facts *facts, char name_r[DNS_NAME_MAX + 1]);
/* The domain that mail to the sender goes to; empty: none that is in the DNS. */
struct bytes sender_domain(const struct check_facts *facts);
struct bytes helo_domain(const struct check_facts *facts);

void want_client_name(const struct settings *settings, const struct check_facts *facts, struct answers *a);
void want_lists(const struct settings *settings, const struct check_facts *facts, struct answers *a);
void judge_lists(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j);

bool callout_is_possible(const struct settings *settings, const struct check_facts *facts);
void judge_callout(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j);

#endif
