/*
 * context - everything that a handshake needs besides the key: certificates by name, versions, ciphers, what is asked of clients.
 *
 * Made once in the door and inherited by the sessions it forks; never freed there. A context serves the host names of its certificates and
 * holds at most one RSA and one ECDSA certificate; the client's signature algorithms choose between them.
 */
#ifndef SMTPD_TLSD_CONTEXT_H
#define SMTPD_TLSD_CONTEXT_H

#include "keys.h"

#include <openssl/ssl.h>

#define TLS_ALPN "smtp"           /* the only protocol that is spoken here */

struct tls_context {
	SSL_CTX *ctx;
	X509 *leaf[2];            /* RSA, ECDSA; NULL: none */
};
struct tls_contexts { struct tls_context at[KEYS_MAX]; size_t count; };

/* One more chain, which the contexts own afterwards. False with a line in `error`. */
bool contexts_add(struct tls_contexts *all, const struct settings *settings, X509 **chain, size_t count, struct str *error);
/* Shake hands with ourselves once with each certificate: the keys are the right ones, and what OpenSSL loads late is loaded. `grant` is called before
 * each one: the signer owes one more signature. */
bool contexts_try(const struct tls_contexts *all, void (*grant)(void *context), void *context, struct str *error);

/* A server's end. SNI and ALPN are looked after. NULL: no memory. */
SSL *contexts_accept(const struct tls_contexts *all);
/* What OpenSSL complains of, in words; the queue of errors is empty afterwards. */
const char *tls_error_text(void);

#endif
