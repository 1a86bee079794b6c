/*
 * message - the octets between DATA and its final dot: where the data end, what is the message's, what is wrong with it.
 *
 * Only CRLF ends a line and only CRLF "." CRLF ends the data (RFC 5321 2.3.8, 4.1.1.4). A bare CR, a bare LF or a NUL never ends anything; it makes
 * the message MESSAGE_BARE, which is read to its real end and then refused: whoever forwards such octets lets others smuggle mail. A binary message
 * (RFC 3030) may have them in its body; it comes in chunks, and is only sent on in them or converted.
 * The scanner holds no octet of the message: what it keeps are views into what it was given, so it needs no memory of its own beyond
 * this struct and gives the same result however the stream is cut. Never blocks, never allocates.
 */
#ifndef SMTPD_MESSAGE_H
#define SMTPD_MESSAGE_H

#include "common/bytes.h"

#define MESSAGE_LINE_MAX (1u << 20)   /* RFC 5321 4.5.3.1.6 says 1000; programs that write whole documents as one line exist, so there is room */
#define MESSAGE_ID_MAX 250
#define MESSAGE_HEADER_KEPT 300       /* octets of a header line that are looked at */

/* Bits; message_fault names the gravest. */
enum message_fault { MESSAGE_FINE = 0, MESSAGE_BARE = 1, MESSAGE_NUL = 2, MESSAGE_LINE_LONG = 4, MESSAGE_LOOPS = 8, MESSAGE_TOO_BIG = 16 };

struct message {
	uint64_t size;                /* octets of the message, dot-unstuffed, CRLFs counted */
	uint64_t size_max;            /* 0: no limit */
	bool binary;                  /* BODY=BINARYMIME: the body may hold any octets; message_begin sets it to false */
	uint64_t hops, hops_max;      /* Received: headers so far, and how many mean a loop */
	unsigned faults;              /* enum message_fault, or'ed: the same set however the stream was cut */
	bool in_header;
	bool headless;                /* it begins with a blank: it must not join the field before it */
	bool has_date, has_id;        /* of the header lines so far */
	char message_id[MESSAGE_ID_MAX + 1];   /* from the header, empty when absent; printable ASCII only */
	/* private */
	int place;
	bool begun;                   /* a first octet was seen */
	bool awaits_id;               /* a Message-ID: header whose value is folded to the next line */
	size_t line_length;
	size_t header_length;
	char header[MESSAGE_HEADER_KEPT];
};

void message_begin(struct message *m, uint64_t size_max, uint64_t hops_max);
enum message_fault message_fault(const struct message *m);

/* BDAT (RFC 3030): every octet of `in` is the message's, and the same rules hold but for the dot. In a binary message they hold for its header and the line
 * that ends it; what follows is not looked at. *kept_r: `in`, or empty once there is a fault. */
void message_chunk(struct message *m, struct bytes in, struct bytes *kept_r);
/* It was the last one. *kept_r: static octets that end a line which has no end; a binary body gets none. */
void message_chunk_end(struct message *m, struct bytes *kept_r);

enum scan_result {
	SCAN_MORE,   /* all octets were taken, the data go on */
	SCAN_PART,   /* a dot was dropped: keep *kept_r, call again with the rest */
	SCAN_END,    /* the final dot; what follows the used octets is the next command */
};

/* Scan `in`. *kept_r: a view into `in` of octets that belong to the message (empty once there is a fault, and maybe otherwise).
 * *used_r: octets taken. */
enum scan_result message_scan(struct message *m, struct bytes in, struct bytes *kept_r, size_t *used_r);

#endif
