/*
 * remote - deliver messages to one destination by SMTP, as long as spawn hands it some.
 *   runs as   tappal-remote (set-uid and set-gid, executable by tappal-spawn alone)
 *   reads     fd 0: job, job_rcpt... and body_size raw octets, again and again; the control files marked for remote
 *   writes    fd 1: a result for each recipient, then job_done; the network; the resolver's socket
 *   never     the queue, any other file, exec
 *   exit      0 end of file on fd 0 | 100 settings | 111 the starter is gone or its records make no sense
 *   killed    spawn sees a worker that died: recipients without a result are tried again; at worst the last one has it twice
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/route.h"
#include "client.h"
#include "hosts.h"

#define LOOK_MS (10u * MINUTE_MS)     /* after that long no further host is tried in this attempt */
#define JOB_MS (45u * MINUTE_MS)      /* a job lasts no longer than that ... */
#define JOB_OCTETS_PER_MS 1u          /* ... and what its body takes at this speed */

struct remote {
	struct settings settings;
	struct record_reader in;
	struct client client;
	char destination[DESTINATION_MAX + 1];   /* that the open connection leads to */
	struct hosts hosts;
	char dns_text[401];
};

/* ---- finding a host that talks ---- */

/* Of several failures the one to report, in storage of its own: the client forgets it at the next host. */
struct failure {
	struct outcome outcome;
	char text[REPLY_TEXT_MAX];
	char name[256], ip[NETADDR_TEXT], source_ip[NETADDR_TEXT];
};

/* A temporary one before a permanent one, because trying again may help; then the one that came further. */
static bool failure_is_better(const struct outcome *o, const struct outcome *than)
{
	if (than->text.at == NULL)
		return true;
	if (o->verdict != than->verdict)
		return o->verdict == V_TEMP;
	return o->stage >= than->stage;
}

static void failure_keep(struct failure *f, const struct outcome *o, const struct job_host *where)
{
	if (!failure_is_better(o, &f->outcome))
		return;
	f->outcome = *o;
	f->outcome.text = (struct bytes){ f->text, o->text.len < sizeof f->text ? o->text.len : sizeof f->text };
	memcpy(f->text, o->text.at, f->outcome.text.len);
	(void)bytes_to_cstring(where->name, f->name, sizeof f->name);
	(void)bytes_to_cstring(where->ip, f->ip, sizeof f->ip);
	(void)bytes_to_cstring(where->source_ip, f->source_ip, sizeof f->source_ip);
}

static bool try_hosts(struct remote *r, struct delivery *d, deadline_t look_end)
{
	struct failure failure = { 0 };
	struct job_host where;
	struct outcome o;

	for (size_t i = 0; i < r->hosts.count; i++) {
		if (i > 0 && deadline_passed(look_end, clock_monotonic_ms()))
			break;
		if (client_open(&r->client, &r->hosts.at[i], r->hosts.port, r->hosts.relay, &o))
			return true;
		where = client_where(&r->client);
		failure_keep(&failure, &o, &where);
		/* Those of a worse preference would send it here again. */
		if (r->client.is_us)
			break;
	}
	where = (struct job_host){ bytes_of(failure.name), bytes_of(failure.ip), bytes_of(failure.source_ip) };
	job_report_rest(d, &failure.outcome, &where);
	return false;
}

/* Open a connection to the job's destination. False: every recipient has its result; *failed_r: the destination could not be used. */
static bool open_any(struct remote *r, struct delivery *d, bool *failed_r)
{
	deadline_t now = clock_monotonic_ms();
	deadline_t look_end = deadline_in(now, LOOK_MS);
	struct job_host nowhere = { 0 };
	struct outcome o;

	if (!hosts_find(&r->settings, d->job.destination, look_end, &r->hosts, r->dns_text, &o)) {
		/* A domain that does not exist is these messages' fault, a DNS that does not answer is the destination's. */
		*failed_r = o.verdict == V_TEMP;
		job_report_rest(d, &o, &nowhere);
		return false;
	}
	*failed_r = !try_hosts(r, d, look_end);
	(void)bytes_to_cstring(d->job.destination, r->destination, sizeof r->destination);
	return !*failed_r;
}

/* ---- a job ---- */

static bool connection_fits(const struct remote *r, const struct delivery *d)
{
	return client_is_open(&r->client) && bytes_equal(bytes_of(r->destination), d->job.destination);
}

/* CLIENT_BROKEN when the starter went away in the middle of the body. */
static enum client_end deliver(struct remote *r, struct delivery *d, bool *failed_r)
{
	enum client_end end = CLIENT_STALE;

	client_set_end(&r->client, deadline_in(clock_monotonic_ms(), JOB_MS + d->job.body_size / JOB_OCTETS_PER_MS));
	if (connection_fits(r, d))
		end = client_deliver(&r->client, d);
	else
		client_quit(&r->client);
	if (end == CLIENT_STALE)
		end = open_any(r, d, failed_r) ? client_deliver(&r->client, d) : CLIENT_DONE;
	return end;
}

/* False: the process ends. */
static bool job_run(struct remote *r, int *exit_r)
{
	struct delivery d;
	enum job_read got = job_read(&d, &r->in);
	bool failed = false, whole = false;

	*exit_r = got == JOB_END ? EXIT_OK : EXIT_SYSTEM;
	if (got == JOB_OK && deliver(r, &d, &failed) != CLIENT_BROKEN)
		whole = job_finish(&d, STDOUT_FILENO, failed);
	job_free(&d);
	return whole;
}

/* Wait for the next job; a kept connection is closed when the server ends it or connectionidle has passed. */
static void wait_for_job(struct remote *r)
{
	deadline_t end = deadline_in(clock_monotonic_ms(), r->settings.connectionidle * SECOND_MS);

	while (client_is_open(&r->client) && record_reader_rest(&r->in).len == 0) {
		struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = r->client.conn.fd, .events = POLLIN } };
		deadline_t now = clock_monotonic_ms();
		int n = deadline_passed(end, now) ? 0 : poll(p, 2, deadline_poll_ms(end, now));

		if (n == -1 && errno == EINTR)
			continue;
		if (n > 0 && p[0].revents != 0)
			return;
		/* Either it is time, or the server said or did something: goodbye. */
		client_quit(&r->client);
	}
}

static int serve(struct remote *r)
{
	int code = EXIT_OK;

	do
		wait_for_job(r);
	while (job_run(r, &code));
	client_quit(&r->client);
	return code;
}

/* Started as root (not set-uid) it becomes the account all the same. */
static void drop(void)
{
	int took_effect = 0;

	(void)priv_setuid_start(ACCOUNT_REMOTE, &took_effect);
	if (!took_effect)
		priv_become_alone("remote", ACCOUNT_REMOTE);
}

int main(void)
{
	static struct remote r;

	log_program("remote");
	drop();
	settings_or_die(&r.settings, "remote", USED_REMOTE);
	client_init(&r.client, &r.settings);
	record_reader_init(&r.in, STDIN_FILENO);
	return serve(&r);
}
