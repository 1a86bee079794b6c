/*
 * checks - what a client says and is, held against the settings named check...; each of them off, log, defer or reject.
 *
 * Pure: a check sees the facts, the settings and nothing else, so that `tappal session` judges as smtpd does. Nothing here blocks or allocates.
 * The table is in cheap-first order.
 */
#ifndef SMTPD_CHECKS_H
#define SMTPD_CHECKS_H

#include "common/mailaddr.h"
#include "common/netaddr.h"
#include "common/settings.h"

enum check_action { ACTION_OFF, ACTION_LOG, ACTION_DEFER, ACTION_REJECT };
enum check_finding {
	CHECK_FINE,
	CHECK_FAILED,
};

/* What is known of a session. Borrowed views. */
struct check_facts {
	struct netaddr client;           /* family 0: no IP client */
	struct netaddr server;           /* the address it came to; family 0: not known */
	struct bytes helo;
};

struct judgement {
	enum check_finding finding;
	unsigned code;                   /* of the reply when the action is reject */
	const char *enhanced;
	char text[400];                  /* in harmless octets, if the facts are */
};

struct check_row {
	const char *name;                /* of its setting */
	size_t setting;                  /* where in struct settings */
	void (*judge)(const struct settings *settings, const struct check_facts *facts, struct judgement *j);
};
extern const struct check_row check_table[];
extern const size_t check_count;

enum check_action check_action(const struct settings *settings, const struct check_row *row);
void check_judge(const struct settings *settings, const struct check_facts *facts, const struct check_row *row, struct judgement *j_r);

/* Mail to these must come through, or nobody could tell us that a check is wrong: postmaster and abuse of a domain of ours. */
bool check_spares_recipient(const struct settings *settings, const struct mailaddr *rcpt);

#endif
