/*
 * repair - `tappal queue check --repair`: what was found is taken out of queued's way, into quarantine/. Room: queue, as tappal-queue,
 * with queued stopped.
 *
 *   an index that is damaged or contradicts the log   moved; the next start makes it anew from the log
 *   orphans, unknown and damaged files                moved
 *   damaged octets of the log, damaged large bodies   copied; log and file stay as they are
 *   everything else                                   left to a person
 */
#ifndef QUEUE_REPAIR_H
#define QUEUE_REPAIR_H

#include "queue/store/check.h"

struct repair;

/* As root, before the account is left: quarantine/ is there and tappal-queue's, and forgotten reply fifos are gone. Working directory: any. */
void repair_prepare(int spool);
/* Take queued's own lock, and keep it: while we have it no queued is there, nor can one start. Ends the program when one runs. */
struct repair *repair_begin(wall_ms_t now);
/* Remember a finding; nothing is touched while the check reads. */
void repair_note(struct repair *r, const struct check_finding *finding);
/* Do it. `told` is called with the line to print for each thing that was done or could not be. True: nothing failed. */
bool repair_run(struct repair *r, void (*told)(void *context, const char *file, const char *item, const char *why), void *context);
/* The index is among what was set aside. */
bool repair_took_index(const struct repair *r);
void repair_end(struct repair *r);

#endif
