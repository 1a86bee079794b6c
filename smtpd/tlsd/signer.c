/* signer - tlsd's room: the signer's loop. See keys.h. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "keys.h"

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/rsa.h>

#define ASKERS_MAX 2048u
#define SIGNATURES_EACH 1u        /* of a session: a handshake needs one (renegotiation there is none) */
#define SIGNATURE_MAX 2048u

struct asker { int fd; unsigned left; };
struct signer {
	const struct keys *keys;
	int door;                     /* -1: it has ended */
	struct asker asker[ASKERS_MAX];
	size_t count;
	struct pollfd poll[ASKERS_MAX + 1];
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

/* False: this one is done with. */
static bool asker_turn(const struct signer *s, struct asker *a)
{
	char octets[1024];
	struct tls_sign question;
	struct record record;
	size_t used;
	ssize_t n = recv(a->fd, octets, sizeof octets, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0 || a->left-- == 0)
		return false;
	if (record_take((struct bytes){ octets, (size_t)n }, &record, &used) != RECORD_OK || used != (size_t)n || record.type != REC_tls_sign
		|| !tls_sign_decode(record.payload, &question)) {
		log_warn("a session sent what is no question");
		return false;
	}
	return answer(s, a->fd, &question) && a->left > 0;
}

/* ---- sessions come and go */

/* An octet with a descriptor: a session's channel. -1: the door has closed. -2: none now. */
static int take_channel(int door)
{
	char octet;
	int fd;
	ssize_t n = passing_receive(door, &octet, 1, MSG_DONTWAIT, &fd, 1);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return -1;
	return fd >= 0 ? fd : -2;
}

static void channels_take(struct signer *s)
{
	while (s->count < ASKERS_MAX) {
		int fd = take_channel(s->door);
		if (fd == -2)
			return;
		if (fd == -1) {
			close(s->door);
			s->door = -1;
			return;
		}
		s->asker[s->count++] = (struct asker){ .fd = fd, .left = SIGNATURES_EACH };
	}
}

static void turn(struct signer *s)
{
	size_t polled = s->count, kept = 0;
	for (size_t i = 0; i < polled; i++)
		s->poll[i] = (struct pollfd){ .fd = s->asker[i].fd, .events = POLLIN };
	s->poll[polled] = (struct pollfd){ .fd = s->count < ASKERS_MAX ? s->door : -1, .events = POLLIN };
	if (poll(s->poll, polled + 1, -1) < 0)
		return;
	for (size_t i = 0; i < polled; i++) {
		struct asker a = s->asker[i];
		if (s->poll[i].revents == 0 || asker_turn(s, &a))
			s->asker[kept++] = a;
		else
			close(a.fd);
	}
	s->count = kept;
	if (s->door >= 0 && s->poll[polled].revents != 0)
		channels_take(s);
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

int keys_serve(const struct keys *keys, int door)
{
	struct signer *s = calloc(1, sizeof *s);
	if (s == NULL || !send_chains(keys, door)) {
		log_error("the certificates could not be handed on");
		free(s);
		return EXIT_SYSTEM;
	}
	s->keys = keys;
	s->door = door;
	while (s->door >= 0 || s->count > 0)
		turn(s);
	free(s);
	return EXIT_OK;
}
