/*
 * keys - the signer: the one process of tlsd that holds private keys. It speaks with no client and reads no octet of one: it gets
 * digests from sessions, of handshakes that go on, and gives back signatures.
 *
 * Files are read as root and parsed as tappal-key, so that keys may belong to either.
 */
#ifndef SMTPD_TLSD_KEYS_H
#define SMTPD_TLSD_KEYS_H

#include "grants.h"
#include "keyless.h"

#include "common/settings.h"

#include <openssl/x509.h>

#define KEYS_MAX 64u
#define CHAIN_MAX 10u            /* certificates in one file */

/* One line of tlscertificates. `text` is the files' text, until keys_parse. */
struct key_entry {
	struct str chain_text, key_text;
	X509 *chain[CHAIN_MAX];
	size_t chain_count;
	EVP_PKEY *key;
	unsigned char id[KEY_ID];
};
struct keys { struct key_entry entry[KEYS_MAX]; size_t count; };

/* Read the files that tlscertificates names. Every fault is one line appended to `faults`: FILE: what; what to do.
 * Warnings are logged. Blocks on disk. */
bool keys_read(const struct settings *settings, struct keys *keys, struct str *faults);
/* Make keys and certificates of them; the text is wiped. */
bool keys_parse(const struct settings *settings, struct keys *keys, struct str *faults);
void keys_free(struct keys *keys);
/* "RSA 2048 bits, mx.example.org, until 2027-01-01" of one entry, for people. */
void keys_describe(const struct key_entry *entry, struct str *out);

/* The certificates down `door`, then sessions' channels come up it (a descriptor with each tls_channel) and are served until it ends and they have.
 * A channel stays open for further clients of its session; a signature that is not owed closes it. */
int keys_serve(const struct keys *keys, int door, const struct grants *grants);

#endif
