/*
 * serve - the life of one process of the pool: wait, serve, wait again; and the scoreboard by which the parent knows.
 *
 * The scoreboard is memory shared by all processes of a pool. States are read by the parent as claims: a process that lies harms
 * the pool's size, within its bounds, and nothing else.
 */
#ifndef SMTPD_SERVE_H
#define SMTPD_SERVE_H

#include "smtpd/session/access.h"
#include "pool.h"

#include <stdatomic.h>
#include <sys/types.h>

struct slot {
	_Atomic uint32_t waiting;     /* 1: idle (or about to be), 0: it serves a client */
	_Atomic uint32_t ready;       /* it came as far as waiting for its first client */
};
struct board {
	_Atomic int32_t idle;         /* sum of `waiting`; the parent counts anew and does not rely on it */
	int32_t low;                  /* fewer idle than this: the parent is told */
	struct slot slots[];
};

struct board *board_create(size_t slots, int32_t low);     /* NULL: no memory */
void board_take(struct board *b, size_t slot);             /* parent, before fork */
bool board_release(struct board *b, size_t slot);          /* parent, after its end: had it been ready? */
bool slot_is_waiting(const struct slot *slot);

struct server {
	const struct access *access;
	const struct listeners *listeners;
	struct board *board;
	size_t slot;
	int news;                     /* eventfd to the parent */
	pid_t parent;
};

/* The process's whole life; called with signals blocked. Returns its exit code. */
int serve_connections(const struct server *server);

bool accept_wants_pause(int error);   /* EMFILE, ENFILE, ENOBUFS, ENOMEM: trying at once would only burn time */

#endif
