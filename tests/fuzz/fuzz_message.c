/*
 * fuzz_message - any octets as message data: the end is where CRLF.CRLF is and nowhere else, a message without a fault holds no bare CR or LF and no NUL,
 * and no result depends on how the octets were cut (the first one says how).
 */
#include <stdlib.h>
#include <string.h>

#include "smtpd/session/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

static size_t end_by_definition(struct bytes in)
{
	for (size_t i = 0; i + 3 <= in.len; i++)
		if (memcmp(in.at + i, ".\r\n", 3) == 0 && (i == 0 || (i >= 2 && memcmp(in.at + i - 2, "\r\n", 2) == 0)))
			return i + 3;
	return 0;
}

static void run(struct bytes in, size_t step, struct message *m, struct str *kept, size_t *end_r)
{
	size_t total = 0;
	*end_r = 0;
	message_begin(m, 500, 5);
	while (total < in.len && *end_r == 0) {
		struct bytes piece = bytes_slice(in, total, total + step), view;
		size_t used;
		enum scan_result result = message_scan(m, piece, &view, &used);
		require(used > 0 && used <= piece.len && (result != SCAN_MORE || used == piece.len));
		require(view.len == 0 || (view.at >= piece.at && view.at + view.len <= piece.at + used));
		str_add(kept, view);
		total += used;
		if (result == SCAN_END)
			*end_r = total;
	}
}

static void check_clean(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++) {
		require(b.at[i] != 0);
		require(b.at[i] != '\n' || (i > 0 && b.at[i - 1] == '\r'));
		require(b.at[i] != '\r' || i + 1 == b.len || b.at[i + 1] == '\n');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message a, b;
	struct str kept_a = STR_INIT(1 << 24), kept_b = STR_INIT(1 << 24);
	size_t end_a, end_b;
	if (size == 0)
		return 0;
	struct bytes in = { (const char *)data + 1, size - 1 };
	run(in, SIZE_MAX - in.len, &a, &kept_a, &end_a);
	run(in, 1u + data[0], &b, &kept_b, &end_b);
	require(end_a == end_b && end_a == end_by_definition(in));
	require(a.faults == b.faults && a.hops == b.hops && strcmp(a.message_id, b.message_id) == 0);
	if (a.faults == 0) {
		require(a.size == b.size && a.size == kept_a.len && bytes_equal(str_bytes(&kept_a), str_bytes(&kept_b)));
		check_clean(str_bytes(&kept_a));
	}
	str_free(&kept_a);
	str_free(&kept_b);
	return 0;
}
