/* relay - tlsd's room: octets both ways. See relay.h. */
#include "relay.h"

#include "context.h"
#include "watch.h"

#include "common/log.h"

#include <errno.h>
#include <sys/socket.h>

#include <openssl/err.h>

#define BUFFER 16384u             /* one TLS record */
#define GOOD_BYE_MS 5000u         /* what smtpd has written must be taken, and the client be gone, in this time after smtpd's end */
#define LEFTOVER_MS 20000u        /* a client that takes nothing of what is left keeps its session so long after smtpd's end */
#define ANSWER_MS 660000u         /* after the client's end smtpd has this long: longer than its own wait for the queue */

enum { CLIENT, PLAIN };

struct lane {
	char *at;
	size_t from, to, most;        /* most: octets that were in it at once */
	bool ended, shut;
};

/* Not on the stack: of the buffers only what is used becomes memory. */
static char up_buffer[BUFFER], down_buffer[BUFFER];

struct relay {
	SSL *ssl;
	int client, plain;
	const char *text;
	struct watch *watch;
	struct lane up, down;         /* from the client; to it */
	bool client_ready, plain_ready;       /* what epoll said, until a read has found the end */
	bool read_wants_write, write_wants_read, write_wants_write;
	bool broken;
	bool left_alone;              /* smtpd has ended, but not all that it wrote has been read */
	deadline_t until;
};

static void lane_fill(struct lane *l, size_t n)
{
	l->from = 0;
	l->to = n;
	l->most = n > l->most ? n : l->most;
}

static void lane_limit(struct relay *r, uint64_t ms)
{
	r->until = deadline_earlier(r->until, deadline_in(clock_monotonic_ms(), ms));
}

/* ---- the client's octets */

static void client_ended(struct relay *r, bool in_order)
{
	if (!in_order && !r->down.ended)
		log_info("TLS connection with %s was cut off without close_notify", r->text);
	r->up.ended = true;
	lane_limit(r, ANSWER_MS);
}

static bool up_read(struct relay *r)
{
	ERR_clear_error();
	int n = SSL_read(r->ssl, r->up.at, BUFFER);
	r->read_wants_write = false;
	r->client_ready = n == BUFFER || (n > 0 && SSL_has_pending(r->ssl) == 1);
	if (n > 0) {
		lane_fill(&r->up, (size_t)n);
		return true;
	}
	switch (SSL_get_error(r->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		return false;
	case SSL_ERROR_WANT_WRITE:
		r->read_wants_write = true;
		return false;
	case SSL_ERROR_ZERO_RETURN:
		client_ended(r, true);
		return true;
	case SSL_ERROR_SYSCALL:
		client_ended(r, false);
		return true;
	default:
		if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
			ERR_clear_error();
			client_ended(r, false);
		} else {
			log_info("TLS error with %s: %s", r->text, tls_error_text());
			r->broken = true;
		}
		return true;
	}
}

static bool up_write(struct relay *r)
{
	struct lane *l = &r->up;
	ssize_t n = send(r->plain, l->at + l->from, l->to - l->from, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* smtpd has closed: it wants no more of it, and the client is let talk to the end. */
	l->from = n < 0 ? l->to : l->from + (size_t)n;
	return true;
}

static bool move_up(struct relay *r)
{
	struct lane *l = &r->up;
	bool moved = l->from < l->to && up_write(r);
	if (l->from == l->to && !l->ended && r->client_ready)
		moved |= up_read(r);
	if (l->from == l->to && l->ended && !l->shut) {
		shutdown(r->plain, SHUT_WR);
		l->shut = true;
	}
	return moved;
}

/* ---- smtpd's octets */

static bool down_read(struct relay *r)
{
	struct lane *l = &r->down;
	ssize_t n = recv(r->plain, l->at, BUFFER, MSG_DONTWAIT);
	r->plain_ready = n == BUFFER;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		l->ended = true;
		lane_limit(r, GOOD_BYE_MS);
		return true;
	}
	lane_fill(l, (size_t)n);
	return true;
}

/* What a write or a shutdown of OpenSSL says: does it go on later? */
static bool wants_more(struct relay *r, int result)
{
	int error = SSL_get_error(r->ssl, result);
	r->write_wants_write = error == SSL_ERROR_WANT_WRITE;
	r->write_wants_read = error == SSL_ERROR_WANT_READ;
	return r->write_wants_write || r->write_wants_read;
}

static bool down_write(struct relay *r)
{
	struct lane *l = &r->down;
	ERR_clear_error();
	int n = SSL_write(r->ssl, l->at + l->from, (int)(l->to - l->from));
	if (n <= 0 && wants_more(r, n))
		return false;
	r->write_wants_write = r->write_wants_read = false;
	if (n <= 0)
		r->broken = true;   /* the client is gone */
	else
		l->from += (size_t)n;
	return true;
}

static bool down_close(struct relay *r)
{
	ERR_clear_error();
	int n = SSL_shutdown(r->ssl);
	if (n < 0 && wants_more(r, n) && r->write_wants_write)
		return false;
	r->write_wants_write = r->write_wants_read = false;
	shutdown(r->client, SHUT_WR);
	r->down.shut = true;
	return true;
}

static bool move_down(struct relay *r)
{
	struct lane *l = &r->down;
	bool moved = false;
	if (l->from == l->to && !l->ended && r->plain_ready)
		moved |= down_read(r);
	if (l->from < l->to)
		moved |= down_write(r);
	if (l->from == l->to && l->ended && !l->shut && !r->broken)
		moved |= down_close(r);
	return moved;
}

/* ---- the loop */

static bool wait_for_more(struct relay *r)
{
	bool up_empty = r->up.from == r->up.to, down_empty = r->down.from == r->down.to;
	uint32_t client = 0, plain = 0;
	if ((up_empty && !r->up.ended) || r->write_wants_read)
		client |= EPOLLIN;
	if (r->write_wants_write || r->read_wants_write)
		client |= EPOLLOUT;
	if (!up_empty)
		plain |= EPOLLOUT;
	if (down_empty && !r->down.ended)
		plain |= EPOLLIN;
	if (!r->down.ended && !r->left_alone)
		plain |= EPOLLRDHUP;
	if (!watch_set(r->watch, CLIENT, r->client, client) || !watch_set(r->watch, PLAIN, r->plain, plain))
		return false;
	int ready = watch_wait(r->watch, r->until);
	r->client_ready |= ready > 0 && ready & 1 << CLIENT;
	r->plain_ready |= ready > 0 && ready & 1 << PLAIN;
	if (ready > 0 && (ready & 1 << PLAIN) && (r->watch->seen[PLAIN] & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && !r->left_alone) {
		r->left_alone = true;
		lane_limit(r, LEFTOVER_MS);
	}
	return ready >= 0;
}

static bool has_ended(const struct relay *r)
{
	return r->up.ended && r->down.shut;
}

static bool is_over(const struct relay *r)
{
	return r->broken || has_ended(r) || deadline_passed(r->until, clock_monotonic_ms());
}

bool relay_run(SSL *ssl, int client, int plain, const char *text, struct watch *watch)
{
	struct relay relay = {
		.ssl = ssl, .client = client, .plain = plain, .text = text, .watch = watch, .up.at = up_buffer, .down.at = down_buffer,
		.client_ready = SSL_has_pending(ssl) == 1,
	};
	struct relay *r = &relay;
	bool ok = true;
	while (ok && !is_over(r))
		if (!(move_up(r) | move_down(r)) && !is_over(r))
			ok = wait_for_more(r);
	shutdown(client, SHUT_RDWR);
	shutdown(plain, SHUT_RDWR);
	OPENSSL_cleanse(up_buffer, r->up.most);
	OPENSSL_cleanse(down_buffer, r->down.most);
	return ok && !r->broken && has_ended(r);
}
