/*
 * session - one process of tlsd for one client: wait for smtpd, take the client over, shake hands, tell smtpd how that went, carry octets.
 *
 * Before it reads the client's first octet it can open, make and start nothing any more: no descriptor (RLIMIT_NOFILE 0), no process, no new
 * privilege. It has the client's socket, the plaintext, the channel to smtpd and the one to the signer, which gives it one signature.
 */
#ifndef SMTPD_TLSD_SESSION_H
#define SMTPD_TLSD_SESSION_H

#include "context.h"

#include "common/service.h"

struct room {
	const struct settings *settings;
	const struct tls_contexts *contexts;
	const struct askers *askers;
	int listener;
	int life;                  /* ends when the door wants no idle processes any more */
	int news;                  /* this process's id goes here when it has got a client */
	int signer;
};

/* The process's whole life; returns its exit code. */
int session_live(const struct room *room);

#endif
