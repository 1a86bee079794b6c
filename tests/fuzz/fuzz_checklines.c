/* fuzz_checklines - any octets as a line of dnslists and of checkexempt: what is taken is within its bounds and points into the line. */
#include <stdlib.h>

#include "common/checklines.h"
#include "common/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static bool is_inside(struct bytes part, struct bytes whole)
{
	return part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes line = { (const char *)data, size };
	struct dnslist l;
	struct exemption e;
	if (dnslist_parse(line, &l)) {
		require(is_inside(l.zone, line) && domain_valid(l.zone, false) && l.weight != 0 && abs(l.weight) <= LIST_WEIGHT_MAX && l.of > 0 && l.of < 16);
		for (size_t i = 0; i < 4; i++)
			require(l.low[i] <= l.high[i]);
		for (unsigned octet = 0; octet < 256; octet++) {
			struct netaddr a = { .family = AF_INET, .octets = { 127, l.low[1], l.low[2], (uint8_t)octet } };
			enum dnslist_meaning meaning = dnslist_meaning(&l, &a);
			require(meaning != LIST_DEAD && (meaning != LISTED || (octet >= l.low[3] && octet <= l.high[3])));
		}
	}
	if (exemption_parse(line, &e)) {
		require(is_inside(e.domain, line) && e.domain.len > 0 && is_inside(e.checks, line));
		(void)exemption_is_of(&e, LIT("checkhelo"));
	}
	return 0;
}
