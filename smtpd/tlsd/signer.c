/* signer - tlsd's room: the signer's loop. See keys.h. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "keys.h"

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/rsa.h>

#define SIGNATURE_MAX 2048u
#define EVENTS 64

struct signer {
	const struct keys *keys;
	const struct grants *grants;
	int queue;
	int door;                     /* -1: it has ended */
	int *asker;                   /* the channel of the session at each place of the grants; -1: none */
	size_t count;                 /* of them */
};

/* ---- one signature */

static EVP_PKEY *find_key(const struct keys *keys, struct bytes id)
{
	for (size_t i = 0; i < keys->count; i++)
		if (bytes_equal(id, (struct bytes){ (const char *)keys->entry[i].id, KEY_ID }))
			return keys->entry[i].key;
	return NULL;
}

static bool set_padding(EVP_PKEY_CTX *ctx, uint8_t scheme)
{
	if (scheme == SIGN_PKCS1)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

/* Only what a handshake signs: a digest, with one of three paddings, by the kind of key that it fits. */
static bool sign(const struct keys *keys, const struct tls_sign *q, unsigned char *out, size_t *len_r)
{
	EVP_PKEY *key = find_key(keys, q->key);
	const EVP_MD *md = digest_of_size(q->digest.len);
	int kind = key != NULL ? EVP_PKEY_get_base_id(key) : 0;
	bool fits = (kind == EVP_PKEY_EC && q->scheme == SIGN_ECDSA) || (kind == EVP_PKEY_RSA && (q->scheme == SIGN_PKCS1 || q->scheme == SIGN_PSS));
	if (!fits || md == NULL)
		return false;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && (kind == EVP_PKEY_EC || set_padding(ctx, q->scheme))
		&& EVP_PKEY_CTX_set_signature_md(ctx, md) == 1
		&& EVP_PKEY_sign(ctx, out, len_r, (const unsigned char *)q->digest.at, q->digest.len) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

static bool answer(const struct signer *s, int fd, const struct tls_sign *question)
{
	unsigned char octets[SIGNATURE_MAX];
	size_t len = sizeof octets;
	bool good = sign(s->keys, question, octets, &len);
	struct tls_signature signature = { .octets = { (const char *)octets, good ? len : 0 } };
	struct str out = STR_INIT(SIGNATURE_MAX + 100);
	bool sent = tls_signature_encode(&signature, &out) && send(fd, out.at, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.len;
	str_free(&out);
	if (!good)
		log_warn("a session asked for a signature that no handshake needs");
	return good && sent;
}

/* False: this one is done with. A client of his own has brought the one signature that a handshake needs (renegotiation there is none). */
static bool asker_turn(const struct signer *s, size_t place)
{
	char octets[1024];
	struct tls_sign question;
	struct record record;
	size_t used;
	ssize_t n = recv(s->asker[place], octets, sizeof octets, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	if (!grants_take(s->grants, place)) {
		log_warn("a session asked for a signature without a client");
		return false;
	}
	if (record_take((struct bytes){ octets, (size_t)n }, &record, &used) != RECORD_OK || used != (size_t)n || record.type != REC_tls_sign
		|| !tls_sign_decode(record.payload, &question)) {
		log_warn("a session sent what is no question");
		return false;
	}
	return answer(s, s->asker[place], &question) && s->door >= 0;
}

/* ---- sessions come and go */

static void asker_end(struct signer *s, size_t place)
{
	if (s->asker[place] < 0)
		return;
	close(s->asker[place]);
	s->asker[place] = -1;
	s->count--;
}

static bool watch_on(const struct signer *s, int fd, size_t place)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = place };
	return epoll_ctl(s->queue, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Whoever had the place before is dead. */
static void asker_begin(struct signer *s, size_t place, int fd)
{
	asker_end(s, place);
	if (!watch_on(s, fd, place)) {
		log_error("cannot wait for a session: %s", strerror(errno));
		close(fd);
		return;
	}
	s->asker[place] = fd;
	s->count++;
}

/* Nobody gets a client any more: whoever is not in the middle of a handshake needs us no longer, and keys of yesterday should not stay. */
static void door_ended(struct signer *s)
{
	close(s->door);
	s->door = -1;
	for (size_t i = 0; i < s->grants->count; i++)
		if (!grants_owed(s->grants, i))
			asker_end(s, i);
}

/* Channels come as records, each with its descriptor: a door that sends anything else is not to be trusted with more. */
static void channel_take(struct signer *s)
{
	char octets[64];
	struct tls_channel channel;
	struct record record;
	size_t used;
	int fd;
	ssize_t n = passing_receive(s->door, octets, sizeof octets, MSG_DONTWAIT, &fd, 1);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && fd >= 0 && record_take((struct bytes){ octets, (size_t)n }, &record, &used) == RECORD_OK && used == (size_t)n
		&& record.type == REC_tls_channel && tls_channel_decode(record.payload, &channel) && channel.place < s->grants->count) {
		asker_begin(s, channel.place, fd);
		return;
	}
	io_close(&fd);
	door_ended(s);
}

static void turn(struct signer *s)
{
	struct epoll_event event[EVENTS];
	int n = epoll_wait(s->queue, event, EVENTS, -1);
	for (int i = 0; i < n; i++) {
		size_t place = (size_t)event[i].data.u64;
		if (place == s->grants->count)
			channel_take(s);
		else if (s->asker[place] >= 0 && !asker_turn(s, place))
			asker_end(s, place);
	}
}

/* ---- the certificates, which are no secret */

static bool send_chains(const struct keys *keys, int door)
{
	struct str out = STR_INIT(16u << 20);
	bool ok = true;
	for (size_t i = 0; ok && i < keys->count; i++)
		for (size_t j = 0; ok && j < keys->entry[i].chain_count; j++) {
			unsigned char *der = NULL;
			int len = i2d_X509(keys->entry[i].chain[j], &der);
			struct tls_chain one = { .place = (uint32_t)j, .certificate = { (const char *)der, len > 0 ? (size_t)len : 0 } };
			ok = len > 0 && tls_chain_encode(&one, &out);
			OPENSSL_free(der);
		}
	ok = ok && tls_chains_end_encode(&(struct tls_chains_end){ .count = (uint32_t)keys->count }, &out)
		&& io_write_full(door, out.at, out.len) == 0;
	str_free(&out);
	return ok;
}

static bool prepare(struct signer *s)
{
	s->asker = calloc(s->grants->count, sizeof *s->asker);
	for (size_t i = 0; s->asker != NULL && i < s->grants->count; i++)
		s->asker[i] = -1;
	s->queue = epoll_create1(EPOLL_CLOEXEC);
	return s->asker != NULL && s->queue >= 0 && watch_on(s, s->door, s->grants->count);
}

int keys_serve(const struct keys *keys, int door, const struct grants *grants)
{
	struct signer s = { .keys = keys, .grants = grants, .door = door };
	if (!prepare(&s) || !send_chains(keys, door)) {
		log_error("the certificates could not be handed on");
		return EXIT_SYSTEM;
	}
	while (s.door >= 0 || s.count > 0)
		turn(&s);
	close(s.queue);
	free(s.asker);
	return EXIT_OK;
}
