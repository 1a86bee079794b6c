/*
 * keyless - private keys that are somewhere else. A process that speaks with clients has certificates and these stand-ins;
 * for the one signature of a handshake it asks the signer (keys.h), which never tells it a key.
 *
 * RSA and elliptic curves (ECDSA). One channel a process: it blocks for an answer, for a few seconds at the most. After a question without a
 * good answer the channel is of no use: the answer may come late.
 */
#ifndef SMTPD_TLSD_KEYLESS_H
#define SMTPD_TLSD_KEYLESS_H

#include <stdbool.h>

#include <openssl/evp.h>

#define KEY_ID 32           /* octets: SHA-256 of the public key, DER (SubjectPublicKeyInfo) */

enum sign_scheme { SIGN_PKCS1 = 1, SIGN_PSS = 2, SIGN_ECDSA = 3 };

/* Once a process, before the first stand-in is made. False: no memory. */
bool keyless_init(void);
/* Where this process asks: a SOCK_SEQPACKET whose far end the signer has. It is not closed here. */
void keyless_ask_on(int fd);

/* A stand-in for the private half of `public`; the caller frees it. NULL: its kind is neither RSA nor EC, or no memory. */
EVP_PKEY *keyless_key(EVP_PKEY *public);

bool key_id(const EVP_PKEY *key, unsigned char id_r[KEY_ID]);
/* The digest of so many octets; NULL: none that is used here. */
const EVP_MD *digest_of_size(size_t octets);

#endif
