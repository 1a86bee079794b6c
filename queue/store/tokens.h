/*
 * tokens - the tokens of messages that the log holds since the last checkpoint, for the adoption of intake files. Room: queue, store.
 *
 * Why since the last checkpoint is enough: an intake file that is in the log already is unlinked, and its directory synced, before
 * the index may commit; so one that is found after a crash was logged, if at all, behind that commit, and the replay meets
 * its token. One generation more is kept: it costs little, and forgives a file that is looked at late.
 */
#ifndef QUEUE_TOKENS_H
#define QUEUE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token { uint64_t a, b; };
struct token_set { struct token *at; size_t room, count; };
struct tokens { struct token_set now, before; };

bool tokens_add(struct tokens *t, uint64_t a, uint64_t b);      /* false: no memory. 0,0 is no token */
bool tokens_has(const struct tokens *t, uint64_t a, uint64_t b);
void tokens_checkpoint(struct tokens *t);
void tokens_free(struct tokens *t);

#endif
