/*
 * channel - typed records between programs that do not trust each other. One definition, records.def, makes the struct, the
 * encoder, the exact-length decoder and the printer of every record. See docs/CHANNELS.md for who sends what to whom.
 *
 *   struct offer o = { .token_a = 1, .name = LIT("x"), ... };
 *   offer_encode(&o, &out);                       appends one whole record to a str; false: a field is over its max, the str would
 *                                                 pass its max, or no memory - then the str is as it was, failed flag included
 *   offer_decode(record.payload, &o);             true only if every octet was consumed and every BYTES is within its max;
 *                                                 BYTES views point into the payload
 *   offer_print(&o, &out);                        "offer token_a=1 name=x ..." for traces, neutered
 */
#ifndef COMMON_CHANNEL_H
#define COMMON_CHANNEL_H

#include "bytes.h"
#include <sys/types.h>
#include "clock.h"

#define RECORD_MAGIC 0x7074u
#define RECORD_HEAD 8u              /* octets before the fields */
#define RECORD_MAX 70000u           /* longest record on any channel, head included */
#define MAIL_OFFER_MAX 131071u      /* longest body of which smtpd reads queued's answer itself (mail_offer): of a longer one queued renames the file */

#define U8(n) uint8_t n;
#define U16(n) uint16_t n;
#define U32(n) uint32_t n;
#define U64(n) uint64_t n;
#define BYTES(n, max) struct bytes n;
#define RECORD(number, name, ...) struct name { __VA_ARGS__ };
#include "records.def"
#undef RECORD
#undef U8
#undef U16
#undef U32
#undef U64
#undef BYTES

enum record_type {
	REC_none = 0,
#define RECORD(number, name, ...) REC_##name = number,
#include "records.def"
#undef RECORD
};

#define RECORD(number, name, ...) \
	bool name##_encode(const struct name *record, struct str *out); \
	bool name##_decode(struct bytes payload, struct name *record_r); \
	void name##_print(const struct name *record, struct str *out);
#include "records.def"
#undef RECORD

const char *record_name(unsigned type);      /* "offer"; "?" when unknown */

/* One framed record as it was received; payload points into the reader and is valid until its next call. */
struct record { unsigned type; struct bytes payload; };

enum record_result { RECORD_OK, RECORD_MORE /* not whole yet */, RECORD_BAD /* wrong magic or length: the stream is lost, close it */ };

/* Take the first record of `in`. *used_r: octets it took. */
enum record_result record_take(struct bytes in, struct record *record_r, size_t *used_r);

/* A buffered reader of one descriptor (blocking or not). */
struct record_reader { int fd; struct str buffer; size_t taken; };
void record_reader_init(struct record_reader *r, int fd);
void record_reader_free(struct record_reader *r);        /* does not close fd */
/* Read once: octets got, 0 end of file, -1 errno (EAGAIN included; ENOBUFS: records not taken fill the buffer). */
ssize_t record_reader_fill(struct record_reader *r);
enum record_result record_reader_next(struct record_reader *r, struct record *record_r);
/* Octets fed and not yet taken as records (a worker's message body follows its records raw); take n of them. */
struct bytes record_reader_rest(const struct record_reader *r);
void record_reader_take(struct record_reader *r, size_t n);
/* Block until a whole record or the deadline: 1, 0 end of file before one began, -1 errno (EPROTO: bad framing, ETIMEDOUT). */
int record_reader_wait(struct record_reader *r, struct record *record_r, deadline_t deadline);

/* A buffered writer of one nonblocking descriptor: append with NAME_encode(&rec, &w->buffer), then push. */
struct record_writer { int fd; struct str buffer; size_t sent; };
void record_writer_init(struct record_writer *w, int fd, size_t max_buffer);
void record_writer_free(struct record_writer *w);
/* Write what it takes: 0 all gone, 1 some is left (poll for POLLOUT), -1 errno (EPIPE: the reader is gone). */
int record_writer_push(struct record_writer *w);
bool record_writer_pending(const struct record_writer *w);

#endif
