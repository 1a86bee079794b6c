/*
 * retrier - fifo/retry: domains of which a client of smtpd wants the mail that waits for them to be tried now (ETRN, RFC 1985). Room: queue (queued).
 *
 * Who writes here speaks for strangers, and may want nothing else: no message is named, nothing is answered. A domain is tried once a minute at
 * most, RETRIER_MAX different ones in a minute; further wishes are let go with a log line. One is carried out after the other, in slices.
 */
#ifndef QUEUE_RETRIER_H
#define QUEUE_RETRIER_H

#include "common/domain.h"
#include "queue/store/store.h"
#include "turn.h"

#define RETRIER_MAX 64u

struct retry { char domain[DOMAIN_MAX + 1]; bool below, waits; deadline_t until; };

struct retrier {
	struct store *store;
	const struct settings *settings;
	int fifo, keep, place;
	struct record_reader in;
	deadline_t complained;
	struct retry retry[RETRIER_MAX];
	struct retry *current;      /* NULL, or the one whose destinations are looked for */
	struct str cursor;          /* behind this destination */
};

bool retrier_open(struct retrier *r, struct store *store, const struct settings *settings);
void retrier_close(struct retrier *r);
void retrier_prepare(struct retrier *r, struct turn *turn);
/* Take wishes, carry a slice out. False: the store is lost. */
bool retrier_run(struct retrier *r, const struct turn *turn, wall_ms_t now);

#endif
