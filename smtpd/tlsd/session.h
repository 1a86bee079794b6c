/*
 * session - one process of tlsd that speaks with clients, one after the other: wait for the door, take a client over from smtpd, shake hands, tell smtpd how
 * that went, carry octets; then forget all of it, and tell the door. A session that failed in any way is its last.
 *
 * Before it reads a client's first octet it can open, make and start nothing any more (calls.h): no file, no socket, no process, no new privilege. It has
 * its end of the door's socket, the channel to the signer, which gives it one signature for each client, and while it has one the client's socket, the
 * plaintext and the channel to smtpd; and the socket of the system's log reader, where lines go there. With `once` it gives up the first
 * two as well, and can be given no descriptor (RLIMIT_NOFILE 0).
 */
#ifndef SMTPD_TLSD_SESSION_H
#define SMTPD_TLSD_SESSION_H

#include "context.h"

/* Descriptors that it has whatever else: 0, 1, 2, and these. */
enum { SESSION_DOOR = 3, SESSION_SIGNER = 4, SESSION_LAST = SESSION_SIGNER };

/* Each message to SESSION_DOOR is an octet with a connection of smtpd's; its end is this process's end. SESSION_DONE back: the client is gone, and all of
 * his; on anything else the door lets go of it. */
#define SESSION_DONE 'd'

struct room {
	const struct settings *settings;
	const struct tls_contexts *contexts;
	bool once;                 /* one client, then the process ends */
};

/* The process's whole life; returns its exit code. */
int session_live(const struct room *room);

#endif
