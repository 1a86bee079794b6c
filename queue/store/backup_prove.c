/*
 * backup_prove - are the texts in the copy, and are they those that were accepted? Room: queue (tappal).
 *
 * Of all messages of the copied index, against their checksums, in the copy: so it is the copying, too, that is held against them. What came behind
 * that commit was synced a moment ago, and is left to `queue check`.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "backup.h"
#include "queue/body.h"

/* `gone`: small ones that are not there; of large ones that is known. */
static enum backup_result prove_one(struct backup *b, const struct row_message *row, msgid_t id, struct numbers *gone)
{
	struct body_place place = { .id = id, .segment = row->segment, .large = row->large != 0, .offset = row->body_offset, .size = row->body_size,
		.record = row->record_offset };
	struct body body = BODY_INIT;
	bool good = body_open(&body, &place) == 0 && body_prove(&body, &place) == 0 && body_prove_rest(&body) == 0;
	int error = errno;
	body_close(&body);
	errno = error;
	if (good || (error == ENOENT && place.large))
		return BACKUP_OK;
	if (error != EBADMSG && error != ENOENT)
		return backup_fail(b, "reading the copy");
	return numbers_add(error == ENOENT ? gone : &b->damaged, id) ? BACKUP_OK : backup_fail(b, "memory");
}

enum backup_result backup_prove(struct backup *b)
{
	struct row_message row;
	struct numbers gone = { NULL, 0, 0 };
	msgid_t id = 0;
	b->damaged.count = 0;
	if (fchdir(b->to) != 0)
		return backup_fail(b, "the backup's directory");
	enum backup_result r = BACKUP_OK;
	enum index_result found = INDEX_NONE;
	for (; r == BACKUP_OK && b->ix && (found = index_next_message(b->ix, id, &id, &row)) == INDEX_OK; id++)
		r = prove_one(b, &row, id, &gone);
	r = backup_walked(b, r, found);
	if (fchdir(b->spool) != 0 && r == BACKUP_OK)
		r = backup_fail(b, "the spool");
	if (r == BACKUP_OK)
		r = backup_explain(b, &gone);
	free(gone.at);
	return r;
}
