/* context - tlsd's room: certificates by name, versions, ciphers. See context.h. */
#include "context.h"

#include "common/domain.h"
#include "common/log.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#define CLIENT_CHAIN_OCTETS 32768
#define CA_DEPTH 5

const char *tls_error_text(void)
{
	unsigned long error = ERR_peek_last_error();
	const char *text = error != 0 ? ERR_reason_error_string(error) : NULL;
	ERR_clear_error();
	return text != NULL ? text : "unknown error";
}

/* ---- names */

static bool name_fits(struct bytes pattern, struct bytes host)
{
	if (pattern.len > 2 && pattern.at[0] == '*' && pattern.at[1] == '.') {
		size_t dot = bytes_find(host, '.');
		return dot > 0 && dot < host.len && bytes_equal_nocase(bytes_slice(pattern, 1, pattern.len), bytes_slice(host, dot, host.len));
	}
	return bytes_equal_nocase(pattern, host);
}

static bool any_name(X509 *leaf, bool (*test)(struct bytes name, const void *context), const void *context)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	bool found = false;
	for (int i = 0; names != NULL && !found && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type == GEN_DNS)
			found = test((struct bytes){ (const char *)ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName) }, context);
	}
	bool none = names == NULL;
	GENERAL_NAMES_free(names);
	char common[256];
	if (none && X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, common, sizeof common) > 0)
		found = test(bytes_of(common), context);
	return found;
}

static bool test_exact(struct bytes name, const void *host)
{
	return bytes_equal_nocase(name, bytes_of(host));
}

static bool test_pattern(struct bytes name, const void *host)
{
	return name_fits(name, bytes_of(host));
}

static X509 *first_leaf(const struct tls_context *c)
{
	return c->leaf[0] != NULL ? c->leaf[0] : c->leaf[1];
}

static bool test_missing(struct bytes name, const void *other)
{
	char host[DOMAIN_MAX + 2];
	return bytes_to_cstring(name, host, sizeof host) && !any_name((X509 *)(uintptr_t)other, test_exact, host);
}

/* The context for a name: the one that says it exactly, then the one with a wildcard, then the first. */
static const struct tls_context *context_for(const struct tls_contexts *all, const char *host)
{
	for (size_t i = 0; i < all->count; i++)
		if (any_name(first_leaf(&all->at[i]), test_exact, host))
			return &all->at[i];
	for (size_t i = 0; i < all->count; i++)
		if (any_name(first_leaf(&all->at[i]), test_pattern, host))
			return &all->at[i];
	return &all->at[0];
}

/* RFC 6066 3: a name that nobody has here is no reason to end a session of mail; the client decides what it makes of the certificate. */
static int choose_by_name(SSL *ssl, int *alert, void *context)
{
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	(void)alert;
	if (host != NULL)
		SSL_set_SSL_CTX(ssl, context_for(context, host)->ctx);
	return SSL_TLSEXT_ERR_OK;
}

/* A client that offers protocols and not ours was led here from another service (ALPACA): RFC 7301 3.2, the alert. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned int in_len, void *context)
{
	static const unsigned char ours[] = TLS_ALPN;
	(void)ssl;
	(void)context;
	for (unsigned int i = 0; i < in_len && in[i] <= in_len - i - 1; i += in[i] + 1u)
		if (in[i] == sizeof ours - 1 && memcmp(in + i + 1, ours, sizeof ours - 1) == 0) {
			*out = in + i + 1;
			*out_len = in[i];
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- a context */

static int take_any_certificate(int good, X509_STORE_CTX *store)
{
	(void)good;
	(void)store;
	return 1;   /* tlsclientcerts ask: the result is kept and told, the session goes on */
}

static bool set_client_certificates(SSL_CTX *ctx, const struct settings *s, struct str *error)
{
	bool ask = bytes_equal(s->tlsclientcerts, LIT("ask")), require = bytes_equal(s->tlsclientcerts, LIT("require"));
	char path[1024];
	if (!ask && !require)
		return true;
	SSL_CTX_set_verify_depth(ctx, CA_DEPTH);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE | (require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
		require ? NULL : take_any_certificate);
	if (s->tlsclientca.len == 0 && !require)
		return true;
	STACK_OF(X509_NAME) *names = NULL;
	if (s->tlsclientca.len == 0 || !bytes_to_cstring(s->tlsclientca, path, sizeof path) || SSL_CTX_load_verify_file(ctx, path) != 1
		|| (names = SSL_load_client_CA_file(path)) == NULL) {
		str_addf(error, "tlsclientca: %s: %s",
			s->tlsclientca.len > 0 ? log_text(s->tlsclientca) : "it is not set, and tlsclientcerts requires it", tls_error_text());
		return false;
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	return true;
}

/* Tickets are sealed with a key that all sessions of this door hold. Without them nothing is remembered of a session. */
static void set_tickets(SSL_CTX *ctx, bool tickets)
{
	static const unsigned char id[] = "tappal";
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
	if (tickets)
		return;
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(ctx, 0);
}

static bool set_ciphers(SSL_CTX *ctx, const struct settings *s, struct str *error)
{
	struct str list = STR_INIT(4000), suites = STR_INIT(4000);
	/* The signer decrypts nothing, so key exchange by RSA is out, as are ciphers without a certificate. */
	bool built = str_add(&list, s->tlsciphers) && str_add_c(&list, ":!kRSA:!aNULL:!eNULL:!PSK:!SRP:!kDH:!kECDH") && str_add(&suites, s->tlsciphersuites);
	bool good = built && SSL_CTX_set_cipher_list(ctx, str_c(&list)) == 1;
	if (!good)
		str_addf(error, "tlsciphers: \"%s\" names no cipher; see openssl-ciphers(1)", log_text(s->tlsciphers));
	if (good && suites.len > 0 && SSL_CTX_set_ciphersuites(ctx, str_c(&suites)) != 1) {
		str_addf(error, "tlsciphersuites: \"%s\" names no cipher of TLS 1.3; write names like TLS_AES_256_GCM_SHA384, with colons between",
			log_text(s->tlsciphersuites));
		good = false;
	}
	str_free(&list);
	str_free(&suites);
	ERR_clear_error();
	return good;
}

static SSL_CTX *context_new(struct tls_contexts *all, const struct settings *s, struct str *error)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	bool only13 = bytes_equal(s->tlsminimum, LIT("1.3"));
	if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, only13 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1) {
		str_addf(error, "no TLS: %s", tls_error_text());
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA
		| SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);   /* one read for a record instead of two */
	SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN_OCTETS);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_by_name);
	SSL_CTX_set_tlsext_servername_arg(ctx, all);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	set_tickets(ctx, s->tlstickets);
	if (set_ciphers(ctx, s, error) && set_client_certificates(ctx, s, error))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

/* The context that has the same names and no certificate of this kind yet, or a new one. */
static struct tls_context *context_to_join(struct tls_contexts *all, const struct settings *s, X509 *leaf, int kind, struct str *error)
{
	for (size_t i = 0; i < all->count; i++) {
		X509 *other = first_leaf(&all->at[i]);
		if (all->at[i].leaf[kind] == NULL && !any_name(leaf, test_missing, other) && !any_name(other, test_missing, leaf))
			return &all->at[i];
	}
	if (all->count == KEYS_MAX)
		return NULL;
	SSL_CTX *ctx = context_new(all, s, error);
	if (ctx == NULL)
		return NULL;
	all->at[all->count] = (struct tls_context){ .ctx = ctx };
	return &all->at[all->count++];
}

bool contexts_add(struct tls_contexts *all, const struct settings *settings, X509 **chain, size_t count, struct str *error)
{
	EVP_PKEY *public = X509_get0_pubkey(chain[0]), *key = public != NULL ? keyless_key(public) : NULL;
	int kind = public != NULL && EVP_PKEY_get_base_id(public) == EVP_PKEY_EC ? 1 : 0;
	STACK_OF(X509) *rest = sk_X509_new_null();
	struct tls_context *c = key != NULL && rest != NULL ? context_to_join(all, settings, chain[0], kind, error) : NULL;
	bool ok = c != NULL;
	for (size_t i = 1; ok && i < count; i++)
		ok = sk_X509_push(rest, chain[i]) > 0;
	ok = ok && SSL_CTX_use_cert_and_key(c->ctx, chain[0], key, rest, 0) == 1;
	if (!ok && error->len == 0)
		str_addf(error, "a certificate cannot be used: %s", tls_error_text());
	if (ok)
		c->leaf[kind] = chain[0];
	sk_X509_free(rest);
	EVP_PKEY_free(key);
	return ok;
}

SSL *contexts_accept(const struct tls_contexts *all)
{
	SSL *ssl = SSL_new(all->at[0].ctx);
	if (ssl != NULL)
		SSL_set_accept_state(ssl);
	return ssl;
}

/* ---- a handshake with ourselves */

static bool shake(SSL *client, SSL *server)
{
	for (int turn = 0; turn < 20; turn++) {
		int c = SSL_do_handshake(client), s = SSL_do_handshake(server);
		if (c == 1 && s == 1)
			return true;
		if ((c != 1 && SSL_get_error(client, c) != SSL_ERROR_WANT_READ) || (s != 1 && SSL_get_error(server, s) != SSL_ERROR_WANT_READ))
			return false;
	}
	return false;
}

static bool try_one(const struct tls_context *c, int kind)
{
	static const char *const algorithms[] = { "RSA-PSS+SHA256:RSA+SHA256", "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512" };
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *client = ctx != NULL ? SSL_new(ctx) : NULL, *server = SSL_new(c->ctx);
	BIO *a = NULL, *b = NULL;
	bool ok = client != NULL && server != NULL && BIO_new_bio_pair(&a, 0, &b, 0) == 1;
	if (ok) {
		SSL_set_bio(client, a, a);
		SSL_set_bio(server, b, b);
		SSL_set_connect_state(client);
		SSL_set_accept_state(server);
		SSL_set_verify(server, SSL_VERIFY_NONE, NULL);
		ok = SSL_set1_sigalgs_list(client, algorithms[kind]) == 1 && shake(client, server);
	}
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(ctx);
	return ok;
}

bool contexts_try(const struct tls_contexts *all, void (*grant)(void *context), void *context, struct str *error)
{
	for (size_t i = 0; i < all->count; i++)
		for (int kind = 0; kind < 2; kind++) {
			if (all->at[i].leaf[kind] == NULL)
				continue;
			grant(context);
			if (!try_one(&all->at[i], kind)) {
				str_addf(error, "a handshake with certificate %zu of tlscertificates does not work: %s", i + 1, tls_error_text());
				return false;
			}
			ERR_clear_error();
		}
	return true;
}
