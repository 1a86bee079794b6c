/*
 * tokens - the tokens of messages that the log holds since the last checkpoint. Room: queue, the store.
 */
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 1024u

/* Tokens are random: their octets are their hash. */
static size_t seat_of(const struct token_set *s, uint64_t a, uint64_t b)
{
	size_t i = (size_t)(a ^ b) & (s->room - 1);
	while ((s->at[i].a | s->at[i].b) != 0 && (s->at[i].a != a || s->at[i].b != b))
		i = (i + 1) & (s->room - 1);
	return i;
}

static bool grow(struct token_set *s)
{
	struct token_set more = { .room = s->room ? 2 * s->room : ROOM_FIRST, .count = s->count };
	more.at = calloc(more.room, sizeof *more.at);
	if (!more.at)
		return false;
	for (size_t i = 0; i < s->room; i++) {
		if ((s->at[i].a | s->at[i].b) != 0)
			more.at[seat_of(&more, s->at[i].a, s->at[i].b)] = s->at[i];
	}
	free(s->at);
	*s = more;
	return true;
}

bool tokens_add(struct tokens *t, uint64_t a, uint64_t b)
{
	struct token_set *s = &t->now;
	if ((a | b) == 0)
		return true;
	if (2 * (s->count + 1) > s->room && !grow(s))
		return false;
	size_t i = seat_of(s, a, b);
	s->count += (s->at[i].a | s->at[i].b) == 0;
	s->at[i] = (struct token){ a, b };
	return true;
}

static bool set_has(const struct token_set *s, uint64_t a, uint64_t b)
{
	if (s->count == 0)
		return false;
	const struct token *found = &s->at[seat_of(s, a, b)];
	return (found->a | found->b) != 0;
}

bool tokens_has(const struct tokens *t, uint64_t a, uint64_t b)
{
	return (a | b) != 0 && (set_has(&t->now, a, b) || set_has(&t->before, a, b));
}

void tokens_checkpoint(struct tokens *t)
{
	struct token_set old = t->before;
	t->before = t->now;
	if (old.count > 0)
		memset(old.at, 0, old.room * sizeof *old.at);
	old.count = 0;
	t->now = old;
}

void tokens_free(struct tokens *t)
{
	free(t->now.at);
	free(t->before.at);
	*t = (struct tokens){ .now = { NULL, 0, 0 } };
}
