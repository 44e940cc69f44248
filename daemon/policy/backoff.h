/*
 * When a message is tried again: a pure function of its arrival, of now and of
 * its id, so that nothing is written when mail is deferred.
 *
 * The waits of `delivery.retry` follow each other from the arrival on, the last
 * one repeating: 5s 10s 30s gives slots at 5, 15, 45, 75, ... seconds of age.
 * The next attempt is at the first slot after now, moved by up to a tenth of
 * its wait by the id, so that messages of one burst don't come back as one.
 */
#ifndef POLICY_BACKOFF_H
#define POLICY_BACKOFF_H

#include "base/base.h"

#define BACKOFF_MAX_STEPS 16

struct backoff_options {
	int64_t waits_us[BACKOFF_MAX_STEPS];
	unsigned n_waits; /* at least 1 */
	int64_t expire_us;
};

/*
 * All times on one clock.  An arrival after `now` (a clock that was set back)
 * counts as now.  The result is after now, at most one wait and its jitter
 * away, and never falls while now rises.  Waits are positive.
 */
int64_t backoff_next(const struct backoff_options *options, int64_t arrival_us,
    int64_t now_us, uint64_t id);
/* Too old to be tried any more. */
bool backoff_expired(
    const struct backoff_options *options, int64_t arrival_us, int64_t now_us);

#endif
