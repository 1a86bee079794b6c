/*
 * keylist - the line of a LIST setting by its key, in a time that does not grow with the list.
 *
 * A line's key is what stands before its first colon ("=user@example.org:...", "example.org:relay"), or all of it; one that begins
 * with a literal, "[IPv6:2001:db8::1]", has that as its key. ASCII case is ignored. Of several lines with one key the first counts.
 */
#ifndef COMMON_KEYLIST_H
#define COMMON_KEYLIST_H

#include "settings.h"

struct bytes keylist_key(struct bytes line);
struct bytes keylist_value(struct bytes line);   /* what stands behind the key and its colon */

/* How many places the index of so many lines needs; 0: none, a short list is searched line by line. */
uint32_t keylist_places(size_t lines);

/* Make the index of a list whose lines are complete, in memory of the caller's that lives as long as the list. */
void keylist_index(struct lines *list, uint32_t *place, uint32_t places);

/* The line with this key, or list->count. */
size_t keylist_find(const struct lines *list, struct bytes key);

/* The line for a domain: its own, or the one of the longest ".suffix" above it; list->count: none. */
size_t keylist_find_domain(const struct lines *list, struct bytes domain);

#endif
