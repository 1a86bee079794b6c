/*
 * letter - a whole message as milters see and change it: its header fields, and a body.
 *
 * Our own Received: field is not written yet; it has a place among the fields (first, at the beginning), which counts when a field is inserted and
 * cannot be seen or changed. Fields named Received and Return-Path are the trace of RFC 5321 4.4: changes of them are refused.
 */
#ifndef SMTPD_CONTENT_LETTER_H
#define SMTPD_CONTENT_LETTER_H

#include "draft.h"

#define LETTER_HEAD_MAX (1u << 20)     /* octets of all fields */
#define LETTER_FIELDS_MAX 10000u
#define LETTER_NAME_MAX 998u           /* octets of a field's name: a line of RFC 5322 2.1.1, and far from what a milter takes at once */

struct field {
	char *text;                        /* "Name: value", lines end with CRLF, the last one too; NULL: the place of our own Received: */
	size_t len, name_len;
};

struct letter {
	struct field *fields;
	size_t count, room, octets;
	struct draft draft;                /* the message as it came, */
	uint64_t body_at;                  /* where its body begins, */
	struct draft body;                 /* or its replacement */
	bool parted;                       /* an empty line stands before it */
	bool binary;                       /* BODY=BINARYMIME: a replacement is octets and no lines; the owner's to set, false at the beginning */
	bool replaced, ended_in_cr;
	bool has_8bit;                     /* a change brought octets above 127 */
};

enum letter_result { LETTER_OK, LETTER_REFUSED /* a change of the trace */, LETTER_FULL /* bounds, memory, disk, a NUL in a new body */ };

void letter_init(struct letter *l);
void letter_free(struct letter *l);
/* l->draft is whole: find its fields and its body. */
enum letter_result letter_open(struct letter *l);

enum letter_result letter_prepend(struct letter *l, struct bytes fields);   /* whole lines of our own, behind the place of Received: */
/* `value` as a milter sent it, with its leading blank if it has to have one. */
enum letter_result letter_add(struct letter *l, struct bytes name, struct bytes value);
enum letter_result letter_insert(struct letter *l, uint32_t index, struct bytes name, struct bytes value);
/* The nth (from 1; 0 is 1) of that name: replaced, or gone where value is empty; added where there is none. */
enum letter_result letter_change(struct letter *l, struct bytes name, uint32_t nth, struct bytes value);
/* A piece of a new body: its lines will end with CRLF, and hold no other CR; a NUL is LETTER_FULL. A binary one is taken as it is. The first one after `begin`
 * drops the body there was. */
void letter_body_begin(struct letter *l);
enum letter_result letter_body_add(struct letter *l, struct bytes octets);
enum letter_result letter_body_end(struct letter *l);

struct bytes field_name(const struct field *f);
struct bytes field_value(const struct field *f);     /* behind the colon, up to the last CRLF */

bool letter_has_body(const struct letter *l);
ssize_t letter_read_body(const struct letter *l, uint64_t offset, char *at, size_t room);

#endif
