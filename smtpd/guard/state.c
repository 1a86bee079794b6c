/* state - guard's room: its rows on disk. See state.h. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/io.h"
#include "common/log.h"

#define FILE_NAME "state"
#define FILE_NEW "state.new"
#define BATCH 16384u              /* rows of one commit */
#define COMMIT_MS 1000u
#define RETRY_MS 10000u           /* after a commit that failed: the disk may be full */
#define READ_MS 120000u           /* longest wait for the child that reads */
#define ROW_OCTETS 512u           /* of the map, for each place: rows with their pages, twice for what a commit copies */
#define MAP_LEAST (64u << 20)
#define KEY_OCTETS 5u

static const unsigned char secret_key[1] = { 0xff };   /* behind all rows */

struct change { uint32_t place; uint8_t table; struct row row; };

struct state {
	struct table *const *table;
	MDB_env *env;
	MDB_dbi db;
	struct change *batch;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under the lock */
	size_t waiting;           /* rows of the batch; 0: the thread has nothing to do */
	int error;                /* of its last commit; 0: it went well. The batch waits for another try then */
	bool stop;
	/* the loop's */
	bool lost;                /* there is no data base, or it is of no use any more */
	bool complained;
	deadline_t next;
};

/* ---- rows ---- */

void row_to(const struct row *row, unsigned table, struct guard_row *record_r)
{
	*record_r = (struct guard_row){ .table = (uint8_t)table, .rank = row->rank, .subject = row->subject, .what = row->what, .window_s = row->window_s,
		.key = row->key, .until_ms = row->until, .count = row->count, .limit = row->limit, .name = { row->name, row->name_len } };
}

bool row_from(const struct guard_row *record, struct row *row_r)
{
	if (record->table >= TABLE_TABLES || record->subject >= LIMIT_SUBJECTS || record->what >= ROW_WHATS || record->rank > 1 || record->until_ms == 0)
		return false;
	*row_r = (struct row){ .key = record->key, .until = record->until_ms, .count = record->count, .limit = record->limit, .window_s = record->window_s,
		.rank = record->rank, .subject = record->subject, .what = record->what };
	keys_name(row_r, record->name);
	return true;
}

/* ---- the child that reads ---- */

static bool send_value(int fd, MDB_val key, MDB_val value)
{
	struct str out = STR_INIT(1000);
	struct guard_row row;
	struct bytes octets = { value.mv_data, value.mv_size };
	bool ok = true;
	if (key.mv_size == sizeof secret_key)
		ok = guard_secret_encode(&(struct guard_secret){ octets }, &out);
	else if (guard_row_decode(octets, &row))
		ok = guard_row_encode(&row, &out);
	ok = ok && io_write_full(fd, out.at, out.len) == 0;
	str_free(&out);
	return ok;
}

/* Exit 0: everything was read. */
static void read_old(int fd)
{
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi db;
	MDB_cursor *cursor;
	MDB_val key, value;
	int rc = mdb_env_create(&env);
	if (rc == 0)
		rc = mdb_env_open(env, FILE_NAME, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0);
	if (rc == 0)
		rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
	if (rc == 0)
		rc = mdb_dbi_open(txn, NULL, 0, &db);
	if (rc == 0)
		rc = mdb_cursor_open(txn, db, &cursor);
	if (rc != 0)
		_exit(1);
	/* The secret is behind all rows, and rows are of no use without it: it goes first. */
	key = (MDB_val){ sizeof secret_key, (void *)(uintptr_t)secret_key };
	if (mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY) != 0 || !send_value(fd, key, value))
		_exit(1);
	for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
		if (!send_value(fd, key, value))
			_exit(1);
	_exit(rc == MDB_NOTFOUND ? 0 : 1);
}

static bool start_reader(pid_t *pid_r, int *fd_r)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	*pid_r = fork();
	if (*pid_r == 0) {
		close(ends[0]);
		read_old(ends[1]);
	}
	close(ends[1]);
	*fd_r = ends[0];
	if (*pid_r > 0)
		return true;
	close(ends[0]);
	return false;
}

/* ---- at the start ---- */

static bool take_row(struct state *s, const struct guard_row *record, wall_ms_t now)
{
	struct row row;
	if (!row_from(record, &row))
		return false;
	if (row.until <= now)
		return true;
	struct row *place = table_place(s->table[record->table], row.key, now);
	*place = row;
	table_changed(s->table[record->table], place);
	return true;
}

/* False: what came is none of ours. */
static bool take_record(struct state *s, const struct record *record, struct keys *keys, bool *has_secret, size_t *rows, wall_ms_t now)
{
	struct guard_secret secret;
	struct guard_row row;
	if (record->type == REC_guard_secret && guard_secret_decode(record->payload, &secret) && secret.octets.len == sizeof keys->secret) {
		memcpy(keys->secret, secret.octets.at, sizeof keys->secret);
		*has_secret = true;
		return true;
	}
	if (!*has_secret || record->type != REC_guard_row || !guard_row_decode(record->payload, &row) || !take_row(s, &row, now))
		return false;
	++*rows;
	return true;
}

static bool read_rows(struct state *s, int fd, struct keys *keys, size_t *rows, wall_ms_t now)
{
	struct record_reader in;
	struct record record;
	bool has_secret = false;
	int got;
	record_reader_init(&in, fd);
	while ((got = record_reader_wait(&in, &record, deadline_in(clock_monotonic_ms(), READ_MS))) == 1)
		if (!take_record(s, &record, keys, &has_secret, rows, now)) {
			got = -1;
			break;
		}
	record_reader_free(&in);
	return got == 0 && has_secret;
}

static void load(struct state *s, struct keys *keys, wall_ms_t now)
{
	struct stat st;
	size_t rows = 0;
	pid_t pid;
	int fd, status = 0;
	if (stat(FILE_NAME, &st) < 0) {
		log_info("there is no state yet: everything is counted from now on");
		return;
	}
	if (!start_reader(&pid, &fd)) {
		log_warn("the state cannot be read: %s; everything is counted from now on", strerror(errno));
		return;
	}
	bool whole = read_rows(s, fd, keys, &rows, now);
	close(fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (whole && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		log_info("state: %zu rows", rows);
	else
		log_warn("the state is damaged: %zu rows could be read, the rest begins anew", rows);
}

/* ---- writing ---- */

static int put_change(MDB_txn *txn, MDB_dbi db, const struct change *c, struct str *text)
{
	unsigned char octets[KEY_OCTETS] = { c->table, (unsigned char)(c->place >> 24), (unsigned char)(c->place >> 16), (unsigned char)(c->place >> 8),
		(unsigned char)c->place };
	MDB_val key = { sizeof octets, octets };
	struct guard_row record;
	str_clear(text);
	if (c->row.until == 0) {
		int rc = mdb_del(txn, db, &key, NULL);
		return rc == MDB_NOTFOUND ? 0 : rc;
	}
	row_to(&c->row, c->table, &record);
	if (!guard_row_encode(&record, text))
		return ENOMEM;
	MDB_val value = { text->len - RECORD_HEAD, text->at + RECORD_HEAD };
	return mdb_put(txn, db, &key, &value, 0);
}

static int put_batch(MDB_env *env, MDB_dbi db, const struct change *batch, size_t count)
{
	struct str text = STR_INIT(1000);
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = put_change(txn, db, &batch[i], &text);
	str_free(&text);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static size_t take_changes(struct state *s)
{
	size_t n = 0, place;
	for (unsigned t = 0; t < TABLE_TABLES; t++)
		while (n < BATCH && table_changed_next(s->table[t], &place))
			s->batch[n++] = (struct change){ .place = (uint32_t)place, .table = (uint8_t)t, .row = *table_at(s->table[t], place) };
	return n;
}

static int write_all(struct state *s)
{
	int rc = 0;
	for (size_t n; rc == 0 && (n = take_changes(s)) > 0;)
		rc = put_batch(s->env, s->db, s->batch, n);
	return rc;
}

/* ---- the new data base ---- */

static int put_secret(struct state *s, struct keys *keys)
{
	MDB_val key = { sizeof secret_key, (void *)(uintptr_t)secret_key }, value = { sizeof keys->secret, keys->secret };
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &s->db);
	if (rc == 0)
		rc = mdb_put(txn, s->db, &key, &value, 0);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static int make_new(struct state *s, struct keys *keys)
{
	size_t places = 0;
	for (unsigned t = 0; t < TABLE_TABLES; t++)
		places += table_places(s->table[t]);
	(void)unlink(FILE_NEW);
	int rc = mdb_env_create(&s->env);
	if (rc != 0)
		return rc;
	rc = mdb_env_set_mapsize(s->env, (places * ROW_OCTETS + MAP_LEAST) & ~(size_t)0xfffff);
	if (rc == 0)
		rc = mdb_env_open(s->env, FILE_NEW, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
	if (rc == 0)
		rc = put_secret(s, keys);
	if (rc == 0)
		rc = write_all(s);
	if (rc == 0 && (rename(FILE_NEW, FILE_NAME) < 0 || io_sync_dir(AT_FDCWD, ".") < 0))
		rc = errno;
	return rc;
}

/* ---- the thread ---- */

static void *write_down(void *argument)
{
	struct state *s = argument;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->stop && (s->waiting == 0 || s->error != 0))
			pthread_cond_wait(&s->wake, &s->lock);
		if (s->stop)
			break;
		size_t count = s->waiting;
		pthread_mutex_unlock(&s->lock);
		int rc = put_batch(s->env, s->db, s->batch, count);
		pthread_mutex_lock(&s->lock);
		s->error = rc;
		if (rc == 0)
			s->waiting = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the loop's side ---- */

static void lose(struct state *s, int rc)
{
	log_error("the state cannot be written: %s; counts are in memory alone until guard starts again", mdb_strerror(rc));
	s->lost = true;
}

static void lock_directory(void)
{
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die_system("cannot open the directory of the state");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		die_usage("another guard has the directory of the state");
	/* It stays open, and locked, as long as the process lives. */
}

struct state *state_open(struct table *const tables[TABLE_TABLES], struct keys *keys, wall_ms_t now)
{
	struct state *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->table = tables;
	s->batch = calloc(BATCH, sizeof *s->batch);
	if (s->batch == NULL || pthread_mutex_init(&s->lock, NULL) != 0 || pthread_cond_init(&s->wake, NULL) != 0) {
		free(s->batch);
		free(s);
		return NULL;
	}
	lock_directory();
	crypto_shorthash_keygen(keys->secret);
	load(s, keys, now);
	int rc = make_new(s, keys);
	if (rc == 0) {
		rc = pthread_create(&s->thread, NULL, write_down, s);
		s->has_thread = rc == 0;
	}
	if (rc != 0)
		lose(s, rc);
	return s;
}

/* Did the last commit fail? A full disk is waited for; anything else is the file's end. */
static deadline_t after_error(struct state *s, int error, deadline_t now)
{
	if (error != ENOSPC && error != EDQUOT && error != ENOMEM) {
		lose(s, error);
		return 0;
	}
	if (!s->complained)
		log_warn("the state cannot be written now: %s; it is tried again", strerror(error));
	s->complained = true;
	s->error = 0;
	pthread_cond_signal(&s->wake);
	return deadline_in(now, RETRY_MS);
}

deadline_t state_turn(struct state *s, deadline_t now)
{
	if (s->lost || (s->next != 0 && !deadline_passed(s->next, now)))
		return s->lost ? 0 : s->next;
	pthread_mutex_lock(&s->lock);
	if (s->error != 0) {
		s->next = after_error(s, s->error, now);
	} else if (s->waiting > 0) {
		s->next = deadline_in(now, COMMIT_MS);   /* it still writes */
	} else {
		s->complained = false;
		s->waiting = take_changes(s);
		s->next = s->waiting > 0 ? deadline_in(now, COMMIT_MS) : 0;
		if (s->waiting > 0)
			pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
	return s->next;
}

void state_close(struct state *s)
{
	if (s->has_thread) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	int rc = 0;
	if (!s->lost && s->waiting > 0)
		rc = put_batch(s->env, s->db, s->batch, s->waiting);
	if (!s->lost && rc == 0)
		rc = write_all(s);
	if (rc != 0)
		log_error("the last counts were not written: %s", mdb_strerror(rc));
	if (s->env != NULL)
		mdb_env_close(s->env);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s->batch);
	free(s);
}
