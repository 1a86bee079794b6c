/*
 * show - everything tappal prints: neutered text, times, sizes, tables (libsmartcols) and JSON (jansson).
 *
 * No octet of a peer reaches a terminal as it came: control characters (C0, DEL, C1), what is no UTF-8, and the invisible
 * characters that turn or end lines become "?".
 */
#ifndef QUEUE_SHOW_H
#define QUEUE_SHOW_H

#include <jansson.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/verdict.h"

struct show { bool tty; bool utf8; };
/* Once at start: locale, terminal. */
void show_init(void);
bool show_is_tty(void);

/* Append b, clean. */
void show_clean(struct bytes b, struct str *out);
/* The same for the body of a mail: line ends become LF and stay, tabs stay. */
void show_clean_text(struct bytes b, struct str *out);
/* A clean copy for %s; valid until eight calls later. */
const char *show_text(struct bytes b);

void show_time(wall_ms_t at, struct str *out);                  /* "2026-11-21 20:28:54", local time */
/* "2026-11-21 20:28:54 (2h5m ago)", "... (in 20m)", "never" for UINT64_MAX. */
void show_time_from(wall_ms_t at, wall_ms_t now, struct str *out);
void show_size(uint64_t octets, struct str *out);               /* "512", "12K", "3.4M" */
/* "<a@b>", "<> (a bounce)". */
void show_sender(struct bytes sender, struct str *out);

/* ---- JSON: one object a line ---- */
json_t *show_json(struct bytes b);                              /* a clean string */
json_t *show_json_seconds(wall_ms_t at);
void show_json_number(json_t *object, const char *name, uint64_t value);
void show_json_line(json_t *object);                            /* prints and releases it */

/* ---- tables ---- */
struct show_column { const char *name; double width; bool right, cut /* may be cut on a terminal */; };
struct show_table;
/* `heading`: print the names above. NULL: no memory. */
struct show_table *show_table_new(const struct show_column *columns, size_t count, bool heading);
/* One row of `count` cells; text is cleaned here. */
void show_table_row(struct show_table *t, const struct bytes *cells);
void show_table_print(struct show_table *t);                    /* and frees it */
void show_table_free(struct show_table *t);

/* Write all that was printed; false when stdout is gone (a closed pipe ends a list silently). */
bool show_flush(void);

#endif
