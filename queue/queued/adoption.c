/* adoption - room: queue (queued). See adoption.h. */
#include "adoption.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

void adoption_init(struct adoption *a, struct taking *taking, int dir) {
	*a = (struct adoption){ .taking = taking, .dir = dir, .names = STR_INIT(SIZE_MAX) };
}

void adoption_free(struct adoption *a) {
	str_free(&a->names);
}

bool adoption_under_way(const struct adoption *a) {
	return a->next < a->names.len;
}

/* False: the file is still there. An ack fifo may stay. */
static bool remove_pair(const struct adoption *a, const char *name) {
	char ack[INTAKE_ACK_NAME + 1];
	bool gone = unlinkat(a->dir, name, 0) == 0 || errno == ENOENT;
	int error = errno;
	intake_ack_name(name, ack);
	unlinkat(a->dir, ack, 0);
	errno = error;
	return gone;
}

/* What was accepted is synced, then its file goes; what goes must be gone before the index forgets its token. */
static bool finish_slice(struct adoption *a) {
	if (a->waiting == 0)
		return true;
	if (store_sync(a->taking->store) != STORE_OK) {
		a->taking->fatal = true;
		return false;
	}
	for (size_t i = 0; i < a->waiting; i++) {
		if (!remove_pair(a, a->name[i])) {
			log_error("cannot remove intake/%s, which is in the log: %s", a->name[i], strerror(errno));
			return false;
		}
	}
	a->waiting = 0;
	if (fsync(a->dir) == 0)
		return true;
	log_error("cannot sync %s: %s", SPOOL_INTAKE, strerror(errno));
	return false;
}

static void remove_later(struct adoption *a, const char *name) {
	memcpy(a->name[a->waiting++], name, INTAKE_NAME + 1);
}

/* Promised, and not what it was: kept for a person to look at. */
static void set_aside(struct adoption *a, const char *name, const char *why) {
	char bad[INTAKE_ACK_NAME + 1];
	memcpy(bad, name, INTAKE_NAME);
	memcpy(bad + INTAKE_NAME, ".bad", 5);
	if (renameat(a->dir, name, a->dir, bad) == 0)
		log_error("intake/%s cannot be taken (%s) and is set aside as intake/%s", name, why, bad);
}

/* The system could not show it now. What it is, and whether somebody was promised it, is not known, so it stays. A start does not go on
 * without it, for it may be in the log, unless its place on the disk is bad: then it may come twice, should the disk change its mind. */
static void not_now(struct adoption *a, const char *name, int error) {
	log_warn("intake/%s cannot be read: %s; it is looked at again", name, strerror(error));
	a->blind |= a->settling && error != EIO;
}

static void adopt(struct adoption *a, int fd, const char *name, const struct intake_head *head, wall_ms_t now) {
	uint32_t checksum;
	msgid_t id;
	bool whole = intake_checksum(fd, head, &checksum);
	if (!whole && errno != ENODATA) {
		not_now(a, name, errno);
		return;
	}
	if (!whole || checksum != head->checksum) {
		set_aside(a, name, whole ? "its checksum is wrong" : "it is too short");
		return;
	}
	switch (taking_accept(a->taking, fd, name, head, now, &id)) {
	case ENQ_OK:
		a->adopted++;
		remove_later(a, name);
		break;
	case ENQ_NO_SPACE:
		a->full = true;
		break;
	case ENQ_BAD_ENVELOPE:
		set_aside(a, name, "its envelope is malformed");
		break;
	default:
		log_warn("intake/%s cannot be taken now and is tried again", name);
		break;
	}
}

/* Its message is in the log and its answer was lost with the queued before. */
static void answer_again(const struct adoption *a, const char *name, const struct intake_head *head) {
	struct ack ack = { .token_a = head->token_a, .token_b = head->token_b, .result = ENQ_OK };
	struct str octets = STR_INIT(RECORD_MAX);
	char ack_name[INTAKE_ACK_NAME + 1];
	intake_ack_name(name, ack_name);
	int fd = io_open_fifo_write(a->dir, ack_name);
	if (fd < 0)
		return;
	if (ack_encode(&ack, &octets))
		(void)!write(fd, octets.at, octets.len);
	str_free(&octets);
	close(fd);
}

/* An owner who was answered here may be about to write ADOPT over PENDING: his token is remembered longer than the store does. */
static bool is_settled(const struct adoption *a, const struct intake_head *head) {
	size_t count = a->settled < ADOPTION_SETTLED ? a->settled : ADOPTION_SETTLED;
	for (size_t i = 0; i < count; i++)
		if (a->settled_token[i][0] == head->token_a && a->settled_token[i][1] == head->token_b)
			return true;
	return false;
}

static void settle(struct adoption *a, const struct intake_head *head) {
	uint64_t *token = a->settled_token[a->settled++ % ADOPTION_SETTLED];
	token[0] = head->token_a;
	token[1] = head->token_b;
}

/*  state      owner lives   token in the log   what is done
 *  PENDING    yes           yes                answered, by adoption_settle (an owner who has his answer already passes this one over)
 *  ADOPT      yes           yes                answered and removed
 *  ADOPT      no            yes                removed
 *  ADOPT      no            no                 adopted, but not by adoption_settle
 *  else       yes           no                 left alone: it is being written, or its offer will come (again)
 *  else       no            -                  removed: nobody was promised anything
 */
static void judge(struct adoption *a, int fd, const char *name, bool lives, wall_ms_t now) {
	struct intake_head head;
	bool valid = taking_read(a->taking, fd, UINT64_MAX, &head);
	if (!valid && errno != 0) {
		not_now(a, name, errno);
		return;
	}
	bool adoptable = valid && head.state == INTAKE_ADOPT;
	bool known = valid && (adoptable || a->settling)
		&& (is_settled(a, &head) || store_token_seen(a->taking->store, head.token_a, head.token_b));
	if (known && lives) {
		answer_again(a, name, &head);
		settle(a, &head);
	}
	if (adoptable && known)
		remove_later(a, name);
	else if (!lives && adoptable && !a->settling)
		adopt(a, fd, name, &head, now);
	else if (!lives && !adoptable)
		a->removed += remove_pair(a, name);
}

static void look_at(struct adoption *a, const char *name, wall_ms_t now) {
	int fd = taking_open(a->taking, a->dir, name);
	if (fd < 0) {
		if (errno == EPERM || errno == EINVAL || errno == ELOOP || errno == ENXIO)
			log_warn("intake/%s is no intake file: %s", name, strerror(errno));
		else if (errno != ENOENT)
			not_now(a, name, errno);
		return;
	}
	bool lives = flock(fd, LOCK_EX | LOCK_NB) < 0;
	if (!lives || errno == EWOULDBLOCK)
		judge(a, fd, name, lives, now);
	close(fd);
}

/* An ack fifo without a file: its owner waits for the answer about a large file, which was renamed, or has died. */
static void look_at_ack(struct adoption *a, const char *ack) {
	char name[INTAKE_NAME + 1];
	memcpy(name, ack, INTAKE_NAME);
	name[INTAKE_NAME] = '\0';
	if (faccessat(a->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	int fd = io_open_fifo_write(a->dir, ack);
	if (fd >= 0) {
		close(fd);
		return;
	}
	if (errno == ENXIO && unlinkat(a->dir, ack, 0) == 0)
		a->removed++;
}

static bool is_ours(struct bytes name) {
	if (name.len == INTAKE_ACK_NAME && bytes_ends_nocase(name, LIT(".ack")))
		name.len = INTAKE_NAME;
	return intake_name_valid(name);
}

/* The names that stand there now: those that come while others are adopted are not this scan's, or it might never end. */
static bool list(struct adoption *a) {
	const struct dirent *entry;
	int fd = openat(a->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	str_clear(&a->names);
	a->next = 0;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	errno = 0;
	while (errno == 0 && (entry = readdir(dir)) != NULL)
		if (is_ours(bytes_of(entry->d_name)) && !str_add(&a->names, (struct bytes){ entry->d_name, strlen(entry->d_name) + 1 }))
			errno = ENOMEM;
	int error = errno;
	closedir(dir);
	errno = error;
	return error == 0;
}

static void look_at_next(struct adoption *a, wall_ms_t now) {
	const char *name = a->names.at + a->next;
	size_t n = strlen(name);
	a->next += n + 1;
	if (n == INTAKE_NAME)
		look_at(a, name, now);
	else
		look_at_ack(a, name);
}

static bool look_at_some(struct adoption *a, size_t most, wall_ms_t now) {
	for (size_t count = 0; adoption_under_way(a) && count < most && !a->full && a->waiting < ADOPTION_SLICE && !a->taking->fatal; count++)
		look_at_next(a, now);
	return !a->taking->fatal && !a->blind && finish_slice(a);
}

/* A scan ended, or was given up for want of space. */
static void tell(struct adoption *a) {
	if (a->adopted > 0)
		log_info("adopted %zu messages that were left in %s", a->adopted, SPOOL_INTAKE);
	if (a->removed > 0)
		log_info("removed %zu forgotten files from %s", a->removed, SPOOL_INTAKE);
	if (a->full)
		log_warn("no space: messages are left in %s", SPOOL_INTAKE);
	a->adopted = a->removed = 0;
	a->full = false;
	str_free(&a->names);
	a->next = 0;
}

enum adoption_result adoption_scan(struct adoption *a, wall_ms_t now) {
	if (!adoption_under_way(a) && !list(a)) {
		bool later = !a->settling && (errno == EMFILE || errno == ENFILE || errno == ENOMEM);
		log_error("cannot read %s: %s", SPOOL_INTAKE, strerror(errno));
		return later ? ADOPTION_DONE : ADOPTION_LOST;
	}
	if (!look_at_some(a, ADOPTION_LOOK, now))
		return ADOPTION_LOST;
	if (adoption_under_way(a) && !a->full)
		return ADOPTION_MORE;
	tell(a);
	return ADOPTION_DONE;
}

enum adoption_result adoption_settle(struct adoption *a, wall_ms_t now) {
	enum adoption_result result;
	a->settling = true;
	do
		result = adoption_scan(a, now);
	while (result == ADOPTION_MORE);
	a->settling = false;
	return result;
}
