/*
 * scram - the server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 9266): messages in, messages out, no I/O.
 *
 * What a server keeps of a password are a salt, a count and two keys; neither the password nor a way to log in follows from them
 * without guessing. Names and passwords are taken as UTF-8 octets as they come: SASLprep (RFC 4013) is not applied, which is the same for
 * ASCII. A name that nobody has gets keys that look like anybody's (scram_made_up), and fails at the proof like a wrong password.
 * No function blocks; secrets are wiped by scram_wipe.
 */
#ifndef SMTPD_AUTH_SCRAM_H
#define SMTPD_AUTH_SCRAM_H

#include "common/bytes.h"

#define SCRAM_KEY 32u
#define SCRAM_SALT 16u
#define SCRAM_SALT_MAX 64u
#define SCRAM_ITERATIONS 15000u      /* of keys made here: RFC 7677 4 reckons so many for a tenth of a second */
#define SCRAM_ITERATIONS_MIN 4096u   /* RFC 7677 4 */
#define SCRAM_ITERATIONS_MAX 10000000u
#define SCRAM_NONCE_MAX 256u         /* octets of a client's nonce */
#define SCRAM_NAME_MAX 255u
#define SCRAM_BINDING_MAX 64u
#define SCRAM_MESSAGE_MAX 4096u      /* decoded octets of one message */

struct scram_keys {
	uint32_t iterations;
	uint8_t salt[SCRAM_SALT_MAX];
	size_t salt_len;
	uint8_t stored[SCRAM_KEY], server[SCRAM_KEY];
};

/* base64 that is whole, in letters of base64 alone, with its padding. False: it is not, is empty, or makes more than `max` octets. */
bool scram_decode(struct bytes text, uint8_t *out, size_t max, size_t *len_r);

/* Keys of a password (RFC 5802 3). salt and iterations of *keys are given, or made when salt_len is 0. Takes milliseconds. */
void scram_derive(struct bytes password, struct scram_keys *keys);
/* Is it the password of these keys? Constant time in what is secret. */
bool scram_password_fits(struct bytes password, const struct scram_keys *keys);
/* Keys for a name that has none: the same name gets the same salt for as long as `secret` is the same. */
void scram_made_up(const uint8_t secret[SCRAM_KEY], struct bytes name, struct scram_keys *keys_r);

/* "iterations,salt,storedkey,serverkey", base64: as it stands in the table. */
bool scram_keys_parse(struct bytes text, struct scram_keys *keys_r);
bool scram_keys_format(const struct scram_keys *keys, struct str *out);

struct scram {
	bool plus;                       /* the mechanism with channel binding */
	bool plus_offered;               /* the client could have had it: its "y" is then a sign of somebody between */
	uint8_t binding[SCRAM_BINDING_MAX];
	size_t binding_len;
	char nonce[33];                  /* ours, base64 of 24 random octets */
	char name[SCRAM_NAME_MAX + 1];   /* after scram_first */
	struct scram_keys keys;          /* the caller sets them between scram_first and scram_challenge */
	struct str header;               /* gs2-header, as it came */
	struct str first;                /* client-first-message-bare */
	struct str challenge;            /* server-first-message */
	char full_nonce[SCRAM_NONCE_MAX + 33];
};

/* binding: what RFC 9266 exports, empty without TLS. The nonce is random. */
void scram_init(struct scram *s, bool plus, bool plus_offered, struct bytes binding);
void scram_wipe(struct scram *s);

/* client-first-message. True: s->name is set. False: nothing that this mechanism allows. */
bool scram_first(struct scram *s, struct bytes message);
/* server-first-message, from s->keys. Valid until scram_wipe; empty: no memory. */
struct bytes scram_challenge(struct scram *s);
/* client-final-message: does its proof fit s->keys, its binding the channel, its nonce ours? Then *out holds server-final-message. */
bool scram_final(struct scram *s, struct bytes message, struct str *out);

#endif
