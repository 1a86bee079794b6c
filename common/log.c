/*
 * log - lines for people and for log readers. Room: common. The one static context below is the program's log.
 */
#include "log.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "exits.h"

#define LINE_OCTETS 2000          /* less than PIPE_BUF, see write_held */
#define TEXT_OCTETS 512
#define TEXT_BUFFERS 8
#define HELD_OCTETS 65536

static struct {
	const char *program;
	char host[256];
	char ident[64];           /* openlog(3) keeps the pointer */
	const struct log_way *way;
	enum log_to to;
	enum log_format format;
	bool syslog_open;
	char text[TEXT_BUFFERS][TEXT_OCTETS];
	unsigned next_text;
	bool holding;
	size_t held_len;
	char held[HELD_OCTETS];
	wall_ms_t stamp_ms;       /* of the stamp that was made last */
	char stamp[48];
	char pid[24];             /* "" until it is needed, and again after a fork */
} logger = { .program = "tappal" };

struct level { const char *name, *prefix; int priority; };
static const struct level level_info = { "info", "", LOG_INFO };
static const struct level level_warn = { "warning", "warning: ", LOG_WARNING };
static const struct level level_error = { "error", "error: ", LOG_ERR };
static const struct level level_fatal = { "fatal", "fatal: ", LOG_CRIT };

static bool is_plain(char c)
{
	return c >= 32 && c < 127;
}

static void neuter(char *text)
{
	for (; *text; text++)
		if (!is_plain(*text))
			*text = '?';
}

static void set_ident(void)
{
	char ident[sizeof logger.ident];
	snprintf(ident, sizeof ident, "tappal/%s", logger.program);
	if (logger.syslog_open && strcmp(ident, logger.ident) == 0)
		return;
	memcpy(logger.ident, ident, sizeof logger.ident);
	openlog(logger.ident, LOG_PID | LOG_NDELAY, LOG_MAIL);
	logger.syslog_open = true;
}

void log_use(const struct log_way *way)
{
	logger.way = way;
}

void log_target(const char *host, enum log_to to, enum log_format format)
{
	snprintf(logger.host, sizeof logger.host, "%s", host);
	neuter(logger.host);
	logger.to = to;
	logger.format = format;
	if (logger.way != NULL)
		(to == LOG_TO_SYSLOG ? logger.way->open : logger.way->close)();
	else if (to == LOG_TO_SYSLOG)
		set_ident();
}

void log_init(const char *program, const char *host, enum log_to to, enum log_format format)
{
	logger.program = program;
	log_target(host, to, format);
}

void log_program(const char *program)
{
	logger.program = program;
}

static const char *host_name(void)
{
	if (!logger.host[0] && (gethostname(logger.host, sizeof logger.host - 1) < 0 || !logger.host[0]))
		memcpy(logger.host, "localhost", sizeof "localhost");
	return logger.host;
}

/* ---- one line: everything is built in a buffer of LINE_OCTETS + 1 and leaves with one write ---- */

struct line { char at[LINE_OCTETS + 1]; size_t len, max; };

static void line_char(struct line *line, char c)
{
	if (line->len < line->max)
		line->at[line->len++] = c;
}

/* What is known to be plain. */
static void line_plain(struct line *line, const char *text)
{
	size_t n = strlen(text), room = line->max - line->len;
	if (n > room)
		n = room;
	memcpy(line->at + line->len, text, n);
	line->len += n;
}

static void line_text(struct line *line, const char *text)
{
	for (; *text; text++)
		line_char(line, is_plain(*text) ? *text : '?');
}

/* A JSON string's inside. An escape is written whole or not at all, so that a cut line stays valid JSON. */
static void line_json(struct line *line, const char *text)
{
	for (; *text; text++) {
		bool escape = *text == '"' || *text == '\\';
		if (line->max - line->len < (escape ? 2u : 1u))
			return;
		if (escape)
			line_char(line, '\\');
		line_char(line, is_plain(*text) ? *text : '?');
	}
}

static void line_stamp(struct line *line)
{
	wall_ms_t now = clock_wall_ms();
	if (now != logger.stamp_ms || !logger.stamp[0]) {
		struct str stamp = STR_INIT(sizeof logger.stamp - 1);
		clock_rfc3339(now, &stamp);
		snprintf(logger.stamp, sizeof logger.stamp, "%s", str_c(&stamp));
		str_free(&stamp);
		logger.stamp_ms = now;
	}
	line_plain(line, logger.stamp);
}

static void forget_pid(void)
{
	logger.pid[0] = '\0';
}

/* A system call that every line would make for what does not change. */
static const char *pid_text(void)
{
	static bool forgets;
	if (!forgets)
		forgets = pthread_atfork(NULL, NULL, forget_pid) == 0;
	if (!logger.pid[0] || !forgets)
		snprintf(logger.pid, sizeof logger.pid, "%ld", (long)getpid());
	return logger.pid;
}

/* Who speaks, as log readers split it off: "tappal/smtpd[123]: " */
static void line_tag(struct line *line)
{
	line_plain(line, "tappal/");
	line_text(line, logger.program);
	line_char(line, '[');
	line_plain(line, pid_text());
	line_plain(line, "]: ");
}

static void line_words(struct line *line, const struct level *level, const char *id, const char *text)
{
	if (id)
		line_plain(line, id), line_plain(line, ": ");
	line_plain(line, level->prefix);
	line_plain(line, text);
}

static void build_plain(struct line *line, const struct level *level, const char *id, const char *text)
{
	line_stamp(line);
	line_char(line, ' ');
	line_text(line, host_name());
	line_char(line, ' ');
	line_tag(line);
	line_words(line, level, id, text);
}

static void build_json(struct line *line, const struct level *level, const char *id, const char *text)
{
	char where[160];
	line_text(line, "{\"time\":\"");
	line_stamp(line);
	line_text(line, "\",\"host\":\"");
	line_json(line, host_name());
	snprintf(where, sizeof where, "\",\"program\":\"tappal/%s\",\"pid\":%s,\"level\":\"%s\",", logger.program, pid_text(), level->name);
	line_text(line, where);
	if (id)
		line_text(line, "\"id\":\""), line_text(line, id), line_text(line, "\",");
	line_text(line, "\"text\":\"");
	line->max -= 2;
	line_json(line, text);
	line->max += 2;
	line_text(line, "\"}");
}

/* "<22>Nov 21 20:28:54 tappal/smtpd[123]: ": the host's name is the reader's to add. */
static void line_syslog_head(struct line *line, const struct level *level)
{
	struct str head = STR_INIT(40);
	str_addf(&head, "<%d>", LOG_MAIL | level->priority);
	clock_rfc3164(clock_wall_ms(), &head);
	str_add_char(&head, ' ');
	line_plain(line, str_c(&head));
	str_free(&head);
	line_tag(line);
}

static bool put_way(const struct level *level, const char *id, const char *text)
{
	struct line line = { .max = LINE_OCTETS };
	line_syslog_head(&line, level);
	if (logger.format == LOG_JSON)
		build_json(&line, level, id, text);
	else
		line_words(&line, level, id, text);
	line.at[line.len] = '\0';
	return logger.way->put(line.at, line.len);
}

static void put_syslog(const struct level *level, const char *id, const char *text)
{
	struct line line = { .max = LINE_OCTETS };
	set_ident();
	if (logger.format == LOG_JSON)
		build_json(&line, level, id, text);
	else
		line_words(&line, level, id, text);
	line.at[line.len] = '\0';
	syslog(level->priority, "%s", line.at);
}

/* A log that cannot be written must not stop mail. */
static void write_out(const char *at, size_t n)
{
	while (n > 0) {
		ssize_t put = write(2, at, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return;
		at += put;
		n -= (size_t)put;
	}
}

/* Other programs write into the same pipe, and only up to PIPE_BUF octets are sure to stand together there: so many whole lines go out in one
 * write. UNSAFE: a line is shorter than PIPE_BUF and what is held ends with one, so a line's end is found. */
static void write_held(void)
{
	for (size_t from = 0, n; from < logger.held_len; from += n) {
		n = logger.held_len - from;
		if (n > PIPE_BUF)
			for (n = PIPE_BUF; logger.held[from + n - 1] != '\n';)
				n--;
		write_out(logger.held + from, n);
	}
	logger.held_len = 0;
}

void log_hold(void)
{
	logger.holding = true;
}

void log_release(void)
{
	int saved = errno;
	write_held();
	logger.holding = false;
	errno = saved;
}

static void write_line(const char *at, size_t n, bool now)
{
	if (logger.held_len + n > HELD_OCTETS)
		write_held();
	memcpy(logger.held + logger.held_len, at, n);
	logger.held_len += n;
	if (now || !logger.holding)
		write_held();
}

static void put(const struct level *level, const char *id, const char *text)
{
	if (logger.to == LOG_TO_SYSLOG && logger.way == NULL) {
		put_syslog(level, id, text);
		return;
	}
	if (logger.to == LOG_TO_SYSLOG && put_way(level, id, text))
		return;
	struct line line = { .max = LINE_OCTETS - 1 };
	if (logger.format == LOG_JSON)
		build_json(&line, level, id, text);
	else
		build_plain(&line, level, id, text);
	line.at[line.len++] = '\n';
	write_line(line.at, line.len, level->priority <= LOG_ERR);
}

__attribute__((format(printf, 3, 0)))
static void put_format(const struct level *level, const char *id, const char *format, va_list args)
{
	int saved = errno;
	char text[LINE_OCTETS];
	if (vsnprintf(text, sizeof text, format, args) < 0)
		snprintf(text, sizeof text, "a line that could not be formatted");
	neuter(text);
	put(level, id, text);
	errno = saved;
}

#define PUT_VARIADIC(level, id) do { \
	va_list args; \
	va_start(args, format); \
	put_format(level, id, format, args); \
	va_end(args); \
} while (0)

void log_info(const char *format, ...)
{
	PUT_VARIADIC(&level_info, NULL);
}

void log_warn(const char *format, ...)
{
	PUT_VARIADIC(&level_warn, NULL);
}

void log_error(const char *format, ...)
{
	PUT_VARIADIC(&level_error, NULL);
}

void log_msg(msgid_t id, const char *format, ...)
{
	char text[MSGID_TEXT + 1] = "NOQUEUE";
	if (id != 0)
		msgid_format(id, text);
	PUT_VARIADIC(&level_info, text);
}

const char *log_text(struct bytes b)
{
	char *out = logger.text[logger.next_text++ % TEXT_BUFFERS];
	bool cut = b.len > TEXT_OCTETS - 1;
	size_t n = cut ? TEXT_OCTETS - 4 : b.len;
	for (size_t i = 0; i < n; i++)
		out[i] = is_plain(b.at[i]) ? b.at[i] : '?';
	memcpy(out + n, cut ? "..." : "", cut ? 4 : 1);
	return out;
}

void die_usage(const char *format, ...)
{
	PUT_VARIADIC(&level_fatal, NULL);
	exit(EXIT_YOUR_FAULT);
}

void die_on_arguments(const char *program, int argc)
{
	log_program(program);
	if (argc != 1)
		die_usage("usage: %s (no arguments: settings are control files, see `tappal config`)", program);
}

void die_system(const char *format, ...)
{
	int error = errno;
	char text[LINE_OCTETS];
	va_list args;
	va_start(args, format);
	if (vsnprintf(text, sizeof text, format, args) < 0)
		text[0] = 0;
	va_end(args);
	neuter(text);
	if (error != 0) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof text - len, ": %s", strerror(error));
	}
	put(&level_fatal, NULL, text);
	exit(EXIT_SYSTEM);
}
