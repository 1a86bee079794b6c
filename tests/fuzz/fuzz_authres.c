/* fuzz_authres - any octets as a message: what stays is the same however they are cut, what is filtered once has nothing left to filter, and nothing is
 * lost from a message that has none of our fields. */
#include <stdlib.h>
#include <string.h>

#include "smtpd/session/authres.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static unsigned filter(struct bytes in, size_t step, struct str *out)
{
	static struct authres a;
	authres_begin(&a, LIT("mx.test"));
	str_clear(out);
	for (size_t from = 0; from < in.len; from += step) {
		size_t n = in.len - from < step ? in.len - from : step;
		char *exact = malloc(n);
		require(exact != NULL);
		memcpy(exact, in.at + from, n);
		size_t used = a.over ? 0 : authres_feed(&a, (struct bytes){ exact, n }, out);
		require(used == n || a.over);
		str_add(out, (struct bytes){ exact + used, n - used });
		free(exact);
	}
	authres_end(&a, out);
	require(!out->failed && out->len <= in.len);
	return a.removed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str whole = STR_INIT(1 << 24), cut = STR_INIT(1 << 24);
	if (size < 1)
		return 0;
	struct bytes in = { (const char *)data + 1, size - 1 };
	unsigned removed = filter(in, in.len + 1, &whole);
	require(filter(in, 1u + data[0] % 64, &cut) == removed);
	require(whole.len == cut.len && (whole.len == 0 || memcmp(whole.at, cut.at, whole.len) == 0));
	require(removed > 0 || whole.len == in.len);
	require(filter(str_bytes(&whole), in.len + 1, &cut) == 0);
	str_free(&whole);
	str_free(&cut);
	return 0;
}
