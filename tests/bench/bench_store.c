/*
 * bench_store - the store alone, in one process: accept a batch, sync, claim, report, finish. Not part of the tests.
 *
 *   bench_store [messages [batch [body octets [destinations]]]]      in an empty directory of the file system to be measured
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "common/mailaddr.h"
#include "queue/store/store.h"

struct plan { size_t messages, batch, body, destinations; };

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void stop(const char *what, const char *why)
{
	fprintf(stderr, "bench_store: %s: %s\n", what, why);
	exit(111);
}

static void build(struct str *out, size_t destination)
{
	struct mailaddr from, to;
	char text[64];
	snprintf(text, sizeof text, "user@d%zu.example", destination);
	mailaddr_parse(LIT("sender@client.example"), &from);
	mailaddr_parse(bytes_of(text), &to);
	str_clear(out);
	envelope_begin(out, &from);
	envelope_add(out, 'C', LIT("unknown[192.0.2.1]"));
	envelope_add(out, 'P', LIT("ESMTP"));
	envelope_add_rcpt(out, &to);
	envelope_end(out);
}

static void tick(struct store *st)
{
	if (store_tick(st, clock_wall_ms(), false) != STORE_OK)
		stop("tick", store_error(st));
}

static void accept_all(struct store *st, const struct plan *p)
{
	struct str raw = STR_INIT(4096);
	struct envelope env;
	msgid_t id;
	char *body = malloc(p->body + 1);
	if (!body)
		stop("memory", "none");
	memset(body, 'x', p->body);
	for (size_t i = 0; i < p->messages; i++) {
		build(&raw, i % p->destinations);
		if (envelope_parse(str_bytes(&raw), &env) != ENV_OK)
			stop("envelope", "bad");
		struct store_new in = { .envelope = &env, .body = { body, p->body }, .token_a = i + 1, .token_b = 7 };
		enum store_result r = store_accept(st, &in, clock_wall_ms(), &id);
		if (r != STORE_OK)
			stop("accept", r == STORE_FULL ? "full" : store_error(st));
		if ((i + 1) % p->batch == 0 && store_sync(st) != STORE_OK)
			stop("sync", store_error(st));
		if ((i + 1) % p->batch == 0)
			tick(st);
	}
	store_sync(st);
	free(body);
	str_free(&raw);
}

static size_t deliver_batch(struct store *st, const struct plan *p)
{
	struct store_job job;
	uint64_t number[1000];
	uint32_t index[1000];
	size_t n = 0;
	while (n < p->batch && n < 1000 && store_claim(st, CHANNEL_REMOTE, clock_wall_ms(), &job) == STORE_OK) {
		number[n] = job.job.job;
		index[n++] = job.rcpts[0].index;
	}
	for (size_t i = 0; i < n; i++) {
		struct result res = { .job = number[i], .index = index[i], .verdict = V_OK, .stage = STAGE_FINAL, .code = 250, .text = LIT("2.0.0 ok") };
		struct job_done done = { .job = number[i] };
		if (store_report(st, &res, clock_wall_ms()) != STORE_OK || store_job_done(st, &done, clock_wall_ms()) != STORE_OK)
			stop("report", store_error(st));
	}
	if (store_sync(st) != STORE_OK)
		stop("sync", store_error(st));
	tick(st);
	return n;
}

static void say(const char *what, size_t n, double took, double used)
{
	printf("%-16s %8zu in %6.2f s   %8.0f/s   %6.1f us of CPU each\n", what, n, took, (double)n / took, used * 1e6 / (double)n);
}

static size_t number_or(int argc, char **argv, int i, size_t otherwise)
{
	return i < argc ? (size_t)strtoull(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	struct plan p = { number_or(argc, argv, 1, 100000), number_or(argc, argv, 2, 50), number_or(argc, argv, 3, 4096), number_or(argc, argv, 4, 1000) };
	struct settings s = {
		.queuelifetime = 604800, .bouncelifetime = 86400, .retryfirst = 400, .retrymax = 28800, .retrycurve = LIT("quadratic"),
		.destinationwindow = 20, .destinationstart = 5, .rcptpertransaction = 100, .finishedkeep = 10000, .indexsize = UINT64_C(16) << 30,
	};
	struct str error = STR_INIT(1000);
	mkdir("log", 0700);
	mkdir("index", 0700);
	mkdir("large", 0700);
	mkdir("intake", 0700);
	double t = seconds(), c = cpu();
	struct store *st = store_open(&s, clock_wall_ms(), NULL, NULL, &error);
	if (!st)
		stop("open", str_c(&error));
	printf("open             %.2f s\n", seconds() - t);
	t = seconds();
	c = cpu();
	accept_all(st, &p);
	say("accept+sync", p.messages, seconds() - t, cpu() - c);
	t = seconds();
	c = cpu();
	size_t done = 0, n;
	while ((n = deliver_batch(st, &p)) > 0)
		done += n;
	say("claim to finish", done, seconds() - t, cpu() - c);
	t = seconds();
	store_close(st);
	printf("close            %.2f s\n", seconds() - t);
	return 0;
}
