/* verify - auth's room, a worker process of it. See verify.h. */
#include "verify.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/commandline.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"

#define CHECKPASSWORD_MAX 512u    /* octets on descriptor 3: the contract's */
#define DOVECOT_LINE_MAX 8192u

static char costly[crypto_pwhash_STRBYTES];   /* a hash of no known password: what a question costs that has none of its own */

enum verify_backend verify_backend_of(const struct settings *settings)
{
	struct bytes rest = settings->authbackend, word = bytes_cut(&rest, ' ');
	if (bytes_equal(word, LIT("checkpassword")))
		return VERIFY_CHECKPASSWORD;
	return bytes_equal(word, LIT("dovecot")) ? VERIFY_DOVECOT : VERIFY_OWN;
}

bool verify_init(void)
{
	char secret[16];
	randombytes_buf(secret, sizeof secret);
	return crypto_pwhash_str_alg(costly, secret, sizeof secret, PASSWORD_ARGON_OPS, PASSWORD_ARGON_MEMORY, crypto_pwhash_ALG_ARGON2ID13) == 0;
}

/* ---- the own table ---- */

/* crypto_pwhash_str_verify does not tell "wrong" from "no memory": errno does. */
static enum verify_result argon_fits(const char *hash, struct bytes password)
{
	errno = 0;
	if (crypto_pwhash_str_verify(hash, password.at, password.len) == 0)
		return VERIFY_YES;
	return errno == ENOMEM ? VERIFY_LATER : VERIFY_NO;
}

static enum verify_result crypt_fits(const char *hash, struct bytes password)
{
	static struct crypt_data data;   /* 32 KiB */
	char text[PASSWORD_MAX + 1];
	if (!bytes_to_cstring(password, text, sizeof text))
		return VERIFY_NO;
	const char *made = crypt_r(text, hash, &data);
	bool fits = made != NULL && made[0] != '*' && strlen(made) == strlen(hash) && sodium_memcmp(made, hash, strlen(hash)) == 0;
	sodium_memzero(text, sizeof text);
	sodium_memzero(&data, sizeof data);
	return fits ? VERIFY_YES : VERIFY_NO;
}

static enum verify_result scram_fits(struct bytes text, struct bytes password)
{
	struct scram_keys keys;
	bool fits = scram_keys_parse(text, &keys) && scram_password_fits(password, &keys);
	sodium_memzero(&keys, sizeof keys);
	return fits ? VERIFY_YES : VERIFY_NO;
}

enum verify_result verify_own(const struct auth_check *check)
{
	char hash[PASSWORD_HASH_MAX + 1];
	bool fits = bytes_to_cstring(check->hash, hash, sizeof hash);
	if (check->scheme == PASSWORD_ARGON2ID && fits)
		return argon_fits(hash, check->password);
	/* Whoever has no Argon2id is not to be told from somebody who has, by the time it takes. */
	argon_fits(costly, check->password);
	if (check->scheme == PASSWORD_CRYPT && fits)
		return crypt_fits(hash, check->password);
	return check->scram.len > 0 ? scram_fits(check->scram, check->password) : VERIFY_NO;
}

/* ---- checkpassword ---- */

/* In the child: descriptor 3 and nothing else of ours, a group of its own. */
static _Noreturn void become_program(char *words[], int in, const char *ip)
{
	char remote[80];
	char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", proto[] = "PROTO=TCP";
	char *environment[] = { path, proto, remote, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;
	snprintf(remote, sizeof remote, "TCPREMOTEIP=%s", ip);
	/* `in` may be 3 already: moved above, it loses no flag on its way back. */
	int high = fcntl(in, F_DUPFD_CLOEXEC, 10);
	if (null < 0 || high < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(high, 3) < 0)
		_exit(EXIT_SYSTEM);
	close_range(4, ~0u, CLOSE_RANGE_CLOEXEC);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		_exit(EXIT_SYSTEM);
	execve(words[0], words, environment);
	_exit(EXIT_SYSTEM);
}

/* Its exit code, or -1: it was killed, by us when the time was up. */
static int await(pid_t pid, deadline_t deadline)
{
	int status, fd = pidfd_open(pid, 0);
	if (fd < 0 || io_wait_readable(fd, deadline) <= 0) {
		log_warn("the checkpassword program took too long; it was stopped");
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	if (fd >= 0)
		close(fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool write_question(int fd, const struct auth_check *check)
{
	struct str text = STR_INIT(CHECKPASSWORD_MAX);
	bool good = str_reserve(&text, CHECKPASSWORD_MAX) != NULL && str_add(&text, check->login) && str_add_char(&text, '\0')
		&& str_add(&text, check->password) && str_add_char(&text, '\0') && str_add_char(&text, '\0');
	good = good && io_write_full(fd, text.at, text.len) == 0;
	if (text.at != NULL)
		sodium_memzero(text.at, text.room);
	str_free(&text);
	return good;
}

enum verify_result verify_checkpassword(const struct auth_check *check, struct bytes command, uint64_t timeout_ms)
{
	static char truth[] = "/bin/true";
	struct commandline line;
	char ip[64];
	int pipe_fd[2];
	if (check->login.len + check->password.len + 3 > CHECKPASSWORD_MAX)
		return VERIFY_NO;
	if (!commandline_parse(command, &line) || !bytes_to_cstring(check->client, ip, sizeof ip))
		return VERIFY_LATER;
	if (line.count == 1) {   /* the contract: a program to become */
		line.word[1] = truth;
		line.word[2] = NULL;
	}
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return VERIFY_LATER;
	/* All of it fits into the pipe: the program may read it or not. */
	pid_t pid = write_question(pipe_fd[1], check) ? fork() : -1;
	if (pid == 0)
		become_program(line.word, pipe_fd[0], ip);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	int code = pid > 0 ? await(pid, deadline_in(clock_monotonic_ms(), timeout_ms)) : -1;
	if (code != 0 && code != 1)
		log_warn("the checkpassword program %s ended with %d: not 0, yes, nor 1, no", line.word[0], code);
	return code == 0 ? VERIFY_YES : code == 1 ? VERIFY_NO : VERIFY_LATER;
}

/* ---- Dovecot ---- */

static int dovecot_connect(struct bytes path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bytes_to_cstring(path, sa.sun_path, sizeof sa.sun_path) && connect(fd, (const struct sockaddr *)&sa, sizeof sa) == 0)
		return io_set_nonblocking(fd, true) == 0 ? fd : (close(fd), -1);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The next line without its end; false at the end of the connection or of the time. It is valid until the next call. */
static bool dovecot_line(int fd, struct str *in, size_t *taken, struct bytes *line_r, deadline_t deadline)
{
	str_remove_front(in, *taken);
	*taken = 0;
	for (;;) {
		struct bytes all = str_bytes(in);
		size_t end = bytes_find(all, '\n');
		if (end < all.len) {
			*line_r = bytes_slice(all, 0, end);
			*taken = end + 1;
			return true;
		}
		char *at = str_reserve(in, 512);
		ssize_t n = at == NULL ? -1 : io_read_some(fd, at, 512, deadline);
		if (n <= 0)
			return false;
		str_grew(in, (size_t)n);
	}
}

static bool dovecot_ask(int fd, const struct auth_check *check, deadline_t deadline)
{
	char plain[2 * PASSWORD_LOGIN_MAX + PASSWORD_MAX + 2], resp[sizeof plain * 4 / 3 + 8], text[sizeof resp + 300];
	size_t n = 0;
	plain[n++] = '\0';
	memcpy(plain + n, check->login.at, check->login.len);
	n += check->login.len;
	plain[n++] = '\0';
	memcpy(plain + n, check->password.at, check->password.len);
	n += check->password.len;
	sodium_bin2base64(resp, sizeof resp, (const unsigned char *)plain, n, sodium_base64_VARIANT_ORIGINAL);
	int len = snprintf(text, sizeof text, "VERSION\t1\t1\nCPID\t%ld\nAUTH\t1\tPLAIN\tservice=smtp\tsecured\tnologin\trip=%.*s\tresp=%s\n", (long)getpid(), (int)check->client.len,
		check->client.at, resp);
	bool sent = len > 0 && (size_t)len < sizeof text && io_write_by(fd, text, (size_t)len, deadline) == 0;
	sodium_memzero(plain, sizeof plain);
	sodium_memzero(resp, sizeof resp);
	sodium_memzero(text, sizeof text);
	return sent;
}

static bool has_word(struct bytes line, struct bytes word)
{
	while (line.at != NULL)
		if (bytes_equal(bytes_cut(&line, '\t'), word))
			return true;
	return false;
}

/* Dovecot may have changed the name's letter case, or more of it. */
static enum verify_result dovecot_names(struct bytes words, struct str *login)
{
	const struct bytes key = LIT("user=");
	while (words.at != NULL) {
		struct bytes word = bytes_cut(&words, '\t');
		if (!bytes_equal(bytes_slice(word, 0, key.len), key))
			continue;
		word = bytes_slice(word, key.len, word.len);
		if (password_login_valid(word) && str_add(login, word))
			return VERIFY_YES;
		log_warn("Dovecot's auth calls a user %s, which is no login", log_text(word));
		return VERIFY_LATER;
	}
	return VERIFY_YES;
}

static enum verify_result dovecot_answer(int fd, struct str *in, struct str *login, deadline_t deadline)
{
	struct bytes line;
	size_t taken = 0;
	while (dovecot_line(fd, in, &taken, &line, deadline)) {
		struct bytes rest = line, word = bytes_cut(&rest, '\t'), number = bytes_cut(&rest, '\t');
		if (bytes_equal(word, LIT("VERSION")) && !bytes_equal(number, LIT("1")))
			break;
		if (bytes_equal(word, LIT("OK")) && bytes_equal(number, LIT("1")))
			return dovecot_names(rest, login);
		if (bytes_equal(word, LIT("FAIL")) && bytes_equal(number, LIT("1")))
			return has_word(rest, LIT("temp")) ? VERIFY_LATER : VERIFY_NO;
		if (bytes_equal(word, LIT("CONT")))
			break;
	}
	log_warn("Dovecot's auth gave no answer");
	return VERIFY_LATER;
}

enum verify_result verify_dovecot(const struct auth_check *check, struct bytes path, uint64_t timeout_ms, struct str *login)
{
	struct str in = STR_INIT(DOVECOT_LINE_MAX);
	deadline_t deadline = deadline_in(clock_monotonic_ms(), timeout_ms);
	enum verify_result result = VERIFY_LATER;
	/* A tab would end the parameter. */
	bool plain = check->login.len <= PASSWORD_LOGIN_MAX && check->password.len <= PASSWORD_MAX && bytes_find(check->client, '\t') == check->client.len;
	int fd = plain ? dovecot_connect(path) : -1;
	if (fd < 0)
		log_warn("Dovecot's auth socket %s cannot be reached: %s", log_text(path), strerror(errno));
	else if (dovecot_ask(fd, check, deadline))
		result = dovecot_answer(fd, &in, login, deadline);
	if (fd >= 0)
		close(fd);
	str_free(&in);
	return result;
}

/* ---- a worker ---- */

static enum verify_result verify(const struct auth_check *check, const struct settings *settings, struct str *login)
{
	struct bytes rest = settings->authbackend;
	uint64_t timeout_ms = settings->authtimeout * SECOND_MS;
	bytes_cut(&rest, ' ');
	rest = bytes_trim(rest);
	switch (verify_backend_of(settings)) {
	case VERIFY_CHECKPASSWORD: return verify_checkpassword(check, rest, timeout_ms);
	case VERIFY_DOVECOT: return verify_dovecot(check, rest, timeout_ms, login);
	default: return verify_own(check);
	}
}

/* Of a back-end that does not say whom it means, a name and the same in capitals are one. */
static void name_him(const struct auth_check *check, const struct settings *settings, struct str *login)
{
	if (login->len == 0 && verify_backend_of(settings) != VERIFY_OWN && str_add(login, check->login))
		bytes_lower(login->at, login->len);
}

static void wipe(struct record_reader *reader)
{
	if (reader->buffer.at != NULL && record_reader_rest(reader).len == 0)
		sodium_memzero(reader->buffer.at, reader->buffer.room);
}

int verify_serve(int fd, const struct settings *settings)
{
	struct record_reader reader;
	struct record record;
	struct auth_check check;
	struct str out = STR_INIT(1000), login = STR_INIT(PASSWORD_LOGIN_MAX);
	record_reader_init(&reader, fd);
	while (record_reader_wait(&reader, &record, 0) == 1) {
		if (record.type != REC_auth_check || !auth_check_decode(record.payload, &check))
			return EXIT_SYSTEM;
		str_clear(&out);
		str_clear(&login);
		struct auth_checked answer = { .result = (uint8_t)verify(&check, settings, &login) };
		if (answer.result == VERIFY_YES)
			name_him(&check, settings, &login);
		answer.login = str_bytes(&login);
		if (!auth_checked_encode(&answer, &out) || io_write_full(fd, out.at, out.len) < 0)
			return EXIT_SYSTEM;
		wipe(&reader);
	}
	return EXIT_OK;
}
