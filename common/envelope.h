/*
 * envelope - sender, recipients and attributes of one message, as octets: in a pipe, an intake file and a log record alike.
 *
 * A superset of qmail-queue's envelope: a run of fields, each one tag octet, a value without NUL, and a NUL; an
 * empty field (a lone NUL) ends it, and nothing may follow. F comes first, once; every other attribute at most once, anywhere
 * behind it. N and O belong to the T before them, at most one each. E, N and O go into commands to other servers: no space or
 * control octet is accepted in them. Each value's longest length is that of the record which stores it (envelope.c).
 *
 *   F sender       canonical address, empty for <>            T recipient    canonical address (one each)
 *   B body type    empty: 8BITMIME, or BINARYMIME             U              SMTPUTF8
 *   C client       "[ip]" or "name[ip]" as smtpd saw it       H helo         what the client called itself
 *   P protocol     ESMTP, SMTP, ESMTPS, ... or "local"        A login        authenticated user
 *   E envid        RFC 3461 ENVID, still xtext                R ret          FULL or HDRS
 *   N notify       RFC 3461 NOTIFY of the T before            O orcpt        RFC 3461 ORCPT of the T before, still as sent
 *   X id batch     this message is the bounce of that batch (only believed from tappal-bounce)
 *   M message-id   the Message-ID header, for the log (at most ENVELOPE_ID_MAX octets); believed from anybody, whose message it is
 *   Q hold         the message is accepted and held in the queue until it is released: who wants that (no blank, at most ENVELOPE_BY_MAX octets),
 *                  and behind a blank why; from anybody, but the name is believed from smtpd and root alone: else it is the caller's
 *
 * A struct envelope is a parsed view that owns nothing and is valid as long as the octets. Ten thousand recipients
 * cost no memory: iterate.
 */
#ifndef COMMON_ENVELOPE_H
#define COMMON_ENVELOPE_H

#include "bytes.h"
#include "mailaddr.h"
#include "msgid.h"

#define ENVELOPE_MAX (8u << 20)       /* octets */
#define ENVELOPE_RCPT_MAX 20000u
#define ENVELOPE_VALUE_MAX 1000u      /* octets of any one value */
#define ENVELOPE_ID_MAX 250u          /* octets of M */
#define ENVELOPE_BY_MAX 64u           /* octets before the blank of Q */

/* As MAIL's BODY= declared it (RFC 6152, RFC 3030). The numbers are formats on disk: row_message and job carry them. */
enum body_type { BODY_7BIT = 0, BODY_8BITMIME = 1, BODY_BINARYMIME = 2 };
struct bytes body_type_name(unsigned type);   /* "7BIT", "8BITMIME", "BINARYMIME"; empty for what is none */

struct envelope {
	struct bytes raw;              /* all octets, final NUL included */
	struct mailaddr sender;
	size_t rcpt_count;
	enum body_type body_type;
	bool smtputf8;
	struct bytes client, helo, protocol, login, envid, ret, message_id;  /* empty when absent */
	struct bytes held_by, held_reason;  /* of Q: held_by.len > 0 says that there is one */
	msgid_t bounce_of;             /* 0: not a bounce of ours */
	uint32_t bounce_batch;
};

struct envelope_rcpt {
	uint32_t index;                /* 0, 1, ... in order */
	struct mailaddr addr;
	struct bytes notify, orcpt;    /* empty when absent */
};

enum envelope_error { ENV_OK, ENV_FORMAT, ENV_ADDRESS, ENV_NO_RCPT, ENV_TOO_MANY, ENV_TOO_LONG };
const char *envelope_error_text(enum envelope_error e);

/* Parse and check everything, every recipient included. */
enum envelope_error envelope_parse(struct bytes raw, struct envelope *env_r);

/* Iterate: `struct envelope_cursor c = {0}; while (envelope_next(&env, &c, &rcpt)) ...` Only on a parsed envelope. */
struct envelope_cursor { size_t offset; uint32_t index; };
bool envelope_next(const struct envelope *env, struct envelope_cursor *cursor, struct envelope_rcpt *rcpt_r);

/* Would envelope_add take this value for an attribute of this tag? */
bool envelope_value_fits(char tag, struct bytes value);

/* Does this value of N ask for it? `word` is SUCCESS, FAILURE or DELAY. Without a value, FAILURE is asked for (RFC 3461 4.1). */
bool envelope_notify_asks(struct bytes notify, struct bytes word);

/* Build one: begin (clears out), attributes, then recipients, then end. Values are checked as envelope_parse does; an address
 * without a domain (ADDR_BARE) is refused. False tells of refusal, and so does the str's failed flag from then on. */
bool envelope_begin(struct str *out, const struct mailaddr *sender);
bool envelope_add(struct str *out, char tag, struct bytes value);
bool envelope_add_body_type(struct str *out, enum body_type type);   /* nothing for BODY_7BIT */
bool envelope_add_rcpt(struct str *out, const struct mailaddr *addr);
bool envelope_end(struct str *out);

#endif
