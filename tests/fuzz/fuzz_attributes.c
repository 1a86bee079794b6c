/* fuzz_attributes - any octets behind XCLIENT and XFORWARD: what is taken holds no control character, keeps its bounds, and names no forbidden attribute. */
#include <stdlib.h>
#include <string.h>

#include "smtpd/session/attributes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void check(const struct attributes *a, unsigned allowed)
{
	require((a->given & ~allowed) == 0 && a->given != 0);
	for (size_t i = 0; i < ATTRIBUTES; i++) {
		struct bytes text = bytes_of(a->text[i]);
		require(text.len <= ATTRIBUTE_MAX && bytes_is_utf8_text(text) && (text.len == 0 || (a->given & ATTR_BIT(i))));
	}
	require((a->addr.family != 0) == (a->text[ATTR_ADDR][0] != '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct attributes a;
	char *exact = malloc(size ? size : 1);
	require(exact != NULL);
	if (size > 0)
		memcpy(exact, data, size);
	for (int forward = 0; forward < 2; forward++) {
		unsigned allowed = forward ? XFORWARD_ATTRIBUTES : XCLIENT_ATTRIBUTES;
		a = (struct attributes){ 0 };
		if (attributes_parse((struct bytes){ exact, size }, allowed, &a) == NULL)
			check(&a, allowed);
	}
	free(exact);
	return 0;
}
