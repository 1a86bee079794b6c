/* body - room: queue (spawn, bounce, tappal). See body.h. */
#include "body.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "places.h"
#include "store/loghead.h"

#define STEP_OCTETS 65536u     /* read at once for a checksum, or without splice */
#define SPLICE_OCTETS (1u << 20)
#define PROVED_PLACES 8u
#define PROVED_MS MINUTE_MS          /* a retry reads it anew */
#define PROVED_OCTETS (256u << 10)   /* of a body with a checksum: they are still in the processor's cache when they are read again */

/* A second name would mean that somebody else than queued has put the file there; none, that queued has just removed it. */
static bool range_is_there(int fd, const struct body_place *place) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return false;
	if (st.st_nlink != 1) {
		errno = st.st_nlink == 0 ? ENOENT : EINVAL;
		return false;
	}
	uint64_t size = (uint64_t)st.st_size;
	if (place->offset <= size && place->size <= size - place->offset)
		return true;
	errno = EBADMSG;
	return false;
}

/* queued recycles no segment whose file anybody holds in this way. Only then does it count that the name still means this file: a spare has none
 * that is asked for. Who finds the file locked comes in the moment in which it is taken away. */
static bool hold_segment(int fd, const char *name) {
	struct stat opened, named;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
		errno = errno == EWOULDBLOCK ? ENOENT : errno;
		return false;
	}
	if (fstat(fd, &opened) < 0 || lstat(name, &named) < 0)
		return false;
	errno = ENOENT;
	return opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

int body_open(struct body *b, const struct body_place *place) {
	char name[PLACE_MAX];
	b->fd = -1;
	if (place->large)
		place_large(place->id, name);
	else
		place_segment(place->segment, name);
	int fd = io_open_regular(AT_FDCWD, name);
	if (fd < 0)
		return -1;
	if ((!place->large && !hold_segment(fd, name)) || !range_is_there(fd, place)) {
		io_close(&fd);
		return -1;
	}
	*b = (struct body){ .fd = fd, .offset = place->offset, .left = place->size, .is_copied = !place->large };
	return 0;
}

void body_close(struct body *b) {
	io_close(&b->fd);
	b->left = 0;
}

static void passed(struct body *b, size_t n) {
	b->offset += n;
	b->left -= n;
}

static size_t next_step(const struct body *b, size_t n) {
	return b->left < n ? (size_t)b->left : n;
}

/* ---- the checksum ---- */

/* A record whose envelope is long is read for the first of its many destinations, not for each; also when some such messages take turns. */
static struct proved { uint64_t segment, record; deadline_t until; } proved[PROVED_PLACES];
static size_t proved_next;

static bool was_proved(const struct body_place *place) {
	deadline_t now = clock_monotonic_ms();
	for (size_t i = 0; i < PROVED_PLACES; i++)
		if (proved[i].segment == place->segment && proved[i].record == place->record && !deadline_passed(proved[i].until, now))
			return true;
	return false;
}

static void keep_proved(const struct body_place *place) {
	deadline_t until = deadline_in(clock_monotonic_ms(), PROVED_MS);
	proved[proved_next++ % PROVED_PLACES] = (struct proved){ place->segment, place->record, until };
}

static int damaged(void) {
	errno = EBADMSG;
	return -1;
}

/* Everything up to `to`, and at the end the comparison. */
static int prove_to(struct body *b, uint64_t to) {
	char data[STEP_OCTETS];
	while (b->sum.at < to) {
		size_t n = to - b->sum.at < sizeof data ? (size_t)(to - b->sum.at) : sizeof data;
		ssize_t got = io_pread_full(b->fd, data, n, b->sum.at);
		if (got != (ssize_t)n)
			return got < 0 ? -1 : damaged();
		intake_sum_add(&b->sum, data, n);
	}
	if (b->sum.at < b->sum_end)
		return 0;
	b->sum_end = 0;
	return b->sum.crc == b->expected ? 0 : damaged();
}

static int prove_large(struct body *b, const struct body_place *place) {
	char octets[INTAKE_HEAD];
	struct intake_head head;
	ssize_t got = io_pread_full(b->fd, octets, sizeof octets, 0);
	if (got != (ssize_t)sizeof octets)
		return got < 0 ? -1 : damaged();
	if (!intake_head_decode(octets, &head) || head.body_size != place->size || place->offset != INTAKE_HEAD)
		return damaged();
	b->sum = intake_sum_begin(b->fd, &head, place->id);
	b->sum_end = head.summed ? intake_size(&head) : 0;
	b->expected = head.checksum;
	return 0;
}

/* Nearly every record is whole in the first read, head included. */
static int prove_small(struct body *b, const struct body_place *place) {
	char data[STEP_OCTETS];
	struct msglog_head head;
	uint64_t start = place->record + MSGLOG_HEAD, end = place->offset + place->size;
	if (start > place->offset)
		return damaged();
	size_t n = end - place->record < sizeof data ? (size_t)(end - place->record) : sizeof data;
	ssize_t got = io_pread_full(b->fd, data, n, place->record);
	if (got != (ssize_t)n)
		return got < 0 ? -1 : damaged();
	if (!msglog_head_decode(data, &head) || head.segment != place->segment || head.length != end - start)
		return damaged();
	b->sum = (struct intake_sum){ .at = start };
	b->sum_end = end;
	b->expected = head.payload_crc;
	intake_sum_add(&b->sum, data + MSGLOG_HEAD, n - MSGLOG_HEAD);
	return prove_to(b, b->sum.at);
}

int body_prove_rest(struct body *b) {
	return b->sum_end == 0 ? 0 : prove_to(b, b->sum_end);
}

int body_prove(struct body *b, const struct body_place *place) {
	if (place->large)
		return prove_large(b, place);
	if (place->record == 0)
		return 0;
	bool long_envelope = place->offset > place->record && place->offset - place->record > STEP_OCTETS;
	if (long_envelope && was_proved(place))
		return 0;
	if (prove_small(b, place) < 0)
		return -1;
	if (long_envelope && body_prove_rest(b) < 0)
		return -1;
	if (long_envelope)
		keep_proved(place);
	return 0;
}

/* How much may be sent now. 0 with errno: it is damaged, or cannot be read. */
static size_t provable_step(struct body *b) {
	if (b->sum_end == 0)
		return next_step(b, SPLICE_OCTETS);
	size_t n = next_step(b, PROVED_OCTETS);
	return prove_to(b, n == b->left ? b->sum_end : b->offset + n) == 0 ? n : 0;
}

/* ---- sending ---- */

/* What does not fit into the pipe is read again the next time. */
static ssize_t copy_step(const struct body *b, int out, size_t n) {
	char data[STEP_OCTETS];
	ssize_t got = io_pread_full(b->fd, data, n < sizeof data ? n : sizeof data, b->offset);
	if (got <= 0)
		return got;
	return write(out, data, (size_t)got);
}

/* What was spliced is the file's own pages as long as it waits in the pipe, also when nobody holds the file any more: it is for files that
 * are never written again. A segment's octets are copied. */
static ssize_t send_step(const struct body *b, int out, size_t n) {
	off_t offset = (off_t)b->offset;
	if (b->is_copied)
		return copy_step(b, out, n);
	ssize_t moved = splice(b->fd, &offset, out, NULL, n, SPLICE_F_NONBLOCK);
	if (moved < 0 && (errno == EINVAL || errno == ENOSYS))
		return copy_step(b, out, n);
	return moved;
}

enum body_result body_send(struct body *b, int out, size_t *moved_r) {
	*moved_r = 0;
	while (b->left > 0) {
		size_t n = provable_step(b);
		if (n == 0)
			return BODY_BROKEN;
		ssize_t moved = send_step(b, out, n);
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0 && errno == EAGAIN)
			return BODY_MORE;
		if (moved < 0)
			return errno == EPIPE ? BODY_GONE : BODY_BROKEN;
		if (moved == 0) {
			errno = EIO;
			return BODY_BROKEN;
		}
		passed(b, (size_t)moved);
		*moved_r += (size_t)moved;
	}
	return BODY_DONE;
}

ssize_t body_read(struct body *b, void *data, size_t n) {
	size_t want = next_step(b, n);
	if (want == 0)
		return 0;
	ssize_t got = io_pread_full(b->fd, data, want, b->offset);
	if (got == 0)
		errno = EIO;
	if (got <= 0)
		return -1;
	passed(b, (size_t)got);
	return got;
}
