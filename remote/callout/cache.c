/* cache - remote's room: what callouts found out. See cache.h. */
#include "cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define WAYS 8u

struct row {
	char *key;                    /* and behind its NUL the host, and behind its NUL the text; NULL: free */
	const char *host, *text;
	deadline_t until;
	enum callout_verdict verdict;
};

struct calloutcache { uint64_t seed; size_t sets; struct row *row; };

struct calloutcache *calloutcache_new(uint64_t rows)
{
	struct calloutcache *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->sets = (size_t)((rows + WAYS - 1) / WAYS);
	c->row = calloc(c->sets, WAYS * sizeof *c->row);
	if (c->row == NULL || getrandom(&c->seed, sizeof c->seed, 0) != (ssize_t)sizeof c->seed) {
		calloutcache_free(c);
		return NULL;
	}
	return c;
}

void calloutcache_free(struct calloutcache *c)
{
	for (size_t i = 0; c->row != NULL && i < c->sets * WAYS; i++)
		free(c->row[i].key);
	free(c->row);
	free(c);
}

/* Who could choose keys of one set would only push out what is in it, a callout for each: FNV-1a from a secret start is enough. */
static struct row *set_of(const struct calloutcache *c, struct bytes key)
{
	uint64_t hash = c->seed;
	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.at[i]) * UINT64_C(1099511628211);
	return c->row + (hash ^ hash >> 32) % c->sets * WAYS;
}

static void row_drop(struct row *r)
{
	free(r->key);
	*r = (struct row){ 0 };
}

/* The row of this key, else a free one, else the one that ends first. */
static struct row *place_for(const struct calloutcache *c, struct bytes key)
{
	struct row *set = set_of(c, key), *best = set;
	for (struct row *r = set; r < set + WAYS; r++) {
		if (r->key != NULL && bytes_equal(bytes_of(r->key), key))
			return r;
		if (best->key != NULL && (r->key == NULL || r->until < best->until))
			best = r;
	}
	return best;
}

void calloutcache_keep(struct calloutcache *c, struct bytes key, const struct callout_said *said, deadline_t until, deadline_t now)
{
	struct row *r = place_for(c, key);
	size_t host = strlen(said->host) + 1, text = strlen(said->text) + 1;
	row_drop(r);
	if (deadline_passed(until, now) || (r->key = malloc(key.len + 1 + host + text)) == NULL)
		return;
	/* UNSAFE: exactly as long as what is put into it */
	memcpy(r->key, key.at, key.len);
	r->key[key.len] = '\0';
	r->host = memcpy(r->key + key.len + 1, said->host, host);
	r->text = memcpy(r->key + key.len + 1 + host, said->text, text);
	r->until = until;
	r->verdict = said->verdict;
}

bool calloutcache_find(const struct calloutcache *c, struct bytes key, deadline_t now, struct callout_said *said_r)
{
	struct row *set = set_of(c, key);
	for (struct row *r = set; r < set + WAYS; r++) {
		if (r->key == NULL || !bytes_equal(bytes_of(r->key), key))
			continue;
		if (deadline_passed(r->until, now)) {
			row_drop(r);
			return false;
		}
		said_r->verdict = r->verdict;
		return bytes_to_cstring(bytes_of(r->host), said_r->host, sizeof said_r->host) && bytes_to_cstring(bytes_of(r->text), said_r->text, sizeof said_r->text);
	}
	return false;
}
