/* keys - tlsd's room: certificates and keys out of files. See keys.h; serving is in signer.c. */
#include "keys.h"

#include "common/accounts.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define FILE_MAX (256u << 10)
#define RSA_BITS_MIN 2048
#define EXPIRES_SOON 7               /* days */

/* What a line names; the key is in the chain's file when it names one only. */
struct key_line { char chain[512], key[512]; };

static bool split_line(struct bytes line, struct key_line *out_r)
{
	struct bytes key = line, chain = bytes_cut(&key, ' ');
	key = bytes_trim(key);
	return bytes_to_cstring(chain, out_r->chain, sizeof out_r->chain) && bytes_to_cstring(key.len > 0 ? key : chain, out_r->key, sizeof out_r->key);
}

/* ---- reading */

/* Who may read it may be us: a key that others can read, or that another can put there, is no secret. */
static bool check_owner(const char *path, const struct stat *st, struct str *faults)
{
	struct account self;
	bool known = account_by_name(ACCOUNT_KEY, &self) == ACCOUNT_FOUND;
	if (st->st_uid != 0 && !(known && st->st_uid == self.uid)) {
		str_addf(faults, "%s: the key's file belongs to uid %lu; chown root %s\n", path, (unsigned long)st->st_uid, path);
		return false;
	}
	if ((st->st_mode & 0007) != 0) {
		str_addf(faults, "%s: anybody may read or write the key's file (mode %04o); chmod 0600 %s\n", path, (unsigned)st->st_mode & 07777, path);
		return false;
	}
	if ((st->st_mode & 0070) != 0 && st->st_gid != 0 && !(known && st->st_gid == self.gid))
		log_warn("%s: gid %lu may read the key; chmod 0600 %s", path, (unsigned long)st->st_gid, path);
	return true;
}

/* Not io_open_regular: what root's settings name may be a symbolic link, as in Let's Encrypt's live/. */
static bool read_file(const char *path, bool secret, struct str *out, struct str *faults)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool ok = fd >= 0 && fstat(fd, &st) == 0;
	if (!ok) {
		str_addf(faults, "%s: %s; correct tlscertificates or make the file\n", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		str_addf(faults, "%s: this is no file; correct tlscertificates\n", path);
		ok = false;
	} else if (secret && !check_owner(path, &st, faults)) {
		ok = false;
	} else if (io_slurp(fd, out) < 0) {
		str_addf(faults, "%s: it cannot be read: %s\n", path, strerror(errno));
		ok = false;
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

bool keys_read(const struct settings *settings, struct keys *keys, struct str *faults)
{
	const struct lines *lines = &settings->tlscertificates;
	bool ok = lines->count <= KEYS_MAX;
	if (!ok)
		str_addf(faults, "tlscertificates: %zu lines; %u are the most\n", lines->count, KEYS_MAX);
	for (size_t i = 0; i < lines->count && i < KEYS_MAX; i++) {
		struct key_entry *e = &keys->entry[keys->count++];
		struct key_line line;
		*e = (struct key_entry){ .chain_text = STR_INIT(FILE_MAX), .key_text = STR_INIT(FILE_MAX) };
		if (!split_line(lines->at[i], &line)) {
			str_addf(faults, "tlscertificates:%lu: a path is too long\n", (unsigned long)lines->number[i]);
			ok = false;
			continue;
		}
		bool chain = read_file(line.chain, strcmp(line.chain, line.key) == 0, &e->chain_text, faults);
		bool key = strcmp(line.chain, line.key) == 0 || read_file(line.key, true, &e->key_text, faults);
		ok = ok && chain && key;
	}
	return ok;
}

/* ---- parsing */

/* A key under a passphrase is refused: nobody is there to type it, and OpenSSL would ask the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
	(void)buffer;
	(void)size;
	(void)writing;
	*(bool *)context = true;
	return -1;
}

static void wipe(struct str *text)
{
	if (text->at != NULL)
		OPENSSL_cleanse(text->at, text->room);
	str_free(text);
}

static BIO *bio_of(const struct str *text)
{
	return BIO_new_mem_buf(text->at != NULL ? text->at : "", (int)text->len);
}

static bool parse_chain(struct key_entry *e, const char *path, struct str *faults)
{
	BIO *in = bio_of(&e->chain_text);
	X509 *one = NULL;
	while (in != NULL && (one = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL && e->chain_count < CHAIN_MAX)
		e->chain[e->chain_count++] = one;
	bool too_many = one != NULL;
	unsigned long error = ERR_peek_last_error();
	bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
	if (too_many) {
		X509_free(one);
		str_addf(faults, "%s: more than %u certificates; keep this host's and those up to its authority\n", path, CHAIN_MAX);
	} else if (!at_end) {
		str_addf(faults, "%s: certificate %zu is damaged: %s\n", path, e->chain_count + 1, error ? ERR_reason_error_string(error) : "no memory");
	} else if (e->chain_count == 0) {
		str_addf(faults, "%s: there is no certificate in it; it must have lines -----BEGIN CERTIFICATE-----\n", path);
	}
	ERR_clear_error();
	BIO_free(in);
	return !too_many && at_end && e->chain_count > 0;
}

static bool parse_key(struct key_entry *e, const char *path, struct str *faults)
{
	BIO *in = bio_of(e->key_text.len > 0 ? &e->key_text : &e->chain_text);
	bool locked = false;
	e->key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, &locked) : NULL;
	unsigned long error = ERR_peek_last_error();
	if (e->key == NULL && locked)
		str_addf(faults, "%s: the key has a passphrase; take it off (openssl pkey)\n", path);
	else if (e->key == NULL)
		str_addf(faults, "%s: there is no good private key in it: %s\n", path, error ? ERR_reason_error_string(error) : "no memory");
	ERR_clear_error();
	BIO_free(in);
	return e->key != NULL;
}

static bool check_pair(const struct key_entry *e, const struct key_line *line, struct str *faults)
{
	int kind = EVP_PKEY_get_base_id(e->key), days = 0, seconds = 0;
	const char *why = NULL;
	if (kind != EVP_PKEY_RSA && kind != EVP_PKEY_EC)
		why = "the key is neither RSA nor ECDSA; mail servers speak these";
	else if (kind == EVP_PKEY_RSA && EVP_PKEY_get_bits(e->key) < RSA_BITS_MIN)
		why = "an RSA key of less than 2048 bits; make a longer one";
	else if (X509_check_private_key(e->chain[0], e->key) != 1)
		why = "this is not the key of the first certificate in";
	ERR_clear_error();
	if (why != NULL) {
		bool pair = kind == EVP_PKEY_RSA || kind == EVP_PKEY_EC;
		str_addf(faults, "%s: %s%s%s\n", line->key, why, pair && strstr(why, "first") ? " " : "", pair && strstr(why, "first") ? line->chain : "");
		return false;
	}
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(e->chain[0])) != 1 || days < 0 || seconds < 0)
		log_warn("%s: the certificate has expired", line->chain);
	else if (days < EXPIRES_SOON)
		log_warn("%s: the certificate expires in %d days", line->chain, days);
	return true;
}

static bool parse_entry(struct key_entry *e, const struct key_line *line, struct str *faults)
{
	bool chain = parse_chain(e, line->chain, faults), key = parse_key(e, line->key, faults);
	return chain && key && check_pair(e, line, faults) && key_id(e->key, e->id);
}

bool keys_parse(const struct settings *settings, struct keys *keys, struct str *faults)
{
	bool ok = true;
	for (size_t i = 0; i < keys->count; i++) {
		struct key_line line;
		if (!split_line(settings->tlscertificates.at[i], &line) || !parse_entry(&keys->entry[i], &line, faults))
			ok = false;
		wipe(&keys->entry[i].key_text);
		wipe(&keys->entry[i].chain_text);
	}
	return ok;
}

void keys_free(struct keys *keys)
{
	for (size_t i = 0; i < keys->count; i++) {
		struct key_entry *e = &keys->entry[i];
		for (size_t j = 0; j < e->chain_count; j++)
			X509_free(e->chain[j]);
		EVP_PKEY_free(e->key);
		wipe(&e->key_text);
		wipe(&e->chain_text);
	}
	keys->count = 0;
}

void keys_describe(const struct key_entry *entry, struct str *out)
{
	X509 *leaf = entry->chain[0];
	struct tm until;
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	str_addf(out, "%s %d bits", EVP_PKEY_get_base_id(entry->key) == EVP_PKEY_RSA ? "RSA" : "ECDSA", EVP_PKEY_get_bits(entry->key));
	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type == GEN_DNS)
			str_addf(out, ", %s", log_text((struct bytes){ (const char *)ASN1_STRING_get0_data(name->d.dNSName),
				(size_t)ASN1_STRING_length(name->d.dNSName) }));
	}
	if (ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &until) == 1)
		str_addf(out, ", until %04d-%02d-%02d", until.tm_year + 1900, until.tm_mon + 1, until.tm_mday);
	GENERAL_NAMES_free(names);
}
