/*
 * When a connection has to be renewed: by count, by age, by idleness; and how a
 * pool's renewals are kept apart.
 *
 * Pure.  A connection's soft limits lie in the last tenth below the hard ones;
 * connections numbered one after the other come out well apart from each other.
 */
#include "policy/rotate.h"

/* Messages that a connection carries in the time of a renewal, about: QUIT and
 * a login with TLS are some six round trips, a message is four or more. */
#define RENEWAL_MESSAGES 2

/*
 * 0 to `room`, spread evenly for consecutive seeds: multiples of the golden
 * ratio, taken modulo 1, fill the interval without clusters.
 */
static uint64_t spread(uint64_t seed, uint64_t room)
{
	uint64_t fraction = seed * UINT64_C(0x9e3779b97f4a7c15) >> 32;

	/* Room is a tenth of a setting in microseconds: below 2^32 it is
	 * exact, above it only coarser. */
	if (room < UINT32_MAX)
		return fraction * (room + 1) >> 32;
	return (room >> 32) * fraction + ((room & UINT32_MAX) * fraction >> 32);
}

struct rotate_limits rotate_plan(const struct rotate_options *options,
    const struct rotate_learned *learned, int64_t opened_us, uint64_t seed)
{
	unsigned max =
	    rotate_learned_max_messages(learned, options, (unsigned)seed);
	int64_t life =
	    rotate_learned_lifetime_us(learned, options, (unsigned)seed);

	unsigned room = max / 10, lead;
	uint64_t time_room = (uint64_t)life / 10, time_lead = time_room / 10;

	ASSERT(max > 0 && life >= 0);
	lead = room < RENEWAL_MESSAGES ? room : RENEWAL_MESSAGES;
	/* A scout that ends before its limit has found out nothing. */
	if (rotate_is_scout(learned, (unsigned)seed)) {
		room = lead = 0;
		time_room = time_lead = 0;
	}
	return (struct rotate_limits){
		.soft_messages =
		    max - lead - (unsigned)spread(seed, room - lead),
		.max_messages = max,
		.soft_us = opened_us + life -
		    (int64_t)(time_lead + spread(seed, time_room - time_lead)),
		.expires_us = opened_us + life,
	};
}

enum rotate_reason rotate_due(const struct rotate_options *options,
    const struct rotate_limits *limits, unsigned messages,
    int64_t idle_since_us, int64_t now_us)
{
	if (messages >= limits->max_messages)
		return ROTATE_COUNT;
	if (now_us >= limits->expires_us)
		return ROTATE_AGE;
	if (idle_since_us != 0 &&
	    now_us - idle_since_us >= options->idle_timeout_us)
		return ROTATE_IDLE;
	return ROTATE_NOT;
}

enum rotate_reason rotate_soon(
    const struct rotate_limits *limits, unsigned messages, int64_t now_us)
{
	if (messages >= limits->soft_messages)
		return ROTATE_COUNT;
	return now_us >= limits->soft_us ? ROTATE_AGE : ROTATE_NOT;
}

/* --- a pool's renewals --- */

unsigned rotate_slots_left(const struct rotate_limits *limits,
    unsigned messages, int64_t renewal_us, int64_t now_us)
{
	unsigned left = messages < limits->max_messages
	    ? (limits->max_messages - messages) / RENEWAL_MESSAGES
	    : 0;
	int64_t time_left = limits->expires_us - now_us;
	int64_t by_age;

	ASSERT(renewal_us > 0);
	by_age = time_left > 0 ? time_left / renewal_us : 0;
	return by_age < left ? (unsigned)by_age : left;
}

void rotate_crowd_add(struct rotate_crowd *crowd, unsigned slots_left)
{
	if (slots_left < ROTATE_SLOTS)
		crowd->due[slots_left]++;
}

bool rotate_crowd_is_dense(const struct rotate_crowd *crowd, unsigned parallel)
{
	uint64_t due = 0;

	for (unsigned i = 0; i < ROTATE_SLOTS; i++) {
		due += crowd->due[i];
		if (due > (uint64_t)parallel * (i + 1))
			return true;
	}
	return false;
}

unsigned rotate_parallel(const struct rotate_options *options,
    const struct rotate_learned *learned, unsigned n, int64_t renewal_us)
{
	uint64_t max = rotate_learned_max_messages(learned, options, 0);
	int64_t life = rotate_learned_lifetime_us(learned, options, 0);
	uint64_t by_count = (uint64_t)n * RENEWAL_MESSAGES / max;
	uint64_t by_age =
	    life > 0 ? (uint64_t)n * (uint64_t)renewal_us / (uint64_t)life : n;
	uint64_t parallel = 1 + by_count + by_age;

	return parallel < n ? (unsigned)parallel : n > 0 ? n : 1;
}
