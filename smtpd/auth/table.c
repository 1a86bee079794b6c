/* table - auth's room: its copy of the password table. See table.h. */
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define SALT_KEY_FILE "auth/saltkey"   /* 32 random octets, made by `tappal passwd`: so that made-up salts outlive a restart */

static int open_file(const char *name)
{
	char path[512];
	if (snprintf(path, sizeof path, "%s/%s", path_etc, name) >= (int)sizeof path)
		return -1;
	return io_open_regular(AT_FDCWD, path);
}

/* The first `tappal passwd` makes the file, maybe long after our start. */
static void take_secret(struct authtable *t)
{
	uint8_t kept[SCRAM_KEY];
	int fd = t->secret_is_kept ? -1 : open_file(SALT_KEY_FILE);
	if (fd < 0)
		return;
	if (io_read_full(fd, kept, sizeof kept) == (ssize_t)sizeof kept) {
		memcpy(t->secret, kept, sizeof kept);
		t->secret_is_kept = true;
	}
	sodium_memzero(kept, sizeof kept);
	close(fd);
}

void authtable_init(struct authtable *t)
{
	*t = (struct authtable){ .passwords = { .text = STR_INIT(PASSWORDS_MAX) } };
	randombytes_buf(t->secret, sizeof t->secret);
	take_secret(t);
}

void authtable_free(struct authtable *t)
{
	passwords_free(&t->passwords);
	sodium_memzero(t->secret, sizeof t->secret);
}

static void say_bad_line(size_t line, const char *why)
{
	log_warn("%s/%s:%zu: this line is not used: %s", path_etc, PASSWORDS_FILE, line, why);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec
		&& a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The whole file in memory of its size: no buffer that grew leaves a copy behind. */
static const char *read_table(struct authtable *t, int fd, const struct stat *st)
{
	struct str text = STR_INIT(PASSWORDS_MAX);
	struct passwords fresh;
	const char *why = passwords_mode_fault(st, geteuid());
	if (why == NULL && (st->st_size > (off_t)PASSWORDS_MAX || str_reserve(&text, (size_t)st->st_size + 1) == NULL))
		why = "it is too large";
	if (why == NULL && io_slurp(fd, &text) < 0)
		why = "it cannot be read";
	if (why == NULL && passwords_parse(&fresh, str_bytes(&text), say_bad_line, &why)) {
		passwords_free(&t->passwords);
		t->passwords = fresh;
		why = NULL;
	}
	if (text.at != NULL)
		sodium_memzero(text.at, text.room);
	str_free(&text);
	return why;
}

static void take(struct authtable *t, int fd, const struct stat *st)
{
	t->seen = *st;
	take_secret(t);
	const char *why = read_table(t, fd, st);
	if (why == NULL)
		t->ready = true;
	else
		log_error("%s/%s is not used: %s%s", path_etc, PASSWORDS_FILE, why, t->ready ? "; what was read before stays in force" : "");
}

static void take_none(struct authtable *t, int error)
{
	static const struct stat none;
	/* Said once, not with every client. */
	if (error != ENOENT && (t->seen.st_ino != 0 || !t->ready))
		log_error("%s/%s cannot be read: %s%s", path_etc, PASSWORDS_FILE, strerror(error), t->ready ? "; what was read before stays in force" : "");
	t->seen = none;
	if (error != ENOENT)
		return;
	passwords_free(&t->passwords);
	t->ready = true;
}

bool authtable_refresh(struct authtable *t)
{
	struct stat st;
	int fd = open_file(PASSWORDS_FILE);
	if (fd < 0) {
		take_none(t, errno);
		return t->ready;
	}
	if (fstat(fd, &st) == 0 && !is_same(&st, &t->seen))
		take(t, fd, &st);
	close(fd);
	return t->ready;
}

void authtable_scram(const struct authtable *t, struct bytes login, struct scram_keys *keys_r, bool *known_r)
{
	const struct password_entry *entry = passwords_find(&t->passwords, login);
	scram_made_up(t->secret, login, keys_r);
	*known_r = entry != NULL && entry->scram.len > 0 && scram_keys_parse(entry->scram, keys_r);
}
