/*
 * tls - smtpd's end of tlsd: give a client's connection away and go on with the plaintext. No octet of TLS is read here.
 */
#ifndef SMTPD_TLS_H
#define SMTPD_TLS_H

#include "common/channel.h"

#include <signal.h>

#define TLS_ERROR_MAX 400u
#define TLS_BINDING 32u

/* What tlsd said of a session. Text of the client's is reduced to harmless octets. */
struct tls_session {
	bool on;
	bool resumed;
	unsigned bits, algorithm_bits;
	char protocol[17], cipher[65];
	char exchange[201];             /* "key-exchange X25519 server-signature ..." */
	char sni[256], alpn[256];
	unsigned certificate;           /* of the client: 0 none, 1 not verified, 2 verified */
	char subject[401], issuer[401];
	char fingerprint[65];           /* SHA-256, hexadecimal */
	unsigned char binding[TLS_BINDING];  /* RFC 9266 tls-exporter, for SCRAM -PLUS */
	size_t binding_len;             /* 0: this session has none */
};

struct tls_call {
	int control;                    /* -1: no call */
	struct record_reader in;        /* of control */
	int plain;                      /* our end of the plaintext */
};

/* Ask tlsd to take `client` over; it waits for the handshake to begin when this returns true. False: no TLS now (the log says why), the
 * connection is as it was. Blocks for some seconds at the most. `text` names the client in tlsd's log lines. */
bool tls_call_begin(struct tls_call *call, int client, const char *text, bool at_once);
/* Wait for the handshake's end, at most `wait_ms`, or until *stop. True: call->plain is the session's connection and the caller's;
 * false: the connection is lost, `error` (TLS_ERROR_MAX + 1 octets) says why. */
bool tls_call_end(struct tls_call *call, uint64_t wait_ms, const volatile sig_atomic_t *stop, struct tls_session *tls_r, char *error);
void tls_call_abandon(struct tls_call *call);

#endif
