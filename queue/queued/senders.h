/*
 * senders - the enqueue processes that queued talks with: for each its intake file and its ack fifo, kept open between its
 * messages. Room: queue (queued). At most SENDERS_MAX at a time; the one that has been silent longest makes room.
 */
#ifndef QUEUE_SENDERS_H
#define QUEUE_SENDERS_H

#include "taking.h"

#define SENDERS_MAX 1024u
#define SENDERS_BUCKETS 1024u
#define SENDERS_WINDOW_MS 10u

struct sender {
	char name[INTAKE_NAME + 1];   /* "" when the place is free */
	int file;                     /* read end, or -1 */
	int ack;                      /* write end, nonblocking */
	uint64_t used;                /* turn of its last offer */
	deadline_t counted;           /* the window it was counted in last */
	uint16_t next;                /* in its bucket, or of the free ones: place + 1; 0 ends */
};

struct senders {
	const struct taking *taking;
	int dir;                      /* intake/ */
	uint64_t turn;                /* senders used in it are not put out */
	deadline_t window;            /* when the current one began: how many are busy at a time is counted in windows of SENDERS_WINDOW_MS */
	uint32_t busy, busy_before;   /* in this one so far; in the one before */
	uint16_t bucket[SENDERS_BUCKETS];
	uint16_t free;
	struct sender at[SENDERS_MAX];
};

void senders_init(struct senders *s, const struct taking *taking, int dir);
void senders_free(struct senders *s);

/* The sender of that (valid) name, opened if need be and marked as used in this turn. NULL with errno; ENXIO, ENOENT: it has gone. Valid until
 * the turn ends. */
struct sender *senders_find(struct senders *s, const char *name);
/* This one offered something at `now`. */
void senders_count(struct senders *s, struct sender *sender, deadline_t now);
/* How many did in the last window: those that another offer can be expected of within it. */
uint32_t senders_busy(const struct senders *s, deadline_t now);
void senders_forget(struct senders *s, struct sender *sender);
/* Forget those who have gone. */
void senders_sweep(struct senders *s);

#endif
