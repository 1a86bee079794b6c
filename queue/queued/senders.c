/* senders - room: queue (queued). See senders.h. */
#include "senders.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"

/* Names are random already: any of their characters will do. */
static uint16_t *bucket_of(struct senders *s, const char *name) {
	uint32_t hash = 0;
	for (size_t i = 0; i < 8; i++)
		hash = hash * 33 + (unsigned char)name[i];
	return &s->bucket[hash % SENDERS_BUCKETS];
}

static uint16_t place_of(const struct senders *s, const struct sender *sender) {
	return (uint16_t)(sender - s->at + 1);
}

void senders_init(struct senders *s, const struct taking *taking, int dir) {
	memset(s, 0, sizeof(*s));
	s->taking = taking;
	s->dir = dir;
	for (uint16_t i = 0; i < SENDERS_MAX; i++)
		s->at[i] = (struct sender){ .file = -1, .ack = -1, .next = i + 1u < SENDERS_MAX ? (uint16_t)(i + 2) : 0 };
	s->free = 1;
}

void senders_forget(struct senders *s, struct sender *sender) {
	uint16_t *link = bucket_of(s, sender->name), place = place_of(s, sender);
	while (*link && *link != place)
		link = &s->at[*link - 1].next;
	if (*link)
		*link = sender->next;
	if (sender->file >= 0)
		close(sender->file);
	if (sender->ack >= 0)
		close(sender->ack);
	*sender = (struct sender){ .file = -1, .ack = -1, .next = s->free };
	s->free = place;
}

void senders_free(struct senders *s) {
	for (size_t i = 0; i < SENDERS_MAX; i++)
		if (s->at[i].name[0])
			senders_forget(s, &s->at[i]);
}

void senders_sweep(struct senders *s) {
	struct pollfd fds[SENDERS_MAX];
	uint16_t place[SENDERS_MAX];
	nfds_t count = 0;
	for (uint16_t i = 0; i < SENDERS_MAX; i++) {
		if (!s->at[i].name[0])
			continue;
		fds[count] = (struct pollfd){ .fd = s->at[i].ack };
		place[count++] = i;
	}
	if (poll(fds, count, 0) <= 0)
		return;
	for (nfds_t i = 0; i < count; i++)
		if (fds[i].revents && s->at[place[i]].used != s->turn)
			senders_forget(s, &s->at[place[i]]);
}

/* False: all are in use in this turn. */
static bool forget_oldest(struct senders *s) {
	struct sender *oldest = NULL;
	for (size_t i = 0; i < SENDERS_MAX; i++)
		if (s->at[i].name[0] && s->at[i].used != s->turn && (!oldest || s->at[i].used < oldest->used))
			oldest = &s->at[i];
	if (oldest)
		senders_forget(s, oldest);
	return oldest != NULL;
}

static void make_room(struct senders *s) {
	senders_sweep(s);
	if (!s->free)
		forget_oldest(s);
}

static bool open_sender(const struct senders *s, struct sender *sender, const char *name) {
	char ack[INTAKE_ACK_NAME + 1];
	intake_ack_name(name, ack);
	sender->ack = io_open_fifo_write(s->dir, ack);
	if (sender->ack < 0)
		return false;
	sender->file = taking_open(s->taking, s->dir, name);
	if (sender->file >= 0)
		return true;
	io_close(&sender->ack);
	return false;
}

/* When descriptors have run out, those who are silent give theirs. */
static bool open_somehow(struct senders *s, struct sender *sender, const char *name) {
	while (!open_sender(s, sender, name))
		if ((errno != EMFILE && errno != ENFILE) || !forget_oldest(s))
			return false;
	return true;
}

static struct sender *add(struct senders *s, const char *name) {
	struct sender opened = { .file = -1, .ack = -1 };
	if (!s->free)
		make_room(s);
	if (!s->free) {
		errno = EMFILE;
		return NULL;
	}
	if (!open_somehow(s, &opened, name))
		return NULL;
	uint16_t place = s->free, *bucket = bucket_of(s, name);
	struct sender *sender = &s->at[place - 1];
	s->free = sender->next;
	memcpy(opened.name, name, INTAKE_NAME + 1);
	opened.next = *bucket;
	*sender = opened;
	*bucket = place;
	return sender;
}

struct sender *senders_find(struct senders *s, const char *name) {
	struct sender *found = NULL;
	for (uint16_t place = *bucket_of(s, name); place && !found; place = s->at[place - 1].next)
		if (memcmp(s->at[place - 1].name, name, INTAKE_NAME) == 0)
			found = &s->at[place - 1];
	if (!found)
		found = add(s, name);
	if (found)
		found->used = s->turn;
	return found;
}

/* ---- how many are busy ---- */

void senders_count(struct senders *s, struct sender *sender, deadline_t now) {
	if (now - s->window >= SENDERS_WINDOW_MS) {
		s->busy_before = now - s->window < 2 * SENDERS_WINDOW_MS ? s->busy : 0;
		s->busy = 0;
		s->window = now;
	}
	s->busy += sender->counted != s->window;
	sender->counted = s->window;
}

uint32_t senders_busy(const struct senders *s, deadline_t now) {
	if (now - s->window >= 2 * SENDERS_WINDOW_MS)
		return 0;
	return s->busy > s->busy_before ? s->busy : s->busy_before;
}
