/* dns - the asking side of resolver's socket. Room: common. */
#include "dns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "io.h"
#include "paths.h"
#include "sibling.h"

struct asking {
	const struct dns_question *question;
	size_t count;
	bool answered[DNS_QUESTIONS_MAX];
	deadline_t deadline;
	struct record_reader reader;
};

static uint64_t left(deadline_t deadline)
{
	deadline_t now = clock_monotonic_ms();

	return deadline > now ? deadline - now : 1;
}

/* A question's place is its number. */
static bool ask(int fd, const struct asking *a)
{
	struct str out = STR_INIT(DNS_QUESTIONS_MAX * 300);
	bool good = true;

	for (size_t i = 0; good && i < a->count; i++) {
		struct dns_ask record = { .query = (uint32_t)i, .kind = (uint8_t)a->question[i].kind, .name = a->question[i].name };

		good = dns_ask_encode(&record, &out);
	}
	good = good && io_write_by(fd, out.at, out.len, a->deadline) == 0;
	str_free(&out);
	return good;
}

static bool answer_take(const struct asking *a, const struct record *record, uint32_t *query_r, struct dns_reply *reply, uint32_t *count_r)
{
	struct dns_answer answer;

	if (record->type != REC_dns_answer || !dns_answer_decode(record->payload, &answer))
		return false;
	if (answer.query >= a->count || a->answered[answer.query] || answer.status > DNS_MX_UNRESOLVED || answer.count > DNS_HOSTS_MAX)
		return false;
	reply->status = (enum dns_status)answer.status;
	reply->secure = answer.secure == 1;
	*query_r = answer.query;
	*count_r = answer.count;
	return bytes_to_cstring(answer.text, reply->text, sizeof reply->text);
}

static bool host_take(const struct record *record, uint32_t query, struct dns_address *to)
{
	struct dns_host host;

	if (record->type != REC_dns_host || !dns_host_decode(record->payload, &host) || host.query != query)
		return false;
	if (host.address.len != 0 && host.address.len != 4 && host.address.len != 16)
		return false;
	*to = (struct dns_address){ .preference = host.preference };
	to->addr.family = host.address.len == 4 ? AF_INET : host.address.len == 16 ? AF_INET6 : 0;
	for (size_t i = 0; i < host.address.len; i++)
		to->addr.octets[i] = (uint8_t)host.address.at[i];
	return bytes_to_cstring(host.name, to->name, sizeof to->name);
}

static bool next_record(struct asking *a, struct record *record_r)
{
	int got = record_reader_wait(&a->reader, record_r, a->deadline);

	if (got == 0)
		errno = ECONNRESET;
	return got == 1;
}

/* One answer with its hosts. */
static bool hear(struct asking *a, uint32_t *query_r, struct dns_reply *reply)
{
	struct record record;
	uint32_t count = 0;
	bool good = next_record(a, &record);

	if (good && !answer_take(a, &record, query_r, reply, &count)) {
		errno = EPROTO;
		return false;
	}
	for (reply->count = 0; good && reply->count < count; reply->count++)
		good = next_record(a, &record) && host_take(&record, *query_r, &reply->host[reply->count]);
	return good;
}

static void hear_all(int fd, struct asking *a, struct dns_reply *reply, dns_take_fn *take, void *context)
{
	uint32_t query;

	record_reader_init(&a->reader, fd);
	for (size_t n = 0; n < a->count && hear(a, &query, reply); n++) {
		a->answered[query] = true;
		take(context, query, reply);
	}
	record_reader_free(&a->reader);
}

void dns_query_all(const struct dns_question *question, size_t count, deadline_t deadline, dns_take_fn *take, void *context)
{
	struct asking a = { .question = question, .count = count < DNS_QUESTIONS_MAX ? count : DNS_QUESTIONS_MAX, .deadline = deadline };
	struct dns_reply reply;
	int fd = sibling_connect(SOCKET_RESOLVER, NULL, left(deadline));

	errno = fd == -1 ? errno : 0;
	if (fd != -1 && io_set_nonblocking(fd, true) == 0 && ask(fd, &a))
		hear_all(fd, &a, &reply, take, context);
	reply.status = DNS_TEMPORARY;
	reply.secure = false;
	reply.count = 0;
	(void)snprintf(reply.text, sizeof reply.text, "the resolver %s: %s", fd == -1 ? "is not running" : "did not answer", strerror(errno));
	if (fd != -1)
		(void)close(fd);
	for (size_t i = 0; i < count; i++)
		if (i >= a.count || !a.answered[i])
			take(context, i, &reply);
}

static void keep(void *context, size_t index, const struct dns_reply *reply)
{
	struct dns_reply *to = context;

	(void)index;
	to->status = reply->status;
	to->secure = reply->secure;
	to->count = reply->count;
	memcpy(to->text, reply->text, sizeof to->text);
	memcpy(to->host, reply->host, reply->count * sizeof to->host[0]);
}

void dns_query(enum dns_kind kind, struct bytes name, deadline_t deadline, struct dns_reply *reply_r)
{
	dns_query_all(&(struct dns_question){ .kind = kind, .name = name }, 1, deadline, keep, reply_r);
}

bool dns_reverse_name(const struct netaddr *a, struct bytes zone, char name_r[DNS_NAME_MAX + 1])
{
	struct str name = STR_INIT(DNS_NAME_MAX);
	size_t octets = a->family == AF_INET ? 4 : a->family == AF_INET6 ? 16 : 0;

	for (size_t i = octets; i-- > 0;)
		(void)(octets == 4 ? str_addf(&name, "%u.", a->octets[i]) : str_addf(&name, "%x.%x.", a->octets[i] & 15u, a->octets[i] >> 4));
	(void)(zone.len > 0 ? str_add(&name, zone) : str_add_c(&name, octets == 4 ? "in-addr.arpa" : "ip6.arpa"));
	bool good = octets > 0 && !name.failed && bytes_to_cstring(str_bytes(&name), name_r, DNS_NAME_MAX + 1);
	str_free(&name);
	return good;
}
