/*
 * session - one SMTP connection, from greeting to good-bye.
 *
 * The dialog itself (session_process and everything it calls) neither reads nor writes the connection: octets go in through `lines`,
 * replies come out of `replies`. session_serve moves both, so that a pipelined group of commands costs one read and one write, and
 * tests drive the dialog without a socket. Only the enqueuer is spoken to directly, by receive.c.
 *
 * A session owns its buffers until session_free; settings, access and enqueuer are borrowed and live longer.
 */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include "access.h"
#include "smtpd/ask/authask.h"
#include "authres.h"
#include "smtpd/ask/enqueuer.h"
#include "smtpd/ask/guardask.h"
#include "message.h"
#include "smtpd/door/peer.h"
#include "smtpd/policy/policy.h"
#include "smtpd/ask/tls.h"

#include "common/clock.h"
#include "common/envelope.h"
#include "common/linein.h"

#include <signal.h>

#define SESSION_READ 32768u      /* octets one read takes at most; pages are touched only when they are filled */
#define SESSION_REPLIES 4096u    /* replies are written at the latest when so many octets wait */
#define RECEIVE_HEAD_MAX 16384u  /* octets of a message kept at most while its header has not ended */
#define HELO_MAX 255
#define LOGIN_MAX 255u

/* Where the dialog is; bits, so that a command's legal states are a set (command.c). */
enum session_state {
	ST_START = 1,      /* no HELO or EHLO yet */
	ST_GREETED = 2,
	ST_MAIL = 4,       /* a sender, no recipient */
	ST_RCPT = 8,       /* at least one recipient was taken */
	ST_DATA = 16,      /* message data, no commands */
	ST_BDAT = 64,      /* BDAT has begun a message: the next chunk, or RSET */
	ST_CHUNK = 128,    /* the octets of a chunk, no commands */
	ST_AUTH = 32,      /* an exchange of AUTH: the next line is the client's answer */
};

#define ST_TRANSACTION (ST_MAIL | ST_RCPT | ST_DATA | ST_BDAT | ST_CHUNK)

enum session_end { END_NOT, END_QUIT, END_LOST, END_TIMEOUT, END_ERRORS, END_COMMANDS, END_REFUSED, END_STOPPED, END_MEMORY };

#define COMMAND_KINDS 24         /* rows of the command table, and one for what is not in it */
struct command_count { uint32_t ok, all; };

struct transaction {
	struct str sender_text;
	struct mailaddr sender;          /* points into sender_text */
	struct str recipients;           /* T fields of an envelope */
	uint32_t rcpt_count, rcpt_refused, rcpt_over;   /* over: more than it can have */
	char only_rcpt[ADDRESS_MAX + 1]; /* the first recipient */
	enum body_type body;
	bool smtputf8;
	char ret[5], envid[101];         /* RFC 3461; empty: not given */
};

/* The current BDAT (chunk.h). */
struct chunk {
	uint64_t size, left;
	bool last, wanted;
	bool refused;                    /* and answered (gate_data) */
	enum session_state after;        /* the state when it has come */
};

struct content;

struct session {
	const struct settings *settings;
	const struct access *access;
	struct enqueuer *enqueuer;
	struct content *content;         /* NULL: no milters are configured */
	struct guardask *guard;              /* NULL: nobody is asked */
	const volatile sig_atomic_t *stop;   /* set: say 421 at the next pause; may be NULL */
	const struct peer *peer;         /* the client: `told`, once a front has said who it is, or the DNS what its name is */
	struct peer told;
	struct netaddr connected;        /* before any XCLIENT */
	bool xclient, login_told;        /* XCLIENT was used; it gave the login */
	struct forwarded *forwarded;     /* what XFORWARD said of the next message, or NULL */
	bool may_relay;
	enum smtpd_role role;
	struct tls_session tls;          /* on: this session is encrypted */
	struct tls_call tls_call;        /* STARTTLS was answered with 220 */
	struct bytes relay_suffix;       /* RELAYCLIENT's value */
	int in, out;

	struct linein lines;
	struct linein *kept;             /* where `lines` came from and goes to, or NULL */
	bool prepared;
	struct str replies;
	enum session_state state;
	enum session_end end;
	bool extended;                   /* EHLO, not HELO */
	char helo[HELO_MAX + 1];         /* printable, without blanks; empty before HELO */
	struct authask auth;             /* an exchange of AUTH that goes on */
	const char *mechanism;           /* of it */
	char login[LOGIN_MAX + 1];       /* who the client is; empty: nobody has asked him, or he could not prove it */
	struct transaction mail;
	struct message message;
	struct authres authres;
	struct str filtered;             /* what it let through of the last octets */
	struct chunk chunk;
	struct policy policy;
	struct str head;                 /* of a message that comes in small pieces: what came before its header ended */
	bool handed_over;                /* the enqueuer has been told of this message */
	bool no_memory;                  /* for this message */
	deadline_t data_began;           /* of the message, or of a chunk that is of none */

	const char *verb;                /* the last command, for logs: "CONNECT" before the first */
	struct command_count count[COMMAND_KINDS];
	size_t kind;                     /* row of the current command in `count` */
	unsigned code;                   /* of the last reply */
	uint32_t errors;                 /* refused commands */
	uint64_t octets;                 /* of message data that came */
	uint32_t idle_commands;          /* commands since the last message that were no mail transaction's */
	bool hasty;                      /* "improper pipelining" was logged */
	bool skip_to_crlf;               /* the rest of a line that was refused for a bare LF */
	bool wants_enqueuer;             /* a message is likely: start the child while the client thinks */
	bool progress;                   /* a command ended since the last read */
	deadline_t wait_from;
};

/* What a session is given. in and out are the connection, maybe the same descriptor; they are not closed. */
struct session_start {
	const struct access *access;
	struct enqueuer *enqueuer;
	struct content *content;         /* as session.content */
	struct guardask *guard;          /* as kept from the session before; NULL: none */
	const volatile sig_atomic_t *stop;
	const struct peer *peer;
	bool may_relay;
	enum smtpd_role role;
	struct bytes relay_suffix;
	int in, out;
	struct linein *lines;            /* a buffer from sessions before, empty or reset, and left so: one mapping less to make. NULL: it has its own */
	bool prepared;                   /* session_is_prepared */
};

/* Time limits and TCP_NODELAY. Does `fd` have them, as session_prepare_socket sets them? A faulty socket has not, and shows in the session. */
void session_prepare_socket(int fd, const struct settings *settings);
bool session_is_prepared(int fd, const struct settings *settings);

/* The whole connection, with its log lines. Blocks until it is over. */
void session_serve(const struct session_start *start);

/* The parts of it. session_init false: no memory. */
bool session_init(struct session *s, const struct session_start *start);
void session_free(struct session *s);

/* Answer everything that stands in s->lines. True: replies were due before the input was used up, call again. */
bool session_process(struct session *s);
void session_greet(struct session *s);
/* Nothing that was said before counts: STARTTLS, XCLIENT. Who the client is stays; the transaction is to be ended before. */
void session_begin_anew(struct session *s);
/* The client is another one than it seemed: a front that is trusted says so. What it may is judged anew, and RELAYCLIENT was for the front. */
void session_become(struct session *s, const struct peer *client);
void session_end_transaction(struct session *s);
/* The answer to the final dot was given: it counts as DATA's. */
void session_data_ended(struct session *s);

/* One reply; `enhanced` NULL gives none (greeting, HELO, EHLO, 354). Codes from 400 count as errors. */
void session_reply(struct session *s, unsigned code, const char *enhanced, const char *format, ...) __attribute__((format(printf, 4, 5)));
void session_no_command(struct session *s);   /* 502: there is none of that name here */
/* A line of a reply that goes on. */
void session_reply_more(struct session *s, unsigned code, const char *enhanced, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A reply that is also logged as a rejection: "NOQUEUE: reject: RCPT from ...". `rcpt` may be NULL. */
void session_reject(struct session *s, const char *rcpt, unsigned code, const char *enhanced, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* The line of it alone. `event` is "reject", or "reject_warning" for what is not refused; `check`, the setting that decided, may be NULL. */
void session_reject_log(const struct session *s, const char *check, const char *event, const char *rcpt, unsigned code, const char *enhanced, const char *text);
/* 421 and the end. */
void session_dismiss(struct session *s, enum session_end end, const char *enhanced, const char *text);
const char *session_protocol(const struct session *s);   /* "SMTP", "ESMTP", "UTF8SMTP", with S for TLS and A for a login: RFC 3848, 6531 4.3 */

#endif
