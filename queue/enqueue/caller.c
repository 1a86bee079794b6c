/* caller - room: queue (enqueue). See caller.h. */
#include "caller.h"

#include <stdio.h>
#include <string.h>

#include "common/accounts.h"
#include "common/paths.h"

/* Attributes whose truth nothing here can check, and who is believed. The Message-ID is his who writes the message; a hold (Q) is anybody's,
 * but only smtpd and root say in whose name. */
static const struct claims { const char *account, *tags; } claims[CALLER_KINDS] = {
	[CALLER_USER] = { NULL, "M" },
	[CALLER_SMTPD] = { ACCOUNT_SMTPD, "CHPAMQ" },
	[CALLER_BOUNCE] = { ACCOUNT_BOUNCE, "XM" },
	[CALLER_ROOT] = { "root", "CHPAXMQ" },
};
static const char all_claims[] = "CHPAXM";

static void note_account(struct caller *c, const struct account *account) {
	snprintf(c->name, sizeof(c->name), "%s", account->name);
	for (int kind = 0; kind < CALLER_KINDS; kind++)
		if (claims[kind].account && strcmp(account->name, claims[kind].account) == 0)
			c->kind = (enum caller_kind)kind;
}

bool caller_find(uid_t uid, struct caller *c) {
	struct account account;
	*c = (struct caller){ .uid = uid, .kind = uid == 0 ? CALLER_ROOT : CALLER_USER };
	snprintf(c->name, sizeof(c->name), uid == 0 ? "root" : "#%lu", (unsigned long)uid);
	if (uid == 0)
		return true;
	enum account_result found = account_by_uid(uid, &account);
	if (found == ACCOUNT_FOUND)
		note_account(c, &account);
	return found != ACCOUNT_UNREADABLE;
}

/* ---- the envelope ---- */

static enum enqueue_exit exit_of(enum envelope_error e) {
	switch (e) {
	case ENV_OK: return ENQ_OK;
	case ENV_ADDRESS: return ENQ_BAD_ADDRESS;
	case ENV_TOO_MANY:
	case ENV_TOO_LONG: return ENQ_REFUSED;
	default: return ENQ_BAD_ENVELOPE;
	}
}

struct rewriting {
	const struct caller *caller;
	struct str *out;
	struct str text;          /* of the address at hand */
	bool raw_addresses, origin_known;
};

static enum enqueue_exit read_address(struct rewriting *r, struct bytes value, struct mailaddr *addr_r) {
	enum mailaddr_error e = r->raw_addresses && value.len > 0 ? mailaddr_from_raw(value, &r->text, addr_r) : mailaddr_parse(value, addr_r);
	return e == ADDR_OK ? ENQ_OK : ENQ_BAD_ADDRESS;
}

static bool claimed(const char *tags, char tag) {
	return strchr(tags, tag) != NULL;
}

/* The caller's name in the place of that which he gave: it may be the longer one, and the reason is cut for it. */
static enum enqueue_exit rewrite_hold(struct rewriting *r, struct bytes value) {
	struct str text = STR_INIT(ENVELOPE_VALUE_MAX + sizeof r->caller->name);
	struct bytes reason = value;
	if (!envelope_value_fits('Q', value))
		return ENQ_BAD_ENVELOPE;
	bytes_cut(&reason, ' ');
	str_addf(&text, "%s ", r->caller->name);
	str_add(&text, reason);
	while (text.len > sizeof r->caller->name && !envelope_value_fits('Q', str_bytes(&text)))
		str_truncate(&text, text.len - 1);
	bool added = envelope_add(r->out, 'Q', str_bytes(&text));
	str_free(&text);
	return added ? ENQ_OK : ENQ_BAD_ENVELOPE;
}

static enum enqueue_exit rewrite_field(struct rewriting *r, struct bytes field) {
	char tag = field.at[0];
	struct bytes value = bytes_slice(field, 1, field.len);
	struct mailaddr addr;
	enum enqueue_exit code;
	if (claimed(all_claims, tag) && !claimed(claims[r->caller->kind].tags, tag))
		return ENQ_OK;
	if (tag == 'Q' && !claimed(claims[r->caller->kind].tags, tag))
		return rewrite_hold(r, value);
	if (tag != 'T') {
		r->origin_known |= claimed("CHPA", tag);
		return envelope_add(r->out, tag, value) ? ENQ_OK : ENQ_BAD_ENVELOPE;
	}
	code = read_address(r, value, &addr);
	if (code != ENQ_OK)
		return code;
	return envelope_add_rcpt(r->out, &addr) ? ENQ_OK : ENQ_BAD_ADDRESS;
}

static enum enqueue_exit rewrite_sender(struct rewriting *r, struct bytes field) {
	struct mailaddr addr;
	if (field.len == 0 || field.at[0] != 'F')
		return ENQ_BAD_ENVELOPE;
	enum enqueue_exit code = read_address(r, bytes_slice(field, 1, field.len), &addr);
	if (code != ENQ_OK)
		return code;
	return envelope_begin(r->out, &addr) ? ENQ_OK : ENQ_BAD_ADDRESS;
}

/* Where a field ends; false when no NUL does. */
static bool next_field(struct bytes *rest, struct bytes *field_r) {
	size_t nul = bytes_find(*rest, '\0');
	if (nul == rest->len)
		return false;
	*field_r = bytes_slice(*rest, 0, nul);
	*rest = bytes_slice(*rest, nul + 1, rest->len);
	return true;
}

static enum enqueue_exit rewrite(struct rewriting *r, struct bytes rest) {
	struct bytes field;
	enum enqueue_exit code = ENQ_BAD_ENVELOPE;
	if (next_field(&rest, &field))
		code = rewrite_sender(r, field);
	while (code == ENQ_OK) {
		if (!next_field(&rest, &field))
			return ENQ_BAD_ENVELOPE;
		if (field.len == 0)
			break;
		code = rewrite_field(r, field);
	}
	if (code != ENQ_OK)
		return code;
	if (rest.len > 0)
		return ENQ_BAD_ENVELOPE;
	if (!r->origin_known && (!envelope_add(r->out, 'P', LIT("local")) || !envelope_add(r->out, 'A', bytes_of(r->caller->name))))
		return ENQ_BAD_ENVELOPE;
	return envelope_end(r->out) ? ENQ_OK : ENQ_OUT_OF_MEMORY;
}

enum enqueue_exit caller_envelope(const struct caller *c, struct bytes envelope, bool raw_addresses, struct str *out) {
	struct rewriting r = { .caller = c, .out = out, .text = STR_INIT(2 * ADDRESS_MAX), .raw_addresses = raw_addresses };
	struct envelope parsed;
	str_clear(out);
	enum enqueue_exit code = rewrite(&r, envelope);
	str_free(&r.text);
	return code != ENQ_OK ? code : exit_of(envelope_parse(str_bytes(out), &parsed));
}
