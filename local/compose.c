/*
 * compose - see compose.h. Room: local, the caller's own uid.
 */
#include "compose.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/msgid.h"

#define CHUNK 65536u

/* ---- the input, up to its end or to the line of one dot ---- */

enum dot_state { DOT_LINE_START, DOT_SEEN, DOT_CR_SEEN, DOT_IN_LINE, DOT_END };

struct input { int fd; bool dot_ends; enum dot_state state; };

/* Give one octet to `out`, with the dot (and CR) that was kept back. */
static void dot_octet(struct input *in, char c, struct str *out)
{
	bool after_dot = in->state == DOT_SEEN || in->state == DOT_CR_SEEN;

	if (after_dot && c == '\n') {
		in->state = DOT_END;
		return;
	}
	if (in->state == DOT_SEEN && c == '\r') {
		in->state = DOT_CR_SEEN;
		return;
	}
	if (in->state == DOT_LINE_START && c == '.') {
		in->state = DOT_SEEN;
		return;
	}
	if (after_dot)
		str_add_c(out, in->state == DOT_SEEN ? "." : ".\r");
	str_add_char(out, c);
	in->state = c == '\n' ? DOT_LINE_START : DOT_IN_LINE;
}

static void dot_filter(struct input *in, const char *data, size_t n, struct str *out)
{
	for (size_t i = 0; i < n && in->state != DOT_END; i++) {
		if (in->state == DOT_IN_LINE) {   /* the rest of the line in one piece */
			const char *lf = memchr(data + i, '\n', n - i);
			size_t take = lf == NULL ? n - i : (size_t)(lf - (data + i)) + 1;

			str_add(out, (struct bytes){ data + i, take });
			in->state = lf == NULL ? DOT_IN_LINE : DOT_LINE_START;
			i += take - 1;
			continue;
		}
		dot_octet(in, data[i], out);
	}
}

/* Append the next piece of the message to `out`: 1, 0 at its end, -1 errno. */
static int input_read(struct input *in, struct str *out)
{
	char data[CHUNK];
	ssize_t n;

	if (in->state == DOT_END)
		return 0;
	do {
		n = read(in->fd, data, sizeof(data));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	if (n == 0) {
		if (in->state == DOT_SEEN || in->state == DOT_CR_SEEN)
			in->state = DOT_END;   /* "." at the end of the file, without its line end, ends it, too */
		return 0;
	}
	if (in->dot_ends)
		dot_filter(in, data, (size_t)n, out);
	else
		str_add(out, (struct bytes){ data, (size_t)n });
	if (out->failed) {
		errno = ENOMEM;
		return -1;
	}
	return 1;
}

/* ---- the header ---- */

static void add_field(struct str *out, const char *name, struct bytes value)
{
	str_add_c(out, name);
	str_add_c(out, ": ");
	str_add(out, value);
	str_add_char(out, '\n');
}

static void add_date(struct str *out, const char *name)
{
	struct str date = STR_INIT(100);

	clock_rfc5322(clock_wall_ms(), &date);
	add_field(out, name, str_bytes(&date));
	str_free(&date);
}

static void add_message_id(struct str *out, const char *name, struct bytes host)
{
	char now[MSGID_TEXT + 1], unique[MSGID_TEXT + 1];
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = ((uint64_t)getpid() << 32) ^ clock_monotonic_ms();
	msgid_format(msgid_next(0, clock_wall_ms()), now);
	msgid_format(random & MSGID_MAX, unique);
	str_addf(out, "%s: <%s.%s@", name, now, unique);
	str_add(out, host);
	str_add_c(out, ">\n");
}

static bool is_dropped(const struct compose *c, const struct header_field *field)
{
	switch (field->id) {
	case HDR_MBOX_LINE:
	case HDR_RETURN_PATH:
	case HDR_BCC:
	case HDR_RESENT_BCC:
		return true;
	case HDR_FROM:
		return c->replace_from;
	case HDR_MESSAGE_ID:
		return c->replace_message_id;
	default:
		return bytes_equal_nocase(field->name, LIT("content-length"));   /* true of the writer's line ends only */
	}
}

/* What must be there (RFC 5322 3.6). */
static void add_missing(const struct compose *c, uint32_t present, struct str *out)
{
	if (!HEADER_HAS(present, HDR_DATE))
		add_date(out, "Date");
	if (!HEADER_HAS(present, HDR_FROM) || c->replace_from)
		add_field(out, "From", c->from);
	if (!HEADER_HAS(present, HDR_MESSAGE_ID) || c->replace_message_id)
		add_message_id(out, "Message-ID", c->host);
}

/* The same of the block that says who resends it now (3.6.6). */
static void add_missing_resent(const struct compose *c, uint32_t present, struct str *out)
{
	if (!HEADER_HAS(present, HDR_RESENT_DATE))
		add_date(out, "Resent-Date");
	if (!HEADER_HAS(present, HDR_RESENT_FROM))
		add_field(out, "Resent-From", c->from);
	if (!HEADER_HAS(present, HDR_RESENT_MESSAGE_ID))
		add_message_id(out, "Resent-Message-ID", c->host);
}

static void build_header(const struct compose *c, struct bytes fields, struct str *out)
{
	struct header_field field;
	size_t from = fields.len, to = fields.len;
	bool resent = header_resent_block(fields, &from, &to);

	str_addf(out, "Received: (tappal %ld invoked by uid %lu); ", (long)getpid(), (unsigned long)getuid());
	clock_rfc5322(clock_wall_ms(), out);
	str_add_char(out, '\n');
	for (size_t offset = 0, at = 0; header_next(fields, &offset, &field); at = offset) {
		if (resent && at == from)
			add_missing_resent(c, header_present(bytes_slice(fields, from, to)), out);
		if (!is_dropped(c, &field))
			str_add(out, field.raw);
		if (field.raw.at[field.raw.len - 1] != '\n' && !is_dropped(c, &field))
			str_add_char(out, '\n');
	}
	add_missing(c, header_present(fields), out);
	str_add_char(out, '\n');
}

/* For the log. What is no visible ASCII is left out, folds with it. */
static void note_message_id(struct compose *c, struct bytes fields)
{
	struct header_field field;
	size_t n = 0;

	for (size_t offset = 0; header_next(fields, &offset, &field);) {
		if (field.id != HDR_MESSAGE_ID)
			continue;
		for (size_t i = 0; i < field.value.len && n < sizeof(c->message_id); i++)
			if (field.value.at[i] > ' ' && field.value.at[i] < 127)
				c->message_id[n++] = field.value.at[i];
		break;
	}
	c->message_id[n < sizeof(c->message_id) ? n : 0] = '\0';
}

static void explain(struct compose *c, const struct header_fault *fault)
{
	struct bytes near = bytes_slice(fault->near, 0, 200);

	str_add_c(&c->why, "the header has an address list that is not understood, near \"");
	for (size_t i = 0; i < near.len; i++)
		str_add_char(&c->why, near.at[i] >= 32 && near.at[i] < 127 ? near.at[i] : '?');
	str_addf(&c->why, "\": %s; nothing was sent", fault->error == HEADER_ADDRESS ? mailaddr_error_text(fault->why) : header_error_text(fault->error));
}

/* The Return-Path: is what a program asks the reverse-path to be (as qmail-inject reads it). */
static bool read_return_path(struct compose *c, struct bytes fields, struct header_fault *fault)
{
	static const struct mailaddr empty = { .kind = ADDR_NULL };
	struct header_field field;

	for (size_t offset = 0; c->return_path != NULL && header_next(fields, &offset, &field);) {
		if (field.id != HDR_RETURN_PATH)
			continue;
		if (bytes_equal(bytes_trim(field.value), LIT("<>")))
			return c->return_path(c->context, &empty);
		return header_addresses(field.value, c->host, c->return_path, c->context, fault);
	}
	return true;
}

/* ---- all of it ---- */

static enum compose_result read_failed(struct compose *c)
{
	str_addf(&c->why, "the message could not be read: %s; nothing was sent", strerror(errno));
	return COMPOSE_READ;
}

/* Read until the header is known. `start` gets it and what came with it of the body. */
static enum compose_result read_header(struct compose *c, struct input *in, struct str *start, size_t *fields_r, size_t *body_r)
{
	size_t scanned = 0;
	int got;

	do {
		got = input_read(in, start);
		if (got < 0)
			return read_failed(c);
		if (header_end(str_bytes(start), got == 0, &scanned, fields_r, body_r) && *fields_r <= HEADER_MAX)
			return COMPOSE_OK;
	} while (got > 0 && start->len <= HEADER_MAX);
	str_addf(&c->why, "the header is over %u octets; nothing was sent", HEADER_MAX);
	return COMPOSE_HEADER;
}

static bool put(const struct compose *c, struct bytes b)
{
	return io_write_full(c->fd, b.at, b.len) == 0;
}

static enum compose_result write_all(struct compose *c, struct input *in, struct bytes fields, struct bytes body)
{
	struct str text = STR_INIT(2 * HEADER_MAX + 2 * CHUNK);
	bool good;
	int got = 1;

	build_header(c, fields, &text);
	note_message_id(c, str_bytes(&text));
	good = !text.failed && put(c, str_bytes(&text)) && put(c, body);
	while (good && got > 0) {
		str_clear(&text);
		got = input_read(in, &text);
		good = got >= 0 && put(c, str_bytes(&text));
	}
	str_free(&text);
	if (!good || lseek(c->fd, 0, SEEK_SET) < 0)
		return read_failed(c);
	return COMPOSE_OK;
}

enum compose_result compose_message(struct compose *c, int in_fd)
{
	struct input in = { .fd = in_fd, .dot_ends = c->dot_ends };
	struct str start = STR_INIT(HEADER_MAX + 2 * CHUNK);
	struct header_fault fault = { .error = HEADER_OK };
	size_t fields_len = 0, body_at = 0;
	enum compose_result result;

	str_init(&c->why, 2000);
	c->fd = memfd_create("message", MFD_CLOEXEC);
	if (c->fd < 0)
		return read_failed(c);
	result = read_header(c, &in, &start, &fields_len, &body_at);
	if (result == COMPOSE_OK) {
		struct bytes fields = bytes_slice(str_bytes(&start), 0, fields_len);

		if (!read_return_path(c, fields, &fault) || (c->header_recipients && !header_recipients(fields, c->host, c->recipient, c->context, &fault))) {
			explain(c, &fault);
			result = COMPOSE_HEADER;
		} else {
			result = write_all(c, &in, fields, bytes_slice(str_bytes(&start), body_at, start.len));
		}
	}
	str_free(&start);
	return result;
}

/* ---- From: ---- */

static void add_base64(struct str *out, struct bytes in)
{
	struct base64 b = { 0 };

	base64_add(&b, in, out);
	base64_end(&b, out);
}

/* Octets from the start of `in` that fit one encoded word (RFC 2047 2: 75 in all, so 45 octets of text), not cutting a UTF-8 sequence. */
static size_t encoded_word_take(struct bytes in)
{
	size_t n = in.len < 45 ? in.len : 45;

	while (n > 0 && n < in.len && ((unsigned char)in.at[n] & 0xc0u) == 0x80u)
		n--;
	return n > 0 ? n : in.len < 45 ? in.len : 45;
}

static bool any_8bit(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if ((unsigned char)b.at[i] > 127)
			return true;
	return false;
}

bool compose_from(struct bytes name, struct bytes address, struct str *out)
{
	struct str clean = STR_INIT(256);

	for (size_t i = 0; i < name.len && i < 250; i++)
		str_add_char(&clean, (unsigned char)name.at[i] < 32 || name.at[i] == 127 ? ' ' : name.at[i]);
	name = bytes_trim(str_bytes(&clean));
	if (any_8bit(name)) {
		while (name.len > 0) {
			size_t n = encoded_word_take(name);

			str_add_c(out, "=?utf-8?B?");
			add_base64(out, bytes_slice(name, 0, n));
			str_add_c(out, "?= ");
			name = bytes_slice(name, n, name.len);
		}
	} else if (name.len > 0) {
		str_add_char(out, '"');
		for (size_t i = 0; i < name.len; i++) {
			if (name.at[i] == '"' || name.at[i] == '\\')
				str_add_char(out, '\\');
			str_add_char(out, name.at[i]);
		}
		str_add_c(out, "\" ");
	}
	str_add_char(out, '<');
	str_add(out, address);
	str_add_char(out, '>');
	str_free(&clean);
	return !out->failed;
}
