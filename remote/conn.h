/*
 * conn - one TCP connection to a server: commands out, replies in, every wait with an absolute deadline.
 *
 * Commands are queued with conn_say and go out while a reply is awaited, so that a long pipelined group cannot lock up against a
 * server that stops reading because nobody reads its replies (RFC 2920 3.1). Memory: the queued commands, at most CONN_OUT_MAX.
 */
#ifndef REMOTE_CONN_H
#define REMOTE_CONN_H

#include "common/clock.h"
#include "common/netaddr.h"
#include "reply.h"

#define CONN_OUT_MAX (4u << 20)

enum conn_result {
	CONN_OK,
	CONN_LOST,     /* closed by the server, reset, or another error: `error` says which, 0 is an orderly close */
	CONN_TIMEOUT,
	CONN_GARBAGE,  /* reply.text says what is wrong with it */
	CONN_EARLY,    /* conn_send only: the server speaks before the data ended; take its reply */
};

struct conn {
	int fd;                        /* -1: not open */
	int error;
	struct netaddr peer, source;
	struct reply reply;            /* the last one taken */
	struct str out;                /* queued, of which `sent` octets are gone */
	size_t sent;
	char in[8192];
	size_t in_start, in_end;       /* received and not taken */
};

void conn_init(struct conn *c);
void conn_free(struct conn *c);

/* Connect to `to` (its port set) from the address `from` (family 0 or another family: any). False: `error` has the errno. */
bool conn_open(struct conn *c, const struct netaddr *to, const struct netaddr *from, deadline_t deadline);
void conn_close(struct conn *c);
bool conn_is_open(const struct conn *c);
/* Send what is queued, wait until the server closes (what it still says is thrown away, bounded), close. c->reply stays as it is. */
void conn_hang_up(struct conn *c, deadline_t deadline);

/* Nothing has come that nobody asked for, not even the end of the connection. */
bool conn_is_quiet(const struct conn *c);

/* Queue a command. Refusals (over CONN_OUT_MAX, memory) show at the next conn_reply as CONN_LOST with ENOMEM. */
void conn_say(struct conn *c, struct bytes octets);

/* Send what is queued and wait for one reply, which stands in c->reply. */
typedef void conn_line_fn(void *context, struct bytes line);
enum conn_result conn_reply(struct conn *c, deadline_t deadline);
/* The same, with every line handed to `each` as it comes. */
enum conn_result conn_reply_lines(struct conn *c, deadline_t deadline, conn_line_fn *each, void *context);

/* Send octets at once; the queue must be empty. */
enum conn_result conn_send(struct conn *c, struct bytes octets, deadline_t deadline);

#endif
