/*
 * tappal_passwd - `tappal passwd`: logins and their passwords for AUTH. Room: queue, root's uid.
 *
 * The table is replaced whole: written under a passing name in its own directory, given to root:tappal-key 0640, synced, renamed, and the
 * directory synced. `auth` sees the new file with its next client. Two of these at a time wait for each other (flock on the directory).
 * Each of the commands, --list as well, makes the directory and the key of made-up salts where they are missing: a table may come from elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/io.h"
#include "common/paths.h"
#include "smtpd/auth/passwords.h"
#include "show.h"
#include "tappal.h"

#define TABLE "passwords"
#define SALT_KEY "saltkey"
#define SALT_KEY_OCTETS 32

struct request { const char *login; bool remove, list, scram_only; };

/* ---- the directory and its files ---- */

static gid_t key_group(void)
{
	struct account key;

	if (account_by_name(ACCOUNT_KEY, &key) != ACCOUNT_FOUND)
		tool_stop("there is no account %s; `make install` (or etc/accounts) makes it", ACCOUNT_KEY);
	return key.gid;
}

static int open_directory(void)
{
	char path[512];
	int dir;

	snprintf(path, sizeof(path), "%s/%s", path_etc, PASSWORDS_DIR);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		tool_stop("%s: %s", path, strerror(errno));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchown(dir, 0, key_group()) != 0 || fchmod(dir, 0750) != 0 || flock(dir, LOCK_EX) != 0)
		tool_stop("%s: %s", path, strerror(errno));
	return dir;
}

static void write_file(int dir, const char *name, struct bytes text)
{
	char temporary[64];
	int fd;

	snprintf(temporary, sizeof(temporary), ".%s.%ld", name, (long)getpid());
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchown(fd, 0, key_group()) != 0 || fchmod(fd, 0640) != 0 || io_write_full(fd, text.at, text.len) != 0 || fsync(fd) != 0 || close(fd) != 0
		|| renameat(dir, temporary, dir, name) != 0) {
		int error = errno;
		unlinkat(dir, temporary, 0);
		tool_stop("%s/%s/%s could not be written: %s; it is as it was", path_etc, PASSWORDS_DIR, name, strerror(error));
	}
	if (fsync(dir) != 0)
		tool_stop("%s/%s: %s; after a power failure now, the old table may come back", path_etc, PASSWORDS_DIR, strerror(errno));
}

/* Salts that auth makes up for logins that nobody has come from this key: the same ones after a restart. */
static void make_salt_key(int dir)
{
	char octets[SALT_KEY_OCTETS];

	if (faccessat(dir, SALT_KEY, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	randombytes_buf(octets, sizeof(octets));
	write_file(dir, SALT_KEY, (struct bytes){ octets, sizeof(octets) });
	sodium_memzero(octets, sizeof(octets));
}

static void read_table(int dir, struct str *text)
{
	int fd = io_open_regular(dir, TABLE);

	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || io_slurp(fd, text) < 0)
		tool_stop("%s/%s: %s", path_etc, PASSWORDS_FILE, strerror(errno));
	close(fd);
	if (text->len > 0 && text->at[text->len - 1] != '\n')
		tool_stop("%s/%s does not end with a line's end: it was cut off. Mend it, or restore it", path_etc, PASSWORDS_FILE);
}

/* ---- the password ---- */

/* A line without its end into text[PASSWORD_MAX + 2]; what is too long is as long as that. */
static size_t read_line(int fd, char *text)
{
	size_t n = 0;
	char c;

	while (n < PASSWORD_MAX + 1 && io_read_full(fd, &c, 1) == 1 && c != '\n')
		text[n++] = c;
	text[n] = '\0';
	return n;
}

static struct termios terminal_before;

static void restore_terminal(int number)
{
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
	if (number > 0)
		_exit(128 + number);
}

static size_t ask_terminal(const char *what, char *text)
{
	struct termios quiet;
	struct sigaction action = { .sa_handler = restore_terminal };
	size_t n;

	if (tcgetattr(STDIN_FILENO, &terminal_before) != 0)
		tool_stop("the terminal cannot be asked: %s", strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	quiet = terminal_before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fprintf(stderr, "%s: ", what);
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) != 0)
		tool_stop("the terminal's echo cannot be turned off: %s", strerror(errno));
	n = read_line(STDIN_FILENO, text);
	restore_terminal(0);
	fputc('\n', stderr);
	return n;
}

static size_t read_password(const char *login, char text[PASSWORD_MAX + 2])
{
	char again[PASSWORD_MAX + 2], prompt[PASSWORD_LOGIN_MAX + 32];
	size_t n;

	if (!isatty(STDIN_FILENO))
		return read_line(STDIN_FILENO, text);
	snprintf(prompt, sizeof(prompt), "New password for %s", login);
	n = ask_terminal(prompt, text);
	ask_terminal("Once more", again);
	if (strcmp(text, again) != 0)
		tool_usage("the two were not the same; the password is as it was");
	sodium_memzero(again, sizeof(again));
	return n;
}

static void make_line(const struct request *r, struct str *line)
{
	char text[PASSWORD_MAX + 2];
	struct bytes password = { text, read_password(r->login, text) };
	bool good;

	if (!password_valid(password))
		tool_usage("a password has 1 to %u octets; nothing was changed", PASSWORD_MAX);
	good = str_add_c(line, r->login) && str_add_char(line, ':') && password_make(password, r->scram_only, line) && str_add_char(line, '\n');
	sodium_memzero(text, sizeof(text));
	if (!good)
		tool_stop("out of memory: 64 MiB are needed for a moment");
}

/* ---- what is asked for ---- */

static struct bytes login_of(struct bytes line)
{
	return line.len == 0 || line.at[0] == '#' ? (struct bytes){ NULL, 0 } : bytes_cut(&line, ':');
}

/* Everything but this login's lines, `line` in the place of the first of them or at the end. Returns whether there was one. */
static bool replace_line(struct bytes table, struct bytes login, struct bytes line, struct str *out)
{
	bool found = false;

	while (table.len > 0) {
		struct bytes one = bytes_cut(&table, '\n');

		if (!bytes_equal(login_of(one), login)) {
			str_add(out, one);
			str_add_char(out, '\n');
			continue;
		}
		if (!found)
			str_add(out, line);
		found = true;
	}
	if (!found)
		str_add(out, line);
	return found;
}

static const char *kinds_of(const struct password_entry *entry)
{
	if (entry->scheme == PASSWORD_CRYPT)
		return entry->scram.len > 0 ? "crypt, SCRAM" : "crypt (PLAIN and LOGIN only)";
	if (entry->scheme == PASSWORD_NONE)
		return "SCRAM keys only";
	return entry->scram.len > 0 ? "Argon2id, SCRAM" : "Argon2id (PLAIN and LOGIN only)";
}

static int list(struct bytes table)
{
	int code = EXIT_NOTHING;

	for (size_t number = 1; table.len > 0; number++) {
		struct bytes line = bytes_cut(&table, '\n');
		struct password_entry entry;
		const char *why;

		if (line.len == 0 || line.at[0] == '#')
			continue;
		if (password_line_parse(line, &entry, &why)) {
			printf("%s\t%s\n", show_text(entry.login), kinds_of(&entry));
			code = EXIT_OK;
		} else {
			tool_say("%s/%s:%lu is not used: %s", path_etc, PASSWORDS_FILE, (unsigned long)number, why);
		}
	}
	return code;
}

static int change(int dir, const struct request *r, struct bytes table)
{
	struct str line = STR_INIT(4096), text = STR_INIT(PASSWORDS_MAX);
	bool found;

	if (!r->remove)
		make_line(r, &line);
	found = replace_line(table, bytes_of(r->login), str_bytes(&line), &text);
	if (text.failed)
		tool_stop("the table would be too large");
	if (r->remove && !found) {
		tool_say("there is no login %s", show_text(bytes_of(r->login)));
		return EXIT_NOTHING;
	}
	write_file(dir, TABLE, str_bytes(&text));
	printf(r->remove ? "%s can log in no more.\n" : found ? "The password of %s was changed.\n" : "%s can log in.\n", show_text(bytes_of(r->login)));
	sodium_memzero(line.at != NULL ? line.at : (char[1]){ 0 }, line.at != NULL ? line.room : 1);
	sodium_memzero(text.at != NULL ? text.at : (char[1]){ 0 }, text.at != NULL ? text.room : 1);
	str_free(&line);
	str_free(&text);
	return EXIT_OK;
}

static void read_arguments(struct request *r, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--delete") == 0)
			r->remove = true;
		else if (strcmp(argv[i], "--list") == 0)
			r->list = true;
		else if (strcmp(argv[i], "--scram-only") == 0)
			r->scram_only = true;
		else if (argv[i][0] == '-' || r->login != NULL)
			tool_usage("tappal passwd LOGIN [--scram-only], passwd --delete LOGIN, or passwd --list");
		else
			r->login = argv[i];
	}
	if (r->list ? r->login != NULL || r->remove || r->scram_only : r->login == NULL || (r->remove && r->scram_only))
		tool_usage("tappal passwd LOGIN [--scram-only], passwd --delete LOGIN, or passwd --list");
	if (r->login != NULL && !password_login_valid(bytes_of(r->login)))
		tool_usage("a login has 1 to %u octets, no blank and no colon, and does not begin with #", PASSWORD_LOGIN_MAX);
}

int command_passwd(int argc, char **argv)
{
	struct str table = STR_INIT(PASSWORDS_MAX);
	struct request r = { 0 };
	int dir, code;

	read_arguments(&r, argc, argv);
	if (geteuid() != 0)
		tool_stop("the table of passwords is root's; use sudo");
	if (sodium_init() < 0)
		tool_stop("libsodium does not start");
	umask(077);
	dir = open_directory();
	make_salt_key(dir);
	read_table(dir, &table);
	code = r.list ? list(str_bytes(&table)) : change(dir, &r, str_bytes(&table));
	str_free(&table);
	close(dir);
	return code;
}

/* ---- for `tappal config check` ---- */

bool passwd_check(void)
{
	char path[512];
	struct stat st;
	struct account key;
	const char *fault;

	snprintf(path, sizeof(path), "%s/%s", path_etc, PASSWORDS_FILE);
	if (lstat(path, &st) != 0) {
		if (errno != ENOENT && errno != EACCES)
			printf("Note: %s: %s\n", path, strerror(errno));
		return true;
	}
	fault = passwords_mode_fault(&st, account_by_name(ACCOUNT_KEY, &key) == ACCOUNT_FOUND ? key.uid : 0);
	if (fault != NULL)
		fprintf(stderr, "%s:1: %s; `chown root:tappal-key` and `chmod 640` it\n", path, fault);
	return fault == NULL;
}
