/*
 * caller - who started enqueue, and what his envelope may claim. Room: queue (enqueue). Accounts are read from /etc/passwd, without
 * the name service: a set-uid program opens no socket and loads no module.
 */
#ifndef QUEUE_CALLER_H
#define QUEUE_CALLER_H

#include <sys/types.h>

#include "common/envelope.h"
#include "common/exits.h"

enum caller_kind { CALLER_USER, CALLER_SMTPD, CALLER_BOUNCE, CALLER_ROOT, CALLER_KINDS };

struct caller {
	uid_t uid;
	enum caller_kind kind;
	char name[64];       /* the account's name, or "#" and the uid */
};

/* False: /etc/passwd cannot be read. Then nobody is known, and a bounce would come in without the batch that it reports: refuse. */
bool caller_find(uid_t uid, struct caller *c);

/* The envelope as it goes on: attributes that this caller may not claim are left out (a hold in another's name
 * is made one in his), and a message of which nobody says how it came is said to be "local", by this caller's name. `raw_addresses`: addresses stand in any spelling (qmail's contract) and become
 * canonical; else they are taken only in canonical form. ENQ_OK: `out` holds an envelope that envelope_parse takes. */
enum enqueue_exit caller_envelope(const struct caller *c, struct bytes envelope, bool raw_addresses, struct str *out);

#endif
