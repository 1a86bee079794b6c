/*
 * client - the sending side of SMTP (RFC 5321) over one connection: greeting, EHLO or HELO, any number of transactions, QUIT.
 *
 * Every recipient gets a verdict, whatever the server does; what is unknown is temporary. Extensions used when offered: PIPELINING
 * (RFC 2920), SIZE (RFC 1870), LIMITS (RFC 9422: RCPTMAX, MAILMAX), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461), BINARYMIME with CHUNKING (RFC 3030) for what was declared to be
 * binary; all else goes by DATA. For a server without 8BITMIME the body is converted (sevenbit.h), unless the setting convert8bit forbids it: then it goes
 * as it is. A binary one is converted in any case where it cannot go as it is. A message with SMTPUTF8 goes to a server without it only when its addresses
 * and its first JOB_AHEAD_MAX octets are ASCII; else it fails.
 *
 * More recipients than the server takes at a time go in several transactions, if the body can be held for them (JOB_AHEAD_MAX); else those that were too many
 * get a temporary failure. A refusal of the message, and whatever ends the connection, is the answer for all of them.
 *
 * Replies are counted against commands. A server that says more than it was asked is not understood any more: before each group of
 * commands and before the final dot nothing unasked may have come, or an early "250" would be taken for the one that ends the data.
 */
#ifndef REMOTE_CLIENT_H
#define REMOTE_CLIENT_H

#include "common/settings.h"
#include "conn.h"
#include "common/dns.h"
#include "job.h"

struct client {
	struct conn conn;
	const struct settings *settings;
	char host[256];                           /* name of the server as the DNS or the route has it */
	char ip[NETADDR_TEXT], source_ip[NETADDR_TEXT];
	char text[400];                           /* text of outcomes of our own */
	bool esmtp, pipelining, eight_bit, binary, chunking, utf8, dsn, size;
	uint64_t size_limit;                      /* 0: none was told */
	uint64_t rcpt_limit, mail_limit;          /* RCPTMAX and MAILMAX; 0: none was told */
	uint64_t mails;                           /* transactions begun on this connection */
	bool relay;                               /* the operator named the server (smtproutes), not the DNS or an address literal */
	bool is_us;                               /* it is no relay, and answers with our own name */
	bool used;                                /* a transaction was begun on this connection */
	bool must_reset;                          /* the server may still be in the middle of one */
	deadline_t end;                           /* no wait of the current job goes beyond it */
};

void client_init(struct client *c, const struct settings *settings);
void client_free(struct client *c);           /* closes without a word */

/* Set how long the job may last in all; before client_open and client_deliver. */
void client_set_end(struct client *c, deadline_t end);

/* Connect, take the greeting, say EHLO (HELO when that fails for good). True: ready for client_deliver. False: the connection is
 * closed and *o_r says why, its text valid until the next call. Unless it is a relay, a server whose answer to EHLO or HELO has the name of this host (`me`) is
 * no place for mail: c->is_us is set, and the outcome is permanent, 5.4.6. */
bool client_open(struct client *c, const struct dns_address *server, uint16_t port, bool relay, struct outcome *o_r);
bool client_is_open(const struct client *c);

/* What came since the last job on a kept connection ends it: a server that waited long enough says 421 or just closes. */
bool client_is_quiet(const struct client *c);

enum client_end {
	CLIENT_DONE,    /* every recipient has its result. The connection is open for the next, or closed */
	CLIENT_STALE,   /* the kept connection was dead before MAIL was answered: nothing is reported, the body can still be taken from its start */
	CLIENT_BROKEN,  /* the body ended too early: the connection is closed without the final dot */
};
enum client_end client_deliver(struct client *c, struct delivery *d);

/* Would the server take a report for this address? MAIL FROM:<>, RCPT TO; never DATA. The outcome is that of RCPT, or of MAIL where it was not taken (its
 * stage says which; a server without SMTPUTF8 has refused the address); its text is valid until the next call. For callout alone (probe.c). */
struct outcome client_probe(struct client *c, struct bytes address, bool needs_utf8);

void client_quit(struct client *c);           /* QUIT, a short wait for its reply, close; no effect when closed */
struct job_host client_where(const struct client *c);   /* valid until the next client_open */

#endif
