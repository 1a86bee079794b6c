/* errand - room: local. See errand.h. */
#include "errand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/downgrade.h"
#include "common/envelope.h"
#include "common/crc32c.h"
#include "common/io.h"
#include "common/log.h"
#include "common/mailaddr.h"
#include "common/verdict.h"
#include "trail.h"

#define TEXT_MAX (400u * (ERRAND_RCPT_MAX + 1))
#define CHUNK 32768u
#define CONVERTED_MAX (8u << 20)    /* above what downgrade.h says of one call */
#define MAILDIR "Maildir"

void errand_init(struct errand *e, const char *home, struct bytes host) {
	*e = (struct errand){ .is_virtual = !home, .home_fd = -1, .host = host };
	if (home)
		memcpy(e->home, home, strlen(home) + 1);
	record_reader_init(&e->in, 0);
	str_init(&e->out, RECORD_MAX);
	str_init(&e->text, TEXT_MAX);
}

/* ---- reading the job ---- */

static bool next_record(struct errand *e, unsigned type, struct record *record_r) {
	return record_reader_wait(&e->in, record_r, 0) == 1 && record_r->type == type;
}

/* What is written into the header must be an address and nothing else, whoever says so. */
static bool add_address(struct errand *e, struct bytes text) {
	struct mailaddr addr;
	return mailaddr_parse(text, &addr) == ADDR_OK && str_add(&e->text, text);
}

static bool take_rcpt(struct errand *e, uint32_t i) {
	struct record record;
	struct job_rcpt rcpt;
	if (!next_record(e, REC_job_rcpt, &record) || !job_rcpt_decode(record.payload, &rcpt) || rcpt.job != e->job)
		return false;
	e->rcpts[i] = (struct errand_rcpt){ .index = rcpt.index, .at = e->text.len, .len = rcpt.address.len };
	return rcpt.address.len > 0 && add_address(e, rcpt.address);
}

static bool take_job(struct errand *e, struct bytes payload) {
	struct job job;
	if (!job_decode(payload, &job) || job.rcpt_count == 0 || job.rcpt_count > ERRAND_RCPT_MAX || job.id == 0 || job.id > MSGID_MAX)
		return false;
	e->job = job.job;
	e->id = job.id;
	e->arrival = job.arrival_ms < msgid_time(job.id) ? job.arrival_ms : msgid_time(job.id);
	e->binary = job.body_type == BODY_BINARYMIME;
	e->left = job.body_size;
	e->rcpt_count = job.rcpt_count;
	e->sender_len = job.sender.len;
	str_clear(&e->text);
	return add_address(e, job.sender);
}

static bool take_home(struct errand *e) {
	struct record record;
	struct job_home given;
	if (!next_record(e, REC_job_home, &record) || !job_home_decode(record.payload, &given) || given.job != e->job)
		return false;
	return given.home.len > 0 && given.home.at[0] == '/' && bytes_to_cstring(given.home, e->home, sizeof e->home);
}

/* 1, 0 end of file, -1. */
static int read_job(struct errand *e) {
	struct record record;
	int got = record_reader_wait(&e->in, &record, 0);
	if (got <= 0)
		return got;
	if (record.type != REC_job || !take_job(e, record.payload))
		return -1;
	e->rcpts = calloc(e->rcpt_count, sizeof *e->rcpts);
	if (!e->rcpts)
		return -1;
	for (uint32_t i = 0; i < e->rcpt_count; i++)
		if (!take_rcpt(e, i))
			return -1;
	struct job_mailbox box;
	if (!next_record(e, REC_job_mailbox, &record) || !job_mailbox_decode(record.payload, &box) || box.job != e->job)
		return -1;
	return !e->is_virtual || take_home(e) ? 1 : -1;
}

static struct bytes sender_of(const struct errand *e) {
	return bytes_slice(str_bytes(&e->text), 0, e->sender_len);
}

static struct bytes address_of(const struct errand *e, uint32_t i) {
	return bytes_slice(str_bytes(&e->text), e->rcpts[i].at, e->rcpts[i].at + e->rcpts[i].len);
}

/* The next octets of the body: how many, 0 at its end, -1 when spawn is gone before it. */
static ssize_t read_body(struct errand *e, char *data, size_t size) {
	size_t want = e->left < size ? (size_t)e->left : size;
	struct bytes early = bytes_slice(record_reader_rest(&e->in), 0, want);
	ssize_t got;
	if (want == 0)
		return 0;
	if (early.len > 0) {
		memcpy(data, early.at, early.len);
		record_reader_take(&e->in, early.len);
		got = (ssize_t)early.len;
	} else {
		do
			got = read(0, data, want);
		while (got < 0 && errno == EINTR);
	}
	if (got > 0)
		e->left -= (uint64_t)got;
	return got > 0 ? got : -1;
}

static int skip_body(struct errand *e) {
	char data[CHUNK];
	ssize_t got;
	while ((got = read_body(e, data, sizeof data)) > 0)
		;
	return (int)got;
}

/* ---- answering ---- */

static int answer(struct errand *e, uint32_t i, const struct outcome *o) {
	struct result r = { .job = e->job, .index = e->rcpts[i].index, .verdict = (uint8_t)o->verdict, .stage = (uint8_t)o->stage,
		.e_class = o->enhanced.class, .e_subject = o->enhanced.subject, .e_detail = o->enhanced.detail, .error = (uint32_t)o->error,
		.text = bytes_slice(o->text, 0, 1000) };
	str_clear(&e->out);
	return result_encode(&r, &e->out) ? io_write_full(1, e->out.at, e->out.len) : -1;
}

static int answer_all(struct errand *e, const struct outcome *o) {
	for (uint32_t i = 0; i < e->rcpt_count; i++)
		if (answer(e, i, o) < 0)
			return -1;
	return 0;
}

static int answer_done(struct errand *e, bool reusable) {
	struct job_done done = { .job = e->job, .reusable = reusable };
	str_clear(&e->out);
	return job_done_encode(&done, &e->out) ? io_write_full(1, e->out.at, e->out.len) : -1;
}

/* "WHAT: strerror", in a static buffer. */
static struct outcome system_fault(const char *what, int error) {
	static char text[200];
	snprintf(text, sizeof text, "%s: %s", what, strerror(error));
	return outcome_of_errno(STAGE_LOCAL, error, bytes_of(text));
}

static struct outcome delivered(const char *text) {
	return outcome_make(V_OK, STAGE_LOCAL, "2.0.0", bytes_of(text));
}

/* ---- the home ---- */

/* Anew for each job: what stands there may have been made anew, or mounted. */
static int enter_home(struct errand *e) {
	if (e->home_fd >= 0)
		close(e->home_fd);
	e->home_fd = -1;
	if (chdir(e->home) < 0) {
		if (errno != ENOENT || !e->is_virtual || (mkdir(e->home, 0700) < 0 && errno != EEXIST) || chdir(e->home) < 0)
			return -1;
		if (io_sync_dir(AT_FDCWD, "..") < 0)
			return -1;
	}
	e->home_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return e->home_fd < 0 ? -1 : 0;
}

/* qmail's two checks: a home that others can write is nobody's, and the sticky bit is its owner's "please wait". */
static bool home_is_fit(struct errand *e, struct outcome *why_r) {
	struct stat st;
	if (enter_home(e) < 0 || fstat(e->home_fd, &st) < 0)
		*why_r = system_fault("cannot enter the home directory", errno);
	else if (st.st_mode & S_IWOTH)
		*why_r = outcome_make(V_TEMP, STAGE_LOCAL, "4.7.0", LIT("the home directory is writable by others"));
	else if (st.st_mode & S_ISVTX)
		*why_r = outcome_make(V_TEMP, STAGE_LOCAL, "4.2.1", LIT("the home directory is sticky: its owner is editing"));
	else
		return true;
	return false;
}

/* ---- delivering ---- */

struct pass {
	struct errand *e;
	struct maildir box;
	struct copy first;            /* the copy that the body streams into */
	uint64_t first_head;          /* octets of its own header lines */
	bool *there, *loops;          /* per recipient: already delivered; bears our Delivered-To */
	struct trail trail;
	int error;                    /* errno of the first failure of `first`, 0 none */
	const char *unfit;            /* static: why a binary message cannot be converted */
	bool cr;                      /* a CR is held back: the next octet decides */
};

static void see_delivered_to(void *context, struct bytes value) {
	struct pass *p = context;
	for (uint32_t i = 0; i < p->e->rcpt_count; i++)
		if (bytes_equal_nocase(value, address_of(p->e, i)))
			p->loops[i] = true;
}

static int add_head(struct copy *c, const struct errand *e, uint32_t i) {
	bool ok = copy_add(c, LIT("Return-Path: <")) == 0 && copy_add(c, sender_of(e)) == 0
		&& copy_add(c, LIT(">\nDelivered-To: ")) == 0 && copy_add(c, address_of(e, i)) == 0 && copy_add(c, LIT("\n")) == 0;
	return ok ? 0 : -1;
}

static int begin_copy(struct pass *p, struct copy *c, uint32_t i) {
	char name[MAILDIR_NAME];
	maildir_name(p->e->id, p->e->rcpts[i].index, p->e->host, name);
	return copy_begin(c, &p->box, name) == 0 ? add_head(c, p->e, i) : -1;
}

/* CRLF becomes LF; every other CR stays. out has room for in.len + 1. */
static size_t to_lf(struct bytes in, bool *cr, char *out) {
	size_t n = 0;
	for (size_t i = 0; i < in.len; i++) {
		if (*cr && in.at[i] != '\n')
			out[n++] = '\r';
		*cr = in.at[i] == '\r';
		if (!*cr)
			out[n++] = in.at[i];
	}
	return n;
}

static void add_body(struct pass *p, struct bytes octets) {
	if (p->error == 0 && copy_add(&p->first, octets) < 0)
		p->error = errno;
}

static void take_lines(struct pass *p, struct bytes octets) {
	char out[CHUNK + 1];
	while (octets.len > 0) {
		struct bytes piece = bytes_slice(octets, 0, CHUNK), lines = { out, to_lf(piece, &p->cr, out) };
		trail_feed(&p->trail, lines);
		add_body(p, lines);
		octets = bytes_slice(octets, piece.len, octets.len);
	}
}

/* 0, or -1: spawn is gone. */
static int stream_lines(struct pass *p) {
	char in[CHUNK];
	ssize_t got;
	while ((got = read_body(p->e, in, sizeof in)) > 0)
		take_lines(p, (struct bytes){ in, (size_t)got });
	return (int)got;
}

/* The same. What cannot be converted is in p->unfit: the rest is read and let go. */
static int stream_binary(struct pass *p) {
	static struct downgrade converter;
	struct str out = STR_INIT(CONVERTED_MAX);
	char in[CHUNK];
	ssize_t got = 1;
	bool good = true;
	downgrade_init(&converter, DOWNGRADE_MUST | DOWNGRADE_BINARY | DOWNGRADE_TO_8BIT);
	while (good && (got = read_body(p->e, in, sizeof in)) > 0) {
		str_clear(&out);
		good = downgrade_add(&converter, (struct bytes){ in, (size_t)got }, &out) && (p->e->left > 0 || downgrade_end(&converter, &out));
		take_lines(p, str_bytes(&out));
	}
	if (!good && converter.why != NULL)
		p->unfit = converter.why;
	else if (!good && p->error == 0)
		p->error = ENOMEM;
	downgrade_free(&converter);
	str_free(&out);
	return good ? (int)got : skip_body(p->e);
}

/* The same. A full disk is in p->error. */
static int stream_body(struct pass *p) {
	trail_init(&p->trail, see_delivered_to, p);
	int got = p->e->binary ? stream_binary(p) : stream_lines(p);
	if (p->cr)
		add_body(p, LIT("\r"));
	trail_end(&p->trail);
	return got;
}

static struct outcome looping(void) {
	return outcome_make(V_PERM, STAGE_LOCAL, "5.4.6", LIT("this message is looping: it has been delivered to this address before"));
}

/* A further recipient's copy, out of the first one's file. */
static struct outcome deliver_further(struct pass *p, uint32_t i) {
	static struct copy copy;
	copy.fd = -1;
	if (p->there[i])
		return delivered("delivered to Maildir by an earlier attempt");
	if (p->loops[i])
		return looping();
	if (begin_copy(p, &copy, i) == 0 && copy_add_from(&copy, &p->first, p->first_head) == 0 && copy_commit(&copy) == 0)
		return delivered("delivered to Maildir");
	int error = errno;
	copy_abort(&copy);
	return system_fault("cannot write to Maildir", error);
}

static struct outcome deliver_first(struct pass *p, uint32_t i) {
	if (p->loops[i]) {
		copy_abort(&p->first);
		return looping();
	}
	if (copy_commit(&p->first) == 0)
		return delivered("delivered to Maildir");
	return system_fault("cannot write to Maildir", errno);
}

static struct outcome unfit(const char *why) {
	static char text[200];
	snprintf(text, sizeof text, "the message is binary, a Maildir takes text, and it cannot be converted: %s", why);
	return outcome_make(V_PERM, STAGE_LOCAL, "5.6.3", bytes_of(text));
}

/* The body could not be written: all but those who have their copy from before. */
static int answer_failure(struct pass *p) {
	struct outcome why = p->unfit != NULL ? unfit(p->unfit) : system_fault("cannot write to Maildir", p->error);
	struct outcome before = delivered("delivered to Maildir by an earlier attempt");
	copy_abort(&p->first);
	for (uint32_t i = 0; i < p->e->rcpt_count; i++)
		if (answer(p->e, i, p->there[i] ? &before : &why) < 0)
			return -1;
	return 0;
}

/* The first recipient without a copy: its file takes the body. It is committed last, because the others read from it. */
static int deliver_all(struct pass *p, uint32_t first) {
	struct errand *e = p->e;
	p->error = begin_copy(p, &p->first, first) < 0 ? errno : 0;
	p->first_head = p->first.size;
	if (stream_body(p) < 0) {
		copy_abort(&p->first);
		return -1;
	}
	if (p->error != 0 || p->unfit != NULL)
		return answer_failure(p);
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		struct outcome o = delivered("");
		if (i != first)
			o = deliver_further(p, i);
		if (i != first && answer(e, i, &o) < 0)
			return -1;
	}
	struct outcome o = deliver_first(p, first);
	return answer(e, first, &o);
}

/* Which recipients have their copy already? *first_r: one that has none, rcpt_count when all have. */
static int find_earlier(struct pass *p, uint32_t *first_r) {
	char name[MAILDIR_NAME];
	struct errand *e = p->e;
	*first_r = e->rcpt_count;
	for (uint32_t i = e->rcpt_count; i-- > 0;) {
		maildir_name(e->id, e->rcpts[i].index, e->host, name);
		int found = maildir_find(&p->box, name, e->arrival);
		if (found < 0)
			return -1;
		p->there[i] = found == 1;
		if (found == 0)
			*first_r = i;
	}
	return 0;
}

static int fail_all(struct errand *e, const struct outcome *why) {
	return skip_body(e) < 0 ? -1 : answer_all(e, why);
}

static int deliver_into(struct pass *p) {
	uint32_t first;
	if (find_earlier(p, &first) < 0) {
		struct outcome why = system_fault("cannot read Maildir", errno);
		return fail_all(p->e, &why);
	}
	if (first < p->e->rcpt_count)
		return deliver_all(p, first);
	struct outcome before = delivered("delivered to Maildir by an earlier attempt");
	return fail_all(p->e, &before);
}

static int deliver(struct errand *e) {
	static struct pass p;
	p = (struct pass){ .e = e, .first = { .fd = -1 } };
	if (maildir_open(&p.box, e->home_fd, MAILDIR, &e->seen[crc32c(0, e->home, strlen(e->home)) % ERRAND_SEEN]) < 0) {
		struct outcome why = system_fault("cannot open Maildir", errno);
		return fail_all(e, &why);
	}
	p.there = calloc(e->rcpt_count, sizeof *p.there);
	p.loops = calloc(e->rcpt_count, sizeof *p.loops);
	struct outcome memory = system_fault("cannot deliver", ENOMEM);
	int done = p.there && p.loops ? deliver_into(&p) : fail_all(e, &memory);
	free(p.there);
	free(p.loops);
	maildir_close(&p.box);
	return done;
}

int errand_run(struct errand *e) {
	struct outcome why;
	int got = read_job(e);
	bool fit = false;
	if (got == 1) {
		fit = home_is_fit(e, &why);
		got = (fit ? deliver(e) : fail_all(e, &why)) == 0 && answer_done(e, fit) == 0 ? 1 : -1;
	}
	free(e->rcpts);
	e->rcpts = NULL;
	return got;
}
