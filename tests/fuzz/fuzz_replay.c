/*
 * fuzz_replay - a log that holds anything, replayed by the store. The first octet chooses: the rest is a segment's raw octets, or
 * records (type, u16 length, payload) that get valid heads here, so that the replay believes them.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "queue/store/msglog_inside.h"
#include "queue/store/store_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENT 65536u
#define RUN (UINT64_C(1) << 32)

static char segment[SEGMENT];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	return ftw->level > 1 ? remove(path) : 0;
}

static char dir[] = "/dev/shm/tappal-fuzz-XXXXXX";

static void leave_spool(void)
{
	static const char *const name[] = { "log", "index", "large", "intake" };
	for (size_t i = 0; i < 4; i++)
		rmdir(name[i]);
	rmdir(dir);
}

static void enter_spool(void)
{
	static bool made;
	if (made)
		return;
	made = true;
	if (!mkdtemp(dir) || chdir(dir) != 0 || mkdir("log", 0700) != 0 || mkdir("index", 0700) != 0 || mkdir("large", 0700) != 0 || mkdir("intake", 0700) != 0)
		abort();
	atexit(leave_spool);
}

/* Frame one record at `at`: where the next begins. */
static size_t frame(size_t at, const char *payload, size_t n)
{
	struct msglog_head head = { (uint32_t)n, (uint32_t)at, 1, RUN, crc32c(0, payload, n) };
	size_t whole = (size_t)msglog_record_size(n);
	if (whole > SEGMENT - at)
		return SEGMENT;
	msglog_head_encode(&head, segment + at);
	memcpy(segment + at + MSGLOG_HEAD, payload, n);
	return at + whole;
}

static size_t frame_start(void)
{
	struct str out = STR_INIT(1000);
	struct log_start start = { .run = RUN };
	if (!log_start_encode(&start, &out))
		abort();
	size_t at = frame(0, out.at, out.len);
	str_free(&out);
	return at;
}

/* Octets of a log_message record without its raw part. */
static size_t message_octets(void)
{
	struct str out = STR_INIT(1000);
	struct log_message none = { .id = 0 };
	if (!log_message_encode(&none, &out))
		abort();
	size_t n = out.len;
	str_free(&out);
	return n;
}

static void frame_all(const uint8_t *data, size_t size)
{
	static char payload[SEGMENT];
	size_t at = frame_start(), fields = message_octets();
	while (size > 3 && at < SEGMENT) {
		size_t n = (size_t)data[1] | (size_t)data[2] << 8;
		if (n > size - 3)
			n = size - 3;
		uint32_t length = (uint32_t)(n + RECORD_HEAD);
		/* The record's own length counts its fields alone; a message's raw octets stand behind it. */
		if (data[0] & 0x80 && n + RECORD_HEAD > fields)
			length = (uint32_t)fields;
		const unsigned char head[RECORD_HEAD] = { (unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16), 0,
			(unsigned char)(100 + (data[0] & 7)), 0, RECORD_MAGIC & 0xff, RECORD_MAGIC >> 8 };
		memcpy(payload, head, sizeof head);
		memcpy(payload + RECORD_HEAD, data + 3, n < SEGMENT - RECORD_HEAD ? n : SEGMENT - RECORD_HEAD);
		at = frame(at, payload, n + RECORD_HEAD < SEGMENT ? n + RECORD_HEAD : SEGMENT);
		data += 3 + n;
		size -= 3 + n;
	}
}

static void write_segment(void)
{
	int fd = open("log/0000000000000001", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, segment, SEGMENT) != SEGMENT)
		abort();
	close(fd);
}

static void use(struct store *st)
{
	struct store_job job;
	struct store_bounce bounce;
	wall_ms_t now = UINT64_C(1790000000000);
	for (unsigned i = 0; i < 5; i++) {
		for (enum channel c = CHANNEL_LOCAL; c < CHANNEL_COUNT; c++) {
			if (store_claim(st, c, now, &job) != STORE_OK)
				continue;
			struct job_done done = { .job = job.job.job };
			store_job_done(st, &done, now);
		}
		store_claim_bounce(st, now, &bounce);
		store_tick(st, now, true);
		store_next_wake(st, now);
		now += 7 * 86400000u;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s = {
		.queuelifetime = 604800, .bouncelifetime = 86400, .retryfirst = 400, .retrymax = 28800, .retrycurve = LIT("quadratic"),
		.destinationwindow = 20, .destinationstart = 5, .rcptpertransaction = 100, .finishedkeep = 10, .indexsize = 1u << 24,
	};
	struct str error = STR_INIT(1000);
	if (size == 0)
		return 0;
	enter_spool();
	memset(segment, 0, sizeof segment);
	if (data[0] & 1)
		frame_all(data + 1, size - 1);
	else
		memcpy(segment, data + 1, size - 1 < SEGMENT ? size - 1 : SEGMENT);
	write_segment();
	struct store *st = store_open_sized(&s, UINT64_C(1790000000000), NULL, NULL, SEGMENT, &error);
	if (st)
		use(st);
	store_close(st);
	str_free(&error);
	nftw(".", remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
