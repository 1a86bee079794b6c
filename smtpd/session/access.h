/*
 * access - may this client send to this recipient? Decided from the settings and the account data base alone.
 *
 *   relaying client   its address is in `clients`, or RELAYCLIENT is set in the environment of a session that has one
 *                     (tcprules; not in the pool). Its value is appended to each recipient, as in qmail-smtpd.
 *   anybody else      recipients in rcpthosts, locals or virtualdomains, and postmaster
 * A recipient that is delivered on this host must have a mailbox; that question may block on the system's name service.
 */
#ifndef SMTPD_ACCESS_H
#define SMTPD_ACCESS_H

#include "common/mailaddr.h"
#include "common/netaddr.h"
#include "common/settings.h"
#include "smtpd/ask/guardneeds.h"

/* Made once per process from the settings, so that no connection pays for parsing. */
struct netblocks { struct netblock *at; size_t count; };
struct access { const struct settings *settings; struct netblocks clients, plain, proxies, xclients, xforwards, etrns, dsns; struct guard_needs guard; };

bool access_init(struct access *a, const struct settings *settings);   /* false: no memory. settings stay borrowed */
void access_free(struct access *a);
bool access_in(const struct netblocks *blocks, const struct netaddr *client);
bool access_client_may_relay(const struct access *a, const struct netaddr *client);
bool access_may_auth_plain(const struct access *a, const struct netaddr *client);   /* AUTH without TLS: `authplaintext` */

enum access_result {
	ACCESS_OK,
	ACCESS_RELAY,       /* 554 5.7.1 */
	ACCESS_UNKNOWN,     /* 550 5.1.1 */
	ACCESS_UNSURE,      /* 451 4.3.0: ask again later */
};
enum access_result access_check(const struct access *a, bool may_relay, const struct mailaddr *rcpt);

#endif
