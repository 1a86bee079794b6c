/*
 * fuzz_trail - any octets as a message's header. The first says how the rest is cut: the Delivered-To: lines found are those of the same
 * octets fed one by one, and none holds a line end.
 */
#include <stdlib.h>

#include "local/trail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void collect(void *context, struct bytes value)
{
	require(value.len < TRAIL_LINE && bytes_find(value, '\n') == value.len);
	str_add(context, value);
	str_add_char(context, '\n');
}

static void run(struct bytes octets, size_t step, struct str *out)
{
	struct trail t;

	trail_init(&t, collect, out);
	while (octets.len > 0) {
		trail_feed(&t, bytes_slice(octets, 0, step));
		octets = bytes_slice(octets, step, octets.len);
	}
	trail_end(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str one = STR_INIT(1 << 22), other = STR_INIT(1 << 22);

	if (size == 0)
		return 0;
	struct bytes octets = { (const char *)data + 1, size - 1 };
	run(octets, 1, &one);
	run(octets, 2u + data[0], &other);
	require(!one.failed && !other.failed && bytes_equal(str_bytes(&one), str_bytes(&other)));
	str_free(&one);
	str_free(&other);
	return 0;
}
