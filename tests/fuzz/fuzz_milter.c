/*
 * fuzz_milter - any octets as what a milter sends. What is parsed stays within its packet and its bounds, and no value that goes into a header can
 * begin another field.
 */
#include <stdlib.h>
#include <string.h>

#include "smtpd/content/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static bool is_within(struct bytes view, struct bytes packet)
{
	return view.len == 0 || (view.at >= packet.at && view.at + view.len <= packet.at + packet.len);
}

static void check_value(struct bytes value)
{
	struct str clean = STR_INIT(4 * MILTER_PACKET_MAX);
	require(milter_clean_value(value, &clean));
	for (size_t i = 0; i < clean.len; i++) {
		char next = i + 1 < clean.len ? clean.at[i + 1] : 'x';
		require(clean.at[i] != '\0' && (clean.at[i] != '\r' || next == '\n'));
		require(clean.at[i] != '\n' || (i > 0 && clean.at[i - 1] == '\r' && (next == ' ' || next == '\t')));
	}
	str_free(&clean);
}

static void check_reply(const struct milter_reply *r, struct bytes packet)
{
	require(is_within(r->name, packet) && is_within(r->value, packet));
	require(r->kind != ANSWER_REPLY || (r->code >= 400 && r->code < 600));
	if (r->kind == ANSWER_ADD_HEADER || r->kind == ANSWER_INSERT_HEADER || r->kind == ANSWER_CHANGE_HEADER) {
		require(milter_is_header_name(r->name) && r->value.len <= MILTER_HEADER_MAX);
		check_value(r->value);
	}
	for (size_t i = 0; i < MILTER_STAGES; i++)
		require(is_within(r->options.macros[i], packet));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { (const char *)data, size }, packet;
	size_t used;
	check_value(in);
	while (milter_take(in, &packet, &used) == MILTER_PACKET) {
		struct milter_reply reply;
		require(used > 4 && used <= in.len && is_within(packet, in));
		if (milter_parse(packet, &reply))
			check_reply(&reply, packet);
		in = bytes_slice(in, used, in.len);
	}
	return 0;
}
