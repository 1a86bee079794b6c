/* fuzz_dnswire - any octets as the data of an MX record and of a TXT record: what is taken is a host name, or printable. */
#include <stdlib.h>
#include <string.h>

#include "common/domain.h"
#include "remote/dnswire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[DNSWIRE_NAME];
	uint16_t preference;
	bool good = dnswire_mx((struct bytes){ (const char *)data, size }, &preference, name);

	if (memchr(name, '\0', sizeof name) == NULL || (!good && name[0] != '\0'))
		abort();
	for (const char *c = name; *c != '\0'; c++)
		if (*c != '.' && *c != '-' && *c != '_' && !(*c >= 'a' && *c <= 'z') && !(*c >= '0' && *c <= '9'))
			abort();
	dnswire_text((struct bytes){ (const char *)data, size }, name, sizeof name);
	for (const char *c = name; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			abort();
	return 0;
}
