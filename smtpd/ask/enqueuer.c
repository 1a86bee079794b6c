/* enqueuer - smtpd's room: the pipe to `enqueue -s`. See enqueuer.h. */
#include "enqueuer.h"

#include "common/clock.h"
#include "common/envelope.h"
#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PART_HEAD (RECORD_HEAD + 2u)          /* a body_part or envelope_part before its octets */
#define PIECE_MAX 56000u                      /* with ENQUEUER_HELD octets before it, below a body_part's most */
#define ENVELOPE_PART_MAX 32768u
#define BODY_PART_MAX 65000u
#define OUT_KEPT 65536u           /* the memory of a longer list of recipients is given back */
#define OUT_MAX (ENVELOPE_MAX + (1u << 20))
#define PATIENCE_MS SECOND_MS     /* for an answer that comes from queued itself */
#define RESULT_OCTETS (RECORD_HEAD + 9u)
/* enqueue itself gives up on queued after 20 minutes; only one that hangs is cut off by this. */
#define CHILD_TIMEOUT_MS (22u * MINUTE_MS)

void enqueuer_init(struct enqueuer *e)
{
	*e = (struct enqueuer){ .to = -1, .from = -1, .ack = -1, .out = STR_INIT(OUT_MAX), .held = STR_INIT(ENQUEUER_HELD) };
	record_reader_init(&e->acks, -1);
}

/* `fd`: the fifo that is lent now; -1: none. */
static void enqueuer_lent(struct enqueuer *e, int fd)
{
	if (e->ack >= 0)
		close(e->ack);
	record_reader_free(&e->acks);
	record_reader_init(&e->acks, fd);
	e->ack = fd;
}

static void enqueuer_close(struct enqueuer *e)
{
	io_close(&e->to);
	io_close(&e->from);
	enqueuer_lent(e, -1);
	e->owes_proof = false;
}

void enqueuer_free(struct enqueuer *e)
{
	enqueuer_close(e);
	str_free(&e->out);
	str_free(&e->held);
	e->pid = 0;
}

/* Of a child that takes its time nobody asks how it ended: the kernel is to keep none for that, unless another is started. */
static void keep_no_zombies(bool none)
{
	const struct sigaction action = { .sa_handler = SIG_DFL, .sa_flags = none ? SA_NOCLDWAIT : 0 };
	sigaction(SIGCHLD, &action, NULL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		continue;
}

/* The child is of no use any more: make sure it ends, and learn how it did. */
static void enqueuer_bury(struct enqueuer *e, int *status_r)
{
	*status_r = -1;
	enqueuer_close(e);
	if (e->pid <= 0)
		return;
	/* It runs under another account, so a signal would not reach it; its closed pipes do. Do not wait long for it. */
	pid_t got = 0;
	for (int tries = 0; tries < 50 && got == 0; tries++) {
		got = waitpid(e->pid, status_r, WNOHANG);
		if (got == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	if (got <= 0)
		*status_r = -1;
	if (got == 0)
		keep_no_zombies(true);
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

/* The ends must not be 0 or 1 themselves: then dup2 onto themselves would leave them to be closed by exec. */
static bool move_above(int ends[2])
{
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
	if (pipe2(in, O_CLOEXEC) < 0 || !move_above(in))
		return false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) < 0 || !move_above(out)) {
		close(in[0]);
		close(in[1]);
		return false;
	}
	keep_no_zombies(false);
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
	if (e->number == 0 && getrandom(&e->number, sizeof e->number, GRND_NONBLOCK) < 0)
		e->number = 1;
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
	bool fits = !e->owes_proof || mail_answered_encode(&(struct mail_answered){ e->proof }, &e->out);
	fits = fits && mail_begin_encode(&(struct mail_begin){ .id_offset = (uint32_t)id_offset }, &e->out);
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
	if (n > 0) {
		enqueuer_write(e, iov, n);
		e->owes_proof = false;
	}
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
	if (e->held.len + total <= ENQUEUER_HELD + PIECE_MAX) {
		enqueuer_flush(e, spans, count, (struct bytes){ 0 });
		return;
	}
	for (size_t i = 0; i < count; i++)
		for (struct bytes rest = spans[i], piece; rest.len > 0; rest = bytes_slice(rest, piece.len, rest.len)) {
			piece = bytes_slice(rest, 0, PIECE_MAX);
			enqueuer_flush(e, &piece, 1, (struct bytes){ 0 });
		}
}

/* ---- the answer */

enum teller { TELLER_NONE, TELLER_QUEUED, TELLER_CHILD };

/* What the child says, at most `room` octets: as read(2). The fifo that it lends with them takes the place of the one before. */
static ssize_t receive(struct enqueuer *e, char *at, size_t room)
{
	int fd;
	ssize_t n = passing_receive(e->from, at, room, 0, &fd, 1);
	if (fd >= 0)
		enqueuer_lent(e, fd);
	return n;
}

/* The child's own answer: 1. 0: nonsense. -1: none will come. */
static int wait_for_child(struct enqueuer *e, struct mail_result *result_r)
{
	char octets[RESULT_OCTETS];
	struct record record;
	size_t have = 0, used;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), CHILD_TIMEOUT_MS);
	enqueuer_lent(e, -1);
	while (have < sizeof octets) {
		int ready = io_wait_readable(e->from, deadline);
		ssize_t n = ready > 0 ? receive(e, octets + have, sizeof octets - have) : -1;
		if (ready < 0 && errno == EINTR)
			continue;   /* a signal says to end after this message, not to forget its answer */
		if (n <= 0)
			return -1;
		have += (size_t)n;
	}
	return record_take((struct bytes){ octets, have }, &record, &used) == RECORD_OK && record.type == REC_mail_result
		&& mail_result_decode(record.payload, result_r) ? 1 : 0;
}

/* Is there queued's answer to the message offered last? What was answered before is passed over. */
static bool take_ack(struct enqueuer *e, struct ack *ack_r)
{
	struct record record;
	while (record_reader_fill(&e->acks) > 0)
		while (record_reader_next(&e->acks, &record) == RECORD_OK)
			if (record.type == REC_ack && ack_decode(record.payload, ack_r) && ack_r->token_b == e->number)
				return true;
	return false;
}

/* Who speaks first about the message that was offered? */
static enum teller wait_for_queued(struct enqueuer *e, struct ack *ack_r)
{
	deadline_t now = clock_monotonic_ms(), deadline = deadline_in(now, PATIENCE_MS);
	struct pollfd fds[2] = { { .fd = e->ack, .events = POLLIN }, { .fd = e->from, .events = POLLIN } };
	while (e->ack >= 0 && !deadline_passed(deadline, now)) {
		int ready = poll(fds, 2, deadline_poll_ms(deadline, now));
		if (ready > 0 && fds[0].revents && take_ack(e, ack_r))
			return TELLER_QUEUED;
		if (ready > 0 && fds[1].revents)
			return TELLER_CHILD;
		if ((ready > 0 && !(fds[0].revents & POLLIN)) || (ready < 0 && errno != EINTR))
			return TELLER_NONE;
		now = clock_monotonic_ms();
	}
	return TELLER_NONE;
}

/* From now on the answer is the child's to wait for. */
static void enqueuer_hand_back(struct enqueuer *e)
{
	struct str octets = STR_INIT(64);
	if (mail_unanswered_encode(&(struct mail_unanswered){ .reason = 0 }, &octets))
		enqueuer_write(e, &(struct iovec){ octets.at, octets.len }, 1);
	else
		out_of_memory(e);
	str_free(&octets);
}

static int enqueuer_wait(struct enqueuer *e, msgid_t *id_r)
{
	struct mail_result result;
	int got = wait_for_child(e, &result);
	if (got == 1) {
		*id_r = result.id <= MSGID_MAX ? result.id : 0;
		return result.result;
	}
	enqueuer_died(e, got == 0 ? "answered nonsense" : "was to answer for a message");
	return e->result;
}

/* The same for a message that was offered. */
static int enqueuer_wait_offered(struct enqueuer *e, msgid_t *id_r)
{
	struct ack ack;
	enum teller teller = wait_for_queued(e, &ack);
	if (teller == TELLER_QUEUED) {
		e->proof = ack.token_a;
		e->owes_proof = true;
		*id_r = ack.id <= MSGID_MAX ? ack.id : 0;
		return ack.result;
	}
	if (teller == TELLER_NONE)
		enqueuer_hand_back(e);
	return e->failed ? e->result : enqueuer_wait(e, id_r);
}

static bool add_end(struct enqueuer *e, bool offer, struct str *out)
{
	if (!offer)
		return mail_commit_encode(&(struct mail_commit){ .body_size = e->body_size }, out);
	e->number++;
	return mail_offer_encode(&(struct mail_offer){ .body_size = e->body_size, .token_b = e->number }, out);
}

int enqueuer_commit(struct enqueuer *e, msgid_t *id_r)
{
	struct str tail = STR_INIT(64);
	bool offer = e->ack >= 0 && e->body_size <= MAIL_OFFER_MAX;
	*id_r = 0;
	if (!add_end(e, offer, &tail))
		out_of_memory(e);
	if (!e->failed)
		enqueuer_flush(e, NULL, 0, str_bytes(&tail));
	str_free(&tail);
	if (e->failed) {
		if (e->told && e->to >= 0)
			enqueuer_abort(e);
		return e->result;
	}
	int result = offer ? enqueuer_wait_offered(e, id_r) : enqueuer_wait(e, id_r);
	e->told = false;   /* nothing is left to abort */
	return result;
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
		enqueuer_lent(e, -1);   /* the child may have given up its file */
	}
	str_free(&tail);
	e->failed = true;
	e->told = false;
}
