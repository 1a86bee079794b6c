/*
 * repair - see repair.h. Room: queue, as tappal-queue, with queued stopped.
 */
#include "repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/accounts.h"
#include "common/io.h"
#include "common/paths.h"
#include "operator.h"
#include "queue/store/quarantine.h"
#include "show.h"
#include "tappal.h"

#define ITEMS_MAX 100000u
#define STORY_MAX (256u << 10)
#define INDEX_FILE SPOOL_INDEX "/data.mdb"

struct item { enum check_kind kind; uint64_t offset, size; char *file; char text[160]; };

struct repair {
	int lock;
	wall_ms_t now;
	struct quarantine quarantine;
	struct item *item;
	size_t count, room;
	uint64_t more;
	struct str story;         /* what was found of the index, a line each */
	bool index;               /* it is to be set aside */
};

/* ---- before and around ---- */

void repair_prepare(int spool)
{
	struct account queue;
	if (geteuid() != 0)
		return;
	if (account_by_name(ACCOUNT_QUEUE, &queue) != ACCOUNT_FOUND)
		tool_stop("there is no account %s", ACCOUNT_QUEUE);
	/* root owns the spool: nobody else can have put a link there. */
	if (mkdirat(spool, SPOOL_QUARANTINE, 0700) == 0) {
		if (fchownat(spool, SPOOL_QUARANTINE, queue.uid, queue.gid, AT_SYMLINK_NOFOLLOW) != 0)
			tool_stop("%s/%s: %s", path_spool, SPOOL_QUARANTINE, strerror(errno));
	} else if (errno != EEXIST) {
		tool_stop("%s/%s: %s", path_spool, SPOOL_QUARANTINE, strerror(errno));
	}
	int reply = openat(spool, SPOOL_REPLY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (reply >= 0) {
		operator_sweep(reply);
		close(reply);
	}
}

static void take_lock(struct repair *r)
{
	char pid[32] = "";
	r->lock = open(SPOOL_LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (r->lock < 0)
		tool_stop("%s/%s: %s; as root, spool-tree makes what is missing. Nothing was done", path_spool, SPOOL_LOCK, strerror(errno));
	if (flock(r->lock, LOCK_EX | LOCK_NB) != 0) {
		ssize_t got = io_pread_full(r->lock, pid, sizeof pid - 1, 0);
		pid[got > 0 ? (size_t)got : 0] = '\0';
		pid[strspn(pid, "0123456789")] = '\0';
		tool_stop("queued runs (pid %s), and the spool is its own; stop it first. Nothing was done", pid[0] ? pid : "unknown");
	}
	int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
	if (io_pwrite_full(r->lock, pid, (size_t)n, 0) != 0 || ftruncate(r->lock, n) != 0)
		tool_say("%s/%s: %s", path_spool, SPOOL_LOCK, strerror(errno));
}

struct repair *repair_begin(wall_ms_t now)
{
	struct repair *r = calloc(1, sizeof *r);
	if (!r)
		tool_stop("out of memory");
	r->now = now;
	str_init(&r->story, STORY_MAX);
	take_lock(r);
	if (!quarantine_open(&r->quarantine, now))
		tool_stop("%s/%s: %s; as root, spool-tree makes it. Nothing was done", path_spool, SPOOL_QUARANTINE, strerror(errno));
	return r;
}

void repair_end(struct repair *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->count; i++)
		free(r->item[i].file);
	free(r->item);
	str_free(&r->story);
	quarantine_close(&r->quarantine);
	close(r->lock);
	free(r);
}

bool repair_took_index(const struct repair *r)
{
	return r->index;
}

/* ---- what is to be done ---- */

static bool is_of_index(enum check_kind kind)
{
	return kind == CHECK_INDEX_DAMAGED || kind == CHECK_INDEX_ROWS || kind == CHECK_INDEX_LOG;
}

static bool is_copied(enum check_kind kind)
{
	return kind == CHECK_LOG_DAMAGED || kind == CHECK_LOG_RECORD || kind == CHECK_LARGE_DAMAGED;
}

/* Files in directories that belong to tappal-queue. */
static bool is_moved(const struct check_finding *f)
{
	static const char *const in[] = { SPOOL_LOG "/", SPOOL_LARGE "/", SPOOL_INTAKE "/", SPOOL_INDEX "/" };
	bool ours = false;
	if (f->kind != CHECK_LARGE_ORPHAN && f->kind != CHECK_INTAKE_DAMAGED && f->kind != CHECK_SET_ASIDE && f->kind != CHECK_UNKNOWN_FILE)
		return false;
	for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
		ours |= strncmp(f->file, in[i], strlen(in[i])) == 0;
	return ours;
}

static void add_item(struct repair *r, const struct check_finding *f)
{
	if (r->count == ITEMS_MAX) {
		r->more++;
		return;
	}
	struct item *grown = array_room(r->item, r->count, &r->room, sizeof *grown);
	if (!grown)
		tool_stop("out of memory; nothing was done");
	r->item = grown;
	struct item *item = &r->item[r->count++];
	*item = (struct item){ .kind = f->kind, .offset = f->offset, .size = f->size, .file = strdup(f->file) };
	if (!item->file)
		tool_stop("out of memory; nothing was done");
	snprintf(item->text, sizeof item->text, "%s", show_text(bytes_of(f->text)));
}

void repair_note(struct repair *r, const struct check_finding *f)
{
	char id[MSGID_TEXT + 1];
	if (is_of_index(f->kind)) {
		r->index = true;
		msgid_format(f->id & MSGID_MAX, id);
		if (r->story.len < STORY_MAX / 2)
			str_addf(&r->story, "%s %s %s: %s\n", check_kind_name(f->kind), show_text(bytes_of(f->file)), f->id ? id : "-",
				show_text(bytes_of(f->text)));
	} else if (is_copied(f->kind) || is_moved(f)) {
		add_item(r, f);
	}
}

/* ---- doing it ---- */

static void report_head(const struct repair *r, const char *file, struct str *out)
{
	str_add_c(out, "Set aside by `tappal queue check --repair` on ");
	clock_rfc5322(r->now, out);
	str_addf(out, "\nfrom %s/%s\n", path_spool, show_text(bytes_of(file)));
}

static bool do_item(struct repair *r, const struct item *item, char name[QUARANTINE_NAME])
{
	struct str report = STR_INIT(4096);
	report_head(r, item->file, &report);
	if (item->kind == CHECK_LARGE_DAMAGED)
		str_add_c(&report, "a copy; the file itself stays, and its message is not delivered\n");
	else if (is_copied(item->kind))
		str_addf(&report, "a copy of %llu octets at %llu; the log itself stays as it is\n", (unsigned long long)item->size,
			(unsigned long long)item->offset);
	str_addf(&report, "%s: %s\n", check_kind_name(item->kind), item->text);
	bool good = !report.failed && (is_copied(item->kind) ?
		quarantine_copy(&r->quarantine, item->file, item->offset, item->size > 0 ? item->size : UINT64_MAX, str_bytes(&report), name) :
		quarantine_move(&r->quarantine, item->file, str_bytes(&report), name));
	str_free(&report);
	return good;
}

static bool do_index(struct repair *r, char name[QUARANTINE_NAME])
{
	struct str report = STR_INIT(STORY_MAX + 4096);
	report_head(r, INDEX_FILE, &report);
	str_add_c(&report, "The next queued makes a new one from the log. What was found:\n");
	str_add(&report, str_bytes(&r->story));
	bool good = !report.failed && quarantine_move(&r->quarantine, INDEX_FILE, str_bytes(&report), name);
	str_free(&report);
	return good;
}

bool repair_run(struct repair *r, void (*told)(void *context, const char *file, const char *item, const char *why), void *context)
{
	char name[QUARANTINE_NAME];
	bool all = r->more == 0;
	for (size_t i = 0; i < r->count; i++) {
		bool good = do_item(r, &r->item[i], name);
		told(context, r->item[i].file, good ? name : NULL, good ? NULL : strerror(errno));
		all &= good;
	}
	if (r->index) {
		bool good = do_index(r, name);
		told(context, INDEX_FILE, good ? name : NULL, good ? NULL : strerror(errno));
		all &= good;
	}
	return all;
}
