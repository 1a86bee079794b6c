/* base64 - octets as base64. Room: common. */
#include "base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* A group of so many octets. A line that is full ends when another one follows. */
static void put(struct base64 *b, size_t octets, struct str *out)
{
	uint32_t v = b->group << 8 * (3 - octets);
	char text[4] = { digits[v >> 18 & 63], digits[v >> 12 & 63], octets > 1 ? digits[v >> 6 & 63] : '=', octets > 2 ? digits[v & 63] : '=' };

	if (b->line > 0 && b->column == b->line) {
		str_add(out, LIT("\r\n"));
		b->column = 0;
	}
	str_add(out, (struct bytes){ text, sizeof text });
	b->column += sizeof text;
	b->group = 0;
	b->held = 0;
}

void base64_add(struct base64 *b, struct bytes in, struct str *out)
{
	for (size_t i = 0; i < in.len; i++) {
		b->group = b->group << 8 | (unsigned char)in.at[i];
		if (++b->held == 3)
			put(b, 3, out);
	}
}

void base64_end(struct base64 *b, struct str *out)
{
	if (b->held > 0)
		put(b, b->held, out);
	if (b->line > 0 && b->column > 0)
		str_add(out, LIT("\r\n"));
	*b = (struct base64){ .line = b->line };
}
