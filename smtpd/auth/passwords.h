/*
 * passwords - the table of logins: path_etc/auth/passwords. Read by `auth`, written by `tappal passwd`.
 *
 * A line is       login:{SCHEME}hash[ {SCHEME}hash]
 *   {ARGON2ID}        libsodium's string of a password, for PLAIN and LOGIN
 *   {SCRAM-SHA-256}   iterations,salt,storedkey,serverkey in base64: for SCRAM; without another, for PLAIN and LOGIN, too
 *   {CRYPT}           crypt(3) of another server ($6$, $5$, $y$, $2b$), for PLAIN and LOGIN; so are {SHA512-CRYPT}, {SHA256-CRYPT}, {BLF-CRYPT}
 * "#" begins a comment line. The file is replaced whole, by rename: one that does not end with a newline was cut off, and is not used. A
 * line that is none is passed over with a warning; the others count. Of two lines with one login the first counts.
 */
#ifndef SMTPD_AUTH_PASSWORDS_H
#define SMTPD_AUTH_PASSWORDS_H

#include <sys/stat.h>

#include "scram.h"

#define PASSWORDS_DIR "auth"                  /* under path_etc; root:tappal-key 0750 */
#define PASSWORDS_FILE "auth/passwords"       /* root:tappal-key 0640 */
#define PASSWORDS_MAX (64u << 20)             /* octets of the file */
#define PASSWORD_LOGIN_MAX SCRAM_NAME_MAX
#define PASSWORD_MAX 1024u                    /* octets of a password */
#define PASSWORD_HASH_MAX 512u
#define PASSWORD_ARGON_OPS 2u                 /* of hashes made here: 64 MiB, about a tenth of a second */
#define PASSWORD_ARGON_MEMORY (64u << 20)
#define PASSWORD_ARGON_OPS_MAX 16u            /* of hashes that are believed: a line must not be able to stop the machine */
#define PASSWORD_ARGON_MEMORY_MAX (256u << 20)

enum password_scheme { PASSWORD_NONE, PASSWORD_ARGON2ID, PASSWORD_CRYPT };

struct password_entry {
	struct bytes login;
	enum password_scheme scheme;
	struct bytes hash;                    /* without {SCHEME} */
	struct bytes scram;                   /* text of the keys; empty: none */
};

/* One line without its newline; the views point into it. False: *why_r says what is wrong, without any of the hash. */
bool password_line_parse(struct bytes line, struct password_entry *entry_r, const char **why_r);
/* 1 to PASSWORD_LOGIN_MAX octets of UTF-8 without blanks, controls and colons; no "#" in front. */
bool password_login_valid(struct bytes login);
/* 1 to PASSWORD_MAX octets without NUL, CR and LF. */
bool password_valid(struct bytes password);

struct passwords {
	struct str text;
	struct password_entry *entries;       /* sorted by login */
	size_t count;
};

/* `text` is the file as a whole. False: cut off or no memory (*why_r); each line that is none goes to `bad` (may be NULL). */
bool passwords_parse(struct passwords *p, struct bytes text, void (*bad)(size_t line, const char *why), const char **why_r);
void passwords_free(struct passwords *p);             /* wipes */
const struct password_entry *passwords_find(const struct passwords *p, struct bytes login);   /* NULL: none */

/* What is wrong with owner and mode of the file; NULL: nothing. The owner is root or `self`; nobody else writes, nobody outside of the group reads. */
const char *passwords_mode_fault(const struct stat *st, uid_t self);

/* Append "{ARGON2ID}..." (unless scram_only) and "{SCRAM-SHA-256}...". False: no memory. Takes a tenth of a second. */
bool password_make(struct bytes password, bool scram_only, struct str *out);

#endif
