/*
 * mailbox - which account and directory a local recipient has. Used by smtpd to refuse unknown recipients at RCPT and by
 * spawn(local) to choose the uid to become. Looks in this order:
 *   1. `users`: "=address" (as the recipient stands), then "=localpart", then the longest "+prefix" (both of the routed local part)
 *   2. system users: the whole local part, then shorter ones cut at extensionchar ("user-ext"); uid >= minuid, never 0, lower case;
 *      the home directory must exist and be his own (else: daemon, bin, and our own accounts, which receive no mail)
 *   3. aliasnames: the alias account
 * getpwnam(3) may block on the system's name service.
 */
#ifndef COMMON_MAILBOX_H
#define COMMON_MAILBOX_H

#include <sys/types.h>
#include "route.h"

#define MAILBOX_HOME_MAX 512
#define MAILBOX_EXTENSION_MAX (LOCALPART_OWN_MAX + DESTINATION_MAX)   /* of a line of `users`, and the rest of a routed local part */

struct mailbox {
	char user[64];
	uid_t uid;             /* never 0 */
	gid_t gid;             /* never 0 */
	char home[MAILBOX_HOME_MAX];
	char extension[MAILBOX_EXTENSION_MAX + 1];  /* what followed the user, without the separator; may be empty */
	bool is_virtual;       /* from `users`: its home may be created by root's part when missing */
};

enum mailbox_result { MAILBOX_FOUND, MAILBOX_NONE /* 550 5.1.1 */, MAILBOX_UNSURE /* name service failed: temporary */ };

enum mailbox_result mailbox_find(const struct settings *s, const struct mailaddr *rcpt, const struct route *route, struct mailbox *box_r);

#endif
