/*
 * fuzz_mailaddr - any octets as a path, a stored and a raw address. What comes out is canonical: it holds no control octet, both
 * readers take it, and reading it again changes nothing.
 */
#include <stdlib.h>

#include "common/mailaddr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void check_canonical(const struct mailaddr *addr)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr again;

	require(bytes_is_utf8_text(addr->text) && addr->text.len <= ADDRESS_MAX);
	if (addr->kind == ADDR_NULL || addr->kind == ADDR_BARE)
		return;
	require(mailaddr_parse(addr->text, &again) == ADDR_OK && again.kind == addr->kind);
	require(bytes_equal(again.local, addr->local) && bytes_equal(again.domain, addr->domain) && mailaddr_equal(&again, addr));
	require(mailaddr_from_raw(addr->text, &text, &again) == ADDR_OK && bytes_equal(again.text, addr->text));
	str_free(&text);
}

static void check_path(struct bytes in, bool utf8)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	size_t used = 0;

	if (mailaddr_parse_path(in, utf8, &text, &addr, &used) == ADDR_OK) {
		require(used >= 2 && used <= in.len && in.at[used - 1] == '>');
		require(utf8 || !mailaddr_is_utf8(&addr));
		check_canonical(&addr);
	}
	str_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { (const char *)data, size };
	struct str text = STR_INIT(ADDRESS_MAX), local = STR_INIT(LOCALPART_MAX);
	struct mailaddr addr;

	check_path(in, false);
	check_path(in, true);
	if (mailaddr_parse(in, &addr) == ADDR_OK) {
		require(bytes_is_utf8_text(addr.text));
		require(mailaddr_unquote_local(&addr, &local));
		require(mailaddr_from_raw(in, &text, &addr) == ADDR_OK || text.len > ADDRESS_MAX || text.failed);
	}
	if (mailaddr_from_raw(in, &text, &addr) == ADDR_OK)
		check_canonical(&addr);
	str_free(&text);
	str_free(&local);
	return 0;
}
