/*
 * mailaddr - a mailbox of RFC 5321 4.1.2, parsed once at the border. Queue, routing and bounce code take only this.
 *
 * Two forms exist. The *wire form* is what a client sends between < and >; mailaddr_parse_path reads it. The
 * *canonical form* is what tappal stores and sends: local part in its shortest legal spelling (quoted only when it
 * must be), "@", domain in lower case; mailaddr_parse reads exactly that form, too. A struct mailaddr points into the
 * canonical text and owns nothing.
 */
#ifndef COMMON_MAILADDR_H
#define COMMON_MAILADDR_H

#include "bytes.h"

#define LOCALPART_MAX 250     /* octets, unquoted. RFC 5321 4.5.3.1.1 says what all must take, 64; SRS, VERP and BATV write longer ones */
#define LOCALPART_OWN_MAX 64  /* octets of what our settings put into one: taken everywhere */
#define ADDRESS_MAX 320       /* canonical text: a local part may need up to twice its octets plus quotes; longer is refused */
#define PATH_MAX_OCTETS 1000  /* wire form with a source route; the path itself obeys 4.5.3.1.3 after the route is dropped */

enum mailaddr_kind {
	ADDR_NULL,      /* <>: the empty reverse-path */
	ADDR_MAILBOX,   /* local@domain */
	ADDR_LITERAL,   /* local@[192.0.2.1] or local@[IPv6:...]; the domain view includes the brackets */
	ADDR_BARE,      /* <postmaster>, without a domain (RFC 5321 4.5.1), in any case: only from mailaddr_parse_path, only as a
	                 * recipient. It has no canonical form: an envelope takes it only after smtpd has put its own domain to it. */
};

struct mailaddr {
	enum mailaddr_kind kind;
	struct bytes text;    /* the whole canonical form; empty for ADDR_NULL */
	struct bytes local;   /* as it stands in text (maybe quoted) */
	struct bytes domain;  /* lower case; a literal stands as "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
};

enum mailaddr_error {
	ADDR_OK, ADDR_SYNTAX, ADDR_LOCAL_LONG, ADDR_DOMAIN_BAD, ADDR_LITERAL_BAD, ADDR_LONG,
	ADDR_UTF8_NEEDED,     /* holds UTF-8 while the flag was off */
};
const char *mailaddr_error_text(enum mailaddr_error e);   /* a sentence for a reply, without codes */

/* Wire form: `in` starts at "<". *used_r: octets taken, up to and with ">". Source routes are accepted and dropped
 * (RFC 5321 appendix C). utf8: RFC 6531 addresses allowed. Canonical text is built in `text`
 * (cleared first; the mailaddr is valid as long as it is not touched); give it a ceiling of ADDRESS_MAX or more. */
enum mailaddr_error mailaddr_parse_path(struct bytes in, bool utf8, struct str *text, struct mailaddr *addr_r, size_t *used_r);

/* Canonical form (also accepts any legal spelling of local@domain; the views point into `in` as it stands).
 * Empty is ADDR_NULL. UTF-8 is allowed. Never allocates. */
enum mailaddr_error mailaddr_parse(struct bytes in, struct mailaddr *addr_r);

/* qmail's raw form (unquoted local part, split at the last @) or a person's spelling, into canonical text. `raw` must not
 * point into `text`, which is cleared first. UTF-8 is allowed. */
enum mailaddr_error mailaddr_from_raw(struct bytes raw, struct str *text, struct mailaddr *addr_r);

/* The local part without quotes and backslashes, appended to out. */
bool mailaddr_unquote_local(const struct mailaddr *addr, struct str *out);
bool mailaddr_is_utf8(const struct mailaddr *addr);
bool mailaddr_equal(const struct mailaddr *a, const struct mailaddr *b);  /* local part octet by octet, domain without case */

#endif
