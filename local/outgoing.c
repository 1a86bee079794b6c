/*
 * outgoing - see outgoing.h. Room: local, the caller's own uid.
 */
#include "outgoing.h"

#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/envelope.h"
#include "common/paths.h"

/* A full name out of the account's comment: up to the first comma, "&" stands for the login name with a capital. */
static void full_name(const char *gecos, const char *login, struct str *out)
{
	for (; *gecos != '\0' && *gecos != ','; gecos++) {
		if (*gecos != '&') {
			str_add_char(out, *gecos);
			continue;
		}
		str_add_char(out, (char)toupper((unsigned char)login[0]));
		if (login[0] != '\0')
			str_add_c(out, login + 1);
	}
}

static void find_caller(struct outgoing *o)
{
	const struct passwd *pw = getpwuid(getuid());

	if (pw == NULL || pw->pw_name[0] == '\0') {
		str_addf(&o->user, "uid%lu", (unsigned long)getuid());
		return;
	}
	str_add_c(&o->user, pw->pw_name);
	if (pw->pw_gecos != NULL)
		full_name(pw->pw_gecos, pw->pw_name, &o->name);
}

bool outgoing_init(struct outgoing *o, struct str *why)
{
	*o = (struct outgoing){ .user = STR_INIT(256), .name = STR_INIT(1024), .sender = STR_INIT(ADDRESS_MAX + 1), .recipients = STR_INIT(ENVELOPE_MAX),
		.from_value = STR_INIT(4096) };
	if (!settings_load(&o->settings, path_etc, USED_INJECT, why))
		return false;
	o->host = o->settings.defaulthost.len > 0 ? o->settings.defaulthost : o->settings.me;
	find_caller(o);
	return true;
}

void outgoing_free(struct outgoing *o)
{
	settings_free(&o->settings);
	str_free(&o->user);
	str_free(&o->name);
	str_free(&o->sender);
	str_free(&o->recipients);
	str_free(&o->from_value);
	free(o->seen.slot);
}

/* ---- recipients, each once ---- */

static uint64_t hash_address(struct bytes b)
{
	uint64_t h = UINT64_C(14695981039346656037);   /* FNV-1a; the user can only slow down himself */

	for (size_t i = 0; i < b.len; i++)
		h = (h ^ (unsigned char)b.at[i]) * UINT64_C(1099511628211);
	return h;
}

/* Put offset + 1 into the table unless the same address is there. True: it is new. */
static bool seen_insert(struct outgoing *o, size_t *slot, size_t room, size_t offset)
{
	const char *address = o->recipients.at + offset;
	size_t i = hash_address(bytes_of(address)) & (room - 1);

	for (; slot[i] != 0; i = (i + 1) & (room - 1))
		if (strcmp(o->recipients.at + slot[i] - 1, address) == 0)
			return false;
	slot[i] = offset + 1;
	return true;
}

static bool seen_grow(struct outgoing *o)
{
	size_t room = o->seen.room == 0 ? 64 : o->seen.room * 2;
	size_t *slot;

	if (o->recipient_count * 2 < o->seen.room)
		return true;
	slot = calloc(room, sizeof(*slot));
	if (slot == NULL)
		return false;
	for (size_t i = 0; i < o->seen.room; i++)
		if (o->seen.slot[i] != 0)
			seen_insert(o, slot, room, o->seen.slot[i] - 1);
	free(o->seen.slot);
	o->seen.slot = slot;
	o->seen.room = room;
	return true;
}

bool outgoing_recipient(void *context, const struct mailaddr *addr)
{
	struct outgoing *o = context;
	size_t offset = o->recipients.len;

	if (!seen_grow(o) || !str_add(&o->recipients, addr->text) || !str_add_char(&o->recipients, '\0'))
		return false;
	if (!seen_insert(o, o->seen.slot, o->seen.room, offset)) {
		str_truncate(&o->recipients, offset);
		return true;
	}
	o->utf8 = o->utf8 || mailaddr_is_utf8(addr);
	return ++o->recipient_count <= ENVELOPE_RCPT_MAX;
}

bool outgoing_sender(void *context, const struct mailaddr *addr)
{
	struct outgoing *o = context;

	str_clear(&o->sender);
	o->utf8 = o->utf8 || mailaddr_is_utf8(addr);
	return str_add(&o->sender, addr->text);
}

/* ---- what people type ---- */

static void explain(const char *text, const struct header_fault *fault, struct str *why)
{
	str_add_char(why, '"');
	for (; *text != '\0' && why->len < 300; text++)
		str_add_char(why, (unsigned char)*text < 32 || *text == 127 ? '?' : *text);
	str_addf(why, "\": %s", fault->error == HEADER_ADDRESS ? mailaddr_error_text(fault->why) : header_error_text(fault->error));
}

bool outgoing_add_argument(struct outgoing *o, const char *text, struct str *why)
{
	struct header_fault fault;

	if (header_addresses(bytes_of(text), o->host, outgoing_recipient, o, &fault))
		return true;
	explain(text, &fault, why);
	return false;
}

struct one { struct outgoing *o; unsigned count; };

static bool take_one(void *context, const struct mailaddr *addr)
{
	struct one *one = context;

	return ++one->count == 1 && outgoing_sender(one->o, addr);
}

bool outgoing_set_sender(struct outgoing *o, const char *text, struct str *why)
{
	struct bytes trimmed = bytes_trim(bytes_of(text));
	struct header_fault fault = { .error = HEADER_SYNTAX };
	struct one one = { .o = o };

	str_clear(&o->sender);
	if (trimmed.len == 0 || bytes_equal(trimmed, LIT("<>")))
		return true;
	if (header_addresses(trimmed, o->host, take_one, &one, &fault) && one.count == 1)
		return true;
	explain(text, &fault, why);
	return false;
}

struct bytes outgoing_from(struct outgoing *o, struct bytes user, struct bytes host)
{
	struct str raw = STR_INIT(1024), text = STR_INIT(4 * ADDRESS_MAX);
	struct mailaddr addr;

	str_add(&raw, user);
	str_add_char(&raw, '@');
	str_add(&raw, host);
	str_clear(&o->from_value);
	if (mailaddr_from_raw(str_bytes(&raw), &text, &addr) == ADDR_OK)
		compose_from(str_bytes(&o->name), addr.text, &o->from_value);
	else
		compose_from(str_bytes(&o->name), str_bytes(&raw), &o->from_value);
	str_free(&raw);
	str_free(&text);
	return str_bytes(&o->from_value);
}

/* ---- the envelope ---- */

static bool add_if_given(struct str *out, char tag, struct bytes value)
{
	return value.len == 0 || envelope_add(out, tag, value);
}

bool outgoing_envelope(const struct outgoing *o, struct str *out)
{
	struct bytes rest = str_bytes(&o->recipients);
	struct mailaddr addr;
	bool good = mailaddr_parse(str_bytes(&o->sender), &addr) == ADDR_OK && envelope_begin(out, &addr);

	good = good && (!o->body_8bit || envelope_add(out, 'B', LIT(""))) && (!o->utf8 || envelope_add(out, 'U', LIT("")));
	good = good && add_if_given(out, 'E', o->envid) && add_if_given(out, 'R', o->ret) && add_if_given(out, 'M', o->message_id);
	while (good && rest.len > 0) {
		struct bytes text = bytes_cut(&rest, '\0');

		good = mailaddr_parse(text, &addr) == ADDR_OK && envelope_add_rcpt(out, &addr) && add_if_given(out, 'N', o->notify);
	}
	return good && envelope_end(out);
}
