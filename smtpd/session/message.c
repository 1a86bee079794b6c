/* message - smtpd's room: the scanner of message data. See message.h. */
#include "message.h"

#include <string.h>

#include "common/fieldname.h"

/* Where in the stream the next octet stands. */
enum place {
	AT_LINE,      /* first octet of a line (after CRLF or after DATA) */
	IN_LINE,
	AFTER_CR,     /* the octet before was a CR inside a line */
	AFTER_DOT,    /* the line began with a dot, which was dropped */
	AFTER_DOT_CR, /* dot, CR: a LF now is the end of the data */
};

void message_begin(struct message *m, uint64_t size_max, uint64_t hops_max)
{
	m->size = m->hops = 0;
	m->size_max = size_max;
	m->hops_max = hops_max;
	m->faults = 0;
	m->in_header = true;
	m->binary = m->begun = m->headless = m->awaits_id = m->has_date = m->has_id = false;
	m->place = AT_LINE;
	m->line_length = m->header_length = 0;
	m->message_id[0] = '\0';
}

static void message_blame(struct message *m, enum message_fault fault)
{
	m->faults |= fault;
}

enum message_fault message_fault(const struct message *m)
{
	return (enum message_fault)(m->faults & -m->faults);
}

static void take_message_id(struct message *m, struct bytes value)
{
	value = bytes_trim(value);
	size_t n = 0;
	for (size_t i = 0; i < value.len && n < MESSAGE_ID_MAX; i++)
		m->message_id[n++] = value.at[i] > ' ' && value.at[i] < 127 ? value.at[i] : '?';
	m->message_id[n] = '\0';
	m->awaits_id = n == 0;
}

static void take_field(struct message *m, struct bytes name, struct bytes value)
{
	if (bytes_equal_nocase(name, LIT("received")) && ++m->hops >= m->hops_max)
		message_blame(m, MESSAGE_LOOPS);
	m->has_date = m->has_date || bytes_equal_nocase(name, LIT("date"));
	if (!bytes_equal_nocase(name, LIT("message-id")))
		return;
	m->has_id = true;
	if (m->message_id[0] == '\0')
		take_message_id(m, value);
}

/* A whole line of the header (its first octets, at least). The header ends with an empty line or with the first line that cannot be in one. */
static void header_line_ended(struct message *m)
{
	struct bytes line = { m->header, m->header_length };
	m->header_length = 0;
	if (line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t')) {
		if (m->awaits_id)
			take_message_id(m, line);
		m->awaits_id = false;
		return;
	}
	m->awaits_id = false;
	size_t name = fieldname(line);
	/* A line cut at MESSAGE_HEADER_KEPT without a colon is no header field either. */
	if (name == 0)
		m->in_header = false;
	else
		take_field(m, bytes_slice(line, 0, name), bytes_slice(line, bytes_find(line, ':') + 1, line.len));
}

static void note_header(struct message *m, const char *at, size_t n)
{
	size_t left = MESSAGE_HEADER_KEPT - m->header_length;
	if (n > left)
		n = left;
	memcpy(m->header + m->header_length, at, n);
	m->header_length += n;
}

/* A first line that continues a field continues ours: there is no other. It is text. */
static void note_beginning(struct message *m, char first)
{
	m->headless = (first == ' ' || first == '\t');
	if (m->headless)
		m->in_header = false;
	m->begun = true;
}

/* Octets of a line, without its CRLF, that hold no CR. */
static void line_octets(struct message *m, const char *at, size_t n)
{
	if (n == 0)
		return;
	if (!m->begun)
		note_beginning(m, *at);
	if (memchr(at, '\n', n) != NULL)
		message_blame(m, MESSAGE_BARE);
	m->line_length += n;
	if (m->line_length > MESSAGE_LINE_MAX)
		message_blame(m, MESSAGE_LINE_LONG);
	if (m->in_header)
		note_header(m, at, n);
}

static void line_ended(struct message *m)
{
	m->place = AT_LINE;
	m->begun = true;
	m->line_length = 0;
	if (m->in_header)
		header_line_ended(m);
}

/* From the middle of a line up to and with its CR, or to the end of `in`. Returns the octets taken. */
static size_t scan_line(struct message *m, const char *at, size_t n)
{
	const char *cr = memchr(at, '\r', n);
	size_t before = cr ? (size_t)(cr - at) : n;
	line_octets(m, at, before);
	m->place = cr ? AFTER_CR : IN_LINE;
	return cr ? before + 1 : n;
}

/* One step of the scanner at `at`: octets taken, 1 or more. *drop_r: this octet is no part of the message. */
static size_t scan_step(struct message *m, const char *at, size_t n, bool *drop_r, bool *end_r)
{
	switch (m->place) {
	case AT_LINE:
		if (*at == '.') {
			*drop_r = true;
			m->place = AFTER_DOT;
			return 1;
		}
		return scan_line(m, at, n);
	case AFTER_DOT:
		if (*at == '\r') {
			m->place = AFTER_DOT_CR;
			return 1;
		}
		return scan_line(m, at, n);
	case AFTER_CR:
	case AFTER_DOT_CR:
		if (*at == '\n') {
			*end_r = m->place == AFTER_DOT_CR;
			line_ended(m);
			return 1;
		}
		message_blame(m, MESSAGE_BARE);   /* the CR before was bare; this octet may be a CR again */
		return scan_line(m, at, n);
	default:
		return scan_line(m, at, n);
	}
}

/* The first `lines` octets of what was kept are lines. */
static void count_size(struct message *m, struct bytes *kept, size_t lines)
{
	m->size += kept->len;
	if (m->size_max > 0 && m->size > m->size_max)
		message_blame(m, MESSAGE_TOO_BIG);
	if (lines > 0 && memchr(kept->at, '\0', lines) != NULL)
		message_blame(m, MESSAGE_NUL);
	if (m->faults != 0)
		kept->len = 0;
}

/* UNSAFE: `i` stays within in.len because every step takes at least one and at most in.len - i octets. */
enum scan_result message_scan(struct message *m, struct bytes in, struct bytes *kept_r, size_t *used_r)
{
	enum scan_result result = SCAN_MORE;
	size_t i = 0;
	*kept_r = (struct bytes){ in.at, 0 };
	while (i < in.len && result == SCAN_MORE) {
		bool drop = false, end = false;
		/* The CR of the final dot's line is no part of the message; it begins a view of its own, which ends empty. */
		bool final_cr = m->place == AFTER_DOT && in.at[i] == '\r';
		size_t n = scan_step(m, in.at + i, in.len - i, &drop, &end);
		if (end) {
			result = SCAN_END;
		} else if (drop && i > 0) {
			result = SCAN_PART;
		} else if (drop || final_cr) {
			kept_r->at = in.at + i + n;
			kept_r->len = 0;
		} else {
			kept_r->len += n;
		}
		i += n;
	}
	*used_r = i;
	count_size(m, kept_r, kept_r->len);
	return result;
}

/* The header and the line that ended it are behind us: from here on there are no lines, so the place stays as it is. */
static bool in_binary_body(const struct message *m)
{
	return m->binary && !m->in_header && m->place == AT_LINE;
}

void message_chunk(struct message *m, struct bytes in, struct bytes *kept_r)
{
	size_t i = 0;
	*kept_r = in;
	while (i < in.len && !in_binary_body(m)) {
		if (m->place == AFTER_CR && in.at[i] == '\n') {
			line_ended(m);
			i++;
			continue;
		}
		if (m->place == AFTER_CR)
			message_blame(m, MESSAGE_BARE);
		i += scan_line(m, in.at + i, in.len - i);
	}
	count_size(m, kept_r, i);
}

void message_chunk_end(struct message *m, struct bytes *kept_r)
{
	if (m->place == AFTER_CR)
		message_blame(m, MESSAGE_BARE);
	message_chunk(m, m->place == IN_LINE ? LIT("\r\n") : LIT(""), kept_r);
}
