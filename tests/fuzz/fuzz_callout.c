/*
 * fuzz_callout - any octets as what each end of a callout hears. The first octet says who is the enemy: callout, to smtpd; a child of callout, to its
 * parent; the servers, to the child (an octet 1 ends what one of them says). Whatever they say, who listens comes to one verdict of the list, in
 * printable text.
 */
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/channel.h"
#include "common/child.h"
#include "common/exits.h"
#include "common/sibling.h"
#include "fuzz.h"
#include "remote/callout/dialogue.h"
#include "remote/callout/inquiry.h"
#include "remote/conn.h"
#include "remote/hosts.h"
#include "smtpd/ask/calloutask.h"

#define SENDER "joe@example.org"
#define HOUR_MS 3600000u
#define SERVERS 4u          /* one more than are tried */
#define TURNS_MAX 10000u

static const struct settings settings = {
	.helohost = { "mx.test", 7 }, .callouttimeout = 20, .calloutsessions = 20, .calloutrate = 100, .callouthostsessions = 2, .callouthostrate = 100,
	.calloutkeepgood = 60, .calloutkeepbad = 60, .calloutkeepunknown = 60, .calloutrows = 64, .timeoutconnect = 20,
};

static void check_said(const struct callout_said *said)
{
	require((unsigned)said->verdict < CALLOUT_VERDICTS && is_printable(bytes_of(said->host)) && is_printable(bytes_of(said->text)));
}

/* ---- callout, to smtpd */

static struct mouth callout;

int __wrap_sibling_connect(const char *name, const char *account, uint64_t wait_ms);
int __wrap_sibling_connect(const char *name, const char *account, uint64_t wait_ms)
{
	(void)name;
	(void)account;
	(void)wait_ms;
	return callout.fd;
}

static void answers(struct bytes octets)
{
	static struct calloutask a;
	a.asked = false;
	callout = mouth_of(octets, 0);
	const struct callout_said *said = calloutask(&a, &settings, LIT(SENDER));
	check_said(said);
	require(a.away == NULL || said->verdict == CALLOUT_UNKNOWN);
	close(callout.other);
}

/* ---- a child, to its parent */

static struct mouth child;
static unsigned told;

pid_t __wrap_child_start(int *fd_r);
pid_t __wrap_child_start(int *fd_r)
{
	*fd_r = child.fd;
	return 1;
}

void __wrap_child_end(pid_t pid);
void __wrap_child_end(pid_t pid)
{
	require(pid == 1);
}

static void child_told(void *context, const struct inquiry *i, const struct callout_said *said)
{
	require(context == &told && i != NULL);
	check_said(said);
	told++;
}

static void finds(struct bytes octets)
{
	static struct inquiries *all;
	static struct pollfd fds[CHILDREN_MAX];
	static deadline_t now = 1;
	struct mailaddr sender;
	deadline_t next = 0;
	unsigned turns = 0;
	if (all == NULL)
		all = inquiries_new(&settings, child_told, &told);
	require(all != NULL && mailaddr_parse(LIT(SENDER), &sender) == ADDR_OK);
	now += HOUR_MS;      /* what was found before is forgotten */
	told = 0;
	child = mouth_of(octets, 0);
	require(inquiries_join(all, &sender, now) != NULL);
	for (size_t n; (n = inquiries_prepare(all, fds, now, &next)) > 0 && ++turns < TURNS_MAX;) {
		require(n == 1);
		fds[0].revents = POLLIN;
		inquiries_run(all, fds, n, now);
	}
	require(told == 1 && turns < TURNS_MAX);
	close(child.other);
}

/* ---- servers, to the child */

static struct { struct bytes says; struct mouth at[SERVERS]; size_t count; } servers;

bool __wrap_conn_open(struct conn *c, const struct netaddr *to, const struct netaddr *from, deadline_t deadline);
bool __wrap_conn_open(struct conn *c, const struct netaddr *to, const struct netaddr *from, deadline_t deadline)
{
	(void)to;
	(void)from;
	(void)deadline;
	conn_close(c);
	require(servers.count < SERVERS);
	servers.at[servers.count] = mouth_of(bytes_cut(&servers.says, 1), SOCK_NONBLOCK);
	c->fd = servers.at[servers.count++].fd;
	return true;
}

bool hosts_find(const struct settings *s, struct bytes destination, deadline_t deadline, struct hosts *hosts_r, char text[401], struct outcome *o_r)
{
	(void)s;
	(void)deadline;
	(void)text;
	(void)o_r;
	require(bytes_equal(destination, LIT("r:example.org")));
	hosts_r->count = SERVERS;
	hosts_r->port = 25;
	for (size_t i = 0; i < SERVERS; i++) {
		require(netaddr_parse(LIT("192.0.2.1"), &hosts_r->at[i].addr));
		memcpy(hosts_r->at[i].name, "mx.example.org", sizeof "mx.example.org");
	}
	return true;
}

int __wrap_setrlimit(int what, const struct rlimit *limit);
int __wrap_setrlimit(int what, const struct rlimit *limit) { (void)what; (void)limit; return 0; }
int __wrap_prctl(int what, ...);
int __wrap_prctl(int what, ...) { (void)what; return 0; }

/* What the child told its parent: some callout_may, one callout_end. */
static void check_report(int fd)
{
	struct record_reader in;
	struct record record;
	struct callout_end end;
	unsigned mays = 0;
	record_reader_init(&in, fd);
	while (record_reader_wait(&in, &record, 0) == 1 && record.type == REC_callout_may)
		mays++;
	require(mays == servers.count && record.type == REC_callout_end && callout_end_decode(record.payload, &end));
	require(end.verdict < CALLOUT_VERDICTS && end.verdict != CALLOUT_UNASKED && end.scope < CALLOUT_SCOPES);
	require(is_printable(end.host) && is_printable(end.text));
	record_reader_free(&in);
}

static void says(struct bytes octets)
{
	struct callout_go go = { .yes = 1 };
	struct str yes = STR_INIT(1000);
	struct mailaddr sender;
	require(mailaddr_parse(LIT(SENDER), &sender) == ADDR_OK);
	for (size_t i = 0; i < SERVERS; i++)
		require(callout_go_encode(&go, &yes));
	struct mouth parent = mouth_of(str_bytes(&yes), 0);
	servers.says = octets;
	servers.count = 0;
	require(dialogue_run(parent.fd, &settings, &sender) == EXIT_OK);
	close(parent.fd);
	check_report(parent.other);
	close(parent.other);
	for (size_t i = 0; i < servers.count; i++)
		close(servers.at[i].other);
	str_free(&yes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const enemies[])(struct bytes) = { answers, finds, says };
	if (size > 0)
		enemies[data[0] % 3]((struct bytes){ (const char *)data + 1, size - 1 });
	return 0;
}
