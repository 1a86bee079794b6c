/*
 * sasl - one exchange of AUTH (RFC 4954), server side: PLAIN (4616), LOGIN, SCRAM-SHA-256 and -PLUS. Lines in as the client sent them,
 * lines out as it shall get them, both base64; no I/O, nothing blocks.
 *
 * sasl_begin, then sasl_line for each of the client's lines while SASL_CHALLENGE is returned.
 *   SASL_KEYS    s->scram.name is known: set s->scram.keys (of the table, or made up), then call sasl_keys
 *   SASL_VERIFY  s->login and s->password are to be verified; how it ended is the caller's
 * Passwords lie in the struct alone; sasl_wipe clears it.
 */
#ifndef SMTPD_AUTH_SASL_H
#define SMTPD_AUTH_SASL_H

#include "passwords.h"

#define SASL_LINE_MAX 12288u      /* octets of one line, RFC 4954 4 */

enum sasl_mechanism { SASL_PLAIN, SASL_LOGIN, SASL_SCRAM, SASL_SCRAM_PLUS, SASL_MECHANISMS };
extern const char *const sasl_names[SASL_MECHANISMS];
bool sasl_mechanism(struct bytes name, enum sasl_mechanism *mechanism_r);   /* letter case does not count */

enum sasl_result {
	SASL_CHALLENGE,   /* s->out goes to the client after 334 */
	SASL_KEYS, SASL_VERIFY,
	SASL_OK,          /* s->login is who he says */
	SASL_FAILED,      /* 535 */
	SASL_CANCELLED,   /* the client said "*": 501 */
	SASL_NOT_BASE64,  /* 501 */
	SASL_NO_MEMORY,
};

struct sasl {
	enum sasl_mechanism mechanism;
	int step;
	char login[PASSWORD_LOGIN_MAX + 1];
	char password[PASSWORD_MAX + 1];
	size_t password_len;
	struct scram scram;
	struct str out;
	char line[SASL_LINE_MAX];     /* decoded, wiped after each line */
};

/* `initial`: at NULL without one; "=" is an empty one. plus_offered, binding: see scram_init. */
enum sasl_result sasl_begin(struct sasl *s, enum sasl_mechanism mechanism, struct bytes initial, bool plus_offered, struct bytes binding);
enum sasl_result sasl_line(struct sasl *s, struct bytes line);
enum sasl_result sasl_keys(struct sasl *s);
void sasl_wipe(struct sasl *s);

#endif
