/*
 * compose - from what a user's program pipes in to a whole message: its header completed, Bcc taken out, a Received: line in front.
 *
 * The message ends up in a file of memory (memfd): enqueue reads it as its fd 0, and it can be read again when the first way of
 * handing it over is closed. Nothing is handed over before all of it was read, so an input that fails in the middle sends nothing.
 */
#ifndef LOCAL_COMPOSE_H
#define LOCAL_COMPOSE_H

#include "common/envelope.h"
#include "header.h"

enum compose_result {
	COMPOSE_OK,
	COMPOSE_READ,     /* the input or the memory file failed: temporary, errno tells */
	COMPOSE_HEADER,   /* an address in the header is not understood, or the header is over HEADER_MAX */
};

struct compose {
	/* set by the caller */
	bool dot_ends;                 /* a line of one dot ends the message */
	bool header_recipients;        /* call `recipient` for To, Cc, Bcc (or the newest Resent- block) */
	bool replace_from, replace_message_id;   /* drop what the header has and write our own */
	struct bytes host;             /* for addresses without a domain, and in the Message-ID we make */
	struct bytes from;             /* value of the From: we add: "Ann Example <ann@host>" */
	header_address_fn *recipient, *return_path;   /* return_path: may be NULL */
	void *context;
	/* set by compose_message */
	int fd;                        /* the message, at its start; the caller closes it */
	char message_id[ENVELOPE_ID_MAX + 1];   /* its Message-ID as the log gets it: visible ASCII, empty when it is longer */
	struct str why;                /* a sentence when it is not COMPOSE_OK */
};

/* Read the message from `in` to its end and build it. Blocks as long as the writer takes. */
enum compose_result compose_message(struct compose *c, int in);

/* A From: value: `user`@`host` with `name` as its phrase, quoted or as an encoded word (RFC 2047) where it must be; empty: none. */
bool compose_from(struct bytes name, struct bytes address, struct str *out);

#endif
