/*
 * How fast mail comes in and goes out.  Owns a timer that notes the counters
 * once a second.  Loop thread.
 */
#include "rates.h"

#include "base/clock.h"
#include "base/stat.h"

static void on_timer(void *ctx)
{
	struct rates *r = ctx;
	int64_t now = clock_mono_us();

	meter_note(&r->accepted, stat_get(STAT_RCPT_ACCEPTED), now);
	meter_note(&r->sent, stat_get(STAT_RCPT_SENT), now);
	loop_timer_set(&r->timer, US_PER_S);
}

void rates_start(struct rates *r, struct loop *loop)
{
	int64_t now = clock_mono_us();

	meter_init(&r->accepted, stat_get(STAT_RCPT_ACCEPTED), now);
	meter_init(&r->sent, stat_get(STAT_RCPT_SENT), now);
	loop_timer_init(&r->timer, loop, on_timer, r);
	loop_timer_set(&r->timer, US_PER_S);
}

void rates_stop(struct rates *r)
{
	loop_timer_fini(&r->timer);
}

double rates_accepted(const struct rates *r, int64_t window_us)
{
	return meter_rate(&r->accepted, stat_get(STAT_RCPT_ACCEPTED),
	    clock_mono_us(), window_us);
}

double rates_sent(const struct rates *r, int64_t window_us)
{
	return meter_rate(
	    &r->sent, stat_get(STAT_RCPT_SENT), clock_mono_us(), window_us);
}

void rates_history(const struct rates *r, struct rates_history *h)
{
	/* The samples of the second before this one may have come late. */
	int64_t end = clock_mono_us() / US_PER_S - 1;

	h->second = end - 1;
	meter_history(&r->accepted, end, RATES_HISTORY, h->accepted);
	meter_history(&r->sent, end, RATES_HISTORY, h->sent);
}
