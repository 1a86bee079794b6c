/*
 * fuzz_command - any octets as a client. The first one says how they are cut; the replies are those of the same octets fed whole, every
 * line of them is well-formed, and what reaches the enqueuer is a whole, clean message or an abort.
 */
#include "fuzz_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings settings = { .me = LIT("mx.test"), .locals = { .at = local_domains, .count = 1 }, .users = { .at = users, .count = 2 }, .databytes = 3000,
		.maxrcpt = 5, .maxhops = 4, .maxerrors = 12, .maxcommands = 30, .timeoutsmtpd = 300 };
	struct access access = { .settings = &settings };
	struct str whole = STR_INIT(1 << 24), cut = STR_INIT(1 << 24);
	if (size == 0)
		return 0;
	struct bytes in = { (const char *)data + 1, size - 1 };
	run(&access, NULL, in, in.len + 1, &whole);
	run(&access, NULL, in, 1u + data[0], &cut);
	require(bytes_equal(str_bytes(&whole), str_bytes(&cut)));
	check_replies(str_bytes(&whole));
	str_free(&whole);
	str_free(&cut);
	return 0;
}
