/* keyless - tlsd's room: private keys that another process holds. See keyless.h.
 *
 * OpenSSL 3.0 has two ways: a provider of one's own, or the methods of RSA and EC_KEY, which its own keys use, too. The methods are
 * a tenth of the code. An RSA method would be handed a padded block and make the signer a raw RSA operation for whatever it is given;
 * so for RSA the signing of EVP_PKEY is replaced, which still has the digest and the padding's name. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "keyless.h"

#include "common/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define ANSWER_S 10

typedef int (*sign_function)(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *siglen, const unsigned char *tbs, size_t tbslen);

static struct {
	int channel;
	int rsa_index, ec_index;          /* where a key keeps its id */
	RSA_METHOD *rsa;
	EC_KEY_METHOD *ec;
	sign_function rsa_sign;           /* OpenSSL's own */
} keyless = { .channel = -1 };

bool key_id(const EVP_PKEY *key, unsigned char id_r[KEY_ID])
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key, &der);
	bool ok = len > 0 && EVP_Digest(der, (size_t)len, id_r, NULL, EVP_sha256(), NULL) == 1;
	OPENSSL_free(der);
	return ok;
}

const EVP_MD *digest_of_size(size_t octets)
{
	switch (octets) {
	case 28: return EVP_sha224();
	case 32: return EVP_sha256();
	case 48: return EVP_sha384();
	case 64: return EVP_sha512();
	default: return NULL;
	}
}

/* ---- asking */

static bool send_question(const struct tls_sign *question)
{
	struct str out = STR_INIT(1000);
	bool ok = tls_sign_encode(question, &out) && send(keyless.channel, out.at, out.len, MSG_NOSIGNAL) == (ssize_t)out.len;
	str_free(&out);
	return ok;
}

/* The signature, of at most *len_r octets. */
static bool ask_signer(const unsigned char *id, enum sign_scheme scheme, const unsigned char *digest, size_t digest_len, unsigned char *out,
	size_t *len_r)
{
	struct tls_sign question = { .key = { (const char *)id, KEY_ID }, .scheme = (uint8_t)scheme, .digest = { (const char *)digest, digest_len } };
	char answer[4096];
	struct tls_signature signature;
	struct record record;
	size_t used;
	if (digest_of_size(digest_len) == NULL || !send_question(&question))
		return false;
	ssize_t n = recv(keyless.channel, answer, sizeof answer, 0);
	if (n <= 0 || record_take((struct bytes){ answer, (size_t)n }, &record, &used) != RECORD_OK || record.type != REC_tls_signature
		|| !tls_signature_decode(record.payload, &signature))
		return false;
	if (signature.octets.len == 0 || signature.octets.len > *len_r)
		return false;
	memcpy(out, signature.octets.at, signature.octets.len);
	*len_r = signature.octets.len;
	return true;
}

/* ---- OpenSSL's side */

static const unsigned char *id_of_rsa(EVP_PKEY_CTX *ctx)
{
	EVP_PKEY *key = EVP_PKEY_CTX_get0_pkey(ctx);
	const RSA *rsa = key != NULL ? EVP_PKEY_get0_RSA(key) : NULL;
	return rsa != NULL && RSA_get_method(rsa) == keyless.rsa ? RSA_get_ex_data(rsa, keyless.rsa_index) : NULL;
}

static int sign_rsa(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *siglen, const unsigned char *tbs, size_t tbslen)
{
	const unsigned char *id = id_of_rsa(ctx);
	const EVP_MD *md = NULL;
	int padding = 0;
	if (id == NULL)
		return keyless.rsa_sign(ctx, sig, siglen, tbs, tbslen);
	if (EVP_PKEY_CTX_get_rsa_padding(ctx, &padding) <= 0 || EVP_PKEY_CTX_get_signature_md(ctx, &md) <= 0 || md == NULL || md != digest_of_size(tbslen))
		return 0;
	if (padding != RSA_PKCS1_PADDING && padding != RSA_PKCS1_PSS_PADDING)
		return 0;
	return ask_signer(id, padding == RSA_PKCS1_PSS_PADDING ? SIGN_PSS : SIGN_PKCS1, tbs, tbslen, sig, siglen);
}

static int sign_ec(int type, const unsigned char *digest, int digest_len, unsigned char *sig, unsigned int *siglen, const BIGNUM *kinv,
	const BIGNUM *r, EC_KEY *ec)
{
	const unsigned char *id = EC_KEY_get_ex_data(ec, keyless.ec_index);
	size_t len = (size_t)ECDSA_size(ec);
	(void)type;
	(void)kinv;
	(void)r;
	if (id == NULL || digest_len < 0 || !ask_signer(id, SIGN_ECDSA, digest, (size_t)digest_len, sig, &len))
		return 0;
	*siglen = (unsigned int)len;
	return 1;
}

static int refuse_rsa(int flen, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
	(void)flen;
	(void)from;
	(void)to;
	(void)rsa;
	(void)padding;
	return -1;
}

static void free_id(void *parent, void *at, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)argl;
	(void)argp;
	free(at);
}

static bool replace_rsa_signing(void)
{
	const EVP_PKEY_METHOD *original = EVP_PKEY_meth_find(EVP_PKEY_RSA);
	EVP_PKEY_METHOD *own = EVP_PKEY_meth_new(EVP_PKEY_RSA, EVP_PKEY_FLAG_AUTOARGLEN);
	int (*init)(EVP_PKEY_CTX *) = NULL;
	if (original == NULL || own == NULL)
		return false;
	EVP_PKEY_meth_copy(own, original);
	EVP_PKEY_meth_get_sign(original, &init, &keyless.rsa_sign);
	EVP_PKEY_meth_set_sign(own, init, sign_rsa);
	return EVP_PKEY_meth_add0(own) == 1;
}

bool keyless_init(void)
{
	int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **) = NULL;
	ECDSA_SIG *(*sign_sig)(const unsigned char *, int, const BIGNUM *, const BIGNUM *, EC_KEY *) = NULL;
	keyless.rsa_index = RSA_get_ex_new_index(0, NULL, NULL, NULL, free_id);
	keyless.ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, free_id);
	keyless.rsa = RSA_meth_dup(RSA_PKCS1_OpenSSL());
	keyless.ec = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	if (keyless.rsa_index < 0 || keyless.ec_index < 0 || keyless.rsa == NULL || keyless.ec == NULL)
		return false;
	EC_KEY_METHOD_get_sign(keyless.ec, NULL, &setup, &sign_sig);
	EC_KEY_METHOD_set_sign(keyless.ec, sign_ec, setup, sign_sig);
	return RSA_meth_set1_name(keyless.rsa, "elsewhere") == 1 && RSA_meth_set_priv_enc(keyless.rsa, refuse_rsa) == 1
		&& RSA_meth_set_priv_dec(keyless.rsa, refuse_rsa) == 1 && replace_rsa_signing();
}

void keyless_ask_on(int fd)
{
	struct timeval wait = { .tv_sec = ANSWER_S };   /* not poll: a session may not have a descriptor more */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	keyless.channel = fd;
}

/* ---- stand-ins */

static unsigned char *new_id(EVP_PKEY *public)
{
	unsigned char *id = malloc(KEY_ID);
	if (id != NULL && key_id(public, id))
		return id;
	free(id);
	return NULL;
}

/* The key must be another kind than OpenSSL's own at the moment when it is put into `out`: then the methods above are used. */
static bool stand_in_rsa(EVP_PKEY *public, EVP_PKEY *out)
{
	RSA *rsa = EVP_PKEY_get1_RSA(public), *own = rsa != NULL ? RSAPublicKey_dup(rsa) : NULL;
	unsigned char *id = new_id(public);
	bool ok = own != NULL && id != NULL && RSA_set_method(own, keyless.rsa) == 1 && RSA_set_ex_data(own, keyless.rsa_index, id) == 1;
	RSA_free(rsa);
	if (!ok)
		free(id);
	ok = ok && EVP_PKEY_assign_RSA(out, own) == 1;
	if (!ok)
		RSA_free(own);
	return ok;
}

static bool stand_in_ec(EVP_PKEY *public, EVP_PKEY *out)
{
	EC_KEY *ec = EVP_PKEY_get1_EC_KEY(public), *own = ec != NULL ? EC_KEY_dup(ec) : NULL;
	unsigned char *id = new_id(public);
	bool ok = own != NULL && id != NULL && EC_KEY_set_method(own, keyless.ec) == 1 && EC_KEY_set_ex_data(own, keyless.ec_index, id) == 1;
	EC_KEY_free(ec);
	if (!ok)
		free(id);
	ok = ok && EVP_PKEY_assign_EC_KEY(out, own) == 1;
	if (!ok)
		EC_KEY_free(own);
	return ok;
}

EVP_PKEY *keyless_key(EVP_PKEY *public)
{
	EVP_PKEY *out = EVP_PKEY_new();
	int kind = EVP_PKEY_get_base_id(public);
	if (out != NULL && ((kind == EVP_PKEY_RSA && stand_in_rsa(public, out)) || (kind == EVP_PKEY_EC && stand_in_ec(public, out))))
		return out;
	EVP_PKEY_free(out);
	return NULL;
}
