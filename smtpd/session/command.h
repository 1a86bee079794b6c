/*
 * command - what a client may say and when: THE TABLE, in command.c. One command comes in as a line, is looked up, held against
 * the table (state, argument, length), checked (nothing changes, a refusal is answered) and only then acted on.
 */
#ifndef SMTPD_COMMAND_H
#define SMTPD_COMMAND_H

#include "session.h"

#define COMMAND_LINE_MAX 512          /* with CRLF, RFC 5321 4.5.3.1.4 */
#define COMMAND_PATH_LINE_MAX 2048    /* MAIL and RCPT: their parameters need more (4.1.2; RFC 3461 alone adds 528 to RCPT) */

enum command_argument { ARG_NONE, ARG_ANY, ARG_TEXT /* must not be empty */, ARG_PATH /* keyword, path, parameters */ };

/* What check functions make of the argument for act functions. */
struct command {
	struct bytes argument;         /* ARG_PATH: the parameters */
	struct str *text;              /* holds addr's text */
	struct mailaddr addr;
	enum body_type body;
	bool smtputf8;
	uint64_t chunk_size;           /* BDAT */
	bool chunk_last;
	struct bytes ret, envid, notify, orcpt;   /* RFC 3461; empty: not given */
};

struct command_row {
	const char *verb;
	const char *keyword;           /* ARG_PATH: "FROM:" */
	unsigned legal;                /* enum session_state, or'ed */
	enum command_argument argument;
	bool ends_group;               /* RFC 2920 3.1: a client waits for its reply */
	bool idle;                     /* no part of a mail transaction: counts against maxcommands */
	bool (*check)(struct session *s, struct command *c);
	void (*act)(struct session *s, struct command *c);
};

extern const struct command_row command_table[];
extern const size_t command_rows;     /* the count of kind command_rows is for unknown commands */

/* 503 (or what fits better) for the current command, which is not legal now. */
void command_refuse_order(struct session *s);

/* A name that a client gave itself, in harmless octets. */
void command_helo_text(struct bytes name, char out[HELO_MAX + 1]);

/* Answer one line (without CRLF). */
void command_line(struct session *s, struct bytes line);
/* A line that could not be one: too long or with a bare CR, LF or NUL. */
void command_not_a_line(struct session *s, const char *text);

#endif
