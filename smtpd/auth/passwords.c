/* passwords - auth's room, and the operator's tool: the table of logins. See passwords.h. */
#include "passwords.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* ---- one line ---- */

bool password_login_valid(struct bytes login)
{
	if (login.len == 0 || login.len > PASSWORD_LOGIN_MAX || login.at[0] == '#' || !bytes_is_utf8_text(login))
		return false;
	return bytes_find(login, ':') == login.len && bytes_find(login, ' ') == login.len;
}

bool password_valid(struct bytes password)
{
	return password.len > 0 && password.len <= PASSWORD_MAX && bytes_find(password, '\0') == password.len && bytes_find(password, '\r') == password.len
		&& bytes_find(password, '\n') == password.len;
}

static bool is_visible(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] <= ' ' || b.at[i] >= 127)
			return false;
	return b.len > 0 && b.len < PASSWORD_HASH_MAX;
}

/* "$argon2id$v=19$m=65536,t=2,p=1$...": what it costs, so that one line cannot ask for all memory. */
static bool argon_is_bearable(struct bytes hash)
{
	uint64_t memory, ops;
	struct bytes rest = hash;
	if (!bytes_starts_nocase(hash, LIT("$argon2id$v=19$m=")) || hash.len >= crypto_pwhash_STRBYTES)
		return false;
	rest = bytes_slice(hash, sizeof("$argon2id$v=19$m=") - 1, hash.len);
	struct bytes m = bytes_cut(&rest, ','), t = bytes_cut(&rest, ',');
	if (t.len < 3 || t.at[0] != 't' || t.at[1] != '=' || rest.at == NULL)
		return false;
	return bytes_to_u64(m, PASSWORD_ARGON_MEMORY_MAX / 1024, &memory) && bytes_to_u64(bytes_slice(t, 2, t.len), PASSWORD_ARGON_OPS_MAX, &ops);
}

static bool is_crypt(struct bytes hash)
{
	static const char *const kinds[] = { "$6$", "$5$", "$y$", "$2a$", "$2b$", "$2y$" };
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (bytes_starts_nocase(hash, bytes_of(kinds[i])))
			return true;
	return false;
}

static const char *take_hash(struct bytes word, struct password_entry *entry)
{
	static const char *const crypts[] = { "{CRYPT", "{SHA512-CRYPT", "{SHA256-CRYPT", "{BLF-CRYPT" };
	struct scram_keys keys;
	struct bytes hash = word, scheme = bytes_cut(&hash, '}');
	bool crypt = false;
	if (!is_visible(hash))
		return "there is no {SCHEME}hash behind the login";
	for (size_t i = 0; i < sizeof crypts / sizeof crypts[0]; i++)
		crypt = crypt || bytes_equal_nocase(scheme, bytes_of(crypts[i]));
	if (bytes_equal_nocase(scheme, LIT("{SCRAM-SHA-256"))) {
		bool good = entry->scram.len == 0 && scram_keys_parse(hash, &keys);
		entry->scram = hash;
		sodium_memzero(&keys, sizeof keys);
		return good ? NULL : "{SCRAM-SHA-256} is iterations,salt,storedkey,serverkey, once";
	}
	if (entry->scheme != PASSWORD_NONE)
		return "there is more than one hash for PLAIN";
	entry->hash = hash;
	entry->scheme = crypt ? PASSWORD_CRYPT : PASSWORD_ARGON2ID;
	if (!crypt && !bytes_equal_nocase(scheme, LIT("{ARGON2ID")))
		return "the scheme is not one of {ARGON2ID} {SCRAM-SHA-256} {CRYPT}";
	if (crypt)
		return is_crypt(hash) ? NULL : "{CRYPT} takes $6$, $5$, $y$ and $2b$";
	return argon_is_bearable(hash) ? NULL : "{ARGON2ID} is $argon2id$v=19$m=...,t=...,p=..., of at most 256 MiB and 16 rounds";
}

bool password_line_parse(struct bytes line, struct password_entry *entry_r, const char **why_r)
{
	struct bytes rest = line;
	*entry_r = (struct password_entry){ .login = bytes_cut(&rest, ':') };
	*why_r = NULL;
	if (rest.at == NULL || !password_login_valid(entry_r->login)) {
		*why_r = "it does not begin with a login and a colon";
		return false;
	}
	do
		*why_r = take_hash(bytes_cut(&rest, ' '), entry_r);
	while (*why_r == NULL && rest.at != NULL);
	return *why_r == NULL;
}

/* ---- the table ---- */

/* The order of lines decides between equal logins, so it is part of the order of entries. */
static int compare_entries(const void *a, const void *b)
{
	const struct password_entry *x = a, *y = b;
	int order = bytes_compare(x->login, y->login);
	return order != 0 ? order : x->login.at < y->login.at ? -1 : 1;
}

static size_t count_lines(struct bytes text)
{
	size_t n = 0;
	for (size_t i = 0; i < text.len; i++)
		n += text.at[i] == '\n';
	return n;
}

static void take_lines(struct passwords *p, void (*bad)(size_t line, const char *why))
{
	struct bytes rest = str_bytes(&p->text);
	for (size_t number = 1; rest.len > 0; number++) {
		const char *why;
		struct bytes line = bytes_cut(&rest, '\n');
		if (line.len == 0 || line.at[0] == '#')
			continue;
		if (password_line_parse(line, &p->entries[p->count], &why))
			p->count++;
		else if (bad != NULL)
			bad(number, why);
	}
}

bool passwords_parse(struct passwords *p, struct bytes text, void (*bad)(size_t line, const char *why), const char **why_r)
{
	*p = (struct passwords){ .text = STR_INIT(PASSWORDS_MAX) };
	*why_r = "no memory";
	if (text.len > 0 && text.at[text.len - 1] != '\n') {
		*why_r = "its last line has no end: it was cut off";
		return false;
	}
	p->entries = calloc(count_lines(text) + 1, sizeof *p->entries);
	if (p->entries == NULL || !str_add(&p->text, text)) {
		passwords_free(p);
		return false;
	}
	take_lines(p, bad);
	qsort(p->entries, p->count, sizeof *p->entries, compare_entries);
	return true;
}

void passwords_free(struct passwords *p)
{
	if (p->text.at != NULL)
		sodium_memzero(p->text.at, p->text.room);
	str_free(&p->text);
	free(p->entries);
	*p = (struct passwords){ .text = STR_INIT(PASSWORDS_MAX) };
}

const struct password_entry *passwords_find(const struct passwords *p, struct bytes login)
{
	size_t low = 0, high = p->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (bytes_compare(p->entries[middle].login, login) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < p->count && bytes_equal(p->entries[low].login, login) ? &p->entries[low] : NULL;
}

const char *passwords_mode_fault(const struct stat *st, uid_t self)
{
	if (!S_ISREG(st->st_mode))
		return "it is no regular file";
	if (st->st_uid != 0 && st->st_uid != self)
		return "it belongs to neither root nor tappal-key";
	if (st->st_mode & S_IRWXO)
		return "others may use it; it should be root:tappal-key 0640";
	if (st->st_mode & S_IWGRP)
		return "its group may write it; it should be root:tappal-key 0640";
	return NULL;
}

/* ---- making ---- */

bool password_make(struct bytes password, bool scram_only, struct str *out)
{
	char argon[crypto_pwhash_STRBYTES];
	struct scram_keys keys = { 0 };
	bool good = true;
	if (!scram_only) {
		good = crypto_pwhash_str_alg(argon, password.at, password.len, PASSWORD_ARGON_OPS, PASSWORD_ARGON_MEMORY, crypto_pwhash_ALG_ARGON2ID13) == 0
			&& str_add_c(out, "{ARGON2ID}") && str_add_c(out, argon) && str_add_char(out, ' ');
		sodium_memzero(argon, sizeof argon);
	}
	scram_derive(password, &keys);
	good = good && str_add_c(out, "{SCRAM-SHA-256}") && scram_keys_format(&keys, out);
	sodium_memzero(&keys, sizeof keys);
	return good;
}
