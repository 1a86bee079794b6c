/*
 * header - the header section of a message as users and programs write it (RFC 5322 2.2, 3.4, 3.6), for inject and sendmail.
 *
 * Everything here works on octets in memory, allocates nothing but the str it is given, never blocks and is bounded:
 * comments nest at most HEADER_NESTING deep, an address is at most PATH_MAX_OCTETS long. Lines may end in LF or CRLF.
 * Where RFC 5322 has an obsolete form (section 4) it is read, because programs write it.
 */
#ifndef LOCAL_HEADER_H
#define LOCAL_HEADER_H

#include "common/bytes.h"
#include "common/mailaddr.h"

#define HEADER_MAX (1u << 20)     /* octets of a header section that a caller should collect at most */
#define HEADER_NESTING 32u        /* comments within comments */

/* ---- where the header ends ---- */

/* Look at the first octets of a message. True when the end of the header section is known: its fields are
 * message[0 .. *fields_r) and its body starts at *body_r (behind the empty line, or at the first line that is neither a field
 * nor a continuation: RFC 5322 has no such message, but people pipe bare text). `all`: nothing more will come.
 * *scanned carries on from call to call, 0 at first. */
bool header_end(struct bytes message, bool all, size_t *scanned, size_t *fields_r, size_t *body_r);

/* ---- fields ---- */

enum header_id {
	HDR_OTHER, HDR_MBOX_LINE /* "From " in front of all: not a field */, HDR_RETURN_PATH, HDR_DATE, HDR_FROM, HDR_SENDER, HDR_TO, HDR_CC, HDR_BCC, HDR_MESSAGE_ID,
	HDR_RESENT_OTHER, HDR_RESENT_DATE, HDR_RESENT_FROM, HDR_RESENT_SENDER, HDR_RESENT_TO, HDR_RESENT_CC, HDR_RESENT_BCC, HDR_RESENT_MESSAGE_ID,
};

struct header_field {
	enum header_id id;
	struct bytes name;    /* without the colon */
	struct bytes value;   /* behind the colon, folds inside, without the last line end */
	struct bytes raw;     /* all of it, line end included */
};

/* The field at *offset, which moves behind it. False at the end. Views into `fields`. */
bool header_next(struct bytes fields, size_t *offset, struct header_field *field_r);

/* Which fields there are: bit 1 << id for each. */
uint32_t header_present(struct bytes fields);
#define HEADER_HAS(present, id) (((present) >> (id)) & 1u)

/* True when the message is being resent (RFC 5322 3.6.6), and then the newest block of Resent- fields: the first run of them,
 * ended by another field or by the repetition of one that a block holds once. */
bool header_resent_block(struct bytes fields, size_t *from_r, size_t *to_r);

/* ---- addresses ---- */

enum header_error {
	HEADER_OK, HEADER_SYNTAX, HEADER_UNCLOSED /* quote, comment, bracket */, HEADER_DEEP /* comments */, HEADER_ADDRESS /* see *why_r */,
	HEADER_STOPPED /* the callback said so */,
};
const char *header_error_text(enum header_error e);

/* One address, canonical; valid during the call. False stops the reading. */
typedef bool header_address_fn(void *context, const struct mailaddr *addr);

struct header_fault {
	enum header_error error;
	enum mailaddr_error why;   /* for HEADER_ADDRESS */
	struct bytes near;         /* the part of the value that was not understood */
};

/* Read an address-list (RFC 5322 3.4 with groups, comments, quoted strings, folds, encoded words and the obsolete forms; ";" also
 * separates, as some programs write) and call `fn` for every mailbox. An address without a domain gets `host`. False: *fault_r
 * says what is wrong; what came before it was already handed out, so a caller must not act before the end. */
bool header_addresses(struct bytes value, struct bytes host, header_address_fn *fn, void *context, struct header_fault *fault_r);

/* The recipients that the header names: To, Cc and Bcc, or those of the newest Resent- block. As header_addresses. */
bool header_recipients(struct bytes fields, struct bytes host, header_address_fn *fn, void *context, struct header_fault *fault_r);

#endif
