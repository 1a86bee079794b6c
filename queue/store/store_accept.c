/*
 * store_accept - new messages: room for them, their record, their large files. Room: queue, the store.
 *
 * A large body is a file of enqueue's, renamed from intake/ to large/ID. Between the rename and the sync of the log a crash leaves a
 * file without a message; its id is then higher than any id in the log, for records and ids are given in the same order. Its head
 * says whose it is: PENDING was answered to nobody and goes, unless its enqueue lives; ADOPT was answered with 250 by enqueue and
 * goes back to intake/, to be adopted again. A file without a message whose id the log has passed belonged to a message that is finished.
 * The placeholder of an id is patched after the sync, because until then the checksum in an ADOPT head must hold.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"
#include "queue/intakefile.h"
#include "queue/places.h"
#include "store_inside.h"

#define SPACE_EVERY_MS 1000u
#define INDEX_OCTETS 6u          /* of rows for each octet of an envelope, at most ... */
#define INDEX_RCPT 250u         /* ... and for each recipient */
#define MESSAGE_BOUND 256u      /* fields of a log_message record, with its head */

/* ---- space ---- */

static enum store_result full(struct store *st, const char *reason)
{
	st->full_reason = reason;
	return STORE_FULL;
}

const char *store_full_reason(const struct store *st)
{
	return st->full_reason ? st->full_reason : "";
}

static enum store_result check_space(struct store *st, const struct envelope *envelope, wall_ms_t now)
{
	struct statvfs fs;
	uint64_t rows = (uint64_t)envelope->raw.len * INDEX_OCTETS + (uint64_t)envelope->rcpt_count * INDEX_RCPT;
	if (st->space_ms == 0 || now < st->space_ms || now - st->space_ms >= SPACE_EVERY_MS) {
		st->space_ms = now;
		st->space_low = statvfs(".", &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < st->settings->freespace;
		st->index_room = index_room(st->ix);
	}
	if (st->space_low)
		return full(st, "less space is free than freespace says");
	if (rows > st->index_room)
		return full(st, "the index has no room for it: see indexsize, and the free space of its disk");
	st->index_room -= rows;
	return STORE_OK;
}

/* ---- large files ---- */

static bool placeholder_at(const char *at)
{
	return memcmp(at, MSGID_PLACEHOLDER, MSGID_TEXT) == 0;
}

/* Only what a person reads depends on this, so a failure is none. */
static void patch_large(const struct arrived *a)
{
	char path[PLACE_MAX], found[MSGID_TEXT], text[MSGID_TEXT + 1];
	if (a->id_offset == 0)
		return;
	place_large(a->id, path);
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	msgid_format(a->id, text);
	if (io_pread_full(fd, found, sizeof found, a->id_offset) == (ssize_t)sizeof found && placeholder_at(found) &&
		io_pwrite_full(fd, text, MSGID_TEXT, a->id_offset) == 0)
		(void)!fdatasync(fd);
	close(fd);
}

enum store_result store_settle_large(struct store *st)
{
	char path[PLACE_MAX];
	for (size_t i = 0; i < st->arrived_count; i++)
		patch_large(&st->arrived[i]);
	st->arrived_count = 0;
	for (size_t i = 0; i < st->ended.count; i++) {
		place_large(st->ended.at[i], path);
		if (unlink(path) != 0 && errno == EIO)
			return store_fail(st, "large/: unlink: input/output error");
	}
	st->ended.count = 0;
	return STORE_OK;
}

static enum store_result take_large(struct store *st, const struct store_new *in, msgid_t id)
{
	char from[PLACE_MAX], to[PLACE_MAX];
	int n = snprintf(from, sizeof from, SPOOL_INTAKE "/%s", in->large_file);
	if (n < 0 || (size_t)n >= sizeof from)
		return STORE_NONE;
	struct arrived *arrived = array_room(st->arrived, st->arrived_count, &st->arrived_room, sizeof *arrived);
	if (!arrived)
		return full(st, "out of memory");
	st->arrived = arrived;
	place_large(id, to);
	if (rename(from, to) != 0) {
		if (errno == EIO)
			return store_fail(st, "large/: rename: input/output error");
		return errno == ENOSPC || errno == EDQUOT ? full(st, "no space in large/") : STORE_NONE;
	}
	st->large_dirty = true;
	st->arrived[st->arrived_count++] = (struct arrived){ id, in->id_offset ? in->body_offset + in->id_offset : 0 };
	return STORE_OK;
}

/* ---- accept ---- */

static void patch_inline(struct str *record, const struct store_new *in, msgid_t id)
{
	char text[MSGID_TEXT + 1];
	if (in->id_offset == 0 || in->body.len < MSGID_TEXT || in->id_offset > in->body.len - MSGID_TEXT)
		return;
	/* UNSAFE: the body is the last thing that was appended, and the placeholder lies within it. */
	char *at = record->at + (record->len - in->body.len) + in->id_offset;
	if (!placeholder_at(at))
		return;
	msgid_format(id, text);
	memcpy(at, text, MSGID_TEXT);
}

static struct log_message record_of(const struct store_new *in, msgid_t id, wall_ms_t now)
{
	return (struct log_message){
		.id = id, .at_ms = now, .token_a = in->token_a, .token_b = in->token_b, .uid = in->uid, .large = in->large_file != NULL,
		.envelope_size = (uint32_t)in->envelope->raw.len, .body_offset = in->large_file ? in->body_offset : 0,
		.body_size = in->large_file ? in->body_size : in->body.len,
		.bounce_of = in->from_bounce ? in->envelope->bounce_of : 0, .bounce_batch = in->from_bounce ? in->envelope->bounce_batch : 0,
	};
}

enum store_result store_accept(struct store *st, const struct store_new *in, wall_ms_t now, msgid_t *id_r)
{
	struct str *record;
	bool wanted = true;
	if (st->fatal)
		return STORE_FATAL;
	if (in->from_bounce && in->envelope->bounce_of != 0 &&
		store_batch_waits(st, in->envelope->bounce_of, in->envelope->bounce_batch, &wanted) == INDEX_FATAL)
		return store_index_result(st, INDEX_FATAL);
	*id_r = 0;
	if (!wanted) {
		store_bounce_let_go(st, in->envelope->bounce_of, in->envelope->bounce_batch);
		return STORE_OK;
	}
	if (check_space(st, in->envelope, now) != STORE_OK)
		return STORE_FULL;
	msgid_t id = msgid_next(st->apply.status.last_id, now);
	struct log_message fields = record_of(in, id, now);
	size_t inline_octets = in->large_file ? 0 : in->body.len;
	enum store_result r = store_append_begin(st, MESSAGE_BOUND + in->envelope->raw.len + inline_octets, true, &record);
	if (r != STORE_OK)
		return r == STORE_FULL ? full(st, "no space for another segment of the log") : r;
	bool whole = log_message_encode(&fields, record) && str_add(record, in->envelope->raw) && (in->large_file || str_add(record, in->body));
	if (whole && in->large_file)
		r = take_large(st, in, id);
	if (!whole || r != STORE_OK) {
		msglog_cancel(st->log);
		return whole ? r : full(st, "out of memory");
	}
	if (!in->large_file)
		patch_inline(record, in, id);
	if (!tokens_add(&st->tokens, in->token_a, in->token_b))
		return store_fail(st, "out of memory");
	*id_r = id;
	return store_append_end(st);
}

bool store_token_seen(const struct store *st, uint64_t token_a, uint64_t token_b)
{
	return tokens_has(&st->tokens, token_a, token_b);
}

/* ---- at start ---- */

/* ADOPT; or its enqueue lives (it holds the lock), and is about to write ADOPT because queued has gone. */
static bool is_promised(const char *path)
{
	char head[INTAKE_HEAD];
	struct intake_head decoded;
	int fd = io_open_regular(AT_FDCWD, path);
	if (fd < 0)
		return false;
	bool lives = flock(fd, LOCK_EX | LOCK_NB) != 0;
	bool whole = io_pread_full(fd, head, sizeof head, 0) == (ssize_t)sizeof head;
	close(fd);
	return lives || (whole && intake_head_decode(head, &decoded) && decoded.state == INTAKE_ADOPT);
}

static int back_to_intake(const char *path)
{
	uint8_t random[16];
	char name[INTAKE_NAME + 1], to[PLACE_MAX];
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return -1;
	intake_name_make(random, name);
	snprintf(to, sizeof to, SPOOL_INTAKE "/%s", name);
	if (rename(path, to) != 0 || io_sync_dir(AT_FDCWD, SPOOL_INTAKE) != 0)
		return -1;
	return 0;
}

static enum store_result sweep_file(struct store *st, msgid_t id)
{
	char path[PLACE_MAX];
	struct row_message row;
	enum index_result r = index_get_message(st->ix, id, &row);
	if (r != INDEX_NONE)
		return store_index_result(st, r);
	place_large(id, path);
	if (id > st->apply.status.last_id && is_promised(path)) {
		if (back_to_intake(path) != 0)
			return store_fail(st, "large/: a file that was accepted cannot be moved back to intake/");
		return STORE_OK;
	}
	/* After damage its record may be among what was set aside: then it is left for a person to look at. */
	if (!st->damaged)
		unlink(path);
	return STORE_OK;
}

enum store_result store_sweep_large(struct store *st)
{
	enum store_result r = STORE_OK;
	struct dirent *e;
	msgid_t id;
	DIR *dir = opendir(SPOOL_LARGE);
	if (!dir)
		return store_fail(st, "large/: cannot be read");
	while (r == STORE_OK && (e = readdir(dir)) != NULL) {
		if (msgid_parse(bytes_of(e->d_name), &id))
			r = sweep_file(st, id);
	}
	closedir(dir);
	st->ended.count = 0;      /* the replay's: swept */
	return r;
}
