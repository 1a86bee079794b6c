/*
 * crc32c - CRC-32C (Castagnoli), the checksum of the message log and of intake files.
 *
 *   uint32_t crc = crc32c(0, head, n);   crc = crc32c(crc, body, m);   the same as over both in one piece
 *
 * With SSE4.2 the processor's own instruction does it, else a table. Never blocks, never fails.
 * crc32c(0, "123456789", 9) == 0xe3069283 (RFC 3720 B.4 has more).
 */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t seed, const void *data, size_t n);

/* The table form, for machines without the instruction: the same results. */
uint32_t crc32c_table(uint32_t seed, const void *data, size_t n);

#endif
