/*
 * bytes - the two types that carry every octet of mail.
 *
 *   struct bytes   a borrowed view: pointer and length. Never owns, never freed, may hold NUL.
 *                  Valid as long as what it points into; functions that hand one out say how long.
 *   struct str     an owned, growable buffer with a ceiling set at its making.
 *
 * No function here blocks, and none aborts: a str that cannot grow (no memory, or over its ceiling)
 * turns `failed` on, keeps what it holds, and refuses every later append until str_clear, so a caller
 * may append many times and check once.
 */
#ifndef COMMON_BYTES_H
#define COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	const char *at;
	size_t len;
};

/* A string literal as bytes, without its NUL. */
#define LIT(s) ((struct bytes){ (s), sizeof(s) - 1 })

struct bytes bytes_of(const char *cstring);              /* NULL gives an empty view */
struct bytes bytes_slice(struct bytes b, size_t from, size_t to); /* clamped to b; from > to is empty */
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_equal_nocase(struct bytes a, struct bytes b);  /* ASCII letters only */
bool bytes_starts_nocase(struct bytes b, struct bytes prefix);
bool bytes_ends_nocase(struct bytes b, struct bytes suffix);
void bytes_lower(char *at, size_t n);                    /* ASCII letters only */
int bytes_compare(struct bytes a, struct bytes b);        /* memcmp order, shorter first */

/* Offset of the first (last) `c`, or b.len when there is none. */
size_t bytes_find(struct bytes b, char c);
size_t bytes_find_last(struct bytes b, char c);

/* Cut `*rest` at the first `sep`: returns what stood before it and leaves what follows in *rest.
 * Without a `sep` it returns everything and leaves *rest empty with at == NULL. */
struct bytes bytes_cut(struct bytes *rest, char sep);
struct bytes bytes_trim(struct bytes b);                  /* spaces and tabs at both ends */

/* Strict UTF-8 (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF) without control characters: none of
 * U+0000-U+001F, U+007F, U+0080-U+009F. Empty is true. */
bool bytes_is_utf8_text(struct bytes b);

/* Decimal digits only, no sign, whole view used, value <= max: true and *value_r set. */
bool bytes_to_u64(struct bytes b, uint64_t max, uint64_t *value_r);

/* Copy into a C string of `size` octets. False (and an empty string) when it does not fit or holds NUL. */
bool bytes_to_cstring(struct bytes b, char *out, size_t size);

/* ---- owned ---- */

struct str {
	char *at;        /* NULL until the first append; NUL-terminated after it, the NUL not counted */
	size_t len;
	size_t room;     /* allocated, 0 when nothing is */
	size_t max;      /* len never exceeds it */
	bool failed;     /* an append was refused: memory or max */
};

#define STR_INIT(max_len) ((struct str){ .max = (max_len) })

void str_init(struct str *s, size_t max);
void str_free(struct str *s);              /* releases; the str may be used again with the same max */
void str_clear(struct str *s);             /* len 0, failed off, memory kept */
void str_truncate(struct str *s, size_t len); /* no effect when len >= s->len */
void str_remove_front(struct str *s, size_t n); /* drop the first n (clamped) octets */

/* Appends return false when refused (and set failed). */
bool str_add(struct str *s, struct bytes b);
bool str_add_c(struct str *s, const char *cstring);
bool str_add_char(struct str *s, char c);
bool str_add_u64(struct str *s, uint64_t n);              /* decimal */
bool str_addf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for n more octets at s->at + s->len (for read(2)); NULL when refused. Then str_grew(n_used). */
char *str_reserve(struct str *s, size_t n);
void str_grew(struct str *s, size_t n);

struct bytes str_bytes(const struct str *s);  /* valid until the next append, clear or free */
const char *str_c(const struct str *s);       /* never NULL; same validity */

/* ---- checked arithmetic ---- */
bool size_add(size_t a, size_t b, size_t *sum_r);       /* false on overflow, *sum_r untouched */
bool size_mul(size_t a, size_t b, size_t *product_r);

/* ---- an array that grows as it is filled ---- */
/* Room for one more: `count` of *room elements of `size` octets are used, at `array` (malloc'ed; NULL at first). Returns where it is now, or NULL: no
 * memory, and all is as it was. */
void *array_room(void *array, size_t count, size_t *room, size_t size);

#endif
