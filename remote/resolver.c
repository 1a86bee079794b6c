/*
 * resolver - answer the DNS questions of the suite, with one validating cache.
 *   runs as   tappal-dns (started as root it becomes that account)
 *   reads     the network (DNS); questions on its socket, from root, tappal-remote and tappal-smtpd only (SO_PEERCRED); the control files
 *             marked for resolver, the trust anchor
 *   writes    answers on the socket; the socket itself, path_run/resolver
 *   never     mail, the queue, exec
 *   signals   TERM ends it, HUP reads the settings again and begins with an empty cache
 *   exit      0 TERM | 100 an argument, settings, another resolver runs | 111 the system
 *   killed    askers see their connection end: a temporary failure each
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/service.h"
#include "common/settings.h"
#include "lookup.h"

#define CLIENTS_MAX 1100          /* every worker that concurrencyremote allows, and some sessions of smtpd */
#define QUESTIONS_EACH DNS_QUESTIONS_MAX   /* of one client at a time; further ones wait in its socket */
#define ANSWERS_MAX (1u << 20)    /* octets that wait for one client */
#define FILES 4096u

struct asking { unsigned count; };     /* questions of a client without an answer */

struct resolver {
	struct settings settings;
	struct engine *engine;
	struct service service;
};

/* ---- questions and answers ---- */

static void answer(void *context, uint32_t number, const struct dns_reply *reply)
{
	struct service_client *c = context;
	struct asking *asking = c->own;
	struct dns_answer record = {
		.query = number, .status = (uint8_t)reply->status, .secure = reply->secure, .count = (uint32_t)reply->count, .text = bytes_of(reply->text),
	};
	bool good = dns_answer_encode(&record, &c->out.buffer);

	for (size_t i = 0; good && i < reply->count; i++) {
		const struct dns_address *a = &reply->host[i];
		size_t octets = a->addr.family == AF_INET ? 4 : a->addr.family == AF_INET6 ? 16 : 0;
		struct dns_host host = {
			.query = number, .preference = a->preference, .name = bytes_of(a->name), .address = { (const char *)a->addr.octets, octets },
		};

		good = dns_host_encode(&host, &c->out.buffer);
	}
	asking->count--;
	service_send(c, good);
}

static void busy(struct service_client *c, uint32_t number)
{
	static const struct dns_reply reply = { .status = DNS_TEMPORARY, .text = "the resolver has too much to do" };

	answer(c, number, &reply);
}

static bool question_take(void *owner, struct service_client *c, const struct record *record, deadline_t now)
{
	struct resolver *r = owner;
	struct asking *asking = c->own;
	struct dns_ask ask;

	if (record->type != REC_dns_ask || !dns_ask_decode(record->payload, &ask))
		return false;
	if (ask.kind < DNS_MAIL || ask.kind > DNS_LIST)
		return false;
	asking->count++;
	if (!lookup_start(r->engine, (enum dns_kind)ask.kind, ask.name, now, answer, c, ask.query))
		busy(c, ask.query);
	return true;
}

/* ---- what it is to its service ---- */

static bool wants_question(const struct service_client *c)
{
	const struct asking *asking = c->own;

	return asking->count < QUESTIONS_EACH;
}

static bool is_idle(const struct service_client *c)
{
	const struct asking *asking = c->own;

	return asking->count == 0;
}

static void client_closing(void *owner, struct service_client *c)
{
	struct resolver *r = owner;

	lookup_forget(r->engine, c);
}

static size_t engine_prepare(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next)
{
	const struct resolver *r = owner;

	(void)now;
	fds[0] = (struct pollfd){ .fd = engine_fd(r->engine), .events = POLLIN };
	*next = deadline_earlier(*next, engine_deadline(r->engine));
	return 1;
}

static void engine_turn(void *owner, const struct pollfd *fds, size_t count, deadline_t now)
{
	struct resolver *r = owner;

	errno = 0;
	if (count > 0 && fds[0].revents != 0 && !engine_run(r->engine))
		die_system("libunbound does not work any more");
	engine_expire(r->engine, now);
}

static void reload(void *owner)
{
	struct resolver *r = owner;
	struct str error = STR_INIT(4096);

	if (!settings_reload(&r->settings, USED_RESOLVER))
		return;
	if (!engine_renew(r->engine, &r->settings, &error))
		log_error("the new settings are not used: %s", log_text(str_bytes(&error)));
	else
		log_info("settings read again");
	str_free(&error);
}

static const struct service_kind resolver_kind = {
	.slots = CLIENTS_MAX, .own_size = sizeof(struct asking), .answers_max = ANSWERS_MAX, .own_fds = 1,
	.take = question_take, .wants = wants_question, .idle = is_idle, .closing = client_closing,
	.prepare = engine_prepare, .run = engine_turn, .reload = reload,
};

/* ---- start ---- */

static void start(struct resolver *r)
{
	struct str error = STR_INIT(4096);

	settings_or_die(&r->settings, "resolver", USED_RESOLVER);
	askers_add(&r->service.askers, ACCOUNT_REMOTE);
	askers_add(&r->service.askers, ACCOUNT_SMTPD);
	priv_run_directory();
	io_want_files(FILES);
	priv_become_alone("resolver", ACCOUNT_DNS);
	r->service.socket = service_bind("resolver", SOCKET_RESOLVER, 0);
	service_start(&r->service, &resolver_kind, r);
	r->engine = engine_new(&r->settings, &error);
	if (r->engine == NULL) {
		errno = 0;
		die_usage("%s", str_c(&error));
	}
	str_free(&error);
}

int main(int argc, char **argv)
{
	struct resolver *r = calloc(1, sizeof *r);

	(void)argv;
	die_on_arguments("resolver", argc);
	if (r == NULL)
		die_system("no memory");
	start(r);
	while (!r->service.stop)
		service_turn(&r->service);
	service_end(&r->service);
	engine_free(r->engine);
	settings_free(&r->settings);
	free(r);
	return EXIT_OK;
}
