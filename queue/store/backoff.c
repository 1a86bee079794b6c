/*
 * backoff - how long to wait: for a message after a temporary failure, for a destination that cannot be reached. Room: queue.
 * Jitter comes from a hash, not from chance, so that a test can tell every time of a week and a replay changes nothing.
 */
#include "common/crc32c.h"
#include "schedule.h"

#define BACKOFF_FIRST_MS UINT64_C(60000)
#define BACKOFF_MAX_MS UINT64_C(3600000)
#define JITTER_PARTS 2001u              /* -10.00 % ... +10.00 % in steps of a hundredth */

/* UNSAFE: wait is at most 10^10, so nothing here overflows. */
static uint64_t with_jitter(uint64_t wait, uint32_t hash)
{
	return wait - wait / 10 + wait * (hash % JITTER_PARTS) / 10000;
}

static bool is_exponential(const struct settings *settings)
{
	return bytes_equal(settings->retrycurve, LIT("exponential"));
}

uint64_t schedule_retry_ms(const struct settings *settings, msgid_t id, uint32_t attempts)
{
	uint64_t most = settings->retrymax * SECOND_MS, first = settings->retryfirst * SECOND_MS, wait = first;
	uint64_t n = attempts ? attempts : 1;
	if (is_exponential(settings)) {
		for (uint64_t i = 1; i < n && wait < most; i++)
			wait *= 2;
	} else {
		wait = n > 10000 ? most : first * n * n;
	}
	uint64_t seed[2] = { id, n };
	return with_jitter(wait < most ? wait : most, crc32c(0, seed, sizeof seed));
}

uint64_t schedule_backoff_ms(struct bytes destination, uint32_t failures)
{
	uint64_t wait = BACKOFF_FIRST_MS;
	for (uint32_t i = 1; i < failures && wait < BACKOFF_MAX_MS; i++)
		wait *= 2;
	return with_jitter(wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS, crc32c(crc32c(0, destination.at, destination.len), &failures, sizeof failures));
}
