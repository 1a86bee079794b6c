/* dns - the asking side of resolver's socket. Room: remote (and smtpd). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/io.h"
#include "common/paths.h"
#include "common/sibling.h"
#include "dns.h"

#define QUERY 1u     /* one question a connection */

static bool ask(int fd, enum dns_kind kind, struct bytes name, deadline_t deadline)
{
	struct dns_ask question = { .query = QUERY, .kind = (uint8_t)kind, .name = name };
	struct str out = STR_INIT(RECORD_MAX);
	bool sent = dns_ask_encode(&question, &out) && io_write_by(fd, out.at, out.len, deadline) == 0;

	str_free(&out);
	return sent;
}

static bool answer_take(const struct record *record, struct dns_reply *reply, uint32_t *count_r)
{
	struct dns_answer answer;

	if (record->type != REC_dns_answer || !dns_answer_decode(record->payload, &answer))
		return false;
	if (answer.query != QUERY || answer.status > DNS_MX_UNRESOLVED || answer.count > DNS_HOSTS_MAX)
		return false;
	reply->status = (enum dns_status)answer.status;
	reply->secure = answer.secure == 1;
	*count_r = answer.count;
	return bytes_to_cstring(answer.text, reply->text, sizeof reply->text);
}

static bool host_take(const struct record *record, struct dns_address *to)
{
	struct dns_host host;

	if (record->type != REC_dns_host || !dns_host_decode(record->payload, &host) || host.query != QUERY)
		return false;
	if (host.address.len != 0 && host.address.len != 4 && host.address.len != 16)
		return false;
	*to = (struct dns_address){ .preference = host.preference };
	to->addr.family = host.address.len == 4 ? AF_INET : host.address.len == 16 ? AF_INET6 : 0;
	for (size_t i = 0; i < host.address.len; i++)
		to->addr.octets[i] = (uint8_t)host.address.at[i];
	return bytes_to_cstring(host.name, to->name, sizeof to->name);
}

static bool hear(int fd, deadline_t deadline, struct dns_reply *reply)
{
	struct record_reader reader;
	struct record record;
	uint32_t count = 0;
	bool good;

	record_reader_init(&reader, fd);
	good = record_reader_wait(&reader, &record, deadline) == 1 && answer_take(&record, reply, &count);
	for (reply->count = 0; good && reply->count < count; reply->count++)
		good = record_reader_wait(&reader, &record, deadline) == 1 && host_take(&record, &reply->host[reply->count]);
	record_reader_free(&reader);
	return good;
}

static void give_up(struct dns_reply *reply, const char *why)
{
	reply->status = DNS_TEMPORARY;
	reply->secure = false;
	reply->count = 0;
	(void)snprintf(reply->text, sizeof reply->text, "%s: %s", why, strerror(errno));
}

void dns_query(enum dns_kind kind, struct bytes name, deadline_t deadline, struct dns_reply *reply_r)
{
	int left = deadline_poll_ms(deadline, clock_monotonic_ms());
	int fd = sibling_connect(SOCKET_RESOLVER, NULL, left < 0 ? 0 : left == 0 ? 1 : (uint64_t)left);

	reply_r->text[0] = '\0';
	reply_r->count = 0;
	if (fd == -1) {
		give_up(reply_r, "the resolver is not running");
		return;
	}
	if (io_set_nonblocking(fd, true) == -1 || !ask(fd, kind, name, deadline) || !hear(fd, deadline, reply_r))
		give_up(reply_r, "the resolver did not answer");
	(void)close(fd);
}
