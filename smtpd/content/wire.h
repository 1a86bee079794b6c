/*
 * wire - sendmail's milter protocol, version 6, as octets: packets for a milter are built here, what it sends is parsed here. Pure: no descriptor,
 * no session, nothing blocks.
 *
 * A packet is four octets of length (big-endian), one of its kind, and data. What a milter sends is hostile input: a packet has a longest length,
 * its data are consumed exactly, and text in it can hold nothing that would end a line of a header, a reply or a log.
 */
#ifndef SMTPD_CONTENT_WIRE_H
#define SMTPD_CONTENT_WIRE_H

#include "common/bytes.h"
#include "common/verdict.h"

#define MILTER_VERSION 6u
#define MILTER_CHUNK 65535u             /* octets of a body in one packet */
#define MILTER_PACKET_MAX (1u << 20)    /* longest packet that is taken from a milter, without its length */
#define MILTER_OUT_MAX (2u << 20)       /* most that is gathered for it */
#define MILTER_HEADER_NAME_MAX 200u
#define MILTER_HEADER_MAX 65536u        /* octets of one field's value */

/* To a milter. */
enum milter_command {
	MILTER_ABORT = 'A', MILTER_BODY = 'B', MILTER_CONNECT = 'C', MILTER_MACRO = 'D', MILTER_BODY_END = 'E', MILTER_HELO = 'H', MILTER_QUIT_NEW = 'K',
	MILTER_HEADER = 'L', MILTER_MAIL = 'M', MILTER_HEADERS_END = 'N', MILTER_OPTIONS = 'O', MILTER_QUIT = 'Q', MILTER_RCPT = 'R', MILTER_DATA = 'T',
	MILTER_UNKNOWN = 'U',
};

/* From it: verdicts, then changes. */
enum milter_answer {
	ANSWER_CONTINUE = 'c', ANSWER_ACCEPT = 'a', ANSWER_REJECT = 'r', ANSWER_TEMPFAIL = 't', ANSWER_DISCARD = 'd', ANSWER_REPLY = 'y', ANSWER_SKIP = 's',
	ANSWER_PROGRESS = 'p', ANSWER_SHUTDOWN = '4', ANSWER_CONNECTION_FAIL = 'f', ANSWER_OPTIONS = 'O',
	ANSWER_ADD_HEADER = 'h', ANSWER_INSERT_HEADER = 'i', ANSWER_CHANGE_HEADER = 'm', ANSWER_CHANGE_FROM = 'e', ANSWER_ADD_RCPT = '+',
	ANSWER_ADD_RCPT_ARGS = '2', ANSWER_DELETE_RCPT = '-', ANSWER_BODY = 'b', ANSWER_QUARANTINE = 'q',
};

/* Actions that a milter may ask for. */
enum {
	ACT_ADD_HEADERS = 0x1, ACT_CHANGE_BODY = 0x2, ACT_ADD_RCPT = 0x4, ACT_DELETE_RCPT = 0x8, ACT_CHANGE_HEADERS = 0x10, ACT_QUARANTINE = 0x20,
	ACT_CHANGE_FROM = 0x40, ACT_ADD_RCPT_ARGS = 0x80, ACT_CHOOSE_MACROS = 0x100, ACT_ALL = 0x1ff,
};

/* Steps that it can do without, steps it does not answer, and what it wants besides. */
enum {
	STEP_NO_CONNECT = 0x1, STEP_NO_HELO = 0x2, STEP_NO_MAIL = 0x4, STEP_NO_RCPT = 0x8, STEP_NO_BODY = 0x10, STEP_NO_HEADERS = 0x20,
	STEP_NO_HEADERS_END = 0x40, STEP_MUTE_HEADER = 0x80, STEP_NO_UNKNOWN = 0x100, STEP_NO_DATA = 0x200, STEP_SKIP = 0x400, STEP_REFUSED_RCPT = 0x800,
	STEP_MUTE_CONNECT = 0x1000, STEP_MUTE_HELO = 0x2000, STEP_MUTE_MAIL = 0x4000, STEP_MUTE_RCPT = 0x8000, STEP_MUTE_DATA = 0x10000,
	STEP_MUTE_UNKNOWN = 0x20000, STEP_MUTE_HEADERS_END = 0x40000, STEP_MUTE_BODY = 0x80000, STEP_LEADING_BLANK = 0x100000, STEP_ALL = 0x1fffff,
};

/* Where macros are sent; the numbers are the protocol's. */
enum milter_stage { STAGE_OF_CONNECT, STAGE_OF_HELO, STAGE_OF_MAIL, STAGE_OF_RCPT, STAGE_OF_DATA, STAGE_OF_BODY_END, STAGE_OF_HEADERS_END, MILTER_STAGES };

struct milter_options {
	uint32_t version, actions, steps;
	struct bytes macros[MILTER_STAGES];   /* names, with blanks or commas between them; at == NULL: it leaves the choice to us */
};

/* Views point into the packet. */
struct milter_reply {
	enum milter_answer kind;
	uint32_t index;                   /* of a header */
	struct bytes name;                /* of a header, or an address with its < > as it was sent */
	struct bytes value;               /* of a header, arguments of an address, octets of a body, reason of a quarantine, text of a reply */
	unsigned code;                    /* ANSWER_REPLY: 400 to 599 */
	struct enhanced enhanced;         /* of it; class 0: none */
	struct milter_options options;
};

/* ---- building: begin, texts and numbers, end. A str that could not take it all has its failed flag set. */
size_t milter_begin(struct str *out, enum milter_command kind);
void milter_add_text(struct str *out, struct bytes text);      /* and its NUL; a NUL within becomes "?" */
void milter_add_u32(struct str *out, uint32_t n);
void milter_end(struct str *out, size_t begun);                /* `begun`: what milter_begin returned */
void milter_offer(struct str *out);                            /* the packet that begins a connection */

/* ---- parsing */
enum milter_take { MILTER_MORE, MILTER_PACKET, MILTER_BROKEN };
/* The first packet of `in`: kind and data, without its length. */
enum milter_take milter_take(struct bytes in, struct bytes *packet_r, size_t *used_r);
/* False: it breaks the protocol. */
bool milter_parse(struct bytes packet, struct milter_reply *reply_r);

/* A field's value as it may stand in a message: each line of it after the first begins with a blank, lines end with CRLF, and there is no other CR,
 * LF or NUL. Whatever a milter sends, no second field comes of it. Appended to out; false: no room. */
bool milter_clean_value(struct bytes value, struct str *out);
bool milter_is_header_name(struct bytes name);

#endif
