/*
 * When a connection has to be renewed: by count, by age, by idleness.
 *
 * Pure.  A connection's limits are fixed when it opens.  They lie in the last
 * tenth below the configured ones, never above; connections numbered one after
 * the other come out well apart from each other.
 */
#include "policy/rotate.h"

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

struct rotate_limits rotate_plan(
    const struct rotate_options *options, int64_t opened_us, uint64_t seed)
{
	unsigned max = options->messages_per_connection;

	ASSERT(max > 0 && options->lifetime_us >= 0);
	return (struct rotate_limits){
		.max_messages = max - (unsigned)spread(seed, max / 10),
		.expires_us = opened_us + options->lifetime_us -
		    (int64_t)spread(seed, (uint64_t)options->lifetime_us / 10),
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

const char *rotate_reason_name(enum rotate_reason reason)
{
	static const char *const names[] = {
		[ROTATE_NOT] = "not due",
		[ROTATE_COUNT] = "message count",
		[ROTATE_AGE] = "age",
		[ROTATE_IDLE] = "idle",
	};

	ASSERT((unsigned)reason < ARRAY_LEN(names));
	return names[reason];
}
