/*
 * manifest - what a backup holds: MANIFEST, a text of one line for each file, written last and ended by its own checksum. Room: queue (tappal).
 *
 *   tappal-backup 1
 *   made 2026-11-22T00:30:00.000000+00:00
 *   file log/0000000000000001 1234567 89abcdef        path, octets, CRC-32C
 *   end 17 01234567                                   files, CRC-32C of all octets before it
 */
#ifndef QUEUE_MANIFEST_H
#define QUEUE_MANIFEST_H

#include "common/bytes.h"
#include "common/clock.h"

#define MANIFEST_FILE "MANIFEST"
#define MANIFEST_INCOMPLETE "INCOMPLETE"      /* there from the first moment of a backup to its last */
#define MANIFEST_LINES_MAX (4u << 20)         /* files of one backup */
#define MANIFEST_PATH_MAX 64u

struct manifest_file { struct bytes path; uint64_t size; uint32_t crc; };

/* ---- writing ---- */
void manifest_begin(struct str *out, wall_ms_t made);
void manifest_add(struct str *out, const char *path, uint64_t size, uint32_t crc);
bool manifest_end(struct str *out, uint64_t files);      /* false: no memory */

/* ---- reading ---- */
/* Is it whole, and of this version? *files_r is what stands between the first lines and the last; NULL, or what is wrong. */
const char *manifest_parse(struct bytes text, struct bytes *files_r, uint64_t *count_r);
/* The next file: false at the end. A line of a wrong form has an empty path. A path is relative, of plain characters, and leads nowhere else. */
bool manifest_next(struct bytes *files, struct manifest_file *file_r);

#endif
