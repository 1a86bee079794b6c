/* passed - smtpd's room: connections from smtpd-start. See passed.h. */
#include "passed.h"

#include "common/accounts.h"
#include "common/channel.h"
#include "common/log.h"
#include "common/passing.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/sibling.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define BACKLOG 1024
#define PASS_SECONDS 5            /* smtpd-start speaks at once */
#define PASS_MAX 2048u

/* ---- listening */

/* Bound as root it is for the account that will serve; who is not root serves himself. */
static bool give_to_account(const char *path)
{
	struct account smtpd;
	if (geteuid() != 0)
		return true;
	errno = ENOENT;
	return account_by_name(ACCOUNT_SMTPD, &smtpd) == ACCOUNT_FOUND && chown(path, smtpd.uid, smtpd.gid) == 0;
}

static bool listen_at(int fd, const struct sockaddr_un *sa)
{
	if (unlink(sa->sun_path) < 0 && errno != ENOENT)
		return false;
	return bind(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 && chmod(sa->sun_path, 0600) == 0 && give_to_account(sa->sun_path)
		&& listen(fd, BACKLOG) == 0;
}

bool passed_listen(struct listeners *l, struct str *error)
{
	struct sockaddr_un sa;
	priv_run_directory();
	int fd = sibling_address(SOCKET_SMTPD, &sa) && l->count < POOL_LISTENERS ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0 || !listen_at(fd, &sa)) {
		str_addf(error, "cannot listen on %s/%s: %s", path_run, SOCKET_SMTPD, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	l->passes[l->count] = true;
	l->role[l->count] = ROLE_RELAY;
	l->fd[l->count++] = fd;
	return true;
}

/* ---- taking */

static bool may_pass(int control)
{
	uid_t uid;
	if (!sibling_uid(control, &uid))
		return false;
	if (uid == 0 || uid == geteuid())
		return true;
	log_warn("uid %lu would pass a connection, who may not", (unsigned long)uid);
	return false;
}

static bool is_connection(int fd)
{
	int type = 0, listening = 1;
	socklen_t type_len = sizeof type, listening_len = sizeof listening;
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM
		&& getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_len) == 0 && listening == 0;
}

static bool take_facts(struct bytes octets, struct passed *p)
{
	struct record record;
	struct client_passed facts;
	size_t used;
	if (record_take(octets, &record, &used) != RECORD_OK || used != octets.len || record.type != REC_client_passed
		|| !client_passed_decode(record.payload, &facts) || !smtpd_role_parse(facts.role, &p->role)
		|| !bytes_to_cstring(facts.relay_suffix, p->relay_suffix, sizeof p->relay_suffix))
		return false;
	p->relays = facts.relays != 0;
	p->limited = bytes_to_u64(facts.databytes, UINT64_MAX, &p->databytes);
	peer_of_session(p->client, &(struct peer_facts){ .ip = facts.ip, .name = facts.name, .info = facts.info }, &p->peer);
	return true;
}

static bool receive_connection(struct passed *p)
{
	char octets[PASS_MAX];
	struct timeval wait = { .tv_sec = PASS_SECONDS };
	setsockopt(p->control, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	ssize_t n = passing_receive(p->control, octets, sizeof octets, 0, &p->client, 1);
	if (n <= 0)
		return false;
	if (p->client >= 0 && is_connection(p->client) && take_facts((struct bytes){ octets, (size_t)n }, p))
		return true;
	log_warn("smtpd-start passed what is no connection");
	return false;
}

bool passed_take(int control, struct passed *p_r)
{
	*p_r = (struct passed){ .control = control, .client = -1 };
	/* The answer fails once smtpd-start has stopped to wait for it: the client is its own then. */
	if (may_pass(control) && receive_connection(p_r) && send(control, "t", 1, MSG_NOSIGNAL) == 1)
		return true;
	passed_end(p_r);
	return false;
}

/* The client first: he hears of the end before anybody counts him as gone. */
void passed_end(struct passed *p)
{
	if (p->client >= 0)
		close(p->client);
	close(p->control);
}
