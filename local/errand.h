/*
 * errand - one job of local: read it, deliver it, answer it. Room: local (as the recipient).
 *
 * A job comes on fd 0 as job, its job_rcpt records, job_mailbox, for a virtual mailbox job_home, and then the body, raw; for each recipient one result goes out
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
#define ERRAND_HOME_MAX 512u      /* with NUL */
#define ERRAND_SEEN 64u

struct errand_rcpt { uint32_t index; size_t at, len; /* of its address in `text` */ };

struct errand {
	struct record_reader in;
	struct str out;
	struct str text;             /* the sender, then the addresses */
	char home[ERRAND_HOME_MAX];  /* its path; the working directory while a job is delivered */
	bool is_virtual;             /* each job names its home, and a missing one is made */
	int home_fd;                 /* -1: not entered */
	struct bytes host;
	struct maildir_seen seen[ERRAND_SEEN];   /* by a hash of the home's path */

	uint64_t job;
	msgid_t id;
	wall_ms_t arrival;
	bool binary;                 /* BODY=BINARYMIME: to be converted */
	uint64_t left;               /* octets of the body not yet read */
	size_t sender_len;
	uint32_t rcpt_count;
	struct errand_rcpt *rcpts;
};

/* home: of all jobs, shorter than ERRAND_HOME_MAX; NULL: virtual mailboxes, of which each job names its own. */
void errand_init(struct errand *e, const char *home, struct bytes host);

/* One job: 1 done, 0 no more jobs come, -1 spawn is gone or makes no sense: end the process. Blocks. */
int errand_run(struct errand *e);

#endif
