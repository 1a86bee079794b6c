/*
 * local - deliver to one user's Maildir; a worker of spawn.
 *   runs as   the recipient, never uid 0 or gid 0; cwd wherever spawn was, then the home
 *   usage     local HOME | local -c      -c: virtual mailboxes of this account; each job names its home, which is made when it is missing
 *   in        fd 0: jobs and their bodies
 *   writes    HOME/Maildir (tmp, then new); fd 1: results
 *   never     the queue, the network, exec, any other file
 *   exit      0 no more jobs | 100 usage, root | 111 spawn is gone in the middle of a job, or makes no sense
 *   killed    the message is in new/ whole, or not at all (perhaps a file in tmp/); delivered again, it is found by its name
 */
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/log.h"
#include "errand.h"

int main(int argc, char **argv) {
	static struct errand errand;
	static char host[HOST_NAME_MAX + 1];
	bool is_virtual = argc == 2 && strcmp(argv[1], "-c") == 0;
	int got;
	log_program("local");
	if (getuid() == 0 || geteuid() == 0 || getgid() == 0 || getegid() == 0)
		die_usage("local never runs as root");
	if (argc != 2 || (argv[1][0] != '/' && !is_virtual) || strlen(argv[1]) >= ERRAND_HOME_MAX)
		die_usage("usage: local HOME | local -c (spawn starts it)");
	if (gethostname(host, sizeof host - 1) < 0)
		die_system("cannot learn this host's name");
	/* Its user may not look over its shoulder: stderr is spawn's, and leads into the log. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		die_system("cannot become undumpable");
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	errand_init(&errand, is_virtual ? NULL : argv[1], bytes_of(host));
	while ((got = errand_run(&errand)) == 1)
		;
	return got == 0 ? EXIT_OK : EXIT_SYSTEM;
}
