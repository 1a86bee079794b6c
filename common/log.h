/*
 * log - one line per event, in Postfix's shape so that pflogsumm and fail2ban read it:
 *   2026-11-21T20:28:54.123000+00:00 mx tappal/smtpd[123]: 0H5X...: client=unknown[192.0.2.1]
 * or to syslog, or as NDJSON (settings logto, logformat). A line goes out with one write(2); it is cut at 2,000 octets.
 * Octets below 32, 127 and above are neutered here: no peer can forge a line or a colour.
 * Levels: info is the record of mail, warn a thing to look at, error a thing that stops work.
 * Blocks only as long as the write does.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "bytes.h"
#include "msgid.h"

enum log_to { LOG_TO_STDERR, LOG_TO_SYSLOG };
enum log_format { LOG_LINE, LOG_JSON };

/* Once at start; before it, lines go to stderr in LOG_LINE format. `program` is static. */
void log_init(const char *program, const char *host, enum log_to to, enum log_format format);
/* At a reload: where lines go from now on, under the program's name as it is. `host` is copied. */
void log_target(const char *host, enum log_to to, enum log_format format);
void log_program(const char *program);  /* the name for the lines that follow: queued writes those of its workers' results */

/* How lines for syslog go, where not by syslog(3): logsocket.h. Before log_init. A line that is not put goes to stderr. */
struct log_way {
	void (*open)(void);       /* again: nothing */
	void (*close)(void);
	bool (*put)(const char *line, size_t n);   /* with a NUL behind it, which n leaves out */
};
void log_use(const struct log_way *way);

/* Lines between log_hold and log_release leave with one write, and under load that is most of what logging costs. For a loop that releases
 * in every turn before anybody hears of what the lines tell. A line at log_error or that ends the program does not wait. */
void log_hold(void);
void log_release(void);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same about a message: "ID: " goes first; id 0 writes NOQUEUE. */
void log_msg(msgid_t id, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For %s of the above: a copy of b, neutered, in one of 8 rotating static buffers of 512 octets, cut with "..." */
const char *log_text(struct bytes b);

/* Program-ending errors: a line, then exit. */
void die_usage(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));   /* EXIT_YOUR_FAULT */
void die_system(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));  /* EXIT_SYSTEM; appends strerror(errno) when errno != 0 */
/* For daemons, which have settings and no arguments: any ends the program before it has done anything (EXIT_YOUR_FAULT). Also log_program. */
void die_on_arguments(const char *program, int argc);

#endif
