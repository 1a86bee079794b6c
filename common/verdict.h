/*
 * verdict - what became of something, in the one form in which it travels: an SMTP reply of ours, a result of
 * a delivery, an exit code, a line of a bounce. All conversions stand in verdict.c with a golden table in
 * tests/unit. What is unknown is V_TEMP.
 */
#ifndef COMMON_VERDICT_H
#define COMMON_VERDICT_H

#include "bytes.h"

enum verdict { V_OK, V_TEMP, V_PERM };

/* How far a delivery got. The order is the wire order: append only. */
enum stage { STAGE_NONE, STAGE_DNS, STAGE_CONNECT, STAGE_GREETING, STAGE_TLS, STAGE_HELO, STAGE_AUTH, STAGE_MAIL, STAGE_RCPT, STAGE_DATA,
	STAGE_FINAL /* reply to the final dot */, STAGE_LOCAL /* writing the mailbox */, STAGE_QUEUE /* decided by the queue itself: expired, deleted */,
	STAGE_FINAL_DSN /* as STAGE_FINAL; with V_OK: the server took over what NOTIFY asks for (RFC 3461 5.2.1) */, STAGE_COUNT };

/* What a delivery report says of a recipient (RFC 3464 2.3.3). RELAYED: to a server that gives no reports (RFC 3461 5.2.2). The order is the wire order:
 * append only. */
enum dsn_action { DSN_FAILED, DSN_DELIVERED, DSN_RELAYED, DSN_DELAYED, DSN_ACTIONS };
const char *dsn_action_name(unsigned action);        /* "failed"; "?" when out of range */

struct enhanced { uint8_t class; uint16_t subject, detail; };  /* RFC 3463; class 0 = none given; subject, detail <= 999 */

struct outcome {
	enum verdict verdict;
	enum stage stage;
	uint16_t code;            /* SMTP reply code, 0 when there was none */
	struct enhanced enhanced;
	int error;                /* errno, 0 when none */
	struct bytes text;        /* borrowed; static text or the peer's reply, never trusted for a log line as it is */
};

const char *stage_name(enum stage stage);            /* "connect"; "?" when out of range */
const char *verdict_name(enum verdict verdict);      /* "ok" "temp" "perm" */
enum verdict verdict_of_code(unsigned smtp_code);    /* 2xx, 3xx V_OK; 5xx V_PERM; all else V_TEMP */
enum verdict verdict_of_enqueue(int exit_code);      /* enum enqueue_exit */

/* The reply smtpd gives for what enqueue said, and its enhanced code: static text. */
struct outcome outcome_of_enqueue(int exit_code);
/* A result of our own with the enhanced code in the text's stead, e.g. outcome_make(V_TEMP, STAGE_DNS, "4.4.3", LIT("...")). */
struct outcome outcome_make(enum verdict verdict, enum stage stage, const char *enhanced, struct bytes text);
/* errno while delivering locally: ENOSPC, EDQUOT, EIO and all else unknown are temporary. */
struct outcome outcome_of_errno(enum stage stage, int error, struct bytes text);

/* "5.1.1" at the start of text (RFC 2034), a blank or nothing behind it: parsed into *e_r, returns how many octets it took (the
 * blank not counted), 0 when there is none or when its class does not agree with the code's first digit. smtp_code 0: any class. */
size_t enhanced_parse(struct bytes text, unsigned smtp_code, struct enhanced *e_r);
void enhanced_format(struct enhanced e, struct str *out);  /* "5.1.1"; class 0 gives the generic "X.0.0" of nothing: appends nothing */
/* For a DSN, which must have one: e, or X.0.0 by the verdict. */
struct enhanced enhanced_or_default(struct enhanced e, enum verdict verdict);

#endif
