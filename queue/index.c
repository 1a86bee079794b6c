/*
 * index - the LMDB index of the queue, typed rows. Room: queue, tappal (read-only).
 *
 * Keys are big endian, so that LMDB's order is the numbers' order. A row is stored without the eight octets of a record's
 * head. One cursor per database is kept for the life of a transaction: seeks allocate nothing. A row that does not decode is
 * damage, and the environment counts as lost (INDEX_FATAL), because a wrong row would schedule wrong mail.
 */
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/io.h"
#include "common/route.h"
#include "index_inside.h"

const char *const index_table_name[TABLE_COUNT] = { "messages", "rcpts", "due", "wake", "destinations", "bounces", "finished", "segments", "meta" };

#define NAME_MAX_OCTETS (DESTINATION_MAX + 1)     /* one more than a name has: a place right behind one */
#define KEY_MAX (NAME_MAX_OCTETS + 1 + 20)
#define ROW_MAX 16384u
#define AHEAD (16u << 20)         /* disk space that is kept behind the end of the file */
#define WRITTEN_AHEAD (512u << 10)   /* of it in the file already, as zeros, behind the last page in use */
#define RESERVE_MAX (1u << 30)    /* of the map, left for what happens to mail that is queued already; at most half of it */
#define LOCK_SIZE 8192u           /* of LMDB's lock file */
#define READER_CHECK 64u          /* commits between two looks for dead readers */
#define FORGET_PAGES 16u          /* commits between two times that pages are let go of: some seconds under load */

struct key { size_t len; unsigned char at[KEY_MAX]; };

const char *rcpt_state_name(unsigned state)
{
	static const char *const name[] = { "waiting", "delivered", "failed", "bounced", "dropped", "deleted", "reporting" };
	return state < sizeof name / sizeof name[0] ? name[state] : "?";
}

bool rcpt_delay_due(const struct row_rcpt *row)
{
	return row->state == RCPT_WAITING && row->batch != 0 && row->batch != BATCH_TOLD;
}

bool rcpt_reports(const struct row_rcpt *row)
{
	return row->state == RCPT_FAILED || row->state == RCPT_REPORTING || rcpt_delay_due(row);
}

/* ---- keys ---- */

static void key_number(struct key *k, uint64_t value, unsigned octets)
{
	for (unsigned i = octets; i-- > 0;)
		k->at[k->len++] = (unsigned char)(value >> (8 * i));
}

/* UNSAFE: a key holds one name; no name is longer than DESTINATION_MAX, by the row's definition, and a longer one is cut. */
static void key_bytes(struct key *k, struct bytes b)
{
	size_t n = b.len < NAME_MAX_OCTETS ? b.len : NAME_MAX_OCTETS;
	if (n > 0)
		memcpy(k->at + k->len, b.at, n);
	k->len += n;
}

static uint64_t get_number(const char *at, unsigned octets)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < octets; i++)
		value = value << 8 | (unsigned char)at[i];
	return value;
}

static struct key key_u64(uint64_t a)
{
	struct key k = { .len = 0 };
	key_number(&k, a, 8);
	return k;
}

static struct key key_two(uint64_t a, uint64_t b, unsigned octets_b)
{
	struct key k = key_u64(a);
	key_number(&k, b, octets_b);
	return k;
}

static struct key key_name(struct bytes name)
{
	struct key k = { .len = 0 };
	key_bytes(&k, name);
	return k;
}

static struct key key_due(struct bytes destination, struct due due)
{
	struct key k = key_name(destination);
	k.at[k.len++] = 0;
	key_number(&k, due.at, 8);
	key_number(&k, due.id, 8);
	key_number(&k, due.n, 4);
	return k;
}

static struct key key_wake(wall_ms_t at, struct bytes destination)
{
	struct key k = key_u64(at);
	key_bytes(&k, destination);
	return k;
}

/* ---- LMDB ---- */

enum index_result index_broken(struct index *ix, const char *what, const char *why)
{
	snprintf(ix->error, sizeof ix->error, "index: %s: %s", what, why);
	return INDEX_FATAL;
}

static enum index_result result_of(struct index *ix, int rc, const char *what)
{
	if (rc == MDB_SUCCESS)
		return INDEX_OK;
	if (rc == MDB_NOTFOUND)
		return INDEX_NONE;
	return index_broken(ix, what, mdb_strerror(rc));
}

static enum index_result put(struct index *ix, enum index_table db, const struct key *k, struct bytes value)
{
	MDB_val key = { k->len, (void *)(uintptr_t)k->at };
	MDB_val data = { value.len, (void *)(uintptr_t)value.at };
	int rc = mdb_put(ix->txn, ix->db[db], &key, &data, 0);
	return rc == MDB_SUCCESS ? INDEX_OK : index_broken(ix, index_table_name[db], mdb_strerror(rc));
}

/* The row stands encoded in ix->row; `encoded` is what its encoder said. */
static enum index_result put_row(struct index *ix, enum index_table db, struct key k, bool encoded)
{
	if (!encoded)
		return index_broken(ix, index_table_name[db], "a row could not be encoded");
	return put(ix, db, &k, bytes_slice(str_bytes(&ix->row), RECORD_HEAD, ix->row.len));
}

static struct str *row_buffer(struct index *ix)
{
	str_clear(&ix->row);
	return &ix->row;
}

static enum index_result get(struct index *ix, enum index_table db, struct key k, struct bytes *value_r)
{
	MDB_val key = { k.len, k.at }, data;
	enum index_result r = result_of(ix, mdb_get(ix->txn, ix->db[db], &key, &data), index_table_name[db]);
	if (r == INDEX_OK)
		*value_r = (struct bytes){ data.mv_data, data.mv_size };
	return r;
}

static enum index_result del(struct index *ix, enum index_table db, struct key k)
{
	MDB_val key = { k.len, k.at };
	return result_of(ix, mdb_del(ix->txn, ix->db[db], &key, NULL), index_table_name[db]);
}

/* First row at or after k. Keys shorter than `least` octets are damage. */
static enum index_result seek(struct index *ix, enum index_table db, struct key k, size_t least, struct bytes *key_r, struct bytes *value_r)
{
	MDB_val key = { k.len, k.at }, data;
	MDB_cursor **c = &ix->cursor[db];
	int rc = *c ? MDB_SUCCESS : mdb_cursor_open(ix->txn, ix->db[db], c);
	if (rc == MDB_SUCCESS)
		rc = mdb_cursor_get(*c, &key, &data, MDB_SET_RANGE);
	if (rc != MDB_SUCCESS)
		return result_of(ix, rc, index_table_name[db]);
	*key_r = (struct bytes){ key.mv_data, key.mv_size };
	*value_r = (struct bytes){ data.mv_data, data.mv_size };
	return key.mv_size >= least ? INDEX_OK : index_broken(ix, index_table_name[db], "a key is too short");
}

static enum index_result decoded(struct index *ix, enum index_table db, bool ok)
{
	return ok ? INDEX_OK : index_broken(ix, index_table_name[db], "a row does not decode");
}

/* ---- open, transactions ---- */

static void drop_cursors(struct index *ix)
{
	for (unsigned i = 0; i < TABLE_COUNT; i++) {
		if (ix->cursor[i])
			mdb_cursor_close(ix->cursor[i]);
		ix->cursor[i] = NULL;
	}
}

/* The first transaction of an index makes its tables: one that is missing later went with a damaged page. */
static int open_databases(struct index *ix)
{
	bool is_new = mdb_txn_id(ix->txn) == (ix->read_only ? 0 : 1);
	int rc = MDB_SUCCESS;
	for (unsigned i = 0; i < TABLE_COUNT && rc == MDB_SUCCESS; i++)
		rc = mdb_dbi_open(ix->txn, index_table_name[i], is_new && !ix->read_only ? MDB_CREATE : 0, &ix->db[i]);
	return rc == MDB_NOTFOUND && !is_new ? MDB_CORRUPTED : rc;
}

/* Of a file that is another's, the mode is his to set. */
static int set_mode(const char *dir, const char *name, mode_t mode)
{
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof path)
		return ENAMETOOLONG;
	return chmod(path, mode) == 0 || errno == EPERM ? 0 : errno;
}

/* The lock file is a map: on a full disk a hole in it would be a signal, not an error. */
static int fill_lock_file(const char *dir)
{
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/lock.mdb", dir);
	if (n < 0 || (size_t)n >= sizeof path)
		return ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0660);
	if (fd < 0)
		return errno;
	int rc = posix_fallocate(fd, 0, LOCK_SIZE);
	close(fd);
	return rc == ENOSPC || rc == EDQUOT ? rc : 0;
}

/* LMDB begins a file with two pages in one write. When that was cut off, nothing ever stood in it, and LMDB would not open what is there. */
static int forget_unmade(const char *dir)
{
	char path[4096];
	struct stat st;
	int n = snprintf(path, sizeof path, "%s/data.mdb", dir);
	if (n < 0 || (size_t)n >= sizeof path)
		return ENAMETOOLONG;
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	int rc = fstat(fd, &st);
	if (rc == 0 && st.st_size > 0 && st.st_size < 2 * sysconf(_SC_PAGESIZE))
		rc = ftruncate(fd, 0);
	int saved = errno;
	close(fd);
	return rc == 0 ? 0 : saved;
}

static int open_environment(struct index *ix, const char *dir, uint64_t map_size)
{
	int rc = mdb_env_create(&ix->env);
	if (rc == MDB_SUCCESS)
		rc = mdb_env_set_mapsize(ix->env, map_size);
	if (rc == MDB_SUCCESS)
		rc = mdb_env_set_maxdbs(ix->env, TABLE_COUNT);
	if (rc == MDB_SUCCESS && !ix->read_only)
		rc = fill_lock_file(dir);
	if (rc == MDB_SUCCESS && !ix->read_only)
		rc = forget_unmade(dir);
	if (rc == MDB_SUCCESS)
		rc = mdb_env_open(ix->env, dir, MDB_NOTLS | (ix->read_only ? MDB_RDONLY : 0), 0640);
	if (rc == MDB_SUCCESS && !ix->read_only) {
		/* Whatever the umask is: tools of the group read the data and write reader slots into the lock file. */
		rc = set_mode(dir, "data.mdb", 0640);
		if (rc == MDB_SUCCESS)
			rc = set_mode(dir, "lock.mdb", 0660);
	}
	if (rc == MDB_SUCCESS)
		rc = mdb_txn_begin(ix->env, NULL, ix->read_only ? MDB_RDONLY : 0, &ix->txn);
	if (rc == MDB_SUCCESS)
		rc = open_databases(ix);
	return rc;
}

/* Blocks behind the end of the file, so that a commit finds room on a full disk: results of deliveries must be written then, for only they
 * make mail go away. False: there is no space for them. A file system that cannot has none, and does without. */
static bool allocate_ahead(struct index *ix)
{
	mdb_filehandle_t fd;
	struct stat st;
	if (mdb_env_get_fd(ix->env, &fd) != MDB_SUCCESS || fstat(fd, &st) != 0)
		return true;
	uint64_t end = (uint64_t)st.st_size + AHEAD;
	if (end - AHEAD / 2 <= ix->allocated)
		return true;
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)ix->allocated, (off_t)(end - ix->allocated)) != 0)
		return errno != ENOSPC && errno != EDQUOT;
	ix->allocated = end;
	return true;
}

/* A commit that makes the file longer, or writes into blocks that were never written, has its sync commit the file system's journal, too. So
 * the file grows here, many pages at once: their blocks are settled by one commit's sync, and those after it find them as if used before.
 * Written is only behind the end of the file, and for speed alone: without it LMDB makes the file longer itself. */
static void write_ahead(const struct index *ix)
{
	static char zeros[WRITTEN_AHEAD];
	mdb_filehandle_t fd;
	struct stat st;
	MDB_envinfo info;
	MDB_stat stat;
	if (mdb_env_get_fd(ix->env, &fd) != MDB_SUCCESS || fstat(fd, &st) != 0 || mdb_env_info(ix->env, &info) != MDB_SUCCESS ||
		mdb_env_stat(ix->env, &stat) != MDB_SUCCESS)
		return;
	uint64_t size = (uint64_t)st.st_size, used = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize, end = used + WRITTEN_AHEAD;
	if (size < used || size - used >= WRITTEN_AHEAD / 2 || end > info.me_mapsize)
		return;
	(void)io_pwrite_full(fd, zeros, end - size, size);
}

struct index *index_open(const char *dir, uint64_t map_size, bool read_only, struct str *error)
{
	struct index *ix = calloc(1, sizeof *ix);
	if (!ix) {
		str_add_c(error, "index: no memory");
		return NULL;
	}
	ix->read_only = read_only;
	str_init(&ix->row, ROW_MAX);
	int rc = open_environment(ix, dir, map_size);
	if (rc == MDB_SUCCESS) {
		/* The handles belong to the environment only after a commit; a reader's stay valid likewise. */
		rc = mdb_txn_commit(ix->txn);
		ix->txn = NULL;
	}
	if (rc == MDB_SUCCESS && !read_only)
		rc = mdb_txn_begin(ix->env, NULL, 0, &ix->txn);
	if (rc == MDB_SUCCESS && !read_only)
		(void)allocate_ahead(ix);
	if (rc == MDB_SUCCESS)
		return ix;
	bool none = rc == MDB_NOTFOUND || rc == ENOENT;
	str_addf(error, "index %s: %s", dir, none ? "there is no queue here yet" : mdb_strerror(rc));
	index_close(ix);
	errno = none ? ENOENT : rc > 0 ? rc : EINVAL;
	return NULL;
}

/* Pages that are free for good: LMDB's own table of them has the count of each transaction's first in its row. */
static uint64_t free_pages(struct index *ix)
{
	MDB_cursor *c;
	MDB_val key, data;
	uint64_t pages = 0;
	if (mdb_cursor_open(ix->txn, 0, &c) != MDB_SUCCESS)
		return 0;
	while (mdb_cursor_get(c, &key, &data, MDB_NEXT) == MDB_SUCCESS) {
		size_t count = 0;
		if (data.mv_size >= sizeof count)
			memcpy(&count, data.mv_data, sizeof count);
		pages += count;
	}
	mdb_cursor_close(c);
	return pages;
}

uint64_t index_room(struct index *ix)
{
	MDB_envinfo info;
	MDB_stat stat;
	if (!allocate_ahead(ix) || mdb_env_info(ix->env, &info) != MDB_SUCCESS || mdb_env_stat(ix->env, &stat) != MDB_SUCCESS)
		return 0;
	uint64_t reserve = info.me_mapsize / 2 < RESERVE_MAX ? info.me_mapsize / 2 : RESERVE_MAX;
	uint64_t used = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	uint64_t room = used < info.me_mapsize ? info.me_mapsize - used : 0;
	/* The table is long when the queue was; it is read only when it matters. */
	if (room < 2 * reserve)
		room += free_pages(ix) * stat.ms_psize;
	return room > reserve ? room - reserve : 0;
}

/* What was not committed is dropped. */
void index_close(struct index *ix)
{
	if (!ix)
		return;
	drop_cursors(ix);
	if (ix->txn)
		mdb_txn_abort(ix->txn);
	if (ix->env)
		mdb_env_close(ix->env);
	str_free(&ix->row);
	free(ix);
}

const char *index_error(const struct index *ix)
{
	return ix->error;
}

bool index_read_begin(struct index *ix)
{
	int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &ix->txn);
	if (rc != MDB_SUCCESS) {
		ix->txn = NULL;
		index_broken(ix, "read", mdb_strerror(rc));
	}
	return rc == MDB_SUCCESS;
}

void index_read_end(struct index *ix)
{
	drop_cursors(ix);
	if (ix->txn)
		mdb_txn_abort(ix->txn);
	ix->txn = NULL;
}

/* Where the kernel has mapped the file: LMDB does not tell. A line of maps: "start-end rights offset major:minor inode path". */
static bool find_mapping(const struct stat *file, uintptr_t *start_r, uintptr_t *end_r)
{
	char line[PATH_MAX + 128];
	FILE *maps = fopen("/proc/self/maps", "re");
	bool found = false;
	while (maps && !found && fgets(line, sizeof line, maps)) {
		unsigned major, minor;
		unsigned long long inode;
		found = sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %x:%x %llu", start_r, end_r, &major, &minor, &inode) == 5
			&& makedev(major, minor) == file->st_dev && inode == file->st_ino;
	}
	if (maps)
		fclose(maps);
	return found;
}

/* Pages of the file that were looked at count as this process's memory until it lets go of them; the page cache keeps what it likes. The
 * mapping is shared and never written through, so nothing is lost. Without /proc they stay. */
static void forget_pages(const struct index *ix)
{
	mdb_filehandle_t fd;
	struct stat st;
	uintptr_t start, end;
	if (mdb_env_get_fd(ix->env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0 && find_mapping(&st, &start, &end))
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
}

enum index_result index_commit(struct index *ix)
{
	int dead;
	/* A tool that was killed while it read would keep the pages of its day from reuse for ever. */
	if (++ix->commits % READER_CHECK == 0)
		mdb_reader_check(ix->env, &dead);
	drop_cursors(ix);
	int rc = mdb_txn_commit(ix->txn);
	ix->txn = NULL;
	if (rc == MDB_SUCCESS)
		rc = mdb_txn_begin(ix->env, NULL, 0, &ix->txn);
	if (rc == MDB_SUCCESS && allocate_ahead(ix))
		write_ahead(ix);
	if (rc == MDB_SUCCESS && ix->commits % FORGET_PAGES == 0)
		forget_pages(ix);
	return rc == MDB_SUCCESS ? INDEX_OK : index_broken(ix, "commit", mdb_strerror(rc));
}

/* ---- messages ---- */

enum index_result index_get_message(struct index *ix, msgid_t id, struct row_message *row_r)
{
	struct bytes v;
	enum index_result r = get(ix, TABLE_MESSAGES, key_u64(id), &v);
	return r == INDEX_OK ? decoded(ix, TABLE_MESSAGES, row_message_decode(v, row_r)) : r;
}

enum index_result index_put_message(struct index *ix, msgid_t id, const struct row_message *row)
{
	return put_row(ix, TABLE_MESSAGES, key_u64(id), row_message_encode(row, row_buffer(ix)));
}

enum index_result index_delete_message(struct index *ix, msgid_t id)
{
	return del(ix, TABLE_MESSAGES, key_u64(id));
}

enum index_result index_next_message(struct index *ix, msgid_t from, msgid_t *id_r, struct row_message *row_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_MESSAGES, key_u64(from), 8, &k, &v);
	if (r != INDEX_OK)
		return r;
	*id_r = get_number(k.at, 8);
	return decoded(ix, TABLE_MESSAGES, row_message_decode(v, row_r));
}

/* ---- recipients ---- */

enum index_result index_get_rcpt(struct index *ix, msgid_t id, uint32_t n, struct row_rcpt *row_r)
{
	struct bytes v;
	enum index_result r = get(ix, TABLE_RCPTS, key_two(id, n, 4), &v);
	return r == INDEX_OK ? decoded(ix, TABLE_RCPTS, row_rcpt_decode(v, row_r)) : r;
}

enum index_result index_put_rcpt(struct index *ix, msgid_t id, uint32_t n, const struct row_rcpt *row)
{
	return put_row(ix, TABLE_RCPTS, key_two(id, n, 4), row_rcpt_encode(row, row_buffer(ix)));
}

enum index_result index_delete_rcpt(struct index *ix, msgid_t id, uint32_t n)
{
	return del(ix, TABLE_RCPTS, key_two(id, n, 4));
}

enum index_result index_next_rcpt(struct index *ix, msgid_t id, uint32_t from, uint32_t *n_r, struct row_rcpt *row_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_RCPTS, key_two(id, from, 4), 12, &k, &v);
	if (r != INDEX_OK)
		return r;
	if (get_number(k.at, 8) != id)
		return INDEX_NONE;
	*n_r = (uint32_t)get_number(k.at + 8, 4);
	return decoded(ix, TABLE_RCPTS, row_rcpt_decode(v, row_r));
}

/* ---- due ---- */

enum index_result index_put_due(struct index *ix, struct bytes destination, struct due due)
{
	struct key k = key_due(destination, due);
	return put(ix, TABLE_DUE, &k, LIT(""));
}

enum index_result index_delete_due(struct index *ix, struct bytes destination, struct due due)
{
	return del(ix, TABLE_DUE, key_due(destination, due));
}

enum index_result index_next_due(struct index *ix, struct bytes destination, struct due from, struct due *due_r)
{
	struct key first = key_due(destination, from);
	size_t name = first.len - 20;     /* the destination and its NUL */
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_DUE, first, 21, &k, &v);
	if (r != INDEX_OK)
		return r;
	if (k.len != first.len || memcmp(k.at, first.at, name) != 0)
		return INDEX_NONE;
	*due_r = (struct due){ get_number(k.at + name, 8), get_number(k.at + name + 8, 8), (uint32_t)get_number(k.at + name + 16, 4) };
	return INDEX_OK;
}

/* ---- wake ---- */

enum index_result index_put_wake(struct index *ix, wall_ms_t at, struct bytes destination)
{
	struct key k = key_wake(at, destination);
	return put(ix, TABLE_WAKE, &k, LIT(""));
}

enum index_result index_delete_wake(struct index *ix, wall_ms_t at, struct bytes destination)
{
	return del(ix, TABLE_WAKE, key_wake(at, destination));
}

enum index_result index_next_wake(struct index *ix, wall_ms_t at, struct bytes destination, wall_ms_t *at_r, struct bytes *destination_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_WAKE, key_wake(at, destination), 9, &k, &v);
	if (r != INDEX_OK)
		return r;
	*at_r = get_number(k.at, 8);
	*destination_r = bytes_slice(k, 8, k.len);
	return INDEX_OK;
}

/* ---- destinations ---- */

enum index_result index_get_destination(struct index *ix, struct bytes name, struct row_destination *row_r)
{
	struct bytes v;
	enum index_result r = get(ix, TABLE_DESTINATIONS, key_name(name), &v);
	return r == INDEX_OK ? decoded(ix, TABLE_DESTINATIONS, row_destination_decode(v, row_r)) : r;
}

enum index_result index_put_destination(struct index *ix, struct bytes name, const struct row_destination *row)
{
	return put_row(ix, TABLE_DESTINATIONS, key_name(name), row_destination_encode(row, row_buffer(ix)));
}

enum index_result index_delete_destination(struct index *ix, struct bytes name)
{
	return del(ix, TABLE_DESTINATIONS, key_name(name));
}

enum index_result index_next_destination(struct index *ix, struct bytes from, struct bytes *name_r, struct row_destination *row_r)
{
	struct bytes v;
	/* LMDB refuses an empty key; no name begins with NUL. */
	enum index_result r = seek(ix, TABLE_DESTINATIONS, key_name(from.len ? from : (struct bytes){ "", 1 }), 1, name_r, &v);
	return r == INDEX_OK ? decoded(ix, TABLE_DESTINATIONS, row_destination_decode(v, row_r)) : r;
}

/* ---- bounces ---- */

enum index_result index_put_bounce(struct index *ix, wall_ms_t due, msgid_t id)
{
	struct key k = key_two(due, id, 8);
	return put(ix, TABLE_BOUNCES, &k, LIT(""));
}

enum index_result index_delete_bounce(struct index *ix, wall_ms_t due, msgid_t id)
{
	return del(ix, TABLE_BOUNCES, key_two(due, id, 8));
}

enum index_result index_next_bounce(struct index *ix, wall_ms_t due, msgid_t id, wall_ms_t *due_r, msgid_t *id_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_BOUNCES, key_two(due, id, 8), 16, &k, &v);
	if (r != INDEX_OK)
		return r;
	*due_r = get_number(k.at, 8);
	*id_r = get_number(k.at + 8, 8);
	return INDEX_OK;
}

/* ---- finished ---- */

enum index_result index_put_finished(struct index *ix, msgid_t id, const struct row_finished *row)
{
	return put_row(ix, TABLE_FINISHED, key_u64(id), row_finished_encode(row, row_buffer(ix)));
}

enum index_result index_get_finished(struct index *ix, msgid_t id, struct row_finished *row_r)
{
	struct bytes v;
	enum index_result r = get(ix, TABLE_FINISHED, key_u64(id), &v);
	return r == INDEX_OK ? decoded(ix, TABLE_FINISHED, row_finished_decode(v, row_r)) : r;
}

enum index_result index_next_finished(struct index *ix, msgid_t from, msgid_t *id_r, struct row_finished *row_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_FINISHED, key_u64(from), 8, &k, &v);
	if (r != INDEX_OK)
		return r;
	*id_r = get_number(k.at, 8);
	return decoded(ix, TABLE_FINISHED, row_finished_decode(v, row_r));
}

enum index_result index_delete_finished(struct index *ix, msgid_t id)
{
	return del(ix, TABLE_FINISHED, key_u64(id));
}

enum index_result index_count_finished(struct index *ix, uint64_t *count_r)
{
	MDB_stat st;
	int rc = mdb_stat(ix->txn, ix->db[TABLE_FINISHED], &st);
	*count_r = rc == MDB_SUCCESS ? st.ms_entries : 0;
	return result_of(ix, rc, index_table_name[TABLE_FINISHED]);
}

/* ---- segments, status ---- */

enum index_result index_put_segment(struct index *ix, uint64_t segment, const struct row_segment *row)
{
	return put_row(ix, TABLE_SEGMENTS, key_u64(segment), row_segment_encode(row, row_buffer(ix)));
}

enum index_result index_delete_segment(struct index *ix, uint64_t segment)
{
	return del(ix, TABLE_SEGMENTS, key_u64(segment));
}

enum index_result index_next_segment(struct index *ix, uint64_t from, uint64_t *segment_r, struct row_segment *row_r)
{
	struct bytes k, v;
	enum index_result r = seek(ix, TABLE_SEGMENTS, key_u64(from), 8, &k, &v);
	if (r != INDEX_OK)
		return r;
	*segment_r = get_number(k.at, 8);
	return decoded(ix, TABLE_SEGMENTS, row_segment_decode(v, row_r));
}

enum index_result index_put_status(struct index *ix, const struct row_status *row)
{
	return put_row(ix, TABLE_META, key_name(LIT("status")), row_status_encode(row, row_buffer(ix)));
}

enum index_result index_get_status(struct index *ix, struct row_status *row_r)
{
	struct bytes v;
	enum index_result r = get(ix, TABLE_META, key_name(LIT("status")), &v);
	return r == INDEX_OK ? decoded(ix, TABLE_META, row_status_decode(v, row_r)) : r;
}
