/* failures - auth's room: counts of failed authentications. See failures.h. */
#include "failures.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct place { uint64_t key; deadline_t until; uint32_t count; };   /* free when `until` has passed */
struct failures {
	unsigned char secret[crypto_shorthash_KEYBYTES];
	struct place places[FAILURES_PLACES];
};

enum kind { BY_ADDRESS = 'a', BY_LOGIN = 'l', BY_BOTH = 'b' /* a success */ };

struct failures *failures_new(void)
{
	struct failures *f = calloc(1, sizeof *f);
	if (f != NULL)
		crypto_shorthash_keygen(f->secret);
	return f;
}

void failures_free(struct failures *f)
{
	free(f);
}

static uint64_t key_of(const struct failures *f, enum kind kind, const struct netaddr *client, struct bytes login)
{
	unsigned char text[1 + 1 + 16 + 512], hash[crypto_shorthash_BYTES];
	size_t len = 0, octets = client->family == AF_INET ? 4 : client->family == AF_INET6 ? 8 : 0;
	uint64_t key;
	text[len++] = (unsigned char)kind;
	text[len++] = (unsigned char)(kind == BY_LOGIN ? 0 : octets);
	if (kind != BY_LOGIN) {
		memcpy(text + len, client->octets, octets);
		len += octets;
	}
	if (kind != BY_ADDRESS) {
		size_t n = login.len < 512 ? login.len : 512;
		if (n > 0)
			memcpy(text + len, login.at, n);
		bytes_lower((char *)text + len, n);
		len += n;
	}
	crypto_shorthash(hash, text, len, f->secret);
	memcpy(&key, hash, sizeof key);
	return key;
}

static const struct place *set_of(const struct failures *f, uint64_t key)
{
	return &f->places[key % (FAILURES_PLACES / FAILURES_WAYS) * FAILURES_WAYS];
}

static uint32_t count_of(const struct failures *f, uint64_t key, deadline_t now)
{
	const struct place *set = set_of(f, key);
	for (size_t i = 0; i < FAILURES_WAYS; i++)
		if (set[i].key == key && set[i].until > now)
			return set[i].count;
	return 0;
}

/* The place of this key; else a free one; else the one with the smallest count, which is forgotten. */
static struct place *place_for(struct failures *f, uint64_t key, deadline_t now)
{
	struct place *set = (struct place *)(uintptr_t)set_of(f, key), *best = set;
	for (size_t i = 0; i < FAILURES_WAYS; i++) {
		if (set[i].key == key && set[i].until > now)
			return &set[i];
		uint32_t rank = set[i].until > now ? set[i].count : 0, best_rank = best->until > now ? best->count : 0;
		if (rank < best_rank)
			best = &set[i];
	}
	*best = (struct place){ .key = key };
	return best;
}

static void count_up(struct failures *f, uint64_t key, uint64_t window_ms, deadline_t now)
{
	struct place *place = place_for(f, key, now);
	if (place->until == 0)
		place->until = deadline_in(now, window_ms);
	if (place->count < UINT32_MAX)
		place->count++;
}

uint32_t failures_of(const struct failures *f, const struct netaddr *client, deadline_t now)
{
	return count_of(f, key_of(f, BY_ADDRESS, client, (struct bytes){ NULL, 0 }), now);
}

bool failures_allow(const struct failures *f, const struct failures_limits *limits, const struct netaddr *client, struct bytes login, deadline_t now)
{
	if (limits->per_address > 0 && failures_of(f, client, now) >= limits->per_address)
		return false;
	if (limits->per_login == 0 || login.len == 0 || count_of(f, key_of(f, BY_LOGIN, client, login), now) < limits->per_login)
		return true;
	return count_of(f, key_of(f, BY_BOTH, client, login), now) > 0;
}

void failures_note(struct failures *f, const struct failures_limits *limits, const struct netaddr *client, struct bytes login, bool ok, deadline_t now)
{
	if (!ok) {
		count_up(f, key_of(f, BY_ADDRESS, client, login), limits->window_ms, now);
		if (login.len > 0)
			count_up(f, key_of(f, BY_LOGIN, client, login), limits->window_ms, now);
		return;
	}
	struct place *place = place_for(f, key_of(f, BY_BOTH, client, login), now);
	place->until = deadline_in(now, limits->window_ms);
	place->count = 1;
}
