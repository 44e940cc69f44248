/*
 * The rate of a counter over the last seconds.  Pure: `now` is any monotonic
 * clock in us; whoever owns the counter notes its value about once a second.
 */
#ifndef BASE_METER_H
#define BASE_METER_H

#include "base/base.h"

#define METER_SAMPLES 64 /* a second apart: good for windows of a minute */

struct meter {
	struct meter_sample {
		int64_t at_us, value;
	} samples[METER_SAMPLES];
	unsigned n; /* ever noted; the newest is samples[(n - 1) % SAMPLES] */
};

void meter_init(struct meter *m, int64_t value, int64_t now_us);
/* Less than a second after the one before it is passed over. */
void meter_note(struct meter *m, int64_t value, int64_t now_us);
/*
 * By how much the counter, at `value` now, grew a second during the last
 * window_us, or since meter_init() if that is less; a growth of less than a
 * second counts as one of a second.
 */
double meter_rate(
    const struct meter *m, int64_t value, int64_t now_us, int64_t window_us);

/*
 * By how much the counter grew in each of the n seconds before `second`, which
 * is the clock's time divided down: rates[n - 1] is of the last one.  Between
 * two samples it is taken to have grown evenly; before the first, not at all.
 */
void meter_history(
    const struct meter *m, int64_t second, unsigned n, double *rates);

#endif
