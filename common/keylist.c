/* keylist - room: common. See keylist.h. Open addressing; a place holds the number of a line from 1, 0 is free. */
#include "keylist.h"

#include <string.h>

#define SHORT_LIST 16u      /* as fast without */
#define LONG_LIST (UINT32_MAX / 4)

struct bytes keylist_key(struct bytes line)
{
	bool literal = line.len > 0 && line.at[0] == '[';
	size_t end = bytes_find(line, literal ? ']' : ':');
	return bytes_slice(line, 0, literal && end < line.len ? end + 1 : end);
}

struct bytes keylist_value(struct bytes line)
{
	return bytes_slice(line, keylist_key(line).len + 1, line.len);
}

/* FNV-1a, of the lower case. The keys are the administrator's, so nobody can choose them to collide. */
static uint32_t hash(struct bytes key)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < key.len; i++) {
		unsigned char c = (unsigned char)key.at[i];
		h = (h ^ (c >= 'A' && c <= 'Z' ? c | 0x20u : c)) * 16777619u;
	}
	return h ^ h >> 16;
}

/* The place of the line with this key, or the free one where it belongs. */
static uint32_t *place_of(const struct lines *list, struct bytes key)
{
	uint32_t mask = list->places - 1, i = hash(key) & mask;
	while (list->place[i] != 0 && !bytes_equal_nocase(keylist_key(list->at[list->place[i] - 1]), key))
		i = (i + 1) & mask;
	return &list->place[i];
}

uint32_t keylist_places(size_t lines)
{
	uint32_t places = 4 * SHORT_LIST;
	if (lines <= SHORT_LIST || lines > LONG_LIST)
		return 0;
	while (places < 2 * lines)
		places *= 2;
	return places;
}

void keylist_index(struct lines *list, uint32_t *place, uint32_t places)
{
	memset(place, 0, places * sizeof *place);
	list->place = place;
	list->places = places;
	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t *at = place_of(list, keylist_key(list->at[i]));
		if (*at == 0)
			*at = i + 1;
	}
}

static size_t search(const struct lines *list, struct bytes key)
{
	size_t i = 0;
	while (i < list->count && !bytes_equal_nocase(keylist_key(list->at[i]), key))
		i++;
	return i;
}

size_t keylist_find(const struct lines *list, struct bytes key)
{
	if (list->places == 0)
		return search(list, key);
	uint32_t place = *place_of(list, key);
	return place != 0 ? place - 1 : list->count;
}

size_t keylist_find_domain(const struct lines *list, struct bytes domain)
{
	size_t found = keylist_find(list, domain);
	for (size_t dot = 1; dot < domain.len && found == list->count; dot++)
		if (domain.at[dot] == '.')
			found = keylist_find(list, bytes_slice(domain, dot, domain.len));
	return found;
}
