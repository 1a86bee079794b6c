/*
 * submit - see submit.h. Room: local, the caller's own uid. Starts enqueue, which becomes tappal-intake by itself.
 */
#include "submit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/netaddr.h"
#include "common/paths.h"
#include "common/settings.h"

/* In the child: message on fd 0, envelope on fd 1 (qmail-queue's contract). What enqueue would say, its exit code says, too; and
 * that the first way is closed is no news when the second one is open. */
static void exec_enqueue(int message, int envelope)
{
	char path[512];
	char *const argv[] = { (char[]){ "enqueue" }, NULL };
	int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (quiet < 0 || dup2(message, 0) < 0 || dup2(envelope, 1) < 0 || dup2(quiet, 2) < 0 || snprintf(path, sizeof(path), "%s/enqueue", path_libexec) >= (int)sizeof(path))
		_exit(ENQ_BUG);
	execv(path, argv);
	/* No enqueue to run is no way to the spool: the other way may be open. */
	_exit(ENQ_NO_SPOOL);
}

/* Run enqueue: its exit code, or -1 when it was stopped by a signal or could not be started. */
static int run_enqueue(int message, struct bytes envelope)
{
	int ends[2], status;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	child = fork();
	if (child < 0) {
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	if (child == 0)
		exec_enqueue(message, ends[0]);
	close(ends[0]);
	/* A write that fails leaves the envelope without its end: enqueue refuses it. Its exit code says why. */
	(void)io_write_full(ends[1], envelope.at, envelope.len);
	close(ends[1]);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Where this host's smtpd listens: the first entry of smtpdlisten, at the loopback address when that means every address. */
static struct netaddr smtp_address(const struct settings *s)
{
	static const uint8_t zero[16];
	struct netaddr to = { .family = 0 };

	for (size_t i = 0; s != NULL && i < s->smtpdlisten.count && to.family == 0; i++)
		if (!netaddr_parse_listen(s->smtpdlisten.at[i], &to))
			to.family = 0;
	if (to.port == 0)
		to.port = 25;
	if (to.family == 0 || memcmp(to.octets, zero, sizeof(zero)) == 0)
		to = (struct netaddr){ .family = AF_INET, .octets = { 127, 0, 0, 1 }, .port = to.port };
	return to;
}

static void submit_locally(int message, struct bytes raw, struct submit_answer *answer)
{
	struct settings settings;
	struct envelope envelope;
	struct str faults = STR_INIT(4096);
	bool loaded = settings_load(&settings, path_etc, USED_SMTPD, &faults);
	struct netaddr to = smtp_address(loaded ? &settings : NULL);

	str_free(&faults);
	if (envelope_parse(raw, &envelope) != ENV_OK) {
		answer->verdict = V_PERM;
		str_add_c(&answer->text, "the envelope is not valid");
	} else {
		submit_smtp(message, &envelope, loaded ? settings.me : LIT("localhost"), &to, answer);
	}
	if (loaded)
		settings_free(&settings);
}

void submit_message(int message, struct bytes envelope, struct submit_answer *answer_r)
{
	int code;

	*answer_r = (struct submit_answer){ .verdict = V_TEMP, .text = STR_INIT(4096) };
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	code = run_enqueue(message, envelope);
	if (code == ENQ_NO_SPOOL && lseek(message, 0, SEEK_SET) == 0) {
		submit_locally(message, envelope, answer_r);
		return;
	}
	if (code < 0) {
		str_addf(&answer_r->text, "%s/enqueue could not be run or was stopped", path_libexec);
		return;
	}
	answer_r->verdict = verdict_of_enqueue(code);
	answer_r->bad_address = code == ENQ_BAD_ADDRESS;
	if (answer_r->verdict != V_OK)
		str_add(&answer_r->text, outcome_of_enqueue(code).text);
}
