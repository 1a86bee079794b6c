/* present - guard's room: connections at a time. See present.h. */
#include "present.h"

#include <stdlib.h>
#include <string.h>

#include "common/limits.h"

#define NONE UINT32_MAX

struct place { struct netaddr who; uint32_t count, next; };

/* One for addresses, one for networks: places in chains, and a chain of free ones. No more than `most` are ever in use. */
struct crowd { struct place *place; uint32_t *chain; uint32_t free; };
struct present { size_t most, all; struct crowd address, network; };

static bool crowd_init(struct crowd *c, size_t most)
{
	c->place = calloc(most, sizeof *c->place);
	c->chain = malloc(most * sizeof *c->chain);
	if (c->place == NULL || c->chain == NULL)
		return false;
	for (size_t i = 0; i < most; i++) {
		c->chain[i] = NONE;
		c->place[i].next = i + 1 < most ? (uint32_t)(i + 1) : NONE;
	}
	c->free = 0;
	return true;
}

static void crowd_free(struct crowd *c)
{
	free(c->place);
	free(c->chain);
}

struct present *present_new(size_t most)
{
	struct present *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->most = most;
	if (crowd_init(&p->address, most) && crowd_init(&p->network, most))
		return p;
	present_free(p);
	return NULL;
}

void present_free(struct present *p)
{
	if (p == NULL)
		return;
	crowd_free(&p->address);
	crowd_free(&p->network);
	free(p);
}

/* A chain is as long as its clients make it, and there are no more of them than connections: the worst case is `most` steps. */
static uint32_t *chain_of(const struct present *p, const struct crowd *c, const struct netaddr *who)
{
	uint64_t h = (uint64_t)who->family;
	for (size_t i = 0; i < sizeof who->octets; i++)
		h = (h ^ who->octets[i]) * 1099511628211u;
	return &c->chain[(h >> 20) % p->most];
}

/* The link that leads to its place, or to the end of its chain. */
static uint32_t *find(const struct present *p, const struct crowd *c, const struct netaddr *who)
{
	uint32_t *link = chain_of(p, c, who);
	while (*link != NONE && (c->place[*link].who.family != who->family || memcmp(c->place[*link].who.octets, who->octets, sizeof who->octets) != 0))
		link = &c->place[*link].next;
	return link;
}

static void enter(const struct present *p, struct crowd *c, const struct netaddr *who)
{
	uint32_t *link = find(p, c, who);
	if (*link == NONE) {
		uint32_t place = c->free;
		c->free = c->place[place].next;
		c->place[place] = (struct place){ .who = *who, .next = NONE };
		*link = place;
	}
	c->place[*link].count++;
}

static void leave(const struct present *p, struct crowd *c, const struct netaddr *who)
{
	uint32_t *link = find(p, c, who), place = *link;
	if (place == NONE || --c->place[place].count > 0)
		return;
	*link = c->place[place].next;
	c->place[place].next = c->free;
	c->free = place;
}

bool present_enter(struct present *p, const struct netaddr *client)
{
	struct netaddr network = limits_network(client);
	if (p->all >= p->most)
		return false;
	p->all++;
	enter(p, &p->address, client);
	enter(p, &p->network, &network);
	return true;
}

void present_leave(struct present *p, const struct netaddr *client)
{
	struct netaddr network = limits_network(client);
	p->all--;
	leave(p, &p->address, client);
	leave(p, &p->network, &network);
}

static uint64_t count(const struct present *p, const struct crowd *c, const struct netaddr *who)
{
	uint32_t place = *find(p, c, who);
	return place == NONE ? 0 : c->place[place].count;
}

uint64_t present_count(const struct present *p, const struct netaddr *client)
{
	return count(p, &p->address, client);
}

uint64_t present_count_network(const struct present *p, const struct netaddr *client)
{
	struct netaddr network = limits_network(client);
	return count(p, &p->network, &network);
}

size_t present_all(const struct present *p)
{
	return p->all;
}
