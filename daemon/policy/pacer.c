/*
 * The learned pace.  Constants were chosen by simulation (the unit test has
 * it) for senders that share an account without talking to each other: with
 * eight of them, what is used of the limit stays above 95 %, what is throttled
 * below 2 %, and their shares come out even.
 *
 * The bucket at SES holds about a second's worth, so sums above the limit are
 * noticed late and then by everybody: small steps up and a moderate step down
 * keep the swing within what that bucket evens out.  A sender with a larger
 * share meets more throttles and falls more often; all grow alike; so shares
 * become equal.
 */
#include "policy/pacer.h"

#include "base/clock.h"

#include <math.h>

#define SLOT_US (US_PER_S / PACER_SLOTS)
#define RATE_MIN 0.05 /* one in 20 s */
#define BURST_S 0.5
#define GROWTH 0.15 /* recipients/s, each second, at USUAL throttled */
#define USUAL 0.01
#define SEEN_MIN 0.0005
/* Of the rate, each second.  Growth that is bound by a part of the rate keeps
 * shares as they are; a slow sender needs the smaller steps. */
#define GROWTH_MAX 0.02
#define GROWTH_MAX_SLOW 0.01
#define SLOW 2.0 /* recipients/s */
#define QUIET 500 /* replies without a throttle: growth speeds up */
#define QUIET_GROWTH_MAX 0.05
#define SMOOTHING (1.0 / 200)
#define FALL 0.2
#define FALL_MAX 0.7
#define FALL_SAMPLE 5 /* recipients that make a measured part credible */
#define FALL_EVERY_US US_PER_S
#define SEARCH_GROWTH 0.2 /* of the rate, each second */
#define SEARCH_UP_TO 0.67 /* of what was before */
#define EPISODE_US (5 * US_PER_S) /* throttles closer than this are one */
#define LEARNED_PART 0.8
#define LIMITED_US (2 * US_PER_S)
#define WAIT_MAX_US (5 * 60 * US_PER_S)

double pacer_rate(const struct pacer *p)
{
	if (p->rate > 0 && (p->cap <= 0 || p->rate < p->cap))
		return p->rate;
	return p->cap > 0 ? p->cap : 0;
}

double pacer_learned(const struct pacer *p)
{
	return p->rate;
}

static double depth(const struct pacer *p)
{
	return fmax(1, pacer_rate(p) * BURST_S);
}

static void fill(struct pacer *p, int64_t now_us)
{
	if (now_us <= p->filled_us)
		return;
	p->tokens = fmin(depth(p),
	    p->tokens +
		pacer_rate(p) * (double)(now_us - p->filled_us) / US_PER_S);
	p->filled_us = now_us;
}

void pacer_init(
    struct pacer *p, double cap_per_s, double learned_per_s, int64_t now_us)
{
	*p = (struct pacer){
		.cap = cap_per_s,
		.rate = learned_per_s > 0
		    ? fmax(learned_per_s * LEARNED_PART, RATE_MIN)
		    : 0,
		.throttled = USUAL,
		.filled_us = now_us,
		.grown_us = now_us,
	};
	p->tokens = 1;
}

void pacer_set_cap(struct pacer *p, double cap_per_s, int64_t now_us)
{
	fill(p, now_us);
	p->cap = cap_per_s;
	p->tokens = fmin(p->tokens, depth(p));
}

/*
 * What a message needs to see in the bucket: its recipients, but never more
 * than fits; the rest is owed.
 */
static double needed(const struct pacer *p, unsigned n)
{
	return fmin(n, depth(p));
}

int64_t pacer_wait(struct pacer *p, unsigned n, int64_t now_us)
{
	double rate = pacer_rate(p), lack, wait;

	if (rate <= 0)
		return 0;
	fill(p, now_us);
	lack = needed(p, n) - p->tokens;
	/* Sums of small parts are never exact. */
	if (lack < 1e-6)
		return 0;
	p->limited_us = now_us;
	wait = ceil(lack / rate * US_PER_S);
	return wait < WAIT_MAX_US ? (int64_t)wait : WAIT_MAX_US;
}

size_t pacer_room(struct pacer *p, int64_t now_us)
{
	if (pacer_rate(p) <= 0)
		return SIZE_MAX;
	fill(p, now_us);
	return p->tokens > 0 ? (size_t)p->tokens : 0;
}

void pacer_take(struct pacer *p, unsigned n, int64_t now_us)
{
	if (pacer_rate(p) <= 0)
		return;
	fill(p, now_us);
	p->tokens -= n;
}

void pacer_give_back(struct pacer *p, unsigned n)
{
	if (pacer_rate(p) > 0)
		p->tokens = fmin(depth(p), p->tokens + n);
}

bool pacer_is_limiting(const struct pacer *p, int64_t now_us)
{
	return p->limited_us != 0 && now_us - p->limited_us < LIMITED_US;
}

/* --- what SES says --- */

static struct pacer_slot *slot_of(struct pacer *p, int64_t now_us)
{
	int64_t number = now_us / SLOT_US;
	struct pacer_slot *slot = &p->slots[number % PACER_SLOTS];

	if (slot->number != number)
		*slot = (struct pacer_slot){ .number = number };
	return slot;
}

static void last_second(
    const struct pacer *p, int64_t now_us, double *taken, double *refused)
{
	*taken = *refused = 0;
	for (int i = 0; i < PACER_SLOTS; i++) {
		const struct pacer_slot *slot = &p->slots[i];

		if (now_us / SLOT_US - slot->number >= PACER_SLOTS)
			continue;
		*taken += slot->taken;
		*refused += slot->refused;
	}
}

/* In recipients/s, each second. */
static double growth(const struct pacer *p, int64_t now_us)
{
	double max = (p->rate < SLOW ? GROWTH_MAX_SLOW : GROWTH_MAX) * p->rate;
	double a = GROWTH * sqrt(USUAL / fmax(p->throttled, SEEN_MIN));

	if (p->rate < p->before * SEARCH_UP_TO &&
	    now_us - p->throttled_us > FALL_EVERY_US * 2)
		return SEARCH_GROWTH * p->rate;
	if (p->quiet > QUIET) {
		double speed = (double)p->quiet / QUIET;

		return fmin(fmax(a, max) * speed, QUIET_GROWTH_MAX * p->rate);
	}
	return fmin(a, max);
}

void pacer_on_taken(struct pacer *p, unsigned n, int64_t now_us)
{
	int64_t elapsed = now_us - p->grown_us;

	slot_of(p, now_us)->taken += n;
	p->throttled -= SMOOTHING * p->throttled;
	p->quiet++;
	p->grown_us = now_us;
	if (p->rate <= 0 || !pacer_is_limiting(p, now_us))
		return;
	/* A cap that is configured is no reason to forget what is possible. */
	if (p->cap > 0 && p->rate >= p->cap)
		return;
	if (elapsed > LIMITED_US)
		elapsed = LIMITED_US;
	fill(p, now_us);
	p->rate += growth(p, now_us) * (double)elapsed / US_PER_S;
}

void pacer_on_throttled(struct pacer *p, unsigned n, int64_t now_us)
{
	double taken, refused, part = FALL;
	bool episode;

	slot_of(p, now_us)->refused += n;
	p->throttled += SMOOTHING * (1 - p->throttled);
	p->quiet = 0;
	p->grown_us = now_us;
	last_second(p, now_us, &taken, &refused);
	episode = p->throttled_us == 0 || now_us - p->throttled_us > EPISODE_US;
	p->throttled_us = now_us;
	if (p->rate <= 0) {
		/* A sample that small says that there is a limit, not where. */
		p->before = taken < FALL_SAMPLE ? INFINITY : 0;
		p->rate = fmax(taken * (1 - FALL), RATE_MIN * 10);
		p->tokens = 0;
		p->filled_us = p->cut_us = now_us;
		return;
	}
	fill(p, now_us);
	p->tokens = fmin(p->tokens, 0);
	if (p->cut_us != 0 && now_us - p->cut_us < FALL_EVERY_US)
		return;
	if (episode || isinf(p->before))
		p->before = p->rate;
	if (taken + refused >= FALL_SAMPLE)
		part = fmax(part, refused / (taken + refused));
	/* With a cap below, what is learned has to come below it to matter. */
	if (p->cap > 0 && p->rate > p->cap)
		p->rate = p->cap;
	p->rate = fmax(p->rate * (1 - fmin(part, FALL_MAX)), RATE_MIN);
	p->cut_us = now_us;
}
