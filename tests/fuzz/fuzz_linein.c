/*
 * fuzz_linein - any octets as a stream. The first says how large a line may be and how the rest is cut; the lines are those of
 * the same stream fed octet by octet, and none of them holds what it must not.
 */
#include <stdlib.h>
#include <string.h>

#include "common/linein.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum line_result next_fn(struct linein *in, size_t max, struct bytes *line_r);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void drain(struct linein *in, next_fn *next, size_t max, struct str *out)
{
	enum line_result r;
	struct bytes line = { 0 };

	while ((r = next(in, max, &line)) != LINE_MORE) {
		str_add_char(out, (char)r);
		if (r == LINE_LONG)
			continue;
		require(line.len <= max && bytes_find(line, '\n') == line.len && bytes_find(line, 0) == line.len);
		require(next == linein_next_lenient || bytes_find(line, '\r') == line.len);
		str_add(out, line);
		str_add_char(out, '\n');
	}
}

static void run(struct bytes stream, next_fn *next, size_t max, size_t room, size_t step, struct str *out)
{
	struct linein in;

	require(linein_init(&in, room));
	while (stream.len) {
		size_t space;
		char *at = linein_space(&in, &space);
		require(space > 0);
		size_t n = step < space ? step : space;
		n = n < stream.len ? n : stream.len;
		memcpy(at, stream.at, n);
		linein_fed(&in, n);
		stream = bytes_slice(stream, n, stream.len);
		drain(&in, next, max, out);
	}
	linein_free(&in);
}

static void compare(struct bytes stream, next_fn *next, size_t max, size_t step)
{
	struct str one = STR_INIT(1 << 24), other = STR_INIT(1 << 24);

	run(stream, next, max, max + 1, 1, &one);
	run(stream, next, max, max + 1 + step, step, &other);
	require(!one.failed && !other.failed && bytes_equal(str_bytes(&one), str_bytes(&other)));
	str_free(&one);
	str_free(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct bytes stream = { (const char *)data + 1, size - 1 };
	size_t max = data[0] & 15u, step = 2u + (data[0] >> 4);

	compare(stream, linein_next, max, step);
	compare(stream, linein_next_lenient, max, step);
	return 0;
}
