/*
 * lookup - the questions of common/dns.h answered with libunbound, many at a time.
 *
 *   DNS_MAIL      MX; then A and AAAA of every exchanger, all asked at once. No MX: A and AAAA of the domain itself (RFC 5321 5.1). A lone
 *                 exchanger "." takes no mail (RFC 7505); an exchanger that is an address literal or no host name is left out. CNAMEs are
 *                 followed, of the domain and of exchangers.
 *   DNS_ADDRESS   A and AAAA
 *   DNS_REVERSE   PTR; then A and AAAA of every name, all asked at once; a name that can be no host's is left out
 *   DNS_LIST      A; if there is one, TXT
 *
 * One engine per process. Add engine_fd to poll(2), call engine_run when it is readable, engine_expire when engine_deadline has passed: every
 * lookup calls its `done` once, from one of these two. Nothing blocks but the making of an engine. Bounded: LOOKUPS_MAX at a time,
 * LOOKUP_EXCHANGERS each.
 */
#ifndef REMOTE_LOOKUP_H
#define REMOTE_LOOKUP_H

#include "common/settings.h"
#include "common/dns.h"

#define LOOKUPS_MAX 1024
#define LOOKUP_EXCHANGERS 20

struct engine;
struct lookup;

/* `reply` is valid during the call. */
typedef void lookup_done_fn(void *context, uint32_t number, const struct dns_reply *reply);

/* NULL with a sentence in `error`. */
struct engine *engine_new(const struct settings *s, struct str *error);
/* A new context with new settings and an empty cache; lookups that run are asked again. False: all stays as it was. */
bool engine_renew(struct engine *e, const struct settings *s, struct str *error);
void engine_free(struct engine *e);       /* lookups that run end without a call of `done` */

int engine_fd(const struct engine *e);    /* changes with engine_renew */
bool engine_run(struct engine *e);        /* false: libunbound is broken for good, end the process */
deadline_t engine_deadline(const struct engine *e);
void engine_expire(struct engine *e, deadline_t now);

/* Begin. `context` and `number` come back with the answer. False: too many at a time, or no memory; done is not called. */
bool lookup_start(struct engine *e, enum dns_kind kind, struct bytes name, deadline_t now, lookup_done_fn *done, void *context, uint32_t number);
/* Forget all lookups of this context without calling done: its owner goes away. */
void lookup_forget(struct engine *e, const void *context);

#endif
