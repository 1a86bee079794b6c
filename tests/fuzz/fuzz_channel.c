/*
 * fuzz_channel - a stream of records from an enemy: framing, every decoder, every printer; what a decoder took is encoded to the same octets.
 */
#include <stdlib.h>
#include <string.h>

#include "common/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

#define RECORD(number, name, ...) \
	static void try_##name(struct bytes payload, struct bytes whole) { \
		struct str out = STR_INIT(2 * RECORD_MAX), shown = STR_INIT(1u << 20); \
		struct name record; \
		if (name##_decode(payload, &record)) { \
			must(name##_encode(&record, &out)); \
			must(whole.len == 0 || bytes_equal(whole, str_bytes(&out))); \
			name##_print(&record, &shown); \
			for (size_t i = 0; i < shown.len; i++) \
				must(shown.at[i] >= 32 && shown.at[i] < 127); \
		} \
		str_free(&out); \
		str_free(&shown); \
	}
#include "common/records.def"
#undef RECORD

static void try_record(const struct record *record, struct bytes whole)
{
	switch (record->type) {
#define RECORD(number, name, ...) case number: try_##name(record->payload, whole); break;
#include "common/records.def"
#undef RECORD
	default: must(strcmp(record_name(record->type), "?") == 0);
	}
}

/* Any octets as the payload of any record: the first octet says which. */
static void try_payload(struct bytes in)
{
	if (in.len == 0)
		return;
	struct record record = { (unsigned char)in.at[0], bytes_slice(in, 1, in.len) };
	try_record(&record, (struct bytes){ NULL, 0 });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { (const char *)data, size }, rest = in;
	struct record record;
	size_t used = 0;
	while (record_take(rest, &record, &used) == RECORD_OK) {
		must(used >= RECORD_HEAD && used <= rest.len);
		try_record(&record, bytes_slice(rest, 0, used));
		rest = bytes_slice(rest, used, rest.len);
	}
	try_payload(in);
	return 0;
}
