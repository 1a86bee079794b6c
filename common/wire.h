/*
 * wire - numbers as octets, little endian, in the width that a format says: records, log heads, intake heads. Never blocks, never fails.
 */
#ifndef COMMON_WIRE_H
#define COMMON_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* The lower `octets` (1 to 8) octets of value, lowest first. */
static inline void wire_put(char *at, uint64_t value, size_t octets)
{
	for (size_t i = 0; i < octets; i++)
		at[i] = (char)(unsigned char)(value >> (8 * i));
}

static inline uint64_t wire_get(const char *at, size_t octets)
{
	uint64_t value = 0;
	for (size_t i = 0; i < octets; i++)
		value |= (uint64_t)(unsigned char)at[i] << (8 * i);
	return value;
}

#endif
