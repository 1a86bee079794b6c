/*
 * outgoing - what inject and sendmail know of the message they are about to hand over: who sends it, to whom, with what
 * wishes; and who the caller is.
 */
#ifndef LOCAL_OUTGOING_H
#define LOCAL_OUTGOING_H

#include "compose.h"
#include "common/settings.h"

struct outgoing {
	struct settings settings;
	struct bytes host;             /* for addresses without a domain; belongs to settings */
	struct str user;               /* the caller's login name, or "uid1000" when he has none */
	struct str name;               /* and his full name, may be empty */
	struct str sender;             /* canonical reverse-path; empty is <> */
	struct str recipients;         /* canonical, each followed by a NUL */
	size_t recipient_count;
	struct { size_t *slot; size_t room; } seen;   /* hash of offsets + 1 in recipients: an address is taken once */
	bool utf8;                     /* some address needs SMTPUTF8 */
	struct bytes envid, ret, notify;   /* RFC 3461 wishes as they stand in the envelope; empty: none */
	struct bytes message_id;       /* for the log, at most ENVELOPE_ID_MAX octets of visible ASCII; empty: none */
	bool body_8bit;
	struct str from_value;         /* see outgoing_from */
};

/* Load the settings and find out who calls. False: one sentence a line in `why`. Blocks on disk and on the name service. */
bool outgoing_init(struct outgoing *o, struct str *why);
void outgoing_free(struct outgoing *o);

/* header_address_fn, context the struct outgoing: add a recipient (false: too many), set the reverse-path. */
bool outgoing_recipient(void *context, const struct mailaddr *addr);
bool outgoing_sender(void *context, const struct mailaddr *addr);

/* Read an address-list that a person gave as an argument. False: a sentence in `why`. */
bool outgoing_add_argument(struct outgoing *o, const char *text, struct str *why);
/* The reverse-path that a person gave: an address, or "" or "<>" for the empty one. */
bool outgoing_set_sender(struct outgoing *o, const char *text, struct str *why);

/* The value of a From: header for user@host with the full name. Valid until the next call. */
struct bytes outgoing_from(struct outgoing *o, struct bytes user, struct bytes host);

/* The whole envelope (common/envelope.h). */
bool outgoing_envelope(const struct outgoing *o, struct str *out);

#endif
