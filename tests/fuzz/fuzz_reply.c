/*
 * fuzz_reply - any octets as the replies of a server. The first octet says how they are cut: the replies are those of the same
 * stream fed octet by octet.
 */
#include <stdlib.h>
#include <string.h>

#include "remote/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void note(const struct reply *r, enum reply_result result, struct str *out)
{
	require(r->text_len <= REPLY_TEXT_MAX && r->octets <= REPLY_OCTETS_MAX);
	(void)str_addf(out, "%d %u %u.%u.%u ", (int)result, r->code, r->enhanced.class, r->enhanced.subject, r->enhanced.detail);
	(void)str_add(out, reply_text(r));
	(void)str_add_char(out, '\n');
	for (size_t i = 0; i < r->text_len; i++)
		require((unsigned char)r->text[i] >= 32 && r->text[i] != 127);
	if (result == REPLY_DONE)
		require(r->code >= 200 && r->code < 600 && r->text_len >= 3);
	else
		require(r->code == 0 && r->text_len > 0);
}

static void run(struct bytes stream, size_t step, struct str *out)
{
	static struct reply r;
	enum reply_result result = REPLY_MORE;
	size_t at = 0, used;

	reply_start(&r);
	while (at < stream.len && result != REPLY_BAD) {
		size_t end = at - at % step + step;

		result = reply_feed(&r, bytes_slice(stream, at, end), &used);
		require(used > 0);
		at += used;
		if (result == REPLY_MORE || result == REPLY_LINE)
			continue;
		note(&r, result, out);
		if (result == REPLY_DONE)
			reply_start(&r);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str one = STR_INIT(1 << 24), other = STR_INIT(1 << 24);

	if (size == 0)
		return 0;
	run((struct bytes){ (const char *)data + 1, size - 1 }, 1, &one);
	run((struct bytes){ (const char *)data + 1, size - 1 }, 2u + data[0], &other);
	require(!one.failed && !other.failed && bytes_equal(str_bytes(&one), str_bytes(&other)));
	str_free(&one);
	str_free(&other);
	return 0;
}
