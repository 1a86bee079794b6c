/*
 * verify - is this the password of this login? Asked of the own table's hash, of a checkpassword program, or of Dovecot.
 *
 * Runs in a worker process of `auth` (verify_serve), because it takes a tenth of a second and 64 MiB, or as long as somebody else's
 * program likes. Each question about the own table costs one Argon2id, whether there is such a login or not.
 *   checkpassword   descriptor 3: login NUL password NUL NUL, 512 octets at most; exit 0 yes, 1 no, everything else: ask again later.
 *                   argv is the setting's words, and /bin/true behind a lone program; no shell; environment PATH, PROTO, TCPREMOTEIP.
 *   dovecot         its auth protocol 1.1, as a client of service "smtp": PLAIN
 * Both may take several spellings for one account. What counts by login must not: he is called what Dovecot calls him, or his own name in lower case.
 */
#ifndef SMTPD_AUTH_VERIFY_H
#define SMTPD_AUTH_VERIFY_H

#include "common/channel.h"
#include "common/settings.h"
#include "passwords.h"

enum verify_result { VERIFY_YES, VERIFY_NO, VERIFY_LATER };
enum verify_backend { VERIFY_OWN, VERIFY_CHECKPASSWORD, VERIFY_DOVECOT };

enum verify_backend verify_backend_of(const struct settings *settings);

/* Make what every question about the own table costs, before the workers are forked. False: no memory. */
bool verify_init(void);

/* A worker's life: one auth_check after another on fd, one auth_checked for each; returns an exit code at the end of fd. */
int verify_serve(int fd, const struct settings *settings);

/* The three of them; each blocks. */
enum verify_result verify_own(const struct auth_check *check);
enum verify_result verify_checkpassword(const struct auth_check *check, struct bytes command, uint64_t timeout_ms);
/* *login: after VERIFY_YES what Dovecot calls him, where it says so. */
enum verify_result verify_dovecot(const struct auth_check *check, struct bytes path, uint64_t timeout_ms, struct str *login);

#endif
