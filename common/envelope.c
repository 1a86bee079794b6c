/* envelope - common room, used wherever a message's envelope passes. See envelope.h. */
#include "envelope.h"

#include <string.h>

const char *envelope_error_text(enum envelope_error e)
{
	switch (e) {
	case ENV_OK: return "the envelope is well-formed";
	case ENV_FORMAT: return "the envelope is malformed";
	case ENV_ADDRESS: return "an address of the envelope is malformed";
	case ENV_NO_RCPT: return "the envelope has no recipient";
	case ENV_TOO_MANY: return "the envelope has too many recipients";
	case ENV_TOO_LONG: return "the envelope or a value of it is too long";
	}
	return "the envelope is malformed";
}

/* ---- what a value may hold ---- */

static bool check_none(struct bytes value)
{
	return value.len == 0;
}

struct bytes body_type_name(unsigned type)
{
	static const char *const names[] = { [BODY_7BIT] = "7BIT", [BODY_8BITMIME] = "8BITMIME", [BODY_BINARYMIME] = "BINARYMIME" };

	return bytes_of(type < sizeof names / sizeof names[0] ? names[type] : NULL);
}

/* Empty is 8BITMIME: envelopes knew no other once. */
static bool check_body_type(struct bytes value)
{
	return value.len == 0 || bytes_equal(value, body_type_name(BODY_BINARYMIME));
}

static bool check_text(struct bytes value)
{
	return value.len > 0;
}

/* E, N and O go into a command to another server as they are: no space and no control character may pass. */
static bool check_visible(struct bytes value)
{
	return value.len > 0 && bytes_find(value, ' ') == value.len && bytes_is_utf8_text(value);
}

static bool check_visible_ascii(struct bytes value)
{
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.at[i] >= 0x80)
			return false;
	return check_visible(value);
}

static bool check_ret(struct bytes value)
{
	return bytes_equal(value, LIT("FULL")) || bytes_equal(value, LIT("HDRS"));
}

/* RFC 3461 4.1: NEVER alone, or a list of the others. */
static bool check_notify(struct bytes value)
{
	struct bytes rest = value;

	if (bytes_equal_nocase(value, LIT("NEVER")))
		return true;
	while (rest.at) {
		struct bytes word = bytes_cut(&rest, ',');
		if (!bytes_equal_nocase(word, LIT("SUCCESS")) && !bytes_equal_nocase(word, LIT("FAILURE")) && !bytes_equal_nocase(word, LIT("DELAY")))
			return false;
	}
	return value.len > 0;
}

bool envelope_notify_asks(struct bytes notify, struct bytes word)
{
	if (notify.len == 0)
		return bytes_equal_nocase(word, LIT("FAILURE"));
	while (notify.len > 0)
		if (bytes_equal_nocase(bytes_cut(&notify, ','), word))
			return true;
	return false;
}

static bool read_bounce(struct bytes value, msgid_t *id_r, uint32_t *batch_r)
{
	uint64_t batch;
	struct bytes rest = value;
	struct bytes id = bytes_cut(&rest, ' ');

	if (!msgid_parse(id, id_r) || *id_r == 0 || !bytes_to_u64(rest, UINT32_MAX, &batch))
		return false;
	*batch_r = (uint32_t)batch;
	return true;
}

static bool check_bounce(struct bytes value)
{
	msgid_t id;
	uint32_t batch;

	return read_bounce(value, &id, &batch);
}

static void read_hold(struct bytes value, struct bytes *by_r, struct bytes *reason_r)
{
	*reason_r = value;
	*by_r = bytes_cut(reason_r, ' ');
}

static bool check_hold(struct bytes value)
{
	struct bytes by, reason;

	read_hold(value, &by, &reason);
	return by.len > 0 && by.len <= ENVELOPE_BY_MAX && bytes_is_utf8_text(value);
}

/* The maxima are those of the records that carry the values later (records.def): what is accepted here can be stored. */
static const struct tag {
	char tag;
	bool of_rcpt;        /* belongs to the T before */
	size_t max;
	bool (*check)(struct bytes value);
} tags[] = {
	{ 'B', false, 10,                 check_body_type },
	{ 'U', false, 0,                  check_none },
	{ 'C', false, 400,                check_text },
	{ 'H', false, 255,                check_text },
	{ 'P', false, 16,                 check_text },
	{ 'A', false, 320,                check_text },
	{ 'E', false, ENVELOPE_VALUE_MAX, check_visible_ascii },
	{ 'R', false, 10,                 check_ret },
	{ 'X', false, 32,                 check_bounce },
	{ 'M', false, ENVELOPE_ID_MAX,    check_text },
	{ 'Q', false, ENVELOPE_VALUE_MAX, check_hold },
	{ 'N', true,  100,                check_notify },
	{ 'O', true,  ENVELOPE_VALUE_MAX, check_visible },
};
#define TAG_COUNT (sizeof tags / sizeof tags[0])

static const struct tag *tag_find(char tag)
{
	for (size_t i = 0; i < TAG_COUNT; i++)
		if (tags[i].tag == tag)
			return &tags[i];
	return NULL;
}

static enum envelope_error tag_check(const struct tag *tag, struct bytes value)
{
	if (value.len > tag->max)
		return tag->max ? ENV_TOO_LONG : ENV_FORMAT;
	return tag->check(value) ? ENV_OK : ENV_FORMAT;
}

/* ---- reading ---- */

struct field {
	char tag;
	struct bytes value;
};

/* The field at *offset_r, which moves behind its NUL. False at the empty field and where no NUL follows. */
static bool field_next(struct bytes raw, size_t *offset_r, struct field *field_r)
{
	struct bytes rest = bytes_slice(raw, *offset_r, raw.len);
	size_t nul = bytes_find(rest, 0);

	if (nul == 0 || nul == rest.len)
		return false;
	*field_r = (struct field){ rest.at[0], bytes_slice(rest, 1, nul) };
	*offset_r += nul + 1;
	return true;
}

static void attribute_set(struct envelope *env, struct field field)
{
	switch (field.tag) {
	case 'B': env->body_type = field.value.len > 0 ? BODY_BINARYMIME : BODY_8BITMIME; break;
	case 'U': env->smtputf8 = true; break;
	case 'C': env->client = field.value; break;
	case 'H': env->helo = field.value; break;
	case 'P': env->protocol = field.value; break;
	case 'A': env->login = field.value; break;
	case 'E': env->envid = field.value; break;
	case 'R': env->ret = field.value; break;
	case 'M': env->message_id = field.value; break;
	case 'Q': read_hold(field.value, &env->held_by, &env->held_reason); break;
	case 'X': read_bounce(field.value, &env->bounce_of, &env->bounce_batch); break;
	default: break;
	}
}

static enum envelope_error read_sender(struct field field, struct envelope *env)
{
	if (field.tag != 'F')
		return ENV_FORMAT;
	return mailaddr_parse(field.value, &env->sender) == ADDR_OK ? ENV_OK : ENV_ADDRESS;
}

static enum envelope_error read_rcpt(struct field field, struct envelope *env)
{
	struct mailaddr addr;

	if (mailaddr_parse(field.value, &addr) != ADDR_OK || addr.kind == ADDR_NULL)
		return ENV_ADDRESS;
	return ++env->rcpt_count > ENVELOPE_RCPT_MAX ? ENV_TOO_MANY : ENV_OK;
}

/* Any field but the first. *seen holds the tags that came: once a message, or once a recipient. */
static enum envelope_error read_field(struct field field, struct envelope *env, uint32_t *seen)
{
	if (field.tag == 'T') {
		for (size_t i = 0; i < TAG_COUNT; i++)
			if (tags[i].of_rcpt)
				*seen &= ~(UINT32_C(1) << i);
		return read_rcpt(field, env);
	}
	const struct tag *tag = tag_find(field.tag);
	if (!tag || (tag->of_rcpt && env->rcpt_count == 0))
		return ENV_FORMAT;
	uint32_t bit = UINT32_C(1) << (tag - tags);
	if (*seen & bit)
		return ENV_FORMAT;
	*seen |= bit;
	enum envelope_error e = tag_check(tag, field.value);
	if (e == ENV_OK)
		attribute_set(env, field);
	return e;
}

enum envelope_error envelope_parse(struct bytes raw, struct envelope *env_r)
{
	struct envelope env = { .raw = raw };
	struct field field;
	size_t offset = 0;
	uint32_t seen = 0;

	if (raw.len > ENVELOPE_MAX)
		return ENV_TOO_LONG;
	if (!field_next(raw, &offset, &field))
		return ENV_FORMAT;
	enum envelope_error e = read_sender(field, &env);
	while (e == ENV_OK && field_next(raw, &offset, &field))
		e = read_field(field, &env, &seen);
	if (e != ENV_OK)
		return e;
	/* What stopped the loop must be the empty field, and the last octet of all. */
	if (offset + 1 != raw.len || raw.at[offset] != 0)
		return ENV_FORMAT;
	if (env.rcpt_count == 0)
		return ENV_NO_RCPT;
	*env_r = env;
	return ENV_OK;
}

bool envelope_next(const struct envelope *env, struct envelope_cursor *cursor, struct envelope_rcpt *rcpt_r)
{
	struct envelope_rcpt rcpt = { .index = cursor->index };
	struct field field;
	bool found = false;

	for (size_t offset = cursor->offset; field_next(env->raw, &offset, &field); cursor->offset = offset) {
		if (field.tag == 'T' && found)
			break;
		if (field.tag == 'T')
			found = mailaddr_parse(field.value, &rcpt.addr) == ADDR_OK;
		else if (field.tag == 'N' && found)
			rcpt.notify = field.value;
		else if (field.tag == 'O' && found)
			rcpt.orcpt = field.value;
	}
	if (!found)
		return false;
	cursor->index++;
	*rcpt_r = rcpt;
	return true;
}

/* ---- building ---- */

static bool refuse(struct str *out)
{
	out->failed = true;
	return false;
}

static bool add_field(struct str *out, char tag, struct bytes value)
{
	return str_add_char(out, tag) && str_add(out, value) && str_add_char(out, 0);
}

static bool is_stored_kind(enum mailaddr_kind kind)
{
	return kind == ADDR_MAILBOX || kind == ADDR_LITERAL;
}

bool envelope_value_fits(char tag, struct bytes value)
{
	const struct tag *row = tag_find(tag);

	return row && bytes_find(value, 0) == value.len && tag_check(row, value) == ENV_OK;
}

bool envelope_begin(struct str *out, const struct mailaddr *sender)
{
	str_clear(out);
	if (sender->kind != ADDR_NULL && !is_stored_kind(sender->kind))
		return refuse(out);
	return add_field(out, 'F', sender->text);
}

bool envelope_add(struct str *out, char tag, struct bytes value)
{
	if (!envelope_value_fits(tag, value))
		return refuse(out);
	return add_field(out, tag, value);
}

bool envelope_add_body_type(struct str *out, enum body_type type)
{
	return type == BODY_7BIT || envelope_add(out, 'B', type == BODY_BINARYMIME ? body_type_name(type) : LIT(""));
}

bool envelope_add_rcpt(struct str *out, const struct mailaddr *addr)
{
	if (!is_stored_kind(addr->kind))
		return refuse(out);
	return add_field(out, 'T', addr->text);
}

bool envelope_end(struct str *out)
{
	return str_add_char(out, 0) && (out->len <= ENVELOPE_MAX || refuse(out));
}
