/*
 * check_body - large/ID against the record of its message. Room: queue (tappal).
 *
 * The file is an intake file that was renamed, its head and its envelope included. The checksum in the head was made before queued put the id
 * in the place of the dots, so the dots are put back before it is compared. A PENDING file of an older version has none: its sizes and its
 * envelope are compared, and it is read to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "common/io.h"
#include "queue/intakefile.h"
#include "queue/places.h"

#define STEP 65536u

struct body_pass {
	struct check *c;
	msgid_t id;
	char file[PLACE_MAX];
	int fd;
	struct intake_head head;
};

static void tell(const struct body_pass *p, enum check_kind kind, const char *text)
{
	struct check_finding f = { .kind = kind, .id = p->id };
	snprintf(f.file, sizeof f.file, "%s", p->file);
	snprintf(f.text, sizeof f.text, "%s", text);
	check_tell(p->c, &f);
}

/* NULL, or what is wrong with it. */
static const char *read_whole(const struct body_pass *p)
{
	char chunk[STEP];
	uint64_t end = intake_size(&p->head);
	struct intake_sum sum = intake_sum_begin(p->fd, &p->head, p->id);
	while (sum.at < end) {
		size_t n = end - sum.at < STEP ? (size_t)(end - sum.at) : STEP;
		ssize_t got = io_pread_full(p->fd, chunk, n, sum.at);
		if (got != (ssize_t)n)
			return got < 0 ? strerror(errno) : "it is shorter than its head says";
		intake_sum_add(&sum, chunk, n);
	}
	return p->head.summed && sum.crc != p->head.checksum ? "its checksum is wrong" : NULL;
}

static bool envelope_differs(const struct body_pass *p, struct bytes envelope)
{
	char chunk[STEP];
	uint64_t at = INTAKE_HEAD + p->head.body_size;
	for (size_t done = 0; done < envelope.len;) {
		size_t n = envelope.len - done < STEP ? envelope.len - done : STEP;
		if (io_pread_full(p->fd, chunk, n, at + done) != (ssize_t)n || memcmp(chunk, envelope.at + done, n) != 0)
			return true;
		done += n;
	}
	return false;
}

static const char *judge(struct body_pass *p, const struct log_message *m, struct bytes envelope)
{
	char head[INTAKE_HEAD];
	struct stat st;
	if (fstat(p->fd, &st) != 0 || io_pread_full(p->fd, head, sizeof head, 0) < 0)
		return strerror(errno);
	if (st.st_nlink > 1)
		return "it has a second name";
	if ((uint64_t)st.st_size < INTAKE_HEAD || !intake_head_decode(head, &p->head))
		return "its head is damaged";
	if (p->head.body_size != m->body_size || p->head.envelope_size != m->envelope_size || m->body_offset != INTAKE_HEAD)
		return "its head has other sizes than the record of its message";
	/* The record of one that was copied forward has no token any more. */
	if (m->moved_from == 0 && (p->head.token_a != m->token_a || p->head.token_b != m->token_b))
		return "its head is that of another message";
	if ((uint64_t)st.st_size < intake_size(&p->head))
		return "it is shorter than its head says";
	const char *wrong = read_whole(p);
	if (wrong)
		return wrong;
	return envelope_differs(p, envelope) ? "its envelope is not that of the record" : NULL;
}

/* A live queued unlinks the file of a finished message, perhaps between the open and here. */
static bool is_gone(int fd)
{
	struct stat st;
	return fd < 0 ? errno == ENOENT : fstat(fd, &st) == 0 && st.st_nlink == 0;
}

bool check_body(struct check *c, const struct log_message *message, struct bytes envelope)
{
	struct body_pass p = { .c = c, .id = message->id };
	place_large(message->id, p.file);
	p.fd = io_open_regular(AT_FDCWD, p.file);
	if (is_gone(p.fd)) {
		io_close(&p.fd);
		errno = ENOENT;
		return false;
	}
	c->sums.large++;
	const char *wrong = p.fd < 0 ? strerror(errno) : judge(&p, message, envelope);
	if (wrong)
		tell(&p, CHECK_LARGE_DAMAGED, wrong);
	if (p.fd >= 0)
		close(p.fd);
	return true;
}
