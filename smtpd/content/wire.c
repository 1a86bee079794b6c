/* wire - smtpd's room: the milter protocol as octets. See wire.h. */
#include "wire.h"

#include <string.h>

/* ---- building */

static void put_u32(char *at, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char)(n >> (24 - 8 * i));
}

static uint32_t get_u32(const char *at)
{
	uint32_t n = 0;
	for (int i = 0; i < 4; i++)
		n = n << 8 | (unsigned char)at[i];
	return n;
}

void milter_add_u32(struct str *out, uint32_t n)
{
	char octets[4];
	put_u32(octets, n);
	str_add(out, (struct bytes){ octets, sizeof octets });
}

size_t milter_begin(struct str *out, enum milter_command kind)
{
	size_t begun = out->len;
	milter_add_u32(out, 0);
	str_add_char(out, (char)kind);
	return begun;
}

void milter_end(struct str *out, size_t begun)
{
	if (!out->failed)
		put_u32(out->at + begun, (uint32_t)(out->len - begun - 4));
}

void milter_add_text(struct str *out, struct bytes text)
{
	while (text.len > 0) {
		struct bytes clean = bytes_slice(text, 0, bytes_find(text, '\0'));
		str_add(out, clean);
		if (clean.len < text.len)
			str_add_char(out, '?');
		text = bytes_slice(text, clean.len + 1, text.len);
	}
	str_add_char(out, '\0');
}

void milter_offer(struct str *out)
{
	size_t begun = milter_begin(out, MILTER_OPTIONS);
	milter_add_u32(out, MILTER_VERSION);
	milter_add_u32(out, ACT_ALL);
	milter_add_u32(out, STEP_ALL);
	milter_end(out, begun);
}

/* ---- parsing */

enum milter_take milter_take(struct bytes in, struct bytes *packet_r, size_t *used_r)
{
	if (in.len < 4)
		return MILTER_MORE;
	uint32_t len = get_u32(in.at);
	if (len == 0 || len > MILTER_PACKET_MAX)
		return MILTER_BROKEN;
	if (in.len - 4 < len)
		return MILTER_MORE;
	*packet_r = bytes_slice(in, 4, 4 + (size_t)len);
	*used_r = 4 + (size_t)len;
	return MILTER_PACKET;
}

/* The text up to the next NUL, which must be there. */
static bool take_text(struct bytes *data, struct bytes *text_r)
{
	size_t end = bytes_find(*data, '\0');
	if (end == data->len)
		return false;
	*text_r = bytes_slice(*data, 0, end);
	*data = bytes_slice(*data, end + 1, data->len);
	return true;
}

static bool take_u32(struct bytes *data, uint32_t *n_r)
{
	if (data->len < 4)
		return false;
	*n_r = get_u32(data->at);
	*data = bytes_slice(*data, 4, data->len);
	return true;
}

static bool parse_options(struct bytes data, struct milter_options *o)
{
	*o = (struct milter_options){ 0 };
	if (!take_u32(&data, &o->version) || !take_u32(&data, &o->actions) || !take_u32(&data, &o->steps))
		return false;
	while (data.len > 0) {
		uint32_t stage;
		struct bytes names;
		if (!take_u32(&data, &stage) || stage >= MILTER_STAGES || !take_text(&data, &names))
			return false;
		o->macros[stage] = names;
	}
	return o->version >= 2 && o->version <= MILTER_VERSION && (o->actions & ~(uint32_t)ACT_ALL) == 0 && (o->steps & ~(uint32_t)STEP_ALL) == 0;
}

bool milter_is_header_name(struct bytes name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.at[i] <= ' ' || name.at[i] >= 127 || name.at[i] == ':')
			return false;
	return name.len > 0 && name.len <= MILTER_HEADER_NAME_MAX;
}

static bool parse_header(struct bytes data, bool has_index, struct milter_reply *r)
{
	return (!has_index || take_u32(&data, &r->index)) && take_text(&data, &r->name) && take_text(&data, &r->value) && data.len == 0
		&& milter_is_header_name(r->name) && r->value.len <= MILTER_HEADER_MAX;
}

/* An address, and arguments where they may follow. */
static bool parse_address(struct bytes data, bool may_have_arguments, struct milter_reply *r)
{
	if (!take_text(&data, &r->name) || r->name.len == 0)
		return false;
	return data.len == 0 || (may_have_arguments && take_text(&data, &r->value) && data.len == 0);
}

/* "550 5.7.1 Text", maybe several lines; the first one's code counts. */
static bool parse_code(struct bytes data, struct milter_reply *r)
{
	struct bytes text;
	uint64_t code;
	if (!take_text(&data, &text) || data.len > 0 || text.len < 3 || !bytes_to_u64(bytes_slice(text, 0, 3), 599, &code) || code < 400)
		return false;
	if (text.len > 3 && text.at[3] != ' ' && text.at[3] != '-')
		return false;
	r->code = (unsigned)code;
	text = bytes_slice(text, 4, text.len);
	r->value = bytes_trim(bytes_slice(text, enhanced_parse(text, r->code, &r->enhanced), text.len));
	return true;
}

bool milter_parse(struct bytes packet, struct milter_reply *r)
{
	struct bytes data = bytes_slice(packet, 1, packet.len);
	if (packet.len == 0)
		return false;
	*r = (struct milter_reply){ .kind = (enum milter_answer)packet.at[0] };
	switch (packet.at[0]) {
	case ANSWER_CONTINUE: case ANSWER_ACCEPT: case ANSWER_REJECT: case ANSWER_TEMPFAIL: case ANSWER_DISCARD: case ANSWER_SKIP: case ANSWER_PROGRESS:
	case ANSWER_SHUTDOWN: case ANSWER_CONNECTION_FAIL:
		return data.len == 0;
	case ANSWER_REPLY:
		return parse_code(data, r);
	case ANSWER_OPTIONS:
		return parse_options(data, &r->options);
	case ANSWER_ADD_HEADER:
		return parse_header(data, false, r);
	case ANSWER_INSERT_HEADER: case ANSWER_CHANGE_HEADER:
		return parse_header(data, true, r);
	case ANSWER_ADD_RCPT: case ANSWER_DELETE_RCPT:
		return parse_address(data, false, r);
	case ANSWER_CHANGE_FROM: case ANSWER_ADD_RCPT_ARGS:
		return parse_address(data, true, r);
	case ANSWER_BODY:
		r->value = data;
		return true;
	case ANSWER_QUARANTINE:
		return take_text(&data, &r->value) && data.len == 0;
	default:
		return false;
	}
}

/* ---- header values */

static void clean_line(struct bytes line, struct str *out)
{
	for (size_t i = 0; i < line.len; i++)
		str_add_char(out, line.at[i] == '\r' || line.at[i] == '\0' ? ' ' : line.at[i]);
}

static bool is_blank(struct bytes line)
{
	return bytes_trim(line).len == 0;
}

/* Lines without text are left out: one would end the header where blanks are cut off. */
bool milter_clean_value(struct bytes value, struct str *out)
{
	bool first = true;
	for (struct bytes rest = value; rest.len > 0; first = false) {
		struct bytes line = bytes_cut(&rest, '\n');
		if (line.len > 0 && line.at[line.len - 1] == '\r')
			line.len--;
		if (!first && is_blank(line))
			continue;
		if (!first)
			str_add_c(out, line.at[0] == ' ' || line.at[0] == '\t' ? "\r\n" : "\r\n\t");
		clean_line(line, out);
	}
	return !out->failed;
}
