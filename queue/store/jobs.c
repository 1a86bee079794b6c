/*
 * jobs - the table of what is in flight. Room: queue, the store.
 *
 * Two hash tables: jobs by number (chained), and recipients by (message, index) with linear probing, asked once for every due row that
 * a claim passes. Both are bounded by what the spawners take at a time.
 */
#include "jobs.h"

#include <stdlib.h>

#define JOB_BUCKETS 4096u          /* spawners take at most 2,000 at a time */
#define SEATS_FIRST 1024u

struct seat { msgid_t id; uint32_t n; };   /* id 0: free */

struct jobs {
	struct flying_job *bucket[JOB_BUCKETS];
	struct seat *seat;
	size_t seats, taken;       /* seats: a power of two, at most half taken */
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

/* ---- recipients ---- */

static size_t home_of(const struct jobs *jobs, msgid_t id, uint32_t n)
{
	return (size_t)mix(id + (uint64_t)n * UINT64_C(0x9e3779b97f4a7c15)) & (jobs->seats - 1);
}

/* Its seat, or the free one where it would sit. */
static size_t find_seat(const struct jobs *jobs, msgid_t id, uint32_t n)
{
	size_t i = home_of(jobs, id, n);
	while (jobs->seat[i].id != 0 && (jobs->seat[i].id != id || jobs->seat[i].n != n))
		i = (i + 1) & (jobs->seats - 1);
	return i;
}

static bool grow(struct jobs *jobs)
{
	struct seat *old = jobs->seat;
	size_t n = jobs->seats;
	struct seat *more = calloc(2 * n, sizeof *more);
	if (!more)
		return false;
	jobs->seat = more;
	jobs->seats = 2 * n;
	for (size_t i = 0; i < n; i++) {
		if (old[i].id != 0)
			jobs->seat[find_seat(jobs, old[i].id, old[i].n)] = old[i];
	}
	free(old);
	return true;
}

static bool sit(struct jobs *jobs, msgid_t id, uint32_t n)
{
	if (2 * (jobs->taken + 1) > jobs->seats && !grow(jobs))
		return false;
	size_t i = find_seat(jobs, id, n);
	if (jobs->seat[i].id != 0)
		return false;
	jobs->seat[i] = (struct seat){ id, n };
	jobs->taken++;
	return true;
}

/* Those who sit behind move up, so that no search ends at a hole before its aim. */
static void stand_up(struct jobs *jobs, msgid_t id, uint32_t n)
{
	size_t mask = jobs->seats - 1, hole = find_seat(jobs, id, n);
	if (jobs->seat[hole].id == 0)
		return;
	jobs->taken--;
	for (size_t i = (hole + 1) & mask; jobs->seat[i].id != 0; i = (i + 1) & mask) {
		size_t home = home_of(jobs, jobs->seat[i].id, jobs->seat[i].n);
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			jobs->seat[hole] = jobs->seat[i];
			hole = i;
		}
	}
	jobs->seat[hole] = (struct seat){ 0, 0 };
}

bool jobs_flying(const struct jobs *jobs, msgid_t id, uint32_t n)
{
	return jobs->seat[find_seat(jobs, id, n)].id != 0;
}

/* ---- jobs ---- */

struct jobs *jobs_new(void)
{
	struct jobs *jobs = calloc(1, sizeof *jobs);
	if (!jobs)
		return NULL;
	jobs->seats = SEATS_FIRST;
	jobs->seat = calloc(jobs->seats, sizeof *jobs->seat);
	if (jobs->seat)
		return jobs;
	free(jobs);
	return NULL;
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	for (size_t i = 0; i < JOB_BUCKETS; i++) {
		for (struct flying_job *j = jobs->bucket[i], *next; j; j = next) {
			next = j->next;
			free(j);
		}
	}
	free(jobs->seat);
	free(jobs);
}

static size_t bucket_of(uint64_t job)
{
	return (size_t)mix(job) & (JOB_BUCKETS - 1);
}

static bool sit_all(struct jobs *jobs, const struct flying_job *j)
{
	for (uint32_t i = 0; i < j->count; i++) {
		if (sit(jobs, j->id, j->rcpt[i].n))
			continue;
		while (i-- > 0)
			stand_up(jobs, j->id, j->rcpt[i].n);
		return false;
	}
	return true;
}

struct flying_job *jobs_add(struct jobs *jobs, uint64_t job, msgid_t id, const uint32_t *n, uint32_t count)
{
	if (jobs_find(jobs, job))
		return NULL;
	struct flying_job *j = calloc(1, sizeof *j + count * sizeof j->rcpt[0]);
	if (!j)
		return NULL;
	j->job = job;
	j->id = id;
	j->count = count;
	for (uint32_t i = 0; i < count; i++)
		j->rcpt[i].n = n[i];
	if (!sit_all(jobs, j)) {
		free(j);
		return NULL;
	}
	struct flying_job **bucket = &jobs->bucket[bucket_of(job)];
	j->next = *bucket;
	*bucket = j;
	j->open = count;
	return j;
}

struct flying_job *jobs_find(const struct jobs *jobs, uint64_t job)
{
	struct flying_job *j = jobs->bucket[bucket_of(job)];
	while (j && j->job != job)
		j = j->next;
	return j;
}

struct flying_rcpt *jobs_rcpt(struct flying_job *job, uint32_t n)
{
	uint32_t low = 0, high = job->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (job->rcpt[middle].n < n)
			low = middle + 1;
		else
			high = middle;
	}
	return low < job->count && job->rcpt[low].n == n ? &job->rcpt[low] : NULL;
}

void jobs_landed(struct jobs *jobs, struct flying_job *job, struct flying_rcpt *rcpt)
{
	rcpt->reported = true;
	job->open--;
	stand_up(jobs, job->id, rcpt->n);
}

void jobs_remove(struct jobs *jobs, struct flying_job *job)
{
	for (uint32_t i = 0; i < job->count; i++) {
		if (!job->rcpt[i].reported)
			stand_up(jobs, job->id, job->rcpt[i].n);
	}
	struct flying_job **at = &jobs->bucket[bucket_of(job->job)];
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	free(job);
}

struct flying_job *jobs_any(const struct jobs *jobs, enum channel channel)
{
	for (size_t i = 0; i < JOB_BUCKETS; i++) {
		for (struct flying_job *j = jobs->bucket[i]; j; j = j->next) {
			if (j->channel == channel)
				return j;
		}
	}
	return NULL;
}

uint32_t jobs_rcpts(const struct jobs *jobs, enum channel channel)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < JOB_BUCKETS; i++) {
		for (struct flying_job *j = jobs->bucket[i]; j; j = j->next)
			sum += j->channel == channel ? j->open : 0;
	}
	return sum;
}
