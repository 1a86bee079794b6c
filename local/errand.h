/*
 * errand - one job of local: read it, deliver it, answer it. Room: local (as the recipient).
 *
 * A job comes on fd 0 as job, its job_rcpt records, job_mailbox and then the body, raw; for each recipient one result goes out
 * on fd 1, then job_done. Each recipient gets a copy of its own. The body is always read to its end, so that the next job can
 * follow, whatever became of this one.
 *
 * A file in a Maildir has lines that end with LF, and a binary message has octets that are no lines: it is converted (common/downgrade.h).
 */
#ifndef LOCAL_ERRAND_H
#define LOCAL_ERRAND_H

#include "common/channel.h"
#include "common/msgid.h"
#include "maildir.h"

#define ERRAND_RCPT_MAX 1000u

struct errand_rcpt { uint32_t index; size_t at, len; /* of its address in `text` */ };

struct errand {
	struct record_reader in;
	struct str out;
	struct str text;             /* the sender, then the addresses */
	const char *home;            /* its path; the working directory while a job is delivered */
	bool may_create;             /* a virtual mailbox: a missing home is made */
	int home_fd;                 /* -1: not entered */
	struct bytes host;
	struct maildir_seen seen;

	uint64_t job;
	msgid_t id;
	wall_ms_t arrival;
	bool binary;                 /* BODY=BINARYMIME: to be converted */
	uint64_t left;               /* octets of the body not yet read */
	size_t sender_len;
	uint32_t rcpt_count;
	struct errand_rcpt *rcpts;
};

void errand_init(struct errand *e, const char *home, bool may_create, struct bytes host);

/* One job: 1 done, 0 no more jobs come, -1 spawn is gone or makes no sense: end the process. Blocks. */
int errand_run(struct errand *e);

#endif
