/* authask - smtpd's room: asking auth. See authask.h. */
#include "authask.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/sibling.h"

#define LOGIN_MAX 255u

void authask_init(struct authask *a)
{
	*a = (struct authask){ .fd = -1 };
}

void authask_close(struct authask *a)
{
	if (a->fd < 0)
		return;
	record_reader_free(&a->in);
	close(a->fd);
	authask_init(a);
}

static enum authask_result away(struct authask *a, const char *why)
{
	log_warn("auth %s", why);
	authask_close(a);
	return AUTHASK_AWAY;
}

/* The directory of the socket is the resolver's: what stands there under auth's name must be auth's. */
static bool connect_to_auth(struct authask *a)
{
	int fd = sibling_connect(SOCKET_AUTH, ACCOUNT_KEY, AUTHASK_TIMEOUT_MS);
	if (fd < 0 || io_set_nonblocking(fd, true) < 0) {
		io_close(&fd);
		return false;
	}
	a->fd = fd;
	record_reader_init(&a->in, fd);
	return true;
}

static bool is_base64(struct bytes text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
		if (!good)
			return false;
	}
	return true;
}

static bool is_login(struct bytes login, bool must_be)
{
	if (login.len == 0)
		return !must_be;
	return login.len <= LOGIN_MAX && bytes_is_utf8_text(login) && bytes_find(login, ' ') == login.len;
}

static enum authask_result take(struct authask *a, const struct record *record)
{
	struct auth_line line;
	struct auth_done done;
	if (record->type == REC_auth_line && auth_line_decode(record->payload, &line) && is_base64(line.text)) {
		a->line = line.text;
		return AUTHASK_LINE;
	}
	if (record->type != REC_auth_done || !auth_done_decode(record->payload, &done) || !is_login(done.login, done.result == AUTH_OK))
		return away(a, "answered nonsense");
	a->result = done.result <= AUTH_NO_MECHANISM ? (enum auth_result)done.result : AUTH_TEMPORARY;
	a->login = done.login;
	return AUTHASK_DONE;
}

static enum authask_result answer(struct authask *a, const volatile sig_atomic_t *stop)
{
	struct record record;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), AUTHASK_TIMEOUT_MS);
	int got;
	do
		got = record_reader_wait(&a->in, &record, deadline);
	while (got < 0 && errno == EINTR && (stop == NULL || *stop == 0));
	if (got == 1)
		return take(a, &record);
	return away(a, got == 0 ? "went away within an exchange" : errno == ETIMEDOUT ? "did not answer in time" : "could not be heard");
}

/* `text` held a password, maybe. */
static bool send_and_wipe(struct authask *a, struct str *text, bool encoded)
{
	bool sent = encoded && io_write_by(a->fd, text->at, text->len, deadline_in(clock_monotonic_ms(), AUTHASK_TIMEOUT_MS)) == 0;
	if (text->at != NULL)
		explicit_bzero(text->at, text->room);
	str_free(text);
	return sent;
}

enum authask_result authask_begin(struct authask *a, const struct auth_begin *begin, const volatile sig_atomic_t *stop)
{
	struct str text = STR_INIT(2 * AUTHASK_LINE_MAX);
	authask_close(a);
	if (!connect_to_auth(a)) {
		log_warn("auth cannot be asked: %s", errno == EPERM ? "its socket belongs to somebody else" : strerror(errno));
		return AUTHASK_AWAY;
	}
	if (!send_and_wipe(a, &text, str_reserve(&text, AUTHASK_LINE_MAX + 500) != NULL && auth_begin_encode(begin, &text)))
		return away(a, "takes no question");
	return answer(a, stop);
}

enum authask_result authask_line(struct authask *a, struct bytes line, const volatile sig_atomic_t *stop)
{
	struct str text = STR_INIT(2 * AUTHASK_LINE_MAX);
	if (!send_and_wipe(a, &text, str_reserve(&text, AUTHASK_LINE_MAX + 100) != NULL && auth_line_encode(&(struct auth_line){ .text = line }, &text)))
		return away(a, "takes no line");
	return answer(a, stop);
}
