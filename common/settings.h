/*
 * settings - the control files of /etc/tappal, read once into an immutable snapshot.
 *
 * One table (settings.def) makes the struct, the parser, `tappal config` and tappal-control(5). A program reads only the files
 * that the table says it uses. A control file that is missing has its default. Text belongs to the snapshot and lives as
 * long as it.
 */
#ifndef COMMON_SETTINGS_H
#define COMMON_SETTINGS_H

#include "bytes.h"
#include "mailaddr.h"

enum {
	USED_SMTPD = 1, USED_QUEUED = 2, USED_SPAWN = 4, USED_BOUNCE = 8, USED_REMOTE = 16, USED_RESOLVER = 32, USED_INJECT = 64, USED_TOOLS = 128,
	USED_AUTH = 256, USED_TLSD = 512, USED_GUARD = 1024, USED_FILTERD = 2048, USED_CALLOUT = 4096, USED_ALL = 8191,
};

struct lines {
	struct bytes *at;
	uint32_t *number;                 /* line in the file, from 1 */
	size_t count;
	uint32_t *place, places;          /* private: keylist.c's index; places 0: none */
};

struct settings {
#define SETTING_NUM(n) uint64_t n;
#define SETTING_SECONDS(n) uint64_t n;
#define SETTING_SIZE(n) uint64_t n;
#define SETTING_FLAG(n) bool n;
#define SETTING_DOMAIN(n) struct bytes n;
#define SETTING_LINE(n) struct bytes n;
#define SETTING_WORD(n) struct bytes n;
#define SETTING_LIST(n) struct lines n;
#define SETTING(name, TYPE, dflt, min, max, used_by, help) SETTING_##TYPE(name)
#include "settings.def"
#undef SETTING
	struct settings_memory *memory;   /* private: what all views point into */
	uint32_t stamp;                   /* private: of the files as they were (settings_changed) */
};

enum setting_type { SETTING_TYPE_NUM, SETTING_TYPE_SECONDS, SETTING_TYPE_SIZE, SETTING_TYPE_FLAG, SETTING_TYPE_DOMAIN, SETTING_TYPE_LINE, SETTING_TYPE_WORD, SETTING_TYPE_LIST };

struct setting_row {
	const char *name;
	enum setting_type type;
	const char *default_text;
	uint64_t min, max;
	unsigned used_by;
	const char *help;
	size_t offset;     /* of its member in struct settings */
};
extern const struct setting_row setting_table[];
extern const size_t setting_count;

/* What a line of smtpdlisten says: "ADDRESS" or "ADDRESS ROLE". */
enum smtpd_role { ROLE_RELAY, ROLE_SUBMISSION, ROLE_SUBMISSIONS };
bool smtpd_role_parse(struct bytes word, enum smtpd_role *role_r);   /* empty: relay */
bool smtpd_listen_parse(struct bytes line, struct bytes *address_r, enum smtpd_role *role_r);

/* Read the control files in directory `dir` that `used_by` uses (USED_ALL: every one, and then unknown file names are errors, too,
 * with a suggestion of the nearest name). Every fault is one line appended to `faults`: "FILE:LINE: what; what to do".
 * True and *s filled when there was no fault; on false *s holds nothing. Defaults that depend on `me` are filled in.
 * LIST settings with a grammar (users, clients, smtproutes, virtualdomains, smtpdlisten ...) are checked line by line. Blocks on disk. */
bool settings_load(struct settings *s, const char *dir, unsigned used_by, struct str *faults);
void settings_free(struct settings *s);

/* For programs: load from path_etc, or print the faults and die_usage. Also calls log_init with `program`. */
void settings_or_die(struct settings *s, const char *program, unsigned used_by);
/* One warning in the log for each file of path_etc that is no setting. A slip in a name stops no program; it should not be silent either. */
void settings_warn_names(void);
/* For SIGHUP: load anew; on faults log them, keep *s as it is and return false. On true the old snapshot has been freed. */
bool settings_reload(struct settings *s, unsigned used_by);
/* Is any control file in `dir` that `used_by` uses another one than when `s` was loaded from there for the same `used_by`? By inode, size and times. */
bool settings_changed(const struct settings *s, const char *dir, unsigned used_by);

const struct setting_row *setting_find(struct bytes name);          /* NULL when unknown */
const char *setting_nearest(struct bytes name);                      /* for "did you mean"; NULL when nothing is near */
/* Check one value as the parser would; a fault is appended to `fault`. Used by `tappal config set`. */
bool setting_check(const struct setting_row *row, struct bytes text, struct str *fault);
void setting_show(const struct settings *s, const struct setting_row *row, struct str *out);  /* as it would stand in the file */

#endif
