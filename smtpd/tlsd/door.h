/*
 * door - the process that keeps sessions waiting for smtpd and hands each connection of smtpd's to one of them, with the right to one signature: it has
 * the certificates and everything else that is ready before a client comes, and no key. It reads no octet of a client or of smtpd.
 */
#ifndef SMTPD_TLSD_DOOR_H
#define SMTPD_TLSD_DOOR_H

#include "grants.h"

#include "common/settings.h"

#include <sys/types.h>

struct door_start {
	const struct settings *settings;
	const struct grants *grants;   /* a place for each of tlssessions */
	int listener;
	int signer;        /* chains come from it, sessions' channels go to it */
	int parent;        /* '1' goes there when all is ready; its end is this process's end */
};

/* The process's whole life; returns its exit code. SIGTERM: it takes no more clients and ends; sessions that have one go on. */
int door_live(const struct door_start *start);

#endif
