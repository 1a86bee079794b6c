/*
 * fuzz_dotstuff - any octets as a body. The first says how it is cut. What goes on the wire ends with the only dot line there is, has no lone
 * CR or LF, and is what the body gives octet by octet.
 */
#include <stdlib.h>
#include <string.h>

#include "remote/dotstuff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static void run(struct bytes body, size_t step, struct str *out)
{
	struct dotstuff d = { 0 };
	char *room;

	while (body.len > 0) {
		struct bytes piece = bytes_slice(body, 0, step);

		room = str_reserve(out, DOTSTUFF_ROOM(piece.len));
		require(room != NULL);
		str_grew(out, dotstuff_add(&d, piece, room));
		body = bytes_slice(body, piece.len, body.len);
	}
	room = str_reserve(out, DOTSTUFF_END);
	require(room != NULL);
	str_grew(out, dotstuff_end(&d, room));
}

static void check_wire(struct bytes wire)
{
	size_t dots = 0;

	for (size_t i = 0; i < wire.len; i++) {
		bool line_start = i == 0 || wire.at[i - 1] == '\n';

		if (wire.at[i] == '\n')
			require(i > 0 && wire.at[i - 1] == '\r');
		if (wire.at[i] == '\r')
			require(i + 1 < wire.len && wire.at[i + 1] == '\n');
		if (line_start && wire.at[i] == '.' && wire.at[i + 1] == '\r')
			dots++;
	}
	require(dots == 1 && wire.len >= 3 && memcmp(wire.at + wire.len - 3, ".\r\n", 3) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str one = STR_INIT(1 << 24), other = STR_INIT(1 << 24);

	if (size == 0)
		return 0;
	run((struct bytes){ (const char *)data + 1, size - 1 }, 1, &one);
	run((struct bytes){ (const char *)data + 1, size - 1 }, 2u + data[0], &other);
	require(bytes_equal(str_bytes(&one), str_bytes(&other)));
	check_wire(str_bytes(&one));
	str_free(&one);
	str_free(&other);
	return 0;
}
