/*
 * fuzz_envelope - any octets as an envelope. One that is accepted gives as many recipients as it counted, each of them an address,
 * no value that is too long for the record which stores it, and can be built again from what was read.
 */
#include <stdlib.h>

#include "common/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void add_if(struct str *out, char tag, struct bytes value)
{
	if (value.len)
		require(envelope_add(out, tag, value));
}

static void add_attributes(struct str *out, const struct envelope *env)
{
	struct str hold = STR_INIT(ENVELOPE_VALUE_MAX + 1);

	require(envelope_add_body_type(out, env->body_type));
	if (env->smtputf8)
		require(envelope_add(out, 'U', LIT("")));
	add_if(out, 'C', env->client);
	add_if(out, 'H', env->helo);
	add_if(out, 'P', env->protocol);
	add_if(out, 'A', env->login);
	add_if(out, 'E', env->envid);
	add_if(out, 'R', env->ret);
	add_if(out, 'M', env->message_id);
	if (env->held_by.len > 0)
		require(str_addf(&hold, "%.*s %.*s", (int)env->held_by.len, env->held_by.at, (int)env->held_reason.len, env->held_reason.at));
	add_if(out, 'Q', str_bytes(&hold));
	str_free(&hold);
}

static void rebuild(const struct envelope *env, struct str *out)
{
	struct envelope_cursor cursor = { 0 };
	struct envelope_rcpt rcpt;
	size_t count = 0;

	require(envelope_begin(out, &env->sender));
	add_attributes(out, env);
	for (; envelope_next(env, &cursor, &rcpt); count++) {
		require(rcpt.index == count && rcpt.addr.text.len <= ADDRESS_MAX && rcpt.notify.len <= 100 && rcpt.orcpt.len <= 1000);
		require(envelope_add_rcpt(out, &rcpt.addr));
		add_if(out, 'N', rcpt.notify);
		add_if(out, 'O', rcpt.orcpt);
	}
	require(count == env->rcpt_count && envelope_end(out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { (const char *)data, size };
	struct str out = STR_INIT(ENVELOPE_MAX);
	struct envelope env, again;

	if (envelope_parse(in, &env) != ENV_OK)
		return 0;
	rebuild(&env, &out);
	require(envelope_parse(str_bytes(&out), &again) == ENV_OK);
	require(again.rcpt_count == env.rcpt_count && mailaddr_equal(&again.sender, &env.sender) && bytes_equal(again.envid, env.envid));
	str_free(&out);
	return 0;
}
