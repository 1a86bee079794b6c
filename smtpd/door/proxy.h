/*
 * proxy - connections from fronts that say who their client is (setting `proxyfrom`): the PROXY header comes before everything else, TLS included.
 *
 * From an address in `proxyfrom` a header must come, whole and in time; from any other it is never looked for. Only a connection on a socket has
 * such an address. What a front says of its client replaces the client: logs, Received:, `clients`, limits. A front that speaks for itself
 * (LOCAL, UNKNOWN, no IP address) stays who it is.
 */
#ifndef SMTPD_PROXY_H
#define SMTPD_PROXY_H

#include "smtpd/session/session.h"

/* Before the first log line of a session. Not an octet behind the header is taken. False: it did not come or is none; that was logged, and nothing
 * is to be said to the client. Blocks for PROXY_WAIT_MS at the most, or timeoutsmtpd. */
bool proxy_begin(struct session *s);

#endif
