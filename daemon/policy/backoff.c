/*
 * The slots of `delivery.retry`, counted from the arrival of a message.
 *
 * Pure: the same arrival, now and id give the same answer, also after a
 * restart.  Invariants: the answer is after now, never falls while now rises
 * (so an attempt at one slot leads to a later one), and is at most one wait
 * and its jitter away.
 */
#include "policy/backoff.h"

/* So that sums of ages and waits can't overflow. */
#define AGE_MAX (INT64_MAX / 4)

/* Bits that look random (the finalizer of SplitMix64). */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static int64_t age_of(int64_t arrival_us, int64_t now_us)
{
	int64_t age;

	if (arrival_us > now_us)
		return 0;
	if (__builtin_sub_overflow(now_us, arrival_us, &age) || age > AGE_MAX)
		return AGE_MAX;
	return age;
}

/* The wait that ends at slot number `n`. */
static int64_t wait_of(const struct backoff_options *options, uint64_t n)
{
	unsigned last = options->n_waits - 1;

	return options->waits_us[n < last ? n : last];
}

/* Never beyond the next slot, even where waits become much shorter. */
static int64_t jitter_of(
    const struct backoff_options *options, uint64_t n, uint64_t id)
{
	int64_t wait = wait_of(options, n), next = wait_of(options, n + 1);
	int64_t room = (wait < next ? wait : next) / 10;

	return (int64_t)(mix(id ^ mix(n)) % ((uint64_t)room + 1));
}

int64_t backoff_next(const struct backoff_options *options, int64_t arrival_us,
    int64_t now_us, uint64_t id)
{
	int64_t age = age_of(arrival_us, now_us), slot = 0;
	int64_t last, rounds;
	uint64_t n = 0;

	ASSERT(options->n_waits > 0 && options->n_waits <= BACKOFF_MAX_STEPS);
	last = wait_of(options, UINT64_MAX);
	ASSERT(last > 0);
	for (; n < options->n_waits; n++) {
		slot += wait_of(options, n);
		if (slot > age)
			return now_us + (slot - age) +
			    jitter_of(options, n, id);
	}
	rounds = (age - slot) / last + 1;
	slot += rounds * last;
	n += (uint64_t)rounds - 1;
	return now_us + (slot - age) + jitter_of(options, n, id);
}

bool backoff_expired(
    const struct backoff_options *options, int64_t arrival_us, int64_t now_us)
{
	return age_of(arrival_us, now_us) >= options->expire_us;
}
