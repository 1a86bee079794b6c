/* dnswire - host names out of DNS records. Room: remote (resolver), bytes from strangers. */
#include <string.h>

#include "dnswire.h"

#define NAME_MAX_WIRE 255u

static bool host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* UNSAFE: why the bounds hold: wire.len <= 255, and each label writes as many octets (its text and a dot) as it takes (its length octet and
 * its text), so at most 254 are written before the last dot becomes the NUL. */
bool dnswire_name(struct bytes wire, char out[DNSWIRE_NAME])
{
	size_t at = 0, to = 0;

	out[0] = '\0';
	if (wire.len == 0 || wire.len > NAME_MAX_WIRE)
		return false;
	while (at < wire.len && wire.at[at] != 0) {
		size_t label = (unsigned char)wire.at[at++];

		if (label > 63 || label >= wire.len - at)
			goto bad;
		for (size_t i = 0; i < label; i++) {
			if (!host_char(wire.at[at]))
				goto bad;
			out[to++] = lower(wire.at[at++]);
		}
		out[to++] = '.';
	}
	if (at + 1 != wire.len)
		goto bad;
	out[to > 0 ? to - 1 : 0] = '\0';
	return true;
bad:
	out[0] = '\0';
	return false;
}

void dnswire_text(struct bytes data, char *out, size_t size)
{
	size_t to = 0;

	for (size_t at = 0; at < data.len;) {
		size_t n = (unsigned char)data.at[at++];

		if (n > data.len - at) {
			to = 0;
			break;
		}
		for (; n > 0; n--, at++)
			if (to + 1 < size)
				out[to++] = data.at[at] >= ' ' && data.at[at] < 127 ? data.at[at] : '?';
	}
	out[to] = '\0';
}

bool dnswire_mx(struct bytes data, uint16_t *preference_r, char name_r[DNSWIRE_NAME])
{
	name_r[0] = '\0';
	if (data.len < 3)
		return false;
	*preference_r = (uint16_t)((unsigned char)data.at[0] << 8 | (unsigned char)data.at[1]);
	return dnswire_name(bytes_slice(data, 2, data.len), name_r);
}
