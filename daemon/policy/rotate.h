/*
 * When a connection to SES has to be renewed.  SES's endpoint is a fleet
 * behind a load balancer whose members come and go; AWS asks for a new
 * connection after a number of messages or some time.  SES also drops what was
 * idle for about 10 s, and since 2024 caps the messages of a session.
 *
 * Each connection has two limits.  At the soft one, spread over the last tenth
 * below the hard one so that a pool does not renew itself in one wave, and early
 * enough for a login where a tenth allows it, its replacement is due: under load
 * that is opened first, and the old connection works on until the new one is
 * logged in.  The hard limit, the configured or learned one
 * (policy/rotate_learn.h), is never passed.
 */
#ifndef POLICY_ROTATE_H
#define POLICY_ROTATE_H

#include "base/base.h"
#include "policy/rotate_learn.h"

struct rotate_options {
	unsigned messages_per_connection;
	int64_t lifetime_us;
	int64_t idle_timeout_us;
	bool adaptive; /* act on what was learned */
};

struct rotate_limits {
	unsigned soft_messages, max_messages;
	int64_t soft_us, expires_us; /* monotonic */
};

enum rotate_reason {
	ROTATE_NOT,
	ROTATE_COUNT,
	ROTATE_AGE,
	ROTATE_IDLE,
};

/*
 * `seed` differs for each connection (its number).  The same again after
 * something was learned gives the limits that hold from then on.
 */
struct rotate_limits rotate_plan(const struct rotate_options *options,
    const struct rotate_learned *learned, int64_t opened_us, uint64_t seed);
/* Is it due before the next message?  idle_since_us: 0 when it is not idle. */
enum rotate_reason rotate_due(const struct rotate_options *options,
    const struct rotate_limits *limits, unsigned messages,
    int64_t idle_since_us, int64_t now_us);
/* Is its replacement due? */
enum rotate_reason rotate_soon(
    const struct rotate_limits *limits, unsigned messages, int64_t now_us);

/*
 * A pool as a queue of renewals to come, each of which takes the time of some
 * messages, of which only some may run at a time: where more are due than can
 * be done by then, the first has to begin now, before its soft limit.
 */
#define ROTATE_SLOTS 64

struct rotate_crowd {
	unsigned due[ROTATE_SLOTS]; /* in that many renewals from now */
};

/* How many renewals could be done before this connection's hard limit. */
unsigned rotate_slots_left(const struct rotate_limits *limits,
    unsigned messages, int64_t renewal_us, int64_t now_us);
void rotate_crowd_add(struct rotate_crowd *crowd, unsigned slots_left);
bool rotate_crowd_is_dense(const struct rotate_crowd *crowd, unsigned parallel);
/*
 * How many renewals at a time keep a pool of n connections in its limits, if
 * they are evenly used.
 */
unsigned rotate_parallel(const struct rotate_options *options,
    const struct rotate_learned *learned, unsigned n, int64_t renewal_us);

#endif
