/* fuzz_proxyhead - any octets as a PROXY header: every beginning of one that is done, or that is none, says so or asks for more; never less than was said. */
#include <stdlib.h>
#include <string.h>

#include "smtpd/door/proxyhead.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static enum proxyhead_result parse(const uint8_t *data, size_t size, struct proxyhead *head)
{
	char *exact = malloc(size ? size : 1);
	require(exact != NULL);
	if (size > 0)
		memcpy(exact, data, size);
	enum proxyhead_result result = proxyhead_parse((struct bytes){ exact, size }, head);
	free(exact);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxyhead whole, part;
	enum proxyhead_result result = parse(data, size, &whole);
	require(result != PROXYHEAD_MORE || size < PROXYHEAD_MAX);
	if (result == PROXYHEAD_MORE)
		return 0;
	require(result == PROXYHEAD_BAD || (whole.size > 0 && whole.size <= size && whole.size <= PROXYHEAD_MAX));
	require(result == PROXYHEAD_BAD || !whole.announced || whole.client.family != 0);
	/* Octet by octet it comes to the same: asked again after each, as the session does. */
	size_t end = result == PROXYHEAD_DONE ? whole.size : size;
	enum proxyhead_result now = PROXYHEAD_MORE;
	for (size_t n = 0; n <= end && now == PROXYHEAD_MORE; n++)
		now = parse(data, n, &part);
	require(now == result);
	require(result == PROXYHEAD_BAD || (part.size == whole.size && part.announced == whole.announced && netaddr_equal(&part.client, &whole.client)));
	return 0;
}
