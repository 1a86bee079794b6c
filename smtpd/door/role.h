/*
 * role - what a listener is for, and what a client must have done before it may send mail there.
 *
 *   relay         port 25: mail from other servers, and from clients that may relay
 *   submission    port 587 (RFC 6409): STARTTLS, then AUTH, then mail
 *   submissions   port 465 (RFC 8314): TLS from the first octet, then AUTH, then mail
 */
#ifndef SMTPD_ROLE_H
#define SMTPD_ROLE_H

#include "smtpd/session/command.h"

struct role_row {
	const char *name;
	bool tls_at_once;
	bool needs_tls;          /* before anything but the ways to it */
	bool needs_login;        /* before MAIL */
};

const struct role_row *role_row(enum smtpd_role role);
/* May this command be carried out by now? False: it was answered (530). */
bool role_admits(struct session *s, const struct command_row *row);

#endif
