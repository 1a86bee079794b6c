/* job - remote's side of the pipes to spawn. Room: remote; the records are ours, but are believed only as far as they decode. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/mailaddr.h"
#include "job.h"

#define RESULTS_MAX (4u << 20)   /* 1,000 results of at most 2 KiB */
#define TEXT_MAX 1000u           /* of result.text */

static bool address_check(struct delivery *d, struct bytes text, bool may_be_empty)
{
	struct mailaddr a;

	if (mailaddr_parse(text, &a) != ADDR_OK || (a.kind == ADDR_NULL && !may_be_empty))
		return false;
	d->utf8_address |= mailaddr_is_utf8(&a);
	d->needs_utf8 |= d->utf8_address;
	return true;
}

static bool rcpt_read(struct delivery *d, struct delivery_rcpt *r)
{
	struct record record;

	str_init(&r->raw, RECORD_MAX);
	if (record_reader_wait(d->in, &record, 0) != 1 || record.type != REC_job_rcpt)
		return false;
	if (!str_add(&r->raw, record.payload) || !job_rcpt_decode(str_bytes(&r->raw), &r->rcpt))
		return false;
	return r->rcpt.job == d->job.job && address_check(d, r->rcpt.address, false);
}

static bool rcpts_read(struct delivery *d)
{
	if (d->job.rcpt_count == 0 || d->job.rcpt_count > JOB_RCPT_MAX)
		return false;
	d->rcpts = calloc(d->job.rcpt_count, sizeof *d->rcpts);
	if (d->rcpts == NULL)
		return false;
	for (uint32_t i = 0; i < d->job.rcpt_count; i++)
		if (!rcpt_read(d, &d->rcpts[i]))
			return false;
	return true;
}

enum job_read job_read(struct delivery *d, struct record_reader *in)
{
	struct record record;
	int got;

	*d = (struct delivery){ .in = in, .raw = STR_INIT(RECORD_MAX), .results = STR_INIT(RESULTS_MAX), .ahead = STR_INIT(JOB_AHEAD_MAX) };
	got = record_reader_wait(in, &record, 0);
	if (got == 0)
		return JOB_END;
	if (got != 1 || record.type != REC_job || !str_add(&d->raw, record.payload) || !job_decode(str_bytes(&d->raw), &d->job))
		return JOB_BROKEN;
	d->body_left = d->job.body_size;
	d->needs_utf8 = d->job.smtputf8 != 0;
	return address_check(d, d->job.sender, true) && rcpts_read(d) ? JOB_OK : JOB_BROKEN;
}

void job_free(struct delivery *d)
{
	for (uint32_t i = 0; d->rcpts != NULL && i < d->job.rcpt_count; i++)
		str_free(&d->rcpts[i].raw);
	free(d->rcpts);
	d->rcpts = NULL;
	str_free(&d->raw);
	str_free(&d->results);
	str_free(&d->ahead);
}

/* Octets that were read together with the records. */
static size_t body_from_reader(const struct delivery *d, char *out, size_t n)
{
	struct bytes rest = bytes_slice(record_reader_rest(d->in), 0, n);

	for (size_t i = 0; i < rest.len; i++)
		out[i] = rest.at[i];
	record_reader_take(d->in, rest.len);
	return rest.len;
}

/* What the pipe has next; n > 0 octets at most of the body are still in it. */
static ssize_t body_read(const struct delivery *d, char *out, size_t n)
{
	ssize_t got = (ssize_t)body_from_reader(d, out, n);

	if (got > 0)
		return got;
	do
		got = read(d->in->fd, out, n);
	while (got == -1 && (errno == EINTR || (errno == EAGAIN && io_wait_readable(d->in->fd, 0) != -1)));
	return got > 0 ? got : -1;
}

bool job_ahead(struct delivery *d)
{
	while (d->ahead.len < d->body_left && d->ahead.len < JOB_AHEAD_MAX) {
		uint64_t want = d->body_left < JOB_AHEAD_MAX ? d->body_left : JOB_AHEAD_MAX;
		size_t n = (size_t)want - d->ahead.len;
		char *to = str_reserve(&d->ahead, n);
		ssize_t got = to == NULL ? -1 : body_read(d, to, n);

		if (got == -1)
			return false;
		str_grew(&d->ahead, (size_t)got);
	}
	return true;
}

bool job_again(struct delivery *d)
{
	if (d->ahead.len != d->job.body_size)
		return false;
	d->ahead_taken = 0;
	d->body_left = d->job.body_size;
	return true;
}

static size_t body_from_ahead(struct delivery *d, char *out, size_t n)
{
	n = n < d->ahead.len - d->ahead_taken ? n : d->ahead.len - d->ahead_taken;
	memcpy(out, d->ahead.at + d->ahead_taken, n);
	d->ahead_taken += n;
	return n;
}

ssize_t job_body(struct delivery *d, char *out, size_t n)
{
	ssize_t got;

	if (n > d->body_left)
		n = (size_t)d->body_left;
	if (n == 0)
		return 0;
	if (d->ahead_taken < d->ahead.len)
		got = (ssize_t)body_from_ahead(d, out, n);
	else
		got = body_read(d, out, n);
	if (got > 0)
		d->body_left -= (uint64_t)got;
	return got;
}

void job_report(struct delivery *d, size_t n, const struct outcome *o, const struct job_host *host)
{
	struct delivery_rcpt *r = &d->rcpts[n];
	struct result result = {
		.job = d->job.job, .index = r->rcpt.index, .verdict = (uint8_t)o->verdict, .stage = (uint8_t)o->stage, .code = o->code,
		.e_class = o->enhanced.class, .e_subject = o->enhanced.subject, .e_detail = o->enhanced.detail, .error = (uint32_t)o->error,
		.host = host->name, .ip = host->ip, .source_ip = host->source_ip, .text = bytes_slice(o->text, 0, TEXT_MAX),
	};

	if (r->reported)
		return;
	r->reported = true;
	(void)result_encode(&result, &d->results);
}

void job_report_rest(struct delivery *d, const struct outcome *o, const struct job_host *host)
{
	for (uint32_t i = 0; i < d->job.rcpt_count; i++)
		job_report(d, i, o, host);
}

static bool body_drain(struct delivery *d)
{
	char waste[16384];

	while (d->body_left > 0)
		if (job_body(d, waste, sizeof waste) <= 0)
			return false;
	return true;
}

bool job_finish(struct delivery *d, int fd, bool destination_failed)
{
	bool whole = body_drain(d);
	struct job_done done = { .job = d->job.job, .destination_failed = destination_failed, .reusable = whole };

	(void)job_done_encode(&done, &d->results);
	return !d->results.failed && io_write_full(fd, d->results.at, d->results.len) == 0 && whole;
}
