/* msgid - common room; ids are given by queued alone and read by all. See msgid.h. */
#include "msgid.h"

#include <string.h>

#define COUNTER_BITS 16u
#define DIGIT_BITS 5u

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

msgid_t msgid_next(msgid_t last, wall_ms_t now)
{
	msgid_t first = now > MSGID_MAX >> COUNTER_BITS ? MSGID_MAX : now << COUNTER_BITS;

	if (first > last)
		return first;
	return last < MSGID_MAX ? last + 1 : MSGID_MAX;
}

wall_ms_t msgid_time(msgid_t id)
{
	return id >> COUNTER_BITS;
}

void msgid_format(msgid_t id, char out[MSGID_TEXT + 1])
{
	out[MSGID_TEXT] = 0;
	for (unsigned i = MSGID_TEXT; i-- > 0; id >>= DIGIT_BITS)
		out[i] = alphabet[id & 31];
}

/* The five bits of a digit, or -1. */
static int digit_of(char c)
{
	char upper = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
	const char *found = upper ? strchr(alphabet, upper) : NULL;

	return found ? (int)(found - alphabet) : -1;
}

bool msgid_parse_prefix(struct bytes text, msgid_t *first_r, msgid_t *last_r)
{
	msgid_t id = 0;

	if (text.len == 0 || text.len > MSGID_TEXT)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		int digit = digit_of(text.at[i]);
		if (digit < 0)
			return false;
		id = id << DIGIT_BITS | (msgid_t)digit;
	}
	unsigned open = (unsigned)(MSGID_TEXT - text.len) * DIGIT_BITS;
	*first_r = id << open;
	*last_r = *first_r | ((UINT64_C(1) << open) - 1);
	return true;
}

bool msgid_parse(struct bytes text, msgid_t *id_r)
{
	msgid_t last;

	return text.len == MSGID_TEXT && msgid_parse_prefix(text, id_r, &last);
}
