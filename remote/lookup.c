/* lookup - mail exchangers and addresses by libunbound. Room: remote (resolver); answers are strangers' octets. */
#include <idn2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>
#include <unistd.h>

#include "common/domain.h"
#include "dnswire.h"
#include "lookup.h"

#define TYPE_A 1
#define TYPE_PTR 12
#define TYPE_MX 15
#define TYPE_TXT 16
#define TYPE_AAAA 28
#define CLASS_IN 1
#define RCODE_NOERROR 0
#define RCODE_NXDOMAIN 3

#define TEXT 400              /* octets of a sentence, with NUL: what dns_answer carries */
#define ADDRESSES_EACH 12     /* of one exchanger; more are of no use */
#define QUESTIONS (2 * LOOKUP_EXCHANGERS)

struct exchanger {
	uint16_t preference;
	char name[DNSWIRE_NAME];
	struct netaddr addr[ADDRESSES_EACH];
	size_t count;
	bool temporary, bogus;    /* one of its questions ended so */
	bool missing;             /* NXDOMAIN */
};

struct question { struct lookup *lookup; size_t exchanger; int type; int async_id; bool running; };

struct lookup {
	struct engine *engine;
	struct lookup *next, *previous;
	enum dns_kind kind;
	char name[DOMAIN_MAX + 1];     /* A-labels */
	deadline_t deadline;
	lookup_done_fn *done;
	void *context;
	uint32_t number;
	bool implicit;                 /* no MX: the domain is its own exchanger */
	bool insecure;                 /* a part of the answer was not validated */
	size_t exchanger_count, question_count, running;
	struct exchanger exchanger[LOOKUP_EXCHANGERS];
	struct question question[QUESTIONS];
	char text[TEXT];
};

struct engine {
	struct ub_ctx *ctx;
	struct lookup *first;
	size_t count;
	uint64_t timeout_ms;
	struct dns_reply reply;        /* the one that is handed out */
};

/* A sentence, cut where it is too long. */
__attribute__((format(printf, 2, 3))) static void text_set(char text[TEXT], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, TEXT, format, args);
	va_end(args);
}

/* ---- libunbound's context ---- */

static bool set_options(struct ub_ctx *ctx, struct str *error)
{
	/* libunbound's own sizes are made for one question at a time; name servers on loopback are the usual forwarders, and they, not libunbound, know
	 * the names of private networks. */
	static const char *const options[][2] = {
		{ "do-not-query-localhost:", "no" }, { "outgoing-range:", "512" }, { "num-queries-per-thread:", "4096" },
		{ "outgoing-num-tcp:", "32" }, { "incoming-num-tcp:", "0" }, { "msg-cache-size:", "16m" }, { "rrset-cache-size:", "32m" },
		{ "unblock-lan-zones:", "yes" },
	};

	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		int failed = ub_ctx_set_option(ctx, options[i][0], options[i][1]);

		if (failed != 0) {
			(void)str_addf(error, "libunbound refuses %s %s: %s", options[i][0], options[i][1], ub_strerror(failed));
			return false;
		}
	}
	return true;
}

static bool set_forwarders(struct ub_ctx *ctx, const struct settings *s, struct str *error)
{
	char server[128];

	for (size_t i = 0; i < s->dnsforward.count; i++) {
		if (bytes_to_cstring(s->dnsforward.at[i], server, sizeof server) && ub_ctx_set_fwd(ctx, server) == 0)
			continue;
		(void)str_add_c(error, "dnsforward: libunbound refuses the name server ");
		(void)str_add(error, s->dnsforward.at[i]);
		return false;
	}
	return true;
}

/* libunbound reads the file only at the first question, so a missing one would show as failing mail. */
static bool set_anchor(struct ub_ctx *ctx, const struct settings *s, struct str *error)
{
	char path[4096];

	if (s->dnstrustanchor.len == 0)
		return true;
	if (bytes_to_cstring(s->dnstrustanchor, path, sizeof path) && access(path, R_OK) == 0 && ub_ctx_add_ta_file(ctx, path) == 0)
		return true;
	(void)str_add_c(error, "dnstrustanchor: cannot read ");
	(void)str_add(error, s->dnstrustanchor);
	(void)str_add_c(error, "; install the root's key there, or make the control file empty to go without DNSSEC");
	return false;
}

static struct ub_ctx *context_new(const struct settings *s, struct str *error)
{
	struct ub_ctx *ctx = ub_ctx_create();

	if (ctx == NULL) {
		(void)str_add_c(error, "libunbound cannot be started: no memory or no random numbers");
		return NULL;
	}
	if (set_options(ctx, error) && set_forwarders(ctx, s, error) && set_anchor(ctx, s, error)) {
		if (ub_ctx_async(ctx, 1) == 0)
			return ctx;
		(void)str_add_c(error, "libunbound cannot work in a thread");
	}
	ub_ctx_delete(ctx);
	return NULL;
}

/* ---- the list of lookups ---- */

static void link_in(struct engine *e, struct lookup *l)
{
	l->next = e->first;
	if (e->first != NULL)
		e->first->previous = l;
	e->first = l;
	e->count++;
}

static void unlink_and_free(struct lookup *l)
{
	struct engine *e = l->engine;

	if (l->next != NULL)
		l->next->previous = l->previous;
	if (l->previous != NULL)
		l->previous->next = l->next;
	else
		e->first = l->next;
	e->count--;
	free(l);
}

static void cancel(struct lookup *l)
{
	for (size_t i = 0; i < l->question_count; i++)
		if (l->question[i].running)
			(void)ub_cancel(l->engine->ctx, l->question[i].async_id);
	l->question_count = l->running = 0;
}

/* ---- the end of a lookup ---- */

static void answer(struct lookup *l, enum dns_status status, const char *text)
{
	struct dns_reply *reply = &l->engine->reply;

	reply->status = status;
	reply->secure = !l->insecure && status != DNS_BOGUS && status != DNS_TEMPORARY;
	(void)snprintf(reply->text, sizeof reply->text, "%s", text);
	if (status != DNS_OK)
		reply->count = 0;
	l->done(l->context, l->number, reply);
	unlink_and_free(l);
}

static void add_host(struct dns_reply *reply, const struct exchanger *x, const struct netaddr *a)
{
	struct dns_address *host = &reply->host[reply->count];

	if (reply->count == DNS_HOSTS_MAX)
		return;
	*host = (struct dns_address){ .preference = x->preference };
	if (a != NULL)
		host->addr = *a;
	memcpy(host->name, x->name, sizeof host->name);
	reply->count++;
}

/* An exchanger whose addresses cannot be told now is listed without one: whoever looks for himself in the list must know that better
 * ones exist. */
static size_t collect(struct lookup *l, struct dns_reply *reply)
{
	bool reverse = l->kind == DNS_REVERSE;     /* the names count, whether they have addresses or not */
	size_t found = 0;

	reply->count = 0;
	for (size_t i = 0; i < l->exchanger_count; i++) {
		struct exchanger *x = &l->exchanger[i];
		bool unsure = x->temporary || x->bogus;

		if (reverse)
			x->preference = unsure;
		for (size_t k = 0; k < x->count; k++)
			add_host(reply, x, &x->addr[k]);
		if (x->count == 0 && (unsure || reverse))
			add_host(reply, x, NULL);
		found += reverse ? 1 : x->count;
	}
	return found;
}

static void conclude(struct lookup *l)
{
	bool temporary = false, bogus = false, own = l->implicit || l->kind == DNS_ADDRESS;
	char text[TEXT];

	if (collect(l, &l->engine->reply) > 0) {
		answer(l, DNS_OK, "");
		return;
	}
	for (size_t i = 0; i < l->exchanger_count; i++) {
		temporary |= l->exchanger[i].temporary;
		bogus |= l->exchanger[i].bogus;
	}
	if (bogus || temporary) {
		answer(l, bogus ? DNS_BOGUS : DNS_TEMPORARY, l->text);
	} else if (own && l->exchanger[0].missing) {
		text_set(text, "%s does not exist in the DNS", l->name);
		answer(l, DNS_NO_DOMAIN, text);
	} else if (own) {
		text_set(text, l->implicit ? "%s has neither a mail exchanger nor an address" : "%s has no address", l->name);
		answer(l, DNS_NO_DATA, text);
	} else {
		text_set(text, "none of the mail exchangers of %s has an address", l->name);
		answer(l, DNS_MX_UNRESOLVED, text);
	}
}

/* ---- answers of libunbound ---- */

enum finding { FOUND, NO_DATA, NO_DOMAIN, TEMPORARY, BOGUS };

/* Bogus first: its data may be there, and must not be used. */
static enum finding find(struct lookup *l, int err, const struct ub_result *result, const char *name)
{
	if (err == 0 && result != NULL && result->bogus) {
		text_set(l->text, "DNSSEC validation of %s failed: %s", name, result->why_bogus != NULL ? result->why_bogus : "bogus");
		return BOGUS;
	}
	if (err != 0 || result == NULL) {
		text_set(l->text, "looking up %s failed: %s", name, ub_strerror(err));
		return TEMPORARY;
	}
	if (result->rcode != RCODE_NOERROR && result->rcode != RCODE_NXDOMAIN) {
		text_set(l->text, "the name servers of %s give no answer (%s)", name, result->rcode == 2 ? "SERVFAIL" : "an error");
		return TEMPORARY;
	}
	l->insecure |= !result->secure;
	if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
		return NO_DOMAIN;
	return result->havedata ? FOUND : NO_DATA;
}

static void question_done(void *context, int err, struct ub_result *result);

static void ask(struct lookup *l, const char *name, size_t exchanger, int type)
{
	struct question *q = &l->question[l->question_count];
	int failed;

	*q = (struct question){ .lookup = l, .exchanger = exchanger, .type = type };
	failed = ub_resolve_async(l->engine->ctx, name, type, CLASS_IN, q, question_done, &q->async_id);
	if (failed != 0) {
		l->exchanger[exchanger].temporary = true;
		text_set(l->text, "looking up %s failed: %s", name, ub_strerror(failed));
		return;
	}
	q->running = true;
	l->question_count++;
	l->running++;
}

static void ask_addresses(struct lookup *l)
{
	l->question_count = 0;
	for (size_t i = 0; i < l->exchanger_count; i++) {
		ask(l, l->exchanger[i].name, i, TYPE_A);
		ask(l, l->exchanger[i].name, i, TYPE_AAAA);
	}
	if (l->running == 0)
		conclude(l);
}

/* The domain stands for itself. */
static void self_exchanger(struct lookup *l)
{
	l->exchanger_count = 1;
	l->exchanger[0] = (struct exchanger){ 0 };
	memcpy(l->exchanger[0].name, l->name, sizeof l->name);
}

static bool is_literal(const char *name)
{
	struct netaddr a;

	return netaddr_parse(bytes_of(name), &a);
}

/* Keep the best LOOKUP_EXCHANGERS in the order of preference, each name once. */
static void exchanger_add(struct lookup *l, uint16_t preference, const char name[DNSWIRE_NAME])
{
	size_t at = 0, end;

	while (at < l->exchanger_count && l->exchanger[at].preference <= preference) {
		if (strcmp(l->exchanger[at++].name, name) == 0)
			return;
	}
	if (at == LOOKUP_EXCHANGERS)
		return;
	for (end = at; end < l->exchanger_count && strcmp(l->exchanger[end].name, name) != 0; end++)
		;
	if (end == l->exchanger_count && l->exchanger_count < LOOKUP_EXCHANGERS)
		l->exchanger_count++;
	if (end == LOOKUP_EXCHANGERS)
		end--;
	memmove(&l->exchanger[at + 1], &l->exchanger[at], (end - at) * sizeof l->exchanger[0]);
	l->exchanger[at] = (struct exchanger){ .preference = preference };
	memcpy(l->exchanger[at].name, name, DNSWIRE_NAME);
}

static void take_exchangers(struct lookup *l, const struct ub_result *result)
{
	char name[DNSWIRE_NAME];
	uint16_t preference;
	bool refused = false, null = false;

	for (size_t i = 0; result->data[i] != NULL; i++) {
		struct bytes data = { result->data[i], (size_t)result->len[i] };

		if (!dnswire_mx(data, &preference, name) || is_literal(name))
			refused = true;
		else if (name[0] == '\0')
			null = true;
		else
			exchanger_add(l, preference, name);
	}
	if (l->exchanger_count > 0)
		ask_addresses(l);
	else if (null && !refused)
		answer(l, DNS_NULL_MX, "the domain takes no mail (null MX)");
	else
		answer(l, DNS_MX_UNRESOLVED, "the domain's mail exchangers are not host names");
}

static void take_mx(struct lookup *l, enum finding finding, const struct ub_result *result)
{
	char text[TEXT];

	switch (finding) {
	case FOUND:
		take_exchangers(l, result);
		return;
	case NO_DATA:
		l->implicit = true;
		self_exchanger(l);
		ask_addresses(l);
		return;
	case NO_DOMAIN:
		text_set(text, "the domain %s does not exist in the DNS", l->name);
		answer(l, DNS_NO_DOMAIN, text);
		return;
	default:
		answer(l, finding == BOGUS ? DNS_BOGUS : DNS_TEMPORARY, l->text);
	}
}

/* 0.0.0.0 means this host to connect(2), multicast is nobody, and a mapped address would hide an IPv4 one from comparisons. */
static bool address_is_usable(const struct netaddr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t nothing[16];

	if (a->family == AF_INET)
		return a->octets[0] != 0 && a->octets[0] < 224;
	return a->octets[0] != 0xff && memcmp(a->octets, mapped, sizeof mapped) != 0 && memcmp(a->octets, nothing, sizeof nothing) != 0;
}

static void take_address(struct exchanger *x, struct bytes data, int type)
{
	struct netaddr a = { .family = type == TYPE_A ? AF_INET : AF_INET6 };

	if (data.len != (type == TYPE_A ? 4u : 16u) || x->count == ADDRESSES_EACH)
		return;
	memcpy(a.octets, data.at, data.len);
	if (address_is_usable(&a))
		x->addr[x->count++] = a;
}

static void take_addresses(struct question *q, enum finding finding, const struct ub_result *result)
{
	struct exchanger *x = &q->lookup->exchanger[q->exchanger];

	x->temporary |= finding == TEMPORARY;
	x->bogus |= finding == BOGUS;
	x->missing |= finding == NO_DOMAIN;
	for (size_t i = 0; finding == FOUND && result->data[i] != NULL; i++)
		take_address(x, (struct bytes){ result->data[i], (size_t)result->len[i] }, q->type);
	if (q->lookup->running == 0)
		conclude(q->lookup);
}

/* What has no name is said with the name that was asked for. */
static void answer_nothing(struct lookup *l, enum finding finding, const char *what)
{
	char text[TEXT];

	if (finding == TEMPORARY || finding == BOGUS) {
		answer(l, finding == BOGUS ? DNS_BOGUS : DNS_TEMPORARY, l->text);
		return;
	}
	text_set(text, finding == NO_DOMAIN ? "%s does not exist in the DNS" : "%s has no %s", l->name, what);
	answer(l, finding == NO_DOMAIN ? DNS_NO_DOMAIN : DNS_NO_DATA, text);
}

static void take_pointers(struct lookup *l, enum finding finding, const struct ub_result *result)
{
	char name[DNSWIRE_NAME];

	for (size_t i = 0; finding == FOUND && result->data[i] != NULL; i++) {
		struct bytes data = { result->data[i], (size_t)result->len[i] };

		if (dnswire_name(data, name) && name[0] != '\0' && !is_literal(name))
			exchanger_add(l, 0, name);
	}
	if (l->exchanger_count > 0)
		ask_addresses(l);
	else
		answer_nothing(l, finding == FOUND ? NO_DATA : finding, "host name");
}

/* Only what is listed is asked for its reason: many lists count questions. */
static void take_listing(struct lookup *l, enum finding finding, const struct ub_result *result)
{
	struct exchanger *x = &l->exchanger[0];

	for (size_t i = 0; finding == FOUND && result->data[i] != NULL; i++)
		take_address(x, (struct bytes){ result->data[i], (size_t)result->len[i] }, TYPE_A);
	l->exchanger_count = 1;
	if (x->count == 0) {
		answer_nothing(l, finding == FOUND ? NO_DATA : finding, "address");
		return;
	}
	ask(l, l->name, 0, TYPE_TXT);
	if (l->running == 0)
		conclude(l);
}

static void take_reason(struct lookup *l, enum finding finding, const struct ub_result *result)
{
	(void)collect(l, &l->engine->reply);
	l->text[0] = '\0';
	if (finding == FOUND && result->data[0] != NULL)
		dnswire_text((struct bytes){ result->data[0], (size_t)result->len[0] }, l->text, sizeof l->text);
	answer(l, DNS_OK, l->text);
}

static void take(struct question *q, enum finding finding, const struct ub_result *result)
{
	struct lookup *l = q->lookup;

	if (q->type == TYPE_MX)
		take_mx(l, finding, result);
	else if (q->type == TYPE_PTR)
		take_pointers(l, finding, result);
	else if (q->type == TYPE_TXT)
		take_reason(l, finding, result);
	else if (l->kind == DNS_LIST)
		take_listing(l, finding, result);
	else
		take_addresses(q, finding, result);
}

static void question_done(void *context, int err, struct ub_result *result)
{
	struct question *q = context;
	struct lookup *l = q->lookup;
	bool of_exchanger = q->type == TYPE_A || q->type == TYPE_AAAA;
	enum finding finding = find(l, err, result, of_exchanger ? l->exchanger[q->exchanger].name : l->name);

	q->running = false;
	l->running--;
	take(q, finding, result);
	ub_resolve_free(result);
}

/* ---- the interface ---- */

struct engine *engine_new(const struct settings *s, struct str *error)
{
	struct engine *e = calloc(1, sizeof *e);

	if (e == NULL || (e->ctx = context_new(s, error)) == NULL) {
		free(e);
		return NULL;
	}
	e->timeout_ms = s->dnstimeout * SECOND_MS;
	return e;
}

void engine_free(struct engine *e)
{
	ub_ctx_delete(e->ctx);
	while (e->first != NULL)
		unlink_and_free(e->first);
	free(e);
}

/* May end the lookup. */
static void begin(struct lookup *l)
{
	l->exchanger_count = l->question_count = l->running = 0;
	l->implicit = l->insecure = false;
	self_exchanger(l);
	if (l->kind == DNS_ADDRESS) {
		ask_addresses(l);
		return;
	}
	ask(l, l->name, 0, l->kind == DNS_LIST ? TYPE_A : l->kind == DNS_REVERSE ? TYPE_PTR : TYPE_MX);
	l->exchanger_count = 0;
	if (l->running == 0)
		answer(l, DNS_TEMPORARY, l->text);
}

bool engine_renew(struct engine *e, const struct settings *s, struct str *error)
{
	struct ub_ctx *ctx = context_new(s, error);

	if (ctx == NULL)
		return false;
	ub_ctx_delete(e->ctx);
	e->ctx = ctx;
	e->timeout_ms = s->dnstimeout * SECOND_MS;
	for (struct lookup *l = e->first, *next; l != NULL; l = next) {
		next = l->next;
		begin(l);
	}
	return true;
}

int engine_fd(const struct engine *e)
{
	return ub_fd(e->ctx);
}

bool engine_run(struct engine *e)
{
	return ub_process(e->ctx) == 0;
}

deadline_t engine_deadline(const struct engine *e)
{
	deadline_t first = 0;

	for (const struct lookup *l = e->first; l != NULL; l = l->next)
		first = deadline_earlier(first, l->deadline);
	return first;
}

void engine_expire(struct engine *e, deadline_t now)
{
	char text[TEXT];

	for (struct lookup *l = e->first, *next; l != NULL; l = next) {
		next = l->next;
		if (!deadline_passed(l->deadline, now))
			continue;
		cancel(l);
		text_set(text, "the name servers of %s did not answer in time", l->name);
		answer(l, DNS_TEMPORARY, text);
	}
}

/* RFC 5891 5: what goes into the DNS are A-labels. */
static bool to_ascii(struct bytes name, char out[DOMAIN_MAX + 1])
{
	char given[DOMAIN_MAX + 1];
	uint8_t *ascii = NULL;
	bool good;

	if (name.len > DOMAIN_MAX || !domain_valid(name, true) || !bytes_to_cstring(name, given, sizeof given))
		return false;
	if (domain_valid(name, false)) {
		domain_lower(name, out);
		return true;
	}
	if (idn2_lookup_u8((const uint8_t *)given, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return false;
	good = domain_valid(bytes_of((const char *)ascii), false);
	if (good)
		domain_lower(bytes_of((const char *)ascii), out);
	idn2_free(ascii);
	return good;
}

/* A name that cannot be in the DNS needs no question. */
static void refuse(struct engine *e, lookup_done_fn *done, void *context, uint32_t number)
{
	e->reply.status = DNS_NO_DOMAIN;
	e->reply.secure = false;
	e->reply.count = 0;
	(void)snprintf(e->reply.text, sizeof e->reply.text, "the domain's name is not a valid one");
	done(context, number, &e->reply);
}

bool lookup_start(struct engine *e, enum dns_kind kind, struct bytes name, deadline_t now, lookup_done_fn *done, void *context, uint32_t number)
{
	char ascii[DOMAIN_MAX + 1];
	struct lookup *l;

	if (!to_ascii(name, ascii)) {
		refuse(e, done, context, number);
		return true;
	}
	l = e->count < LOOKUPS_MAX ? calloc(1, sizeof *l) : NULL;
	if (l == NULL)
		return false;
	l->engine = e;
	l->kind = kind;
	memcpy(l->name, ascii, sizeof l->name);
	l->deadline = deadline_in(now, e->timeout_ms);
	l->done = done;
	l->context = context;
	l->number = number;
	link_in(e, l);
	begin(l);
	return true;
}

void lookup_forget(struct engine *e, const void *context)
{
	for (struct lookup *l = e->first, *next; l != NULL; l = next) {
		next = l->next;
		if (l->context != context)
			continue;
		cancel(l);
		unlink_and_free(l);
	}
}
