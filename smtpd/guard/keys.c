/* keys - guard's room: what rows stand under. See keys.h. */
#include "keys.h"

#include <stdio.h>
#include <string.h>

#include "common/limits.h"

#define TEXT_MAX 330u             /* of each text; the rest of a longer one does not tell them apart */

uint64_t keys_of(const struct keys *k, unsigned subject, unsigned what, uint32_t window_s, const struct bytes text[3])
{
	unsigned char in[6 + 3 * (TEXT_MAX + 2)], hash[crypto_shorthash_BYTES];
	size_t len = 0;
	uint64_t key;
	in[len++] = (unsigned char)subject;
	in[len++] = (unsigned char)what;
	for (unsigned i = 0; i < 4; i++)
		in[len++] = (unsigned char)(window_s >> (8 * i));
	for (size_t i = 0; i < 3; i++) {
		size_t n = text[i].len < TEXT_MAX ? text[i].len : TEXT_MAX;
		in[len++] = (unsigned char)n;
		in[len++] = (unsigned char)(n >> 8);
		if (n > 0)
			memcpy(in + len, text[i].at, n);
		len += n;
	}
	crypto_shorthash(hash, in, len, k->secret);
	memcpy(&key, hash, sizeof key);
	return key;
}

struct bytes keys_address(const struct netaddr *client, bool network, char out[NETADDR_TEXT + 4])
{
	char text[NETADDR_TEXT];
	struct netaddr base = network ? limits_network(client) : *client;
	netaddr_format(&base, text);
	snprintf(out, NETADDR_TEXT + 4, "%s%s", text, !network ? "" : client->family == AF_INET ? "/24" : "/64");
	return bytes_of(out);
}

struct bytes keys_client(const struct netaddr *client, char out[NETADDR_TEXT + 4])
{
	return keys_address(client, client->family == AF_INET6, out);
}

void keys_name(struct row *row, struct bytes name)
{
	row->name_len = (uint8_t)(name.len < ROW_NAME_MAX ? name.len : ROW_NAME_MAX);
	if (row->name_len > 0)
		memcpy(row->name, name.at, row->name_len);
}
