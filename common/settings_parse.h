/*
 * settings_parse - one control file's text into a typed value; private to settings*.c.
 */
#ifndef COMMON_SETTINGS_PARSE_H
#define COMMON_SETTINGS_PARSE_H

#include "settings.h"

/* Text and line tables of one snapshot; freed all at once. */
struct settings_memory { struct settings_chunk *first; };
void *settings_allocate(struct settings_memory *memory, size_t size);   /* NULL: no memory */
void settings_memory_free(struct settings_memory *memory);

struct parse {
	const struct setting_row *row;
	const char *dir;                  /* before the name in faults; NULL: none */
	struct settings_memory *memory;   /* what the value's views point into */
	struct str *faults;
	bool ok;                          /* off after the first fault */
};

/* Append "FILE:LINE: ..." to the faults and turn ok off. The format's text says what is wrong, then what to do. */
void parse_fault(struct parse *p, uint32_t line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The value that `text`, a whole control file, gives this setting, stored in *member (of row->type's type). */
bool parse_setting(struct parse *p, struct bytes text, void *member);

/* The grammar of a LIST's lines and of a LINE's text, by the setting's name (settings_grammar.c). */
void parse_check_line(struct parse *p, uint32_t number, struct bytes line);

#endif
