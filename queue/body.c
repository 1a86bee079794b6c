/* body - room: queue (spawn, bounce, tappal). See body.h. */
#include "body.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "places.h"

#define STEP_OCTETS 65536u

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
	if (place->offset > size || place->size > size - place->offset) {
		errno = ERANGE;
		return false;
	}
	return true;
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
	if (!range_is_there(fd, place)) {
		io_close(&fd);
		return -1;
	}
	*b = (struct body){ .fd = fd, .offset = place->offset, .left = place->size };
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

/* Without splice: what does not fit into the pipe is read again the next time. */
static ssize_t copy_step(const struct body *b, int out) {
	char data[STEP_OCTETS];
	ssize_t got = io_pread_full(b->fd, data, next_step(b, sizeof data), b->offset);
	if (got <= 0)
		return got;
	return write(out, data, (size_t)got);
}

static ssize_t send_step(const struct body *b, int out) {
	off_t offset = (off_t)b->offset;
	ssize_t moved = splice(b->fd, &offset, out, NULL, next_step(b, 1u << 20), SPLICE_F_NONBLOCK);
	if (moved < 0 && (errno == EINVAL || errno == ENOSYS))
		return copy_step(b, out);
	return moved;
}

enum body_result body_send(struct body *b, int out, size_t *moved_r) {
	*moved_r = 0;
	while (b->left > 0) {
		ssize_t moved = send_step(b, out);
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
