/* session - tlsd's room: one process for one client after the other. See session.h. */
#include "session.h"

#include "calls.h"
#include "relay.h"
#include "watch.h"

#include "common/channel.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>

#define ASK_MS 15000u             /* smtpd sends its question at once */
#define ASK_MAX 1024u
#define CLIENT_TEXT 400u
#define PART_MS 1000u
#define PART_OCTETS 65536u
#define DESCRIPTORS (SESSION_LAST + 5u)   /* and epoll's, the channel to smtpd, client, plaintext */

enum { CLIENT, CONTROL };

struct session {
	int control, client, plain;   /* -1: closed */
	char text[CLIENT_TEXT + 1];   /* the client, as smtpd calls it */
	struct watch watch;
	SSL *ssl;
	bool once;
};

/* ---- waiting for smtpd */

/* A connection of smtpd's that the door hands over. False: it has closed. */
static bool take_connection(struct session *s)
{
	char octet;
	ssize_t n;
	do
		n = passing_receive(SESSION_DOOR, &octet, 1, 0, &s->control, 1);
	while (n < 0 && errno == EINTR);
	return n > 0 && s->control >= 0;
}

static void limit_waits(int fd, uint64_t ms)
{
	struct timeval wait = { .tv_sec = (time_t)(ms / SECOND_MS) };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}

static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof type;
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool take_question(struct session *s)
{
	char octets[ASK_MAX];
	struct tls_ask ask;
	struct record record;
	size_t used;
	int fd[2];
	limit_waits(s->control, ASK_MS);
	ssize_t n = passing_receive(s->control, octets, sizeof octets, 0, fd, 2);
	if (n <= 0)
		return false;
	if (!is_stream(fd[0]) || !is_stream(fd[1]) || record_take((struct bytes){ octets, (size_t)n }, &record, &used) != RECORD_OK || used != (size_t)n
		|| record.type != REC_tls_ask || !tls_ask_decode(record.payload, &ask) || ask.client.len > CLIENT_TEXT || ask.mode > 1) {
		log_warn("smtpd sent what is no question");
		return false;
	}
	s->client = fd[0];
	s->plain = fd[1];
	snprintf(s->text, sizeof s->text, "%s", log_text(ask.client));
	return true;
}

/* ---- giving up */

static bool limit_descriptors(rlim_t count)
{
	struct rlimit limit = { count, count };
	return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Before there is a client. Where the kernel cannot forbid calls, only a limit of descriptors keeps a process from opening some, and only if it is to be given
 * none any more: each client has his own process then, whatever is set. */
static bool give_up(struct session *s)
{
	struct rlimit none = { 0, 0 };
	bool ok = setrlimit(RLIMIT_NPROC, &none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
		&& limit_descriptors(DESCRIPTORS);
	if (ok && !s->once)
		s->once = !calls_restrict();
	return ok;
}

/* With its only client: it will be given no other. */
static bool give_up_the_door(void)
{
	close(SESSION_DOOR);
	bool ok = limit_descriptors(0);
	(void)calls_restrict();
	return ok;
}

/* ---- telling smtpd */

static bool tell(const struct session *s, const struct str *record)
{
	return send(s->control, record->at, record->len, MSG_NOSIGNAL) == (ssize_t)record->len;
}

static bool tell_ready(const struct session *s)
{
	struct str out = STR_INIT(100);
	bool ok = tls_ready_encode(&(struct tls_ready){ .pid = (uint32_t)getpid() }, &out) && tell(s, &out);
	str_free(&out);
	return ok;
}

static bool tell_facts(const struct session *s, const struct tls_facts *facts)
{
	struct str out = STR_INIT(8000);
	bool ok = tls_facts_encode(facts, &out) && tell(s, &out);
	if (out.at != NULL)
		OPENSSL_cleanse(out.at, out.room);   /* the channel binding */
	str_free(&out);
	return ok;
}

/* "key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256", Postfix's words. */
static void describe_exchange(SSL *ssl, struct str *out)
{
	int group = (int)SSL_get_negotiated_group(ssl), kind = NID_undef, digest = NID_undef;
	X509 *own = SSL_get_certificate(ssl);
	EVP_PKEY *key = own != NULL ? X509_get0_pubkey(own) : NULL;
	char curve[64];
	const char *name = group != NID_undef ? SSL_group_to_name(ssl, group) : NULL;
	if (name != NULL)
		str_addf(out, "key-exchange %s", name);
	if (key == NULL || SSL_get_signature_type_nid(ssl, &kind) != 1)
		return;
	str_addf(out, "%sserver-signature %s", out->len > 0 ? " " : "",
		kind == EVP_PKEY_RSA_PSS ? "RSA-PSS" : kind == EVP_PKEY_EC ? "ECDSA" : OBJ_nid2sn(kind));
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) == 1)
		str_addf(out, " (%s)", curve);
	else
		str_addf(out, " (%d bits)", EVP_PKEY_get_bits(key));
	if (SSL_get_signature_nid(ssl, &digest) == 1 && digest != NID_undef)
		str_addf(out, " server-digest %s", OBJ_nid2sn(digest));
}

static struct bytes name_text(const X509_NAME *name, struct str *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at = NULL;
	long len = bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0 ? BIO_get_mem_data(bio, &at) : 0;
	if (len > 0)
		str_add(out, (struct bytes){ at, (size_t)len < 400 ? (size_t)len : 400 });
	BIO_free(bio);
	return str_bytes(out);
}

static bool tell_success(const struct session *s)
{
	struct str exchange = STR_INIT(200), subject = STR_INIT(400), issuer = STR_INIT(400);
	unsigned char print[EVP_MAX_MD_SIZE], binding[32];
	const unsigned char *alpn = NULL;
	unsigned int print_len = 0, alpn_len = 0;
	int algorithm_bits = 0, bits = SSL_CIPHER_get_bits(SSL_get_current_cipher(s->ssl), &algorithm_bits);
	X509 *cert = SSL_get0_peer_certificate(s->ssl);
	struct tls_facts facts = {
		.ok = 1, .protocol = bytes_of(SSL_get_version(s->ssl)), .cipher = bytes_of(SSL_get_cipher_name(s->ssl)), .bits = (uint16_t)bits,
		.algorithm_bits = (uint16_t)algorithm_bits, .resumed = SSL_session_reused(s->ssl) == 1,
		.sni = bytes_of(SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name)),
	};
	describe_exchange(s->ssl, &exchange);
	facts.exchange = str_bytes(&exchange);
	SSL_get0_alpn_selected(s->ssl, &alpn, &alpn_len);
	facts.alpn = (struct bytes){ (const char *)alpn, alpn_len };
	if (cert != NULL && X509_digest(cert, EVP_sha256(), print, &print_len) == 1) {
		facts.certificate = SSL_get_verify_result(s->ssl) == X509_V_OK ? 2 : 1;
		facts.fingerprint = (struct bytes){ (const char *)print, print_len };
		facts.subject = name_text(X509_get_subject_name(cert), &subject);
		facts.issuer = name_text(X509_get_issuer_name(cert), &issuer);
	}
	/* RFC 9266: with TLS 1.2 only where the master secret is bound to the handshake (RFC 7627). */
	if ((SSL_version(s->ssl) == TLS1_3_VERSION || SSL_get_extms_support(s->ssl) == 1)
		&& SSL_export_keying_material(s->ssl, binding, sizeof binding, "EXPORTER-Channel-Binding", 24, (const unsigned char *)"", 0, 1) == 1)
		facts.binding = (struct bytes){ (const char *)binding, sizeof binding };
	bool ok = tell_facts(s, &facts);
	OPENSSL_cleanse(binding, sizeof binding);
	str_free(&exchange);
	str_free(&subject);
	str_free(&issuer);
	return ok;
}

/* ---- the handshake */

/* NULL: done. Else why not. */
static const char *shake_hands(struct session *s, deadline_t until)
{
	for (;;) {
		ERR_clear_error();
		int result = SSL_do_handshake(s->ssl), error = SSL_get_error(s->ssl, result);
		if (result == 1)
			return NULL;
		if (error == SSL_ERROR_SYSCALL || (error == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING))
			return "lost connection";
		if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
			return tls_error_text();
		if (!watch_set(&s->watch, CLIENT, s->client, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT))
			return "the system fails";
		int ready = watch_wait(&s->watch, until);
		if (ready < 0 || ready & 1 << CONTROL)
			return "smtpd is gone";
		if (ready == 0 && deadline_passed(until, clock_monotonic_ms()))
			return "timeout";
	}
}

static bool begin_tls(struct session *s, const struct room *room)
{
	s->ssl = contexts_accept(room->contexts);
	return s->ssl != NULL && SSL_set_fd(s->ssl, s->client) == 1 && io_set_nonblocking(s->client, true) == 0
		&& watch_set(&s->watch, CONTROL, s->control, EPOLLIN | EPOLLRDHUP);
}

/* The client's last flight has no answer in TLS 1.3 where there are no tickets. A client with Nagle's algorithm would keep EHLO back until our
 * kernel acknowledges that flight, 40 ms later. */
static void acknowledge(int client)
{
	int on = 1;
	(void)setsockopt(client, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

static bool handshake(struct session *s, const struct room *room)
{
	const char *failure = shake_hands(s, deadline_in(clock_monotonic_ms(), room->settings->tlstimeout * SECOND_MS));
	if (failure == NULL)
		acknowledge(s->client);
	bool good = failure == NULL && tell_success(s);
	if (failure != NULL)
		tell_facts(s, &(struct tls_facts){ .error = bytes_of(failure) });
	watch_set(&s->watch, CONTROL, -1, 0);
	io_close(&s->control);
	if (s->once)
		close(SESSION_SIGNER);
	return good;
}

/* A close with unread input would make the kernel throw away the alert on its way. */
static void part(struct session *s)
{
	char octets[4096];
	deadline_t until = deadline_in(clock_monotonic_ms(), PART_MS);
	shutdown(s->client, SHUT_WR);
	for (size_t total = 0; total < PART_OCTETS && !deadline_passed(until, clock_monotonic_ms());) {
		ssize_t n = recv(s->client, octets, sizeof octets, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			break;
		total += n > 0 ? (size_t)n : 0;
		if (n < 0 && (!watch_set(&s->watch, CLIENT, s->client, EPOLLIN) || watch_wait(&s->watch, until) < 0))
			break;
	}
	shutdown(s->client, SHUT_RDWR);
}

/* ---- one client after the other */

/* True: nothing failed. Only that makes the process fit for another client. */
static bool serve(struct session *s, const struct room *room)
{
	if ((s->once && !give_up_the_door()) || !begin_tls(s, room)) {
		log_error("no session with %s: %s", s->text, strerror(errno));
		return false;
	}
	if (tell_ready(s) && handshake(s, room))
		return relay_run(s->ssl, s->client, s->plain, s->text, &s->watch);
	part(s);
	return false;
}

/* OpenSSL wipes its secrets and what it decrypted (SSL_OP_CLEANSE_PLAINTEXT) by itself. */
static void forget(struct session *s)
{
	for (size_t i = 0; i < WATCH_SLOTS; i++)
		watch_set(&s->watch, i, -1, 0);
	SSL_free(s->ssl);
	s->ssl = NULL;
	io_close(&s->client);
	io_close(&s->plain);
	OPENSSL_cleanse(s->text, sizeof s->text);
	ERR_clear_error();
}

static bool tell_door(void)
{
	const char done = SESSION_DONE;
	return send(SESSION_DOOR, &done, 1, MSG_NOSIGNAL) == 1;
}

int session_live(const struct room *room)
{
	static struct session s = { .control = -1, .client = -1, .plain = -1 };
	bool good = true;
	s.once = room->once;
	keyless_ask_on(SESSION_SIGNER);
	if (!watch_init(&s.watch) || !give_up(&s)) {
		log_error("a session cannot begin: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	while (good && take_connection(&s)) {
		good = take_question(&s) && serve(&s, room);
		if (good)
			forget(&s);
		good = good && !s.once && tell_door();
	}
	return EXIT_OK;
}
