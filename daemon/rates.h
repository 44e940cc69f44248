/*
 * How fast mail comes in and goes out: recipients a second, of the last ten
 * seconds and the last minute, from the counters of base/stat.
 */
#ifndef RATES_H
#define RATES_H

#include "base/meter.h"
#include "net/loop.h"

struct rates {
	struct loop_timer timer;
	struct meter accepted, sent;
};

void rates_start(struct rates *r, struct loop *loop);
void rates_stop(struct rates *r);
/* Recipients a second of mail that local programs handed in, that SES took. */
double rates_accepted(const struct rates *r, int64_t window_us);
double rates_sent(const struct rates *r, int64_t window_us);

/* Of each of the RATES_HISTORY whole seconds before now, the last one last. */
#define RATES_HISTORY 60
struct rates_history {
	int64_t second; /* the number of the last one, by the monotonic clock */
	double accepted[RATES_HISTORY], sent[RATES_HISTORY];
};
void rates_history(const struct rates *r, struct rates_history *h);

#endif
