/*
 * fuzz_limits - a line of `limits`, and one of a list of clients: what was taken is within its bounds, and fits whom it names.
 */
#include <stdlib.h>

#include "common/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes line = { (const char *)data, size };
	struct lines list = { .at = &line, .count = 1 };
	struct netaddr client = { .family = AF_INET, .octets = { 192, 0, 2, 1 } };
	struct limit l;
	const char *why = NULL;
	if (limit_parse(line, &l, &why)) {
		must(l.subject < LIMIT_SUBJECTS && l.what < LIMIT_WHATS);
		must(l.none ? l.count == 0 && l.window_s == 0 : l.count > 0 && (l.window_s > 0 || l.what == LIMIT_CONNECTIONS));
		must(l.who.len == 0 || (l.who.at >= line.at && l.who.at + l.who.len <= line.at + line.len));
		unsigned fits = limit_fits(&l, l.who, l.who.len > 0 && l.subject <= LIMIT_NETWORK ? &l.block.base : &client);
		must(fits > 0 || (l.subject == LIMIT_DOMAIN && l.who.at[0] == '.'));
	} else {
		must(why != NULL);
	}
	if (clientlist_line_valid(line))
		(void)clientlist_has(&list, &client, LIT("mx.example.org"));
	return 0;
}
