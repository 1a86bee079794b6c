/* proxy - smtpd's room: the client that a front announces. See proxy.h. */
#include "proxy.h"

#include "proxyhead.h"

#include "common/io.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>

#define PROXY_WAIT_MS 10000u

/* The next octets, looked at only: what follows the header may be a TLS handshake, which is another process's. 0: none came. */
static size_t peek(struct session *s, char *at, size_t room, deadline_t until, const char **why)
{
	for (;;) {
		int ready = io_wait_readable(s->in, until);
		ssize_t n = ready > 0 ? recv(s->in, at, room, MSG_PEEK | MSG_DONTWAIT) : -1;
		if (n > 0)
			return (size_t)n;
		if (n < 0 && ready != 0 && (errno == EINTR || errno == EAGAIN) && !(s->stop != NULL && *s->stop))
			continue;
		*why = ready == 0 ? "it did not come in time" : "the connection ended before it";
		return 0;
	}
}

/* Everything that was looked at and belongs to the header is taken, so that a wait waits for more. */
static bool take(struct session *s, char *at, size_t n)
{
	if (recv(s->in, at, n, 0) != (ssize_t)n)
		return false;
	linein_fed(&s->lines, n);
	return true;
}

/* The line buffer is empty yet, and longer than any header. */
static bool read_header(struct session *s, struct proxyhead *head, const char **why)
{
	uint64_t wait_ms = s->settings->timeoutsmtpd * SECOND_MS;
	deadline_t until = deadline_in(clock_monotonic_ms(), wait_ms < PROXY_WAIT_MS ? wait_ms : PROXY_WAIT_MS);
	for (;;) {
		size_t room, had = linein_rest(&s->lines).len;
		char *at = linein_space(&s->lines, &room);
		size_t n = peek(s, at, room < PROXYHEAD_MAX ? room : PROXYHEAD_MAX, until, why);
		if (n == 0)
			return false;
		enum proxyhead_result result = proxyhead_parse((struct bytes){ at - had, had + n }, head);
		*why = "what came is none";
		if (result == PROXYHEAD_BAD || !take(s, at, result == PROXYHEAD_DONE ? head->size - had : n))
			return false;
		if (result == PROXYHEAD_DONE)
			return true;
	}
}

bool proxy_begin(struct session *s)
{
	struct proxyhead head;
	struct peer client;
	const char *why = NULL;
	if (!s->peer->is_socket || !access_in(&s->access->proxies, &s->peer->addr))
		return true;
	if (!read_header(s, &head, &why)) {
		log_info("no PROXY header from %s: %s; disconnecting", s->peer->text, why);
		return false;
	}
	linein_take(&s->lines, linein_rest(&s->lines).len);
	if (head.announced) {
		peer_announced(&head.client, true, "", &client);
		session_become(s, &client);
		s->connected = client.addr;
	}
	return true;
}
