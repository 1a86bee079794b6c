/* dialogue - remote's room, and a stranger's server at the other end: one callout. See dialogue.h. */
#include "dialogue.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "remote/client.h"
#include "remote/hosts.h"

#define HOSTS_TRIED 3u       /* that do not come as far as MAIL */
#define FILES 16u

struct dialogue {
	int fd;
	const struct settings *settings;
	const struct mailaddr *sender;
	deadline_t end;
	struct record_reader in;
	struct client client;
	struct hosts hosts;
	struct callout_said said;
	enum callout_scope scope;
};

/* ---- what replies mean ---- */

/* RFC 3463: 5.7.x is what the server thinks of us (hosts on its block list hear it at MAIL as well as at RCPT), 5.2.2 a mailbox that is full, 530 (RFC 3207, 4954) a wish
 * for TLS or a login: none says that nobody is there. */
static bool is_about_something_else(const struct outcome *o)
{
	bool policy = o->enhanced.subject == 7, full = o->enhanced.subject == 2 && o->enhanced.detail == 2;

	return o->code == 530 || (o->enhanced.class == 5 && ((o->stage == STAGE_MAIL && policy) || (o->stage == STAGE_RCPT && (policy || full))));
}

/* 5.4.6, found out by us: in what the DNS says, or by the server's name. */
static bool is_this_host(const struct outcome *o)
{
	return (o->stage == STAGE_DNS || o->code == 0) && o->enhanced.subject == 4 && o->enhanced.detail == 6;
}

static enum callout_verdict verdict_of(const struct outcome *o)
{
	if (o->verdict == V_OK)
		return CALLOUT_EXISTS;
	if (o->verdict != V_PERM || is_about_something_else(o))
		return CALLOUT_UNKNOWN;
	if (is_this_host(o))
		return CALLOUT_UNASKED;
	if (o->stage == STAGE_DNS)
		return CALLOUT_NOBODY;
	return o->stage == STAGE_RCPT ? CALLOUT_NOBODY : o->stage == STAGE_MAIL ? CALLOUT_NO_BOUNCES : CALLOUT_UNKNOWN;
}

void callout_clean(struct bytes from, char *to, size_t size)
{
	size_t n = from.len < size ? from.len : size - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = from.at[i] >= ' ' && from.at[i] < 127 ? from.at[i] : '?';
	to[n] = '\0';
}

enum callout_scope dialogue_judge(const struct outcome *o, struct callout_said *said_r)
{
	said_r->verdict = verdict_of(o);
	callout_clean(o->text, said_r->text, sizeof said_r->text);
	if (o->stage == STAGE_DNS && o->verdict == V_TEMP)
		return CALLOUT_NOW;      /* the resolver has a cache of its own */
	return o->stage == STAGE_RCPT ? CALLOUT_OF_ADDRESS : CALLOUT_OF_DOMAIN;
}

static void take(struct dialogue *d, const struct outcome *o)
{
	d->scope = dialogue_judge(o, &d->said);
}

/* ---- with the parent ---- */

static bool tell(struct dialogue *d, struct str *text, bool encoded, deadline_t deadline)
{
	bool sent = encoded && io_write_by(d->fd, text->at, text->len, deadline) == 0;

	str_free(text);
	return sent;
}

/* False: no, or there was no answer in time. */
static bool may_connect(struct dialogue *d, const char *ip)
{
	struct callout_may may = { .ip = bytes_of(ip) };
	struct callout_go go;
	struct record record;
	struct str text = STR_INIT(200);

	if (!tell(d, &text, callout_may_encode(&may, &text), d->end) || record_reader_wait(&d->in, &record, d->end) != 1)
		return false;
	return record.type == REC_callout_go && callout_go_decode(record.payload, &go) && go.yes == 1;
}

static bool report(struct dialogue *d)
{
	struct callout_end end = { .verdict = (uint8_t)d->said.verdict, .scope = (uint8_t)d->scope, .host = bytes_of(d->said.host), .text = bytes_of(d->said.text) };
	struct str text = STR_INIT(1000);

	return tell(d, &text, callout_end_encode(&end, &text), deadline_in(clock_monotonic_ms(), SECOND_MS));
}

/* ---- with the servers ---- */

/* The last one has the time that is left, the others half of it each. */
static deadline_t end_of_try(const struct dialogue *d, bool last)
{
	deadline_t now = clock_monotonic_ms();

	return last || deadline_passed(d->end, now) ? d->end : deadline_in(now, (d->end - now) / 2);
}

/* True: it came as far as MAIL, or to this host itself, and what was said counts. */
static bool ask_host(struct dialogue *d, const struct dns_address *host, bool last)
{
	struct outcome o;
	char ip[NETADDR_TEXT];

	netaddr_format(&host->addr, ip);
	if (!may_connect(d, ip)) {
		o = outcome_make(V_TEMP, STAGE_CONNECT, "4.3.2", LIT("too many callouts to this server in a minute"));
		take(d, &o);
		d->scope = CALLOUT_NOW;
	} else {
		client_set_end(&d->client, end_of_try(d, last));
		bool open = client_open(&d->client, host, d->hosts.port, d->hosts.relay, &o);

		if (open)
			o = client_probe(&d->client, d->sender->text, mailaddr_is_utf8(d->sender));
		take(d, &o);
	}
	(void)snprintf(d->said.host, sizeof d->said.host, "%.250s[%s]", host->name, ip);
	callout_clean(bytes_of(d->said.host), d->said.host, sizeof d->said.host);
	return client_is_open(&d->client) || d->client.is_us;
}

static void ask_domain(struct dialogue *d)
{
	struct str destination = STR_INIT(DNS_NAME_MAX + 10);
	char text[401];
	struct outcome o = outcome_make(V_TEMP, STAGE_DNS, "4.3.0", LIT("out of memory"));
	bool good = str_add_c(&destination, "r:") && str_add(&destination, d->sender->domain)
		&& hosts_find(d->settings, str_bytes(&destination), end_of_try(d, false), &d->hosts, text, &o);

	if (!good)
		take(d, &o);
	for (size_t i = 0, n = d->hosts.count < HOSTS_TRIED ? d->hosts.count : HOSTS_TRIED; good && i < n; i++)
		if (ask_host(d, &d->hosts.at[i], i + 1 == n))
			break;
	str_free(&destination);
}

static void confine(void)
{
	static const struct rlimit none = { 0, 0 }, files = { FILES, FILES };

	(void)setrlimit(RLIMIT_NPROC, &none);
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int dialogue_run(int fd, const struct settings *settings, const struct mailaddr *sender)
{
	static struct dialogue d;

	confine();
	d = (struct dialogue){ .fd = fd, .settings = settings, .sender = sender, .end = deadline_in(clock_monotonic_ms(), settings->callouttimeout * SECOND_MS) };
	record_reader_init(&d.in, fd);
	client_init(&d.client, settings);
	ask_domain(&d);
	bool told = report(&d);
	client_quit(&d.client);
	client_free(&d.client);
	record_reader_free(&d.in);
	return told ? EXIT_OK : EXIT_SYSTEM;
}
