/*
 * tappal - what the parts of the operator's tool share: exit codes, the ways to end, the commands, and opening the queue.
 */
#ifndef QUEUE_TAPPAL_H
#define QUEUE_TAPPAL_H

#include "common/exits.h"
#include "common/settings.h"
#include "queue/index.h"

#define TAPPAL_VERSION "0.1"

enum { EXIT_NOTHING = 1, EXIT_FOUND = 2 };   /* nothing matched; `queue check` found something, `queue show` damage; else EXIT_OK, EXIT_YOUR_FAULT, EXIT_SYSTEM */

/* A sentence on stderr, and the end. Arguments that came from elsewhere must have been cleaned (show_clean). */
void tool_usage(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void tool_stop(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* a sentence on stderr */

/* Become tappal-queue for good, or say that it takes root and end. `anybody`: another account stays itself, and reads what it may. */
void tool_become_queue(bool anybody);
void tool_may_be_queue(void);         /* only say and end */

/* chdir to the spool, open the index read-only; or say why not, and what to do about it, and end. Creates no file. */
struct index *tool_open_index(void);
/* Begin a read turn, or end with a sentence. */
void tool_read_begin(struct index *ix);
void tool_index_failed(const struct index *ix) __attribute__((noreturn));

/* The process number of the queued whose spool this is, also while it starts; 0: there is none, or it is not to be seen. Working directory: the spool. */
int tool_queue_owner(void);

/* The settings that tools use; where they have faults these are said and the defaults count. */
void tool_settings(struct settings *s);
/* When an unfinished message is given up. UINT64_MAX while it is held. */
wall_ms_t tool_expiry(const struct settings *s, const struct row_message *row);

/* Of one who waits and is late: the report of that is "due" or "sent" (RFC 3461, NOTIFY=DELAY). NULL: there is none. */
const char *tool_delay_report(const struct row_rcpt *row);

/* What a row in `destinations` and `due` is called, for people: "r:example.org" -> "example.org". *local_r tells the channel. */
struct bytes tool_destination(struct bytes destination, bool *local_r);

/* ---- the commands: argv[0] is the command's own name; each returns an exit code ---- */
typedef int command_fn(int argc, char **argv);
command_fn command_list, command_show, command_why, command_operate, command_flush, command_check, command_backup;   /* tappal queue ... */
command_fn command_status, command_config, command_log, command_reload, command_passwd, command_session, command_guard;

/* Owner and mode of the table of passwords: false and a sentence on stderr where they are wrong. For `config check`. */
bool passwd_check(void);

#endif
