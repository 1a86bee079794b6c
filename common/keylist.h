/*
 * keylist - the line of a LIST setting by its key, in a time that does not grow with the list.
 *
 * A line's key is what stands before its first colon ("=user@example.org:...", "example.org:relay"), or all of it; one that begins
 * with a literal, "[IPv6:2001:db8::1]", has that as its key. ASCII case is ignored. Of several lines with one key the first counts.
 */
#ifndef COMMON_KEYLIST_H
#define COMMON_KEYLIST_H

#include "settings.h"

struct settings_memory;

struct bytes keylist_key(struct bytes line);
struct bytes keylist_value(struct bytes line);   /* what stands behind the key and its colon */

/* Make the index of a list whose lines are complete, in the snapshot's memory. A short list gets none: it is searched line by line.
 * False: no memory. */
bool keylist_index(struct lines *list, struct settings_memory *memory);

/* The line with this key, or list->count. */
size_t keylist_find(const struct lines *list, struct bytes key);

/* The line for a domain: its own, or the one of the longest ".suffix" above it; list->count: none. */
size_t keylist_find_domain(const struct lines *list, struct bytes domain);

#endif
