/*
 * fuzz_header - any octets as a message: the header must end somewhere, fields must tile it, and the address reader must answer;
 * what it hands out is a valid canonical address.
 */
#include <stdint.h>
#include <stdlib.h>

#include "local/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool check(void *context, const struct mailaddr *addr)
{
	struct mailaddr again;
	unsigned *count = context;

	if (addr->text.len == 0 || addr->text.len > ADDRESS_MAX || mailaddr_parse(addr->text, &again) != ADDR_OK)
		abort();
	return ++*count < 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes message = { (const char *)data, size }, fields;
	size_t scanned = 0, len = 0, body = 0, offset = 0, sum = 0;
	struct header_field field;
	struct header_fault fault;
	unsigned count = 0;

	if (!header_end(message, true, &scanned, &len, &body) || len > body || body > size)
		abort();
	fields = bytes_slice(message, 0, len);
	while (header_next(fields, &offset, &field))
		sum += field.raw.len;
	if (sum != len)
		abort();
	header_recipients(fields, LIT("here.example"), check, &count, &fault);
	count = 0;
	header_addresses(message, LIT("here.example"), check, &count, &fault);
	return 0;
}
