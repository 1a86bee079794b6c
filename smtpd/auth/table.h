/*
 * table - the table of passwords as `auth` holds it: read from path_etc/auth/passwords when it has changed.
 *
 * A file that cannot be used (its mode, cut off, unreadable) is said once in the log, and what was read before stays in force; with
 * nothing read before, nobody can be told yes or no (authtable_ready). No file at all is a table without logins.
 */
#ifndef SMTPD_AUTH_TABLE_H
#define SMTPD_AUTH_TABLE_H

#include "passwords.h"

struct authtable {
	struct passwords passwords;
	bool ready;
	struct stat seen;                 /* the file as it was when it was last looked into; st_ino 0: there was none */
	uint8_t secret[SCRAM_KEY];        /* for names that nobody has */
	bool secret_is_kept;              /* it is saltkey's, and the same after a restart */
};

void authtable_init(struct authtable *t);
void authtable_free(struct authtable *t);
/* Look whether the file has changed, and read it. Blocks on disk. False: it cannot be used and no older one is held. */
bool authtable_refresh(struct authtable *t);
/* SCRAM keys of a login; of one that has none, made-up ones. *known_r: they are real. */
void authtable_scram(const struct authtable *t, struct bytes login, struct scram_keys *keys_r, bool *known_r);

#endif
