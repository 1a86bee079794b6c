/* enqueuer - smtpd's room: the pipe to `enqueue -s`. See enqueuer.h. */
#include "enqueuer.h"

#include "common/clock.h"
#include "common/envelope.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PART_HEAD (RECORD_HEAD + 2u)          /* a body_part or envelope_part before its octets */
#define ENVELOPE_PART_MAX 32768u
#define BODY_PART_MAX 65000u
#define OUT_KEPT 65536u           /* the memory of a longer list of recipients is given back */
#define OUT_MAX (ENVELOPE_MAX + (1u << 20))
/* enqueue itself gives up on queued after 20 minutes; only one that hangs is cut off by this. */
#define CHILD_TIMEOUT_MS (22u * MINUTE_MS)

void enqueuer_init(struct enqueuer *e)
{
	*e = (struct enqueuer){ .to = -1, .from = -1, .out = STR_INIT(OUT_MAX), .held = STR_INIT(ENQUEUER_HELD) };
	record_reader_init(&e->reader, -1);
}

static void enqueuer_close(struct enqueuer *e)
{
	if (e->to >= 0)
		close(e->to);
	if (e->from >= 0)
		close(e->from);
	e->to = e->from = -1;
	record_reader_free(&e->reader);
}

void enqueuer_free(struct enqueuer *e)
{
	enqueuer_close(e);
	str_free(&e->out);
	str_free(&e->held);
	e->pid = 0;
}

/* The child is of no use any more: make sure it ends, and learn how it did. */
static void enqueuer_bury(struct enqueuer *e, int *status_r)
{
	*status_r = -1;
	enqueuer_close(e);
	if (e->pid <= 0)
		return;
	/* It runs under another account, so a signal would not reach it; its closed pipes do. Do not wait long for it. */
	for (int tries = 0; tries < 50; tries++) {
		pid_t got = waitpid(e->pid, status_r, WNOHANG);
		if (got != 0) {
			if (got < 0)
				*status_r = -1;
			break;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	e->pid = 0;
}

static int status_to_result(int status)
{
	if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != ENQ_OK && WEXITSTATUS(status) != EXIT_SYSTEM)
		return WEXITSTATUS(status);
	return ENQ_BUG;
}

static void describe_death(int status, char *text, size_t size)
{
	if (status == -1)
		snprintf(text, size, "its pipe closed");
	else if (WIFSIGNALED(status))
		snprintf(text, size, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, size, "exit code %d", WEXITSTATUS(status));
}

static void enqueuer_died(struct enqueuer *e, const char *when)
{
	int status;
	char how[64];
	enqueuer_bury(e, &status);
	e->failed = true;
	e->result = status_to_result(status);
	describe_death(status, how, sizeof how);
	log_warn("enqueue died while it %s: %s", when, how);
}

static int spawn_child(pid_t *pid_r, int in, int out)
{
	char path[PATH_MAX];
	char name[] = "enqueue", option[] = "-s";
	char *argv[] = { name, option, NULL };
	char *environment[] = { NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;

	if (snprintf(path, sizeof path, "%s/enqueue", path_libexec) >= (int)sizeof path)
		return ENAMETOOLONG;
	if (posix_spawn_file_actions_init(&actions) != 0)
		return ENOMEM;
	if (posix_spawnattr_init(&attributes) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return ENOMEM;
	}
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	int error = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (error == 0)
		error = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (error == 0)
		error = posix_spawn(pid_r, path, &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* The pipes' ends must not be 0 or 1 themselves: then dup2 onto themselves would leave them to be closed by exec. */
static bool pipe_above(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	for (int i = 0; i < 2; i++) {
		if (ends[i] > STDERR_FILENO)
			continue;
		int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		close(ends[i]);
		ends[i] = moved;
		if (moved < 0) {
			close(ends[1 - i]);
			return false;
		}
	}
	return true;
}

static bool enqueuer_start(struct enqueuer *e)
{
	int in[2], out[2];
	if (!pipe_above(in))
		return false;
	if (!pipe_above(out)) {
		close(in[0]);
		close(in[1]);
		return false;
	}
	int error = spawn_child(&e->pid, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	e->to = in[1];
	e->from = out[0];
	if (error != 0 || io_set_nonblocking(e->to, true) < 0) {
		errno = error != 0 ? error : errno;
		enqueuer_close(e);
		return false;
	}
	record_reader_init(&e->reader, e->from);
	return true;
}

static bool enqueuer_ready(struct enqueuer *e)
{
	if (e->to >= 0)
		return true;
	if (enqueuer_start(e))
		return true;
	log_warn("cannot start %s/enqueue: %s", path_libexec, strerror(errno));
	e->failed = true;
	e->result = ENQ_NO_SPOOL;
	return false;
}

void enqueuer_warm(struct enqueuer *e)
{
	if (e->to < 0 && !enqueuer_start(e))
		e->to = -1;   /* tried again, and reported, when there is a message */
}

/* Take n octets off the front of the vector. */
static void vector_skip(struct iovec **iov, size_t *count, size_t n)
{
	while (*count > 0 && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* All of the vector, or false with errno. */
static bool write_vector(struct enqueuer *e, struct iovec *iov, size_t count)
{
	deadline_t deadline = deadline_in(clock_monotonic_ms(), CHILD_TIMEOUT_MS);
	while (count > 0) {
		ssize_t n = writev(e->to, iov, (int)count);
		if (n >= 0) {
			e->told = true;
			vector_skip(&iov, &count, (size_t)n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return false;
		int ready = io_wait_writable(e->to, deadline);
		if (ready < 0)
			return false;
		if (ready == 0) {
			errno = ETIMEDOUT;
			return false;
		}
	}
	return true;
}

/* Write, once more with a fresh child if the old one had died before it heard of this message. */
static void enqueuer_write(struct enqueuer *e, const struct iovec *iov, size_t count)
{
	struct iovec copy[ENQUEUER_SPANS + 4];
	bool fresh = e->to < 0;
	if (e->failed || !enqueuer_ready(e))
		return;
	bool first = !e->told;
	memcpy(copy, iov, count * sizeof *iov);
	if (write_vector(e, copy, count))
		return;
	if (first && !e->told && !fresh && errno == EPIPE) {
		int status;
		enqueuer_bury(e, &status);
		if (!enqueuer_ready(e))
			return;
		memcpy(copy, iov, count * sizeof *iov);
		if (write_vector(e, copy, count))
			return;
	}
	enqueuer_died(e, "was given a message");
}

/* The head of a record whose one field is BYTES, as common/channel.c would write it before the octets (tests/unit/test_enqueuer.c compares). */
static void part_head(char out[PART_HEAD], unsigned type, size_t n)
{
	uint32_t whole = (uint32_t)(PART_HEAD + n);
	const uint8_t head[PART_HEAD] = {
		(uint8_t)whole, (uint8_t)(whole >> 8), (uint8_t)(whole >> 16), (uint8_t)(whole >> 24), (uint8_t)type, (uint8_t)(type >> 8),
		RECORD_MAGIC & 0xff, RECORD_MAGIC >> 8, (uint8_t)n, (uint8_t)(n >> 8),
	};
	memcpy(out, head, sizeof head);
}

static void out_of_memory(struct enqueuer *e)
{
	if (e->failed)
		return;
	e->failed = true;
	e->result = ENQ_OUT_OF_MEMORY;
}

void enqueuer_begin(struct enqueuer *e, struct bytes envelope, struct bytes trace, size_t id_offset)
{
	str_clear(&e->out);
	str_clear(&e->held);
	e->failed = e->told = false;
	e->result = ENQ_OK;
	e->body_size = 0;
	bool fits = mail_begin_encode(&(struct mail_begin){ .id_offset = (uint32_t)id_offset }, &e->out);
	while (fits && envelope.len > 0) {
		struct bytes part = bytes_slice(envelope, 0, ENVELOPE_PART_MAX);
		fits = envelope_part_encode(&(struct envelope_part){ part }, &e->out);
		envelope = bytes_slice(envelope, part.len, envelope.len);
	}
	if (!fits) {
		out_of_memory(e);
		return;
	}
	enqueuer_body(e, &trace, 1);
}

/* Records that wait, then what is held and the spans as body_part records, then `tail`, in one write where the sizes allow it. */
static void enqueuer_flush(struct enqueuer *e, const struct bytes *spans, size_t count, struct bytes tail)
{
	struct iovec iov[ENQUEUER_SPANS + 4];
	char head[PART_HEAD];
	size_t n = 0, body = e->held.len;
	for (size_t i = 0; i < count; i++)
		body += spans[i].len;
	if (e->out.len > 0)
		iov[n++] = (struct iovec){ e->out.at, e->out.len };
	if (body > 0) {
		part_head(head, REC_body_part, body);
		iov[n++] = (struct iovec){ head, PART_HEAD };
	}
	if (e->held.len > 0)
		iov[n++] = (struct iovec){ e->held.at, e->held.len };
	for (size_t i = 0; i < count; i++)
		if (spans[i].len > 0)
			iov[n++] = (struct iovec){ (void *)(uintptr_t)spans[i].at, spans[i].len };
	if (tail.len > 0)
		iov[n++] = (struct iovec){ (void *)(uintptr_t)tail.at, tail.len };
	if (n > 0)
		enqueuer_write(e, iov, n);
	if (e->out.room > OUT_KEPT)
		str_free(&e->out);
	str_clear(&e->out);
	str_clear(&e->held);
}

void enqueuer_body(struct enqueuer *e, const struct bytes *spans, size_t count)
{
	size_t total = 0;
	for (size_t i = 0; i < count; i++)
		total += spans[i].len;
	e->body_size += total;
	if (e->failed || total == 0)
		return;
	if (e->held.len + total <= ENQUEUER_HELD) {
		for (size_t i = 0; i < count; i++)
			if (!str_add(&e->held, spans[i]))
				out_of_memory(e);
		return;
	}
	enqueuer_flush(e, spans, count, (struct bytes){ 0 });
}

static int enqueuer_wait(struct enqueuer *e, msgid_t *id_r)
{
	struct record record;
	struct mail_result result;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), CHILD_TIMEOUT_MS);
	int got;
	do {
		got = record_reader_wait(&e->reader, &record, deadline);
	} while (got < 0 && errno == EINTR);   /* a signal says to end after this message, not to forget its answer */
	if (got == 1 && record.type == REC_mail_result && mail_result_decode(record.payload, &result)) {
		*id_r = result.id <= MSGID_MAX ? result.id : 0;
		return result.result;
	}
	enqueuer_died(e, got == 1 ? "answered nonsense" : "was to answer for a message");
	return e->result;
}

int enqueuer_commit(struct enqueuer *e, msgid_t *id_r)
{
	struct str tail = STR_INIT(64);
	*id_r = 0;
	if (!mail_commit_encode(&(struct mail_commit){ .body_size = e->body_size }, &tail))
		out_of_memory(e);
	if (!e->failed)
		enqueuer_flush(e, NULL, 0, str_bytes(&tail));
	str_free(&tail);
	if (!e->failed)
		return enqueuer_wait(e, id_r);
	if (e->told && e->to >= 0)
		enqueuer_abort(e);
	return e->result;
}

void enqueuer_abort(struct enqueuer *e)
{
	struct str tail = STR_INIT(64);
	bool told = e->told && e->to >= 0;
	str_clear(&e->out);
	str_clear(&e->held);
	if (told && mail_abort_encode(&(struct mail_abort){ .reason = 0 }, &tail)) {
		e->failed = false;
		enqueuer_flush(e, NULL, 0, str_bytes(&tail));
	}
	str_free(&tail);
	e->failed = true;
	e->told = false;
}
