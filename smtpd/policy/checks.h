/*
 * checks - what a client says and is, held against the settings named check...; each of them off, log, defer or reject.
 *
 * A check sees the facts, the settings, what the DNS and a callout answered and nothing else, so that `tappal session` judges as smtpd does. Only
 * check_learn and check_decide block. The table is in cheap-first order. A temporary failure of the DNS is never a permanent refusal; of a list it is no answer at all.
 */
#ifndef SMTPD_CHECKS_H
#define SMTPD_CHECKS_H

#include "answers.h"

#include "common/checklines.h"
#include "common/mailaddr.h"
#include "common/settings.h"
#include "smtpd/ask/calloutask.h"

enum check_action { ACTION_OFF, ACTION_LOG, ACTION_DEFER, ACTION_REJECT };
enum check_finding {
	CHECK_FINE,
	CHECK_EXEMPT,        /* by a line of checkexempt */
	CHECK_UNSURE,        /* the DNS or a callout does not say now, maybe only whether the client is exempt: 450 */
	CHECK_FAILED,
	CHECK_UNASKED,       /* no callout was made; smtpd makes it where there can be one */
};
/* When it can be judged at the earliest. */
enum check_stage { STAGE_AT_CONNECT, STAGE_AT_HELO, STAGE_AT_MAIL, STAGE_AT_RCPT };

/* What is known of a session. Borrowed views. */
struct check_facts {
	struct netaddr client;           /* family 0: no IP client */
	struct netaddr server;           /* the address it came to; family 0: not known */
	bool early;                      /* it spoke before the banner */
	bool hasty;                      /* it pipelined where it must not */
	struct bytes helo;               /* empty: none yet */
	const struct mailaddr *sender;   /* NULL: none yet */
	uint64_t recipient;              /* its number in the message, from 1 */
	const struct callout_said *callout;   /* of the sender; NULL: nobody was asked */
};

struct judgement {
	enum check_finding finding;
	uint32_t exempt_line;            /* CHECK_EXEMPT: of checkexempt */
	bool passes;                     /* CHECK_UNSURE: whatever the action, it is only written down */
	unsigned code;                   /* of the reply when the action is reject */
	const char *enhanced;
	char text[400];                  /* in harmless octets, if the facts are */
};

struct check_row {
	const char *name;                /* of its setting */
	size_t setting;                  /* where in struct settings */
	enum check_stage stage;
	/* What it must know from the DNS, as answers_want; NULL: nothing. */
	void (*want)(const struct settings *settings, const struct check_facts *facts, struct answers *a);
	void (*judge)(const struct settings *settings, const struct check_facts *facts, const struct answers *a, struct judgement *j);
	/* The name that it judges, for lines of checkexempt; the client's verified name counts for all. NULL: none. */
	struct bytes (*subject)(const struct check_facts *facts, const struct answers *a);
};
extern const struct check_row check_table[];
extern const size_t check_count;

enum check_action check_action(const struct settings *settings, const struct check_row *row);

/* Can a line of checkexempt with a domain exempt from it? Then check_learn asks for the client's name, too. */
bool check_exempts_by_name(const struct settings *settings, const struct check_row *row);

/* Ask for all that the checks which are on want to know of these facts, and with `name` for the client's name. What has an answer already is not
 * asked again, what belongs to other facts is forgotten. How many questions were asked. */
size_t check_learn(const struct settings *settings, const struct check_facts *facts, bool name, struct answers *a, deadline_t deadline);
void check_judge(const struct settings *settings, const struct check_facts *facts, const struct answers *a, const struct check_row *row,
	struct judgement *j_r);

/* check_judge, when the row is reached, with all that has to be asked for it first: the DNS if the row wants it, or if a name might exempt who would be refused
 * (once for all rows: k->learned); and what costs others something last, a callout, whose answer goes into the facts. */
struct check_asking {
	bool learned;
	size_t asked;                    /* questions to the DNS */
	struct calloutask *callout;      /* the answer's owner; NULL: nobody is called */
};
void check_decide(const struct settings *settings, struct check_facts *facts, struct answers *a, const struct check_row *row, struct check_asking *k,
	struct judgement *j_r);

/* The client's name, if its address has one that has the address. NULL: none, or not known. */
const char *check_client_name(const struct check_facts *facts, const struct answers *a);

/* Every name that is looked up in a list, and what came of it, for logs. False: there is no `i`th. */
struct listing { struct dnslist list; uint32_t line; unsigned of; const struct answer *answer; /* NULL: not asked */ bool listed; };
bool check_listing(const struct settings *settings, const struct check_facts *facts, const struct answers *a, size_t i, struct listing *l_r);

/* Mail to these must come through, or nobody could tell us that a check is wrong: postmaster and abuse of a domain of ours. */
bool check_spares_recipient(const struct settings *settings, const struct mailaddr *rcpt);

#endif
