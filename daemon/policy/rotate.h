/*
 * When a connection to SES has to be renewed.  SES's endpoint is a fleet
 * behind a load balancer whose members come and go; AWS asks for a new
 * connection after a number of messages or some time.  SES also drops what was
 * idle for about 10 s, and since 2024 caps the messages of a session.
 *
 * Each connection gets its own limits, spread over the last tenth below the
 * configured ones, so that a pool does not renew itself in one wave.
 */
#ifndef POLICY_ROTATE_H
#define POLICY_ROTATE_H

#include "base/base.h"

struct rotate_options {
	unsigned messages_per_connection;
	int64_t lifetime_us;
	int64_t idle_timeout_us;
};

struct rotate_limits {
	unsigned max_messages;
	int64_t expires_us; /* monotonic */
};

enum rotate_reason {
	ROTATE_NOT,
	ROTATE_COUNT,
	ROTATE_AGE,
	ROTATE_IDLE,
};

/* `seed` differs for each connection (its number). */
struct rotate_limits rotate_plan(
    const struct rotate_options *options, int64_t opened_us, uint64_t seed);
/* Is it due before the next message?  idle_since_us: 0 when it is not idle. */
enum rotate_reason rotate_due(const struct rotate_options *options,
    const struct rotate_limits *limits, unsigned messages,
    int64_t idle_since_us, int64_t now_us);
const char *rotate_reason_name(enum rotate_reason reason);

#endif
