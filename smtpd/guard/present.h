/*
 * present - connections at a time, by address and by network. In memory alone: who is there is known by his socket.
 */
#ifndef SMTPD_GUARD_PRESENT_H
#define SMTPD_GUARD_PRESENT_H

#include "common/netaddr.h"

struct present;

struct present *present_new(size_t most);        /* connections there can be; NULL: no memory */
void present_free(struct present *p);

/* A connection begins; false: more than `most`. It ends: only one that began. */
bool present_enter(struct present *p, const struct netaddr *client);
void present_leave(struct present *p, const struct netaddr *client);

uint64_t present_count(const struct present *p, const struct netaddr *client);           /* from this address */
uint64_t present_count_network(const struct present *p, const struct netaddr *client);   /* from its network */
size_t present_all(const struct present *p);

#endif
