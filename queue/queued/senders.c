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
	for (size_t i = 0; i < SENDERS_MAX; i++)
		fds[i] = (struct pollfd){ .fd = s->at[i].name[0] ? s->at[i].ack : -1 };
	if (poll(fds, SENDERS_MAX, 0) <= 0)
		return;
	for (size_t i = 0; i < SENDERS_MAX; i++)
		if (fds[i].revents && s->at[i].used != s->turn)
			senders_forget(s, &s->at[i]);
}

static void make_room(struct senders *s) {
	struct sender *oldest = NULL;
	senders_sweep(s);
	if (s->free)
		return;
	for (size_t i = 0; i < SENDERS_MAX; i++)
		if (s->at[i].used != s->turn && (!oldest || s->at[i].used < oldest->used))
			oldest = &s->at[i];
	if (oldest)
		senders_forget(s, oldest);
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
	int error = errno;
	close(sender->ack);
	sender->ack = -1;
	errno = error;
	return false;
}

static struct sender *add(struct senders *s, const char *name) {
	if (!s->free)
		make_room(s);
	if (!s->free) {
		errno = EMFILE;
		return NULL;
	}
	struct sender *sender = &s->at[s->free - 1];
	uint16_t place = s->free, after = sender->next, *bucket = bucket_of(s, name);
	if (!open_sender(s, sender, name))
		return NULL;
	memcpy(sender->name, name, INTAKE_NAME + 1);
	s->free = after;
	sender->next = *bucket;
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
