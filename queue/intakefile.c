/*
 * intakefile - head and names of the files in intake/. Room: queue (enqueue writes them, queued reads them).
 *
 *   octet 0  "tapi"        4 version 1      8 state            12 uid             16 token_a        24 token_b
 *   32 body_size           40 envelope_size 44 id_offset       48 checksum        52 1: has one    56 zero          60 CRC-32C of the 60 before
 *
 * Where octet 52 is 0, an older version wrote it, which had a checksum for ADOPT only.
 */
#include "intakefile.h"

#include <errno.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/io.h"
#include "common/wire.h"

#define VERSION 1u
#define CRC_AT 60u

static const char magic[4] = { 't', 'a', 'p', 'i' };
static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void intake_head_encode(const struct intake_head *head, char out[INTAKE_HEAD]) {
	memset(out, 0, INTAKE_HEAD);
	memcpy(out, magic, sizeof(magic));
	wire_put(out + 4, VERSION, 4);
	wire_put(out + 8, head->state, 4);
	wire_put(out + 12, head->uid, 4);
	wire_put(out + 16, head->token_a, 8);
	wire_put(out + 24, head->token_b, 8);
	wire_put(out + 32, head->body_size, 8);
	wire_put(out + 40, head->envelope_size, 4);
	wire_put(out + 44, head->id_offset, 4);
	wire_put(out + 48, head->checksum, 4);
	wire_put(out + 52, head->summed, 4);
	wire_put(out + CRC_AT, crc32c(0, out, CRC_AT), 4);
}

bool intake_head_decode(const char in[INTAKE_HEAD], struct intake_head *head_r) {
	if (memcmp(in, magic, sizeof(magic)) != 0 || wire_get(in + 4, 4) != VERSION || wire_get(in + CRC_AT, 4) != crc32c(0, in, CRC_AT))
		return false;
	uint64_t state = wire_get(in + 8, 4);
	*head_r = (struct intake_head){
		.uid = (uint32_t)wire_get(in + 12, 4),
		.token_a = wire_get(in + 16, 8),
		.token_b = wire_get(in + 24, 8),
		.body_size = wire_get(in + 32, 8),
		.envelope_size = (uint32_t)wire_get(in + 40, 4),
		.id_offset = (uint32_t)wire_get(in + 44, 4),
		.checksum = (uint32_t)wire_get(in + 48, 4),
		.summed = wire_get(in + 52, 4) == 1 || state == INTAKE_ADOPT,
	};
	if (state != INTAKE_PENDING && state != INTAKE_ADOPT)
		return false;
	head_r->state = (enum intake_state)state;
	return head_r->body_size <= INTAKE_BODY_MAX && head_r->envelope_size <= ENVELOPE_MAX;
}

uint64_t intake_size(const struct intake_head *head) {
	return INTAKE_HEAD + head->body_size + head->envelope_size;
}

bool intake_name_valid(struct bytes name) {
	if (name.len != INTAKE_NAME)
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (!memchr(alphabet, name.at[i], sizeof(alphabet) - 1))
			return false;
	return true;
}

void intake_name_make(const uint8_t random[16], char out[INTAKE_NAME + 1]) {
	unsigned held = 0, bits = 0;
	size_t used = 0;
	for (size_t i = 0; i < 16; i++) {
		held = (held << 8 | random[i]) & 0xffffu;
		for (bits += 8; bits >= 5; bits -= 5)
			out[used++] = alphabet[held >> (bits - 5) & 31];
	}
	out[used++] = alphabet[held << (5 - bits) & 31];   /* 128 = 25 * 5 + 3 */
	out[used] = '\0';
}

void intake_ack_name(const char *name, char out[INTAKE_ACK_NAME + 1]) {
	memcpy(out, name, INTAKE_NAME);
	memcpy(out + INTAKE_NAME, ".ack", 5);
}

bool intake_checksum(int fd, const struct intake_head *head, uint32_t *checksum_r) {
	char buffer[65536];
	uint64_t at = INTAKE_HEAD, end = intake_size(head);
	uint32_t crc = 0;
	while (at < end) {
		size_t want = end - at < sizeof(buffer) ? (size_t)(end - at) : sizeof(buffer);
		ssize_t got = io_pread_full(fd, buffer, want, at);
		if (got < 0)
			return false;
		if ((size_t)got < want) {
			errno = ENODATA;
			return false;
		}
		crc = crc32c(crc, buffer, want);
		at += want;
	}
	*checksum_r = crc;
	return true;
}

/* The dots, the id, or what a loss of power left between the two. */
static bool is_id_or_dots(int fd, uint64_t place, msgid_t id) {
	char found[MSGID_TEXT], text[MSGID_TEXT + 1];
	msgid_format(id, text);
	bool known = io_pread_full(fd, found, sizeof found, place) == (ssize_t)sizeof found;
	for (size_t i = 0; known && i < sizeof found; i++)
		known = found[i] == text[i] || found[i] == '.';
	return known;
}

struct intake_sum intake_sum_begin(int fd, const struct intake_head *head, msgid_t id) {
	struct intake_sum sum = { .at = INTAKE_HEAD };
	uint64_t place = INTAKE_HEAD + (uint64_t)head->id_offset;
	if (head->id_offset != 0 && is_id_or_dots(fd, place, id))
		sum.dots = place;
	return sum;
}

void intake_sum_add(struct intake_sum *sum, char *octets, size_t n) {
	uint64_t end = sum->at + n, dots_end = sum->dots + MSGID_TEXT;
	uint64_t from = sum->dots > sum->at ? sum->dots : sum->at, to = dots_end < end ? dots_end : end;
	/* UNSAFE: from and to lie within the octets. */
	if (sum->dots != 0 && from < to)
		memset(octets + (from - sum->at), '.', (size_t)(to - from));
	sum->crc = crc32c(sum->crc, octets, n);
	sum->at = end;
}
