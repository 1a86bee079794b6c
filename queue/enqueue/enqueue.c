/*
 * enqueue - accept one message into the queue, or leave no trace.
 *   runs as   tappal-intake (set-uid and set-gid), cwd the spool
 *   in        fd 0 message, fd 1 envelope; -s: records of a session on fd 0, answers on fd 1
 *   writes    its own file in intake/, one fifo record     never   opens a socket, exec, databases, locks of others, environment
 *   exit      0 queued | 11-40 permanent | 51-99 temporary (common/exits.h)
 *   killed    at worst state Q1 (docs/QUEUE.md): the client was told nothing
 *
 * One shot is qmail-queue's contract: the message is read to its end, then the envelope. A bare LF becomes CRLF, and a last line
 * without its end gets one (enqueue_once.c). -s is smtpd's, which runs as the caller under `sendmail -bs`: then it is believed no more
 * than any user (enqueue_session.c).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/paths.h"
#include "common/priv.h"
#include "common/verdict.h"
#include "enqueue.h"

static int complain(enum enqueue_exit code, const char *sentence) {
	dprintf(2, "enqueue: %s\n", sentence);
	return code;
}

static int finish(enum enqueue_exit code) {
	struct outcome outcome = outcome_of_enqueue(code);
	if (code != ENQ_OK)
		dprintf(2, "enqueue: not queued: %.*s\n", (int)outcome.text.len, outcome.text.at ? outcome.text.at : "");
	return code;
}

/* What a terminal sends must not leave a file behind; nor may it suspend the process. */
static void ignore_terminal(void) {
	static const int signals[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGHUP };
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_IGN);
}

int main(int argc, char **argv) {
	struct caller caller;
	int took_effect = 0;
	uid_t uid = priv_setuid_start(ACCOUNT_INTAKE, &took_effect);
	if (!took_effect)
		return complain(ENQ_NO_SPOOL, "set-uid has no effect here (NoNewPrivileges, or a file system mounted nosuid): cannot reach the spool");
	bool session = argc == 2 && strcmp(argv[1], "-s") == 0;
	if (argc > 1 && !session)
		return complain(ENQ_BAD_CONFIG, "usage: enqueue [-s]");
	ignore_terminal();
	umask(0);
	if (chdir(path_spool) < 0)
		return complain(ENQ_NO_SPOOL, "cannot enter the spool; `make install` makes it");
	if (!caller_find(uid, &caller))
		return complain(ENQ_BAD_CONFIG, "cannot read /etc/passwd, so it is not known who calls");
	if (session)
		return (int)enqueue_session(&caller);
	return finish(enqueue_once(&caller));
}
