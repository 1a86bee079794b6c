/* test_signer - what tlsd's signer signs for a session, and what it does not. Run in a process of its own, asked as a session asks. */
#include "unit.h"
#include "common/channel.h"
#include "common/passing.h"
#include "smtpd/tlsd/keys.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>

static struct keys keys;             /* an RSA key and an EC key */
static struct grants grants;         /* the door's */
static int door = -1;
static pid_t signer;

static int start(void **state)
{
	int pair[2];
	(void)state;
	keys.entry[0].key = EVP_RSA_gen(2048);
	keys.entry[1].key = EVP_EC_gen("P-256");
	keys.count = 2;
	if (!key_id(keys.entry[0].key, keys.entry[0].id) || !key_id(keys.entry[1].key, keys.entry[1].id) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0
		|| !grants_make(&grants, 4))
		return -1;
	signer = fork();
	if (signer == 0) {
		close(pair[0]);
		if (freopen("/dev/null", "w", stderr) == NULL)   /* its warnings */
			_exit(1);
		_exit(keys_serve(&keys, pair[1], &grants));
	}
	close(pair[1]);
	door = pair[0];
	return 0;
}

/* In test_door_ends it ends by itself. */
static int stop(void **state)
{
	(void)state;
	grants_drop(&grants);
	return door < 0 ? 0 : -1;
}

/* A session's channel, as the door opens it, at this place. Nothing is owed to it yet. */
static int bare_channel(uint32_t place)
{
	struct str out = STR_INIT(100);
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_true(tls_channel_encode(&(struct tls_channel){ .place = place }, &out));
	assert_true(passing_send(door, str_bytes(&out), &pair[1], 1, 0));
	str_free(&out);
	close(pair[1]);
	return pair[0];
}

static int channel(void)
{
	grants_give(&grants, 0);
	return bare_channel(0);
}

/* Octets of the signature that this question gets; 0: refused; -1: the channel was closed. */
static int ask(int fd, const void *id, size_t id_len, uint8_t scheme, size_t digest_len, struct str *signature)
{
	static const char digest[64] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
	struct tls_sign q = { .key = { id, id_len }, .scheme = scheme, .digest = { digest, digest_len } };
	struct str out = STR_INIT(1000);
	struct tls_signature answer;
	struct record record;
	char in[4096];
	size_t used;
	assert_true(tls_sign_encode(&q, &out));
	ssize_t sent = send(fd, out.at, out.len, MSG_NOSIGNAL), n = sent < 0 ? 0 : recv(fd, in, sizeof in, 0);
	str_free(&out);
	if (n <= 0)
		return -1;
	assert_int_equal(record_take((struct bytes){ in, (size_t)n }, &record, &used), RECORD_OK);
	assert_true(tls_signature_decode(record.payload, &answer));
	if (signature != NULL)
		str_add(signature, answer.octets);
	return (int)answer.octets.len;
}

static bool is_good(EVP_PKEY *key, int padding, const struct str *signature)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
	assert_true(padding == 0 || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1);
	assert_true(padding != RSA_PKCS1_PSS_PADDING || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
	assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()), 1);
	bool good = EVP_PKEY_verify(ctx, (const unsigned char *)signature->at, signature->len,
		(const unsigned char *)"0123456789abcdef0123456789abcdef", 32) == 1;
	EVP_PKEY_CTX_free(ctx);
	return good;
}

static void test_signs(void **state)
{
	static const struct { size_t key; uint8_t scheme; int padding; } cases[] = {
		{ 0, SIGN_PKCS1, RSA_PKCS1_PADDING }, { 0, SIGN_PSS, RSA_PKCS1_PSS_PADDING }, { 1, SIGN_ECDSA, 0 },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str signature = STR_INIT(4096);
		int fd = channel();
		assert_true(ask(fd, keys.entry[cases[i].key].id, KEY_ID, cases[i].scheme, 32, &signature) > 0);
		assert_true(is_good(keys.entry[cases[i].key].key, cases[i].padding, &signature));
		close(fd);
		str_free(&signature);
	}
}

/* As many signatures as clients, one at a time: what was not used for a client is not left for the next. */
static void test_one_for_each_client(void **state)
{
	int fd = bare_channel(0);
	(void)state;
	for (int clients = 0; clients < 3; clients++) {
		grants_give(&grants, 0);
		grants_give(&grants, 0);
		assert_true(ask(fd, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL) > 0);
		assert_false(grants_owed(&grants, 0));
	}
	grants_give(&grants, 1);
	assert_int_equal(ask(fd, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL), -1);
	assert_true(grants_take(&grants, 1));
	close(fd);
}

static void test_before_a_client(void **state)
{
	int fd = bare_channel(2);
	(void)state;
	assert_int_equal(ask(fd, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL), -1);
	close(fd);
}

/* A refused question has cost the signature, and the channel. */
static void test_refused_once(void **state)
{
	int fd = bare_channel(0);
	(void)state;
	grants_give(&grants, 0);
	assert_int_equal(ask(fd, keys.entry[1].id, KEY_ID, SIGN_PSS, 32, NULL), 0);
	grants_give(&grants, 0);
	assert_int_equal(ask(fd, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL), -1);
	close(fd);
}

/* The place of a session that has ended is the next one's. */
static void test_places(void **state)
{
	int first = bare_channel(3), second = bare_channel(3);
	char in[10];
	(void)state;
	grants_give(&grants, 3);
	assert_int_equal(recv(first, in, sizeof in, 0), 0);
	assert_true(ask(second, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL) > 0);
	close(first);
	close(second);
}

/* A door that names a place that there is not has ended, like one that closes: who is in the middle of a handshake gets his signature, who waits is done with. */
static void test_door_ends(void **state)
{
	int handshake = bare_channel(0), waiting = bare_channel(1), status = -1;
	char in[10];
	(void)state;
	grants_give(&grants, 0);
	(void)grants_take(&grants, 1);
	int nowhere = bare_channel((uint32_t)grants.count);
	assert_int_equal(recv(nowhere, in, sizeof in, 0), 0);
	assert_int_equal(recv(waiting, in, sizeof in, 0), 0);
	assert_int_equal(waitpid(signer, &status, WNOHANG), 0);
	assert_true(ask(handshake, keys.entry[1].id, KEY_ID, SIGN_ECDSA, 32, NULL) > 0);
	assert_int_equal(recv(handshake, in, sizeof in, 0), 0);
	assert_int_equal(waitpid(signer, &status, 0), signer);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(door);
	door = -1;
	close(handshake);
	close(waiting);
	close(nowhere);
}

static void test_refuses(void **state)
{
	unsigned char unknown[KEY_ID] = { 1 };
	const struct { const void *id; size_t id_len; uint8_t scheme; size_t digest; } cases[] = {
		{ unknown, KEY_ID, SIGN_ECDSA, 32 },               /* no such key */
		{ keys.entry[1].id, KEY_ID - 1, SIGN_ECDSA, 32 },
		{ keys.entry[1].id, 0, SIGN_ECDSA, 32 },
		{ keys.entry[1].id, KEY_ID, SIGN_PSS, 32 },        /* the padding of the other kind */
		{ keys.entry[0].id, KEY_ID, SIGN_ECDSA, 32 },
		{ keys.entry[0].id, KEY_ID, 0, 32 },               /* no padding: a raw operation */
		{ keys.entry[0].id, KEY_ID, 3, 64 },
		{ keys.entry[0].id, KEY_ID, 255, 32 },
		{ keys.entry[0].id, KEY_ID, SIGN_PKCS1, 0 },       /* no digest's length */
		{ keys.entry[0].id, KEY_ID, SIGN_PKCS1, 20 },
		{ keys.entry[0].id, KEY_ID, SIGN_PKCS1, 36 },
		{ keys.entry[0].id, KEY_ID, SIGN_PKCS1, 63 },
	};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int fd = channel();
		assert_int_equal(ask(fd, cases[i].id, cases[i].id_len, cases[i].scheme, cases[i].digest, NULL), 0);
		close(fd);
	}
}

static void test_nonsense(void **state)
{
	static const char *const octets[] = { "x", "garbage that is longer than the head of a record", "" };
	(void)state;
	for (size_t i = 0; i < COUNT(octets); i++) {
		char in[10];
		int fd = channel();
		assert_true(send(fd, octets[i], strlen(octets[i]), MSG_NOSIGNAL) >= 0);
		assert_true(recv(fd, in, sizeof in, 0) <= 0);
		close(fd);
	}
	test_signs(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signs), cmocka_unit_test(test_one_for_each_client), cmocka_unit_test(test_before_a_client), cmocka_unit_test(test_refused_once),
		cmocka_unit_test(test_places), cmocka_unit_test(test_refuses), cmocka_unit_test(test_nonsense), cmocka_unit_test(test_door_ends),
	};
	return cmocka_run_group_tests_name("signer", tests, start, stop);
}
