/* pace - remote's room: callouts at a time and a minute. See pace.h. */
#include "pace.h"

#include <stdlib.h>

struct place {
	char key[PACE_KEY_MAX + 1];
	uint64_t here, count;
	deadline_t until;             /* of the minute; 0: the place is free */
};

struct pace { size_t places; struct place *place; };

struct pace *pace_new(size_t places)
{
	struct pace *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->places = places;
	p->place = calloc(places, sizeof *p->place);
	if (p->place == NULL) {
		free(p);
		return NULL;
	}
	return p;
}

void pace_free(struct pace *p)
{
	free(p->place);
	free(p);
}

static bool is_free(const struct place *at, deadline_t now)
{
	return at->until == 0 || (at->here == 0 && deadline_passed(at->until, now));
}

static struct place *find(const struct pace *p, struct bytes key)
{
	for (size_t i = 0; i < p->places; i++)
		if (p->place[i].until != 0 && bytes_equal(bytes_of(p->place[i].key), key))
			return &p->place[i];
	return NULL;
}

static struct place *find_free(const struct pace *p, deadline_t now)
{
	for (size_t i = 0; i < p->places; i++)
		if (is_free(&p->place[i], now))
			return &p->place[i];
	return NULL;
}

enum pace_result pace_may(const struct pace *p, struct bytes key, const struct pace_limit *limit, deadline_t now)
{
	const struct place *at = find(p, key);
	if (at == NULL)
		return key.len <= PACE_KEY_MAX && find_free(p, now) != NULL ? PACE_GO : PACE_OVER;
	if (!deadline_passed(at->until, now) && at->count >= limit->a_minute)
		return PACE_OVER;
	return at->here >= limit->at_a_time ? PACE_WAIT : PACE_GO;
}

void pace_enter(struct pace *p, struct bytes key, deadline_t now)
{
	struct place *at = find(p, key);
	if (at == NULL && (at = find_free(p, now)) != NULL) {
		*at = (struct place){ 0 };
		(void)bytes_to_cstring(key, at->key, sizeof at->key);
	}
	if (at == NULL)
		return;
	if (at->until == 0 || deadline_passed(at->until, now)) {
		at->until = deadline_in(now, MINUTE_MS);
		at->count = 0;
	}
	at->count++;
	at->here++;
}

void pace_leave(struct pace *p, struct bytes key)
{
	struct place *at = find(p, key);
	if (at != NULL && at->here > 0)
		at->here--;
}
