/*
 * run - one run of one filter program: fork, exec, what it writes, its end. Room: smtpd (filterd).
 *
 *   descriptors   0 the message, 1 the envelope, both read-only; 2 goes to the log; 4 the text of the reply; nothing else is open
 *   it is         in a session and process group of its own, in /, with the environment given and no other, under the limits given; it is killed
 *                 with its starter
 *
 * Nothing here blocks. The process is the caller's to wait for.
 */
#ifndef SMTPD_FILTERD_RUN_H
#define SMTPD_FILTERD_RUN_H

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/bytes.h"

#define RUN_TEXT 400u        /* octets of the reply's text, and of a line for the log */
#define RUN_LOG_LINES 20u    /* of one run; what it writes beyond is dropped */
#define RUN_FDS 3u

struct run {
	pid_t pid;
	int watch, log, text, failure;    /* -1: closed. watch: readable when it has ended; failure: errno of an exec that failed comes here */
	char said[RUN_TEXT + 1], line[RUN_TEXT + 1];
	size_t said_len, line_len;
	bool said_whole;                  /* its first line has come */
	unsigned lines;
	int error;                        /* after run_finish: why it could not be executed; 0: it was */
};

struct run_order {
	char *const *words, *const *environment;
	const char *name;                 /* for log lines */
	int message, envelope;            /* opened anew, so that each run has offsets of its own and cannot write */
	uint64_t memory, seconds;         /* limits: address space (0: none), processor time of each process */
	unsigned processes;               /* of the account */
};

/* 0, or errno: no process. */
int run_start(struct run *r, const struct run_order *order);
void run_prepare(const struct run *r, struct pollfd fds[RUN_FDS]);
/* Take what it has written. */
void run_take(struct run *r, const char *name);
/* End the process and its group. */
void run_kill(const struct run *r);
/* It has ended, or is not waited for: take the rest and close. */
void run_finish(struct run *r, const char *name);

#endif
