/* taking - room: queue (queued). See taking.h. */
#include "taking.h"

#include <errno.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#define FIRST_READ 65536u    /* nearly every message is whole in it */
#define FULL_EVERY_MS MINUTE_MS
#define BUFFER_MAX (INTAKE_HEAD + INTAKE_LARGE + ENVELOPE_MAX)

static uid_t uid_of(const char *account) {
	const struct passwd *pw = getpwnam(account);
	if (!pw)
		die_usage("the account %s does not exist; `make install` makes it", account);
	return pw->pw_uid;
}

void taking_init(struct taking *t, struct store *store) {
	*t = (struct taking){ .store = store, .buffer = STR_INIT(BUFFER_MAX) };
	t->intake_uid = uid_of(ACCOUNT_INTAKE);
	t->bounce_uid = uid_of(ACCOUNT_BOUNCE);
}

void taking_free(struct taking *t) {
	str_free(&t->buffer);
}

int taking_open(const struct taking *t, int dir, const char *name) {
	struct stat st;
	int fd = io_open_regular(dir, name);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && st.st_uid == t->intake_uid && st.st_nlink == 1)
		return fd;
	close(fd);
	errno = EPERM;
	return -1;
}

/* n more octets of the file at `offset` into the buffer. */
static bool read_more(struct taking *t, int fd, size_t n, uint64_t offset) {
	char *at = str_reserve(&t->buffer, n);
	if (!at) {
		errno = ENOMEM;
		return false;
	}
	ssize_t got = io_pread_full(fd, at, n, offset);
	if (got > 0)
		str_grew(&t->buffer, (size_t)got);
	return got >= 0;
}

bool taking_read(struct taking *t, int fd, uint64_t size, struct intake_head *head_r) {
	str_clear(&t->buffer);
	errno = 0;
	if (!read_more(t, fd, size < FIRST_READ ? (size_t)size : FIRST_READ, 0))
		return false;
	errno = 0;
	return t->buffer.len >= INTAKE_HEAD && intake_head_decode(t->buffer.at, head_r);
}

/* Body and envelope, or only the envelope of a large one, as views into the buffer. */
static bool load(struct taking *t, int fd, const struct intake_head *head, struct bytes *body_r, struct bytes *envelope_r) {
	uint64_t size = intake_size(head);
	bool large = head->body_size >= INTAKE_LARGE;
	if (large)
		str_clear(&t->buffer);
	size_t have = t->buffer.len;
	uint64_t from = large ? size - head->envelope_size : have;
	if (from < size && !read_more(t, fd, (size_t)(size - from), from))
		return false;
	if (t->buffer.len < have + (from < size ? (size_t)(size - from) : 0)) {
		errno = EIO;
		return false;
	}
	struct bytes all = str_bytes(&t->buffer);
	size_t start = large ? 0 : INTAKE_HEAD, body = large ? 0 : (size_t)head->body_size;
	*body_r = bytes_slice(all, start, start + body);
	*envelope_r = bytes_slice(all, start + body, start + body + head->envelope_size);
	return true;
}

static void tell_full(struct taking *t, wall_ms_t now) {
	if (t->told_full != 0 && now >= t->told_full && now - t->told_full < FULL_EVERY_MS)
		return;
	t->told_full = now;
	log_warn("new mail is refused: %s", store_full_reason(t->store));
}

static enum enqueue_exit exit_of(struct taking *t, enum store_result result, wall_ms_t now) {
	switch (result) {
	case STORE_OK: return ENQ_OK;
	case STORE_FULL: tell_full(t, now); return ENQ_NO_SPACE;
	case STORE_FATAL: t->fatal = true; return ENQ_QUEUE_ERROR;
	default: return ENQ_QUEUE_ERROR;
	}
}

enum enqueue_exit taking_accept(struct taking *t, int fd, const char *name, const struct intake_head *head, wall_ms_t now, msgid_t *id_r) {
	struct bytes body, octets;
	struct envelope envelope;
	*id_r = 0;
	if (!load(t, fd, head, &body, &octets))
		return errno == ENOMEM ? ENQ_OUT_OF_MEMORY : ENQ_READ_ERROR;
	if (envelope_parse(octets, &envelope) != ENV_OK)
		return ENQ_BAD_ENVELOPE;
	bool large = head->body_size >= INTAKE_LARGE;
	const struct store_new new = {
		.envelope = &envelope, .body = body, .large_file = large ? name : NULL, .body_offset = INTAKE_HEAD, .body_size = head->body_size,
		.id_offset = head->id_offset, .token_a = head->token_a, .token_b = head->token_b, .uid = head->uid,
		.from_bounce = head->uid == t->bounce_uid,
	};
	return exit_of(t, store_accept(t->store, &new, now, id_r), now);
}
