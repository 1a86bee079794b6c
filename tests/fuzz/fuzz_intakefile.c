/*
 * fuzz_intakefile - any octets as an intake file, read as queued reads it. What reaches the store has the sizes that the head says, lies within
 * the file, and has an envelope that parses. With an odd first octet the head is made whole, so that the path behind it is
 * reached: then the next twelve octets are its sizes and id offset.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "queue/queued/taking.h"

#define FORGED 13u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t file_size;

static void require(bool claim) {
	if (!claim)
		abort();
}

const char *store_full_reason(const struct store *st) {
	(void)st;
	return "";
}

enum store_result store_accept(struct store *st, const struct store_new *in, wall_ms_t now, msgid_t *id_r) {
	struct envelope again;
	(void)st;
	require(envelope_parse(in->envelope->raw, &again) == ENV_OK && again.rcpt_count == in->envelope->rcpt_count);
	require(in->body_size + in->envelope->raw.len + INTAKE_HEAD <= file_size);
	require(in->large_file ? in->body_size >= INTAKE_LARGE && in->body.len == 0 : in->body.len == in->body_size);
	uint32_t sum = 0;
	for (size_t i = 0; i < in->body.len; i++)
		sum += (unsigned char)in->body.at[i];
	*id_r = now + sum;
	return STORE_OK;
}

static uint32_t number(const uint8_t *at) {
	uint32_t n;
	memcpy(&n, at, sizeof(n));
	return n;
}

static void forge(const uint8_t *data, char octets[INTAKE_HEAD]) {
	struct intake_head head = { .state = data[0] & 2 ? INTAKE_ADOPT : INTAKE_PENDING, .body_size = number(data + 1) % (2 * INTAKE_LARGE),
		.envelope_size = number(data + 5) % (data[0] & 4 ? ENVELOPE_MAX : 1024), .id_offset = number(data + 9) };
	intake_head_encode(&head, octets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static int fd = -1;
	char octets[INTAKE_HEAD];
	struct taking t = { .buffer = STR_INIT(INTAKE_HEAD + INTAKE_LARGE + ENVELOPE_MAX) };
	struct intake_head head;
	msgid_t id;
	if (fd < 0)
		fd = memfd_create("intake", 0);
	require(fd >= 0 && ftruncate(fd, 0) == 0);
	bool forged = size >= FORGED && data[0] & 1;
	if (forged) {
		forge(data, octets);
		require(pwrite(fd, octets, INTAKE_HEAD, 0) == (ssize_t)INTAKE_HEAD);
		data += FORGED;
		size -= FORGED;
	}
	require(pwrite(fd, data, size, forged ? INTAKE_HEAD : 0) == (ssize_t)size);
	file_size = size + (forged ? INTAKE_HEAD : 0);
	if (taking_read(&t, fd, file_size, &head)) {
		uint32_t checksum;
		bool whole = intake_checksum(fd, &head, &checksum);
		require(whole == (intake_size(&head) <= file_size));
		enum enqueue_exit code = taking_accept(&t, fd, "00000000000000000000000000", &head, 1, &id);
		require(whole || code != ENQ_OK);
	}
	taking_free(&t);
	return 0;
}
