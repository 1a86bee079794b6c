/*
 * bounce - write the report about recipients that failed (or received, or are late, where the sender is to be told), and queue it for him.
 *   runs as   tappal-bounce, whose primary group is tappal-log; cwd the spool
 *   in        fifo/bounce; the log and large/, read-only; settings
 *   writes    a message and its envelope into a pipe each, to `enqueue`; log lines
 *   starts    libexec/enqueue, one for each report
 *   never     the network; a file
 *   signals   HUP: settings anew. TERM: ends at once
 *   exit      0 | 100 usage or settings | 111 the system
 *   killed    the report is in the queue or it is not: its envelope, which goes last, names the batch it reports, and queued marks
 *             that batch when it accepts it; otherwise queued asks again
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/priv.h"
#include "common/settings.h"
#include "queue/body.h"
#include "report.h"

#define RCPT_MAX 20000u
#define MEMORY_MAX (64u << 20)
#define FEED_MS (5u * MINUTE_MS)       /* enqueue takes no octet for so long: given up */
#define PARTIAL_MS (10u * SECOND_MS)   /* half an order is not waited for longer: behind a false length everything would be swallowed */
#define AWAY_MS 2000u                  /* the fifo has no reader for so long: queued sees it, and gives all its orders again */
#define CHUNK 65536u
#define TRIES 4                        /* boundaries; one is enough unless 128 random bits were guessed */

struct order { size_t at, len; };          /* of a record's payload in `memory` */

struct bounce {
	struct settings settings;
	int signals, fifo;
	struct record_reader in;
	deadline_t partial;                    /* since when half an order waits for its rest; 0: none */
	/* the order being collected */
	bool is_open;
	struct bounce_begin begin;             /* its views are valid once it is whole */
	struct str memory;
	struct order *orders;                  /* begin, then recipients: 1 + begin.rcpt_count */
	uint32_t have;
	struct bounce_rcpt *rcpts;
};

/* ---- handing a message to enqueue ---- */

struct feed { pid_t pid; int message, envelope; };

static _Noreturn void run_enqueue(int message, int envelope) {
	char path[PATH_MAX];
	char *argv[] = { (char[]){ "enqueue" }, NULL };
	char *envp[] = { NULL };
	signal(SIGPIPE, SIG_DFL);
	if (dup2(message, 0) < 0 || dup2(envelope, 1) < 0 || (size_t)snprintf(path, sizeof path, "%s/enqueue", path_libexec) >= sizeof path)
		die_system("cannot place the descriptors of enqueue");
	execve(path, argv, envp);
	die_system("cannot execute %s", path);
}

static bool start_enqueue(struct feed *f) {
	int message[2], envelope[2];
	if (pipe2(message, O_CLOEXEC) < 0)
		return false;
	if (pipe2(envelope, O_CLOEXEC) < 0) {
		close(message[0]);
		close(message[1]);
		return false;
	}
	*f = (struct feed){ .pid = fork(), .message = message[1], .envelope = envelope[1] };
	if (f->pid == 0)
		run_enqueue(message[0], envelope[0]);
	close(message[0]);
	close(envelope[0]);
	io_set_nonblocking(f->message, true);
	io_set_nonblocking(f->envelope, true);
	if (f->pid > 0)
		return true;
	close(f->message);
	close(f->envelope);
	return false;
}

static bool give(int fd, struct bytes b) {
	return io_write_by(fd, b.at, b.len, deadline_in(clock_monotonic_ms(), FEED_MS)) == 0;
}

/* enqueue's exit code. It waits for queued, if need be for long. */
static int wait_for_enqueue(pid_t pid) {
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ENQ_BUG;
	return WIFEXITED(status) ? WEXITSTATUS(status) : ENQ_BUG;
}

/* ---- the original ---- */

static struct body_place place_of(const struct bounce_begin *b) {
	return (struct body_place){ .id = b->id, .segment = b->segment, .large = b->large != 0, .offset = b->body_offset, .size = b->body_size,
		.record = b->record_offset };
}

/* Look at what will be copied: false when it cannot be read. */
static bool survey_original(const struct report *r, struct survey *s) {
	struct body_place place = place_of(r->begin);
	struct body body = BODY_INIT;
	char data[CHUNK];
	ssize_t got = 0;
	survey_init(s, r->boundary);
	if (body_open(&body, &place) < 0)
		return false;
	if (body_prove(&body, &place) < 0 || body_prove_rest(&body) < 0)
		got = -1;
	bool whole = r->original == ORIGINAL_WHOLE;
	while (got >= 0 && (whole || (!s->header_ended && s->size < REPORT_HEADER_MAX)) && (got = body_read(&body, data, sizeof data)) > 0)
		survey_feed(s, (struct bytes){ data, (size_t)got });
	int error = errno;
	body_close(&body);
	errno = error;
	return got >= 0;
}

static bool give_original(const struct report *r, const struct survey *s, int fd) {
	struct body_place place = place_of(r->begin);
	struct body body = BODY_INIT;
	char data[CHUNK];
	ssize_t got = 0;
	if (body_open(&body, &place) < 0)
		return false;
	uint64_t left = r->original == ORIGINAL_WHOLE ? s->size : s->header_size;
	bool ok = true;
	while (ok && left > 0 && (got = body_read(&body, data, left < sizeof data ? (size_t)left : sizeof data)) > 0) {
		ok = give(fd, (struct bytes){ data, (size_t)got });
		left -= (uint64_t)got;
	}
	body_close(&body);
	return ok && left == 0;
}

/* ---- one report ---- */

static void random_boundary(char out[REPORT_BOUNDARY]) {
	unsigned char octets[16];
	if (getrandom(octets, sizeof octets, 0) != (ssize_t)sizeof octets)
		die_system("no random octets");
	size_t n = (size_t)snprintf(out, REPORT_BOUNDARY, "=_");
	for (size_t i = 0; i < sizeof octets; i++)
		n += (size_t)snprintf(out + n, REPORT_BOUNDARY - n, "%02x", (unsigned)octets[i]);
}

/* Choose boundary and kind by what the original holds. */
static void prepare_report(struct report *r, struct survey *s, char boundary[REPORT_BOUNDARY], uint64_t max_bytes) {
	r->original = report_choice(r, max_bytes);
	r->boundary = boundary;
	*s = (struct survey){ .has_boundary = true };
	for (int i = 0; i < TRIES && s->has_boundary; i++) {
		random_boundary(boundary);
		if (!survey_original(r, s)) {
			log_msg(r->begin->id, "its body cannot be read for the bounce: %m");
			r->original = ORIGINAL_NONE;
			return;
		}
	}
	if (s->has_boundary)
		r->original = ORIGINAL_NONE;
	r->eight_bit = r->original == ORIGINAL_WHOLE ? s->eight_bit : r->original == ORIGINAL_HEADER && s->eight_bit_header;
}

static bool give_report(const struct report *r, const struct survey *s, struct feed *f) {
	struct str text = STR_INIT(REPORT_MAX);
	struct str envelope = STR_INIT(4096);
	bool ok = report_begin(r, &text) && give(f->message, str_bytes(&text));
	if (ok && r->original != ORIGINAL_NONE)
		ok = give_original(r, s, f->message);
	str_clear(&text);
	ok = ok && report_end(r, &text) && give(f->message, str_bytes(&text)) && report_envelope(r, &envelope);
	close(f->message);
	/* Without its envelope enqueue leaves no trace of the message. */
	ok = ok && give(f->envelope, str_bytes(&envelope));
	close(f->envelope);
	str_free(&text);
	str_free(&envelope);
	return ok;
}

static bool find_receiver(const struct bounce *b, struct str *text, struct report *r) {
	r->is_double = b->begin.sender.len == 0;
	if (!r->is_double)
		return mailaddr_parse(b->begin.sender, &r->to) == ADDR_OK && r->to.kind != ADDR_NULL;
	return mailaddr_from_raw(b->settings.doublebounceto, text, &r->to) == ADDR_OK && r->to.kind != ADDR_NULL;
}

static void send_report(const struct bounce *b) {
	char boundary[REPORT_BOUNDARY];
	struct str text = STR_INIT(ADDRESS_MAX * 2);
	struct survey survey;
	struct feed feed;
	struct report r = { .begin = &b->begin, .rcpts = b->rcpts, .me = b->settings.me, .from_local = b->settings.bouncefrom,
		.from_host = b->settings.bouncehost, .now = clock_wall_ms(),
		.retry_until = msgid_time(b->begin.id) + b->settings.queuelifetime * SECOND_MS };
	if (!find_receiver(b, &text, &r)) {
		log_msg(b->begin.id, "cannot be bounced: %s", b->begin.sender.len > 0 ? "its sender is no address" : "it has no sender, and doublebounceto is no address");
		str_free(&text);
		return;
	}
	prepare_report(&r, &survey, boundary, b->settings.bouncemaxbytes);
	if (start_enqueue(&feed)) {
		bool fed = give_report(&r, &survey, &feed);
		int code = wait_for_enqueue(feed.pid);
		if (code != ENQ_OK || !fed)
			log_msg(b->begin.id, "its bounce was not queued (enqueue: %d); it will be tried again", code);
	} else {
		log_msg(b->begin.id, "its bounce was not queued (%m); it will be tried again");
	}
	str_free(&text);
}

/* ---- orders ---- */

static void forget_order(struct bounce *b) {
	free(b->orders);
	free(b->rcpts);
	b->orders = NULL;
	b->rcpts = NULL;
	str_clear(&b->memory);
	b->is_open = false;
	b->have = 0;
}

static bool keep(struct bounce *b, struct bytes payload) {
	b->orders[b->have++] = (struct order){ .at = b->memory.len, .len = payload.len };
	return str_add(&b->memory, payload);
}

static bool take_begin(struct bounce *b, struct bytes payload) {
	if (b->is_open || !bounce_begin_decode(payload, &b->begin))
		return false;
	if (b->begin.rcpt_count == 0 || b->begin.rcpt_count > RCPT_MAX || b->begin.id == 0 || b->begin.id > MSGID_MAX)
		return false;
	b->orders = calloc((size_t)b->begin.rcpt_count + 1, sizeof *b->orders);
	b->rcpts = calloc(b->begin.rcpt_count, sizeof *b->rcpts);
	if (!b->orders || !b->rcpts)
		die_system("out of memory");
	b->is_open = true;
	return keep(b, payload);
}

static struct bytes kept(const struct bounce *b, uint32_t i) {
	return bytes_slice(str_bytes(&b->memory), b->orders[i].at, b->orders[i].at + b->orders[i].len);
}

/* Everything is here and `memory` moves no more: make the views. */
static bool is_whole(struct bounce *b) {
	bool ok = bounce_begin_decode(kept(b, 0), &b->begin);
	for (uint32_t i = 0; ok && i < b->begin.rcpt_count; i++)
		ok = bounce_rcpt_decode(kept(b, i + 1), &b->rcpts[i]) && b->rcpts[i].action < DSN_ACTIONS;
	return ok;
}

static bool take_rcpt(struct bounce *b, struct bytes payload) {
	struct bounce_rcpt rcpt;
	if (!b->is_open || !bounce_rcpt_decode(payload, &rcpt) || rcpt.id != b->begin.id || !keep(b, payload))
		return false;
	if (b->have <= b->begin.rcpt_count)
		return true;
	if (is_whole(b))
		send_report(b);
	forget_order(b);
	return true;
}

static void close_fifo(struct bounce *b) {
	if (b->fifo >= 0)
		close(b->fifo);
	b->fifo = -1;
	b->partial = 0;
	record_reader_free(&b->in);
	forget_order(b);
}

static void open_fifo(struct bounce *b) {
	close_fifo(b);
	b->fifo = io_open_fifo_read(AT_FDCWD, FIFO_BOUNCE);
	if (b->fifo < 0)
		die_system("cannot open %s", FIFO_BOUNCE);
	record_reader_init(&b->in, b->fifo);
}

static void begin_anew(struct bounce *b, const char *why) {
	log_error("%s; starting anew with it", why);
	close_fifo(b);
	(void)poll(NULL, 0, AWAY_MS);
	open_fifo(b);
}

/* False: the stream makes no sense. */
static bool take_records(struct bounce *b) {
	struct record record;
	for (;;) {
		enum record_result got = record_reader_next(&b->in, &record);
		if (got == RECORD_MORE)
			return true;
		b->partial = 0;
		bool ok = got == RECORD_OK && (record.type == REC_bounce_begin ? take_begin(b, record.payload)
			: record.type == REC_bounce_rcpt && take_rcpt(b, record.payload));
		if (!ok)
			return false;
	}
}

static void read_orders(struct bounce *b) {
	ssize_t got = record_reader_fill(&b->in);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		open_fifo(b);
	else if (!take_records(b))
		begin_anew(b, "a record from queued makes no sense");
}

/* Queued writes an order at once. */
static void watch_partial(struct bounce *b, deadline_t now) {
	if (record_reader_rest(&b->in).len == 0 && !b->is_open)
		b->partial = 0;
	else if (!b->partial)
		b->partial = now;
	else if (deadline_passed(deadline_in(b->partial, PARTIAL_MS), now))
		begin_anew(b, "half an order from queued is all that came");
}

static void take_signals(struct bounce *b) {
	unsigned char numbers[16];
	while (read(b->signals, numbers, sizeof numbers) > 0)
		settings_reload(&b->settings, USED_BOUNCE);
}

static void turn(struct bounce *b) {
	struct pollfd fds[] = { { .fd = b->signals, .events = POLLIN }, { .fd = b->fifo, .events = POLLIN } };
	deadline_t until = b->partial ? deadline_in(b->partial, PARTIAL_MS) : 0;
	if (poll(fds, 2, deadline_poll_ms(until, clock_monotonic_ms())) < 0) {
		if (errno != EINTR)
			die_system("cannot poll");
		return;
	}
	if (fds[0].revents)
		take_signals(b);
	if (fds[1].revents)
		read_orders(b);
	watch_partial(b, clock_monotonic_ms());
}

static void open_standard_descriptors(void) {
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

int main(int argc, char **argv) {
	static const int signals[] = { SIGHUP, 0 };
	static struct bounce b = { .fifo = -1 };
	(void)argv;
	open_standard_descriptors();
	die_on_arguments("bounce", argc);
	settings_or_die(&b.settings, "bounce", USED_BOUNCE);
	priv_become_alone("bounce", ACCOUNT_BOUNCE);
	if (chdir(path_spool) < 0)
		die_system("cannot enter %s", path_spool);
	signal(SIGPIPE, SIG_IGN);
	b.signals = io_signal_pipe(signals);
	if (b.signals < 0)
		die_system("cannot make the signal pipe");
	str_init(&b.memory, MEMORY_MAX);
	record_reader_init(&b.in, -1);
	open_fifo(&b);
	for (;;)
		turn(&b);
}
