/*
 * smtpd-start - pass a connection to the pool, or become smtpd.
 *   runs as   whoever the starter made it: tcpserver, inetd, systemd with Accept=yes; static, for it is started for each connection
 *   in        fd 0 and 1: one connected socket     environment: RELAYCLIENT, DATABYTES, TCPREMOTE*, REMOTE_ADDR, which are passed along
 *   writes    one record with the socket to path_run/smtpd, if root or this very account listens there
 *   never     reads or writes an octet of the client's, reads a file, says a word
 *   exit      0 when the session is over, so that whoever counts its children counts sessions | 111 the system
 *   becomes   smtpd, with the same arguments, when anything at all is different, or nobody has taken the connection
 */
#include "common/channel.h"
#include "common/exits.h"
#include "common/passing.h"
#include "common/paths.h"
#include "common/sibling.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 5000   /* a pool that has stopped altogether */
#define PASS_MAX 2048u

/* ---- is this a connection to pass on? */

/* -r ROLE is smtpd's; with all else it knows better what to do. */
static bool arguments_are_plain(int argc, char **argv)
{
	return argc == 1 || (argc == 3 && strcmp(argv[1], "-r") == 0);
}

static bool is_one_connection(void)
{
	struct stat in, out;
	int listening = 1;
	socklen_t len = sizeof listening;
	return fstat(0, &in) == 0 && fstat(1, &out) == 0 && S_ISSOCK(in.st_mode) && in.st_dev == out.st_dev && in.st_ino == out.st_ino
		&& getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening == 0 && fcntl(2, F_GETFD) >= 0;
}

/* ---- passing it */

/* The directory is the resolver's: whoever listens there must be root, or could read our clients' mail anyway. */
static bool is_trusted(int door)
{
	uid_t uid;
	return sibling_uid(door, &uid) && (uid == 0 || uid == geteuid());
}

/* Not blocking: a crowd before the pool is a reason to help oneself. */
static int door_connect(void)
{
	struct sockaddr_un sa;
	int door = sibling_address(SOCKET_SMTPD, &sa) ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	return door >= 0 && connect(door, (const struct sockaddr *)&sa, sizeof sa) == 0 && is_trusted(door) ? door : -1;
}

static bool encode_facts(const char *role, struct str *out)
{
	const char *relay = getenv("RELAYCLIENT"), *ip = getenv("TCPREMOTEIP");
	struct client_passed facts = {
		.role = bytes_of(role), .relays = relay != NULL, .relay_suffix = bytes_of(relay), .databytes = bytes_of(getenv("DATABYTES")),
		.ip = bytes_of(ip != NULL ? ip : getenv("REMOTE_ADDR")), .name = bytes_of(getenv("TCPREMOTEHOST")), .info = bytes_of(getenv("TCPREMOTEINFO")),
	};
	return client_passed_encode(&facts, out);   /* false: something is longer than it can be */
}

static bool send_connection(int door, const char *role)
{
	struct str out = STR_INIT(PASS_MAX);
	const int connection = 0;
	bool ok = encode_facts(role, &out) && passing_send(door, str_bytes(&out), &connection, 1, 0);
	str_free(&out);
	return ok;
}

/* The pool says so before its first word to the client. Who has waited long enough shuts the way for the answer before the last look:
 * what was not said by then cannot be said any more, and the pool, who sees that, leaves the client alone. */
static bool is_taken(int door)
{
	struct pollfd wait = { .fd = door, .events = POLLIN };
	char octet;
	if (poll(&wait, 1, PATIENCE_MS) <= 0)
		shutdown(door, SHUT_RD);
	return recv(door, &octet, 1, MSG_DONTWAIT) == 1;
}

/* The connection is the pool's alone from here on: its end is the client's end, whatever happens here. */
static void wait_for_the_end(int door)
{
	struct pollfd wait = { .fd = door };
	close_range(0, (unsigned)door - 1, 0);
	while (poll(&wait, 1, -1) < 0 && errno == EINTR)
		continue;
}

int main(int argc, char **argv)
{
	char smtpd[512];
	int n = snprintf(smtpd, sizeof smtpd, "%s/smtpd", path_libexec);
	int door = arguments_are_plain(argc, argv) && is_one_connection() ? door_connect() : -1;
	if (door > 2 && send_connection(door, argc == 3 ? argv[2] : "relay") && is_taken(door)) {
		wait_for_the_end(door);
		return EXIT_OK;
	}
	if (n > 0 && (size_t)n < sizeof smtpd)
		execv(smtpd, argv);
	return EXIT_SYSTEM;
}
