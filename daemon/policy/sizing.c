/*
 * How many connections to SES are wanted.
 *
 * Pure; owns only its struct; asked by the pool each time something changed.
 * Invariants: what is open, connecting and wanted together never exceeds the
 * configured or the learned limit, nor what the backlog can use; after a
 * failure one connection is tried at a time until one succeeds.
 */
#include "policy/sizing.h"

#include "base/clock.h"

#include <math.h>

#define HOLD_OFF_FIRST_US (1 * US_PER_S)
#define HOLD_OFF_MAX_US (60 * US_PER_S)
#define LIMIT_GROWS_EVERY_US (30 * US_PER_S)
#define UNLIMITED UINT32_MAX
#define SMOOTHING 0.05
#define SPARE 1.25

void sizing_init(struct sizing *s)
{
	*s = (struct sizing){ .limit = UNLIMITED };
}

static void grow_limit(struct sizing *s, unsigned max, int64_t now_us)
{
	if (s->limit_grows_us == 0)
		return;
	if (now_us >= s->limit_grows_us) {
		int64_t steps =
		    1 + (now_us - s->limit_grows_us) / LIMIT_GROWS_EVERY_US;

		s->limit_grows_us += steps * LIMIT_GROWS_EVERY_US;
		if (steps >= (int64_t)UNLIMITED - s->limit)
			s->limit = UNLIMITED;
		else
			s->limit += (unsigned)steps;
	}
	if (s->limit >= max) {
		s->limit = UNLIMITED;
		s->limit_grows_us = 0;
	}
}

void sizing_on_transaction(struct sizing *s, int64_t took_us, unsigned n)
{
	ASSERT(n > 0 && took_us >= 0);
	if (s->recipients <= 0) {
		s->busy_us = (double)took_us;
		s->recipients = n;
		return;
	}
	s->busy_us += SMOOTHING * ((double)took_us - s->busy_us);
	s->recipients += SMOOTHING * (n - s->recipients);
}

unsigned sizing_useful(const struct sizing *s, double rate)
{
	double each_s, useful;

	if (rate <= 0 || s->recipients <= 0)
		return UNLIMITED;
	each_s = s->busy_us / s->recipients / US_PER_S;
	useful = ceil(rate * each_s * SPARE) + 1;
	return useful < UNLIMITED ? (unsigned)useful : UNLIMITED;
}

unsigned sizing_want(
    struct sizing *s, const struct sizing_view *view, int64_t now_us)
{
	unsigned have = view->open + view->connecting;
	unsigned limit, room, useful = sizing_useful(s, view->rate);
	size_t served = (size_t)view->idle + view->connecting, more;

	grow_limit(s, view->max, now_us);
	limit = view->max < s->limit ? view->max : s->limit;
	limit = useful < limit ? useful : limit;
	room = have < limit ? limit - have : 0;
	more = view->backlog > served ? view->backlog - served : 0;
	if (room == 0 || more == 0)
		return 0;
	if (s->failures > 0)
		return view->connecting == 0 && now_us >= s->retry_us ? 1 : 0;
	return more < room ? (unsigned)more : room;
}

void sizing_on_connected(struct sizing *s, int64_t now_us)
{
	(void)now_us;
	if (s->thrown_out)
		return;
	s->failures = 0;
	s->retry_us = 0;
}

void sizing_on_failed(struct sizing *s, int64_t now_us, uint64_t jitter)
{
	int64_t wait = HOLD_OFF_FIRST_US;

	/* One of several that were under way when the first one failed: they
	 * all failed of the same thing, which counts once. */
	if (s->failures > 0 && now_us < s->retry_us)
		return;
	for (unsigned i = 0; i < s->failures && wait < HOLD_OFF_MAX_US; i++)
		wait *= 2;
	if (wait > HOLD_OFF_MAX_US)
		wait = HOLD_OFF_MAX_US;
	s->failures++;
	/* Up to a quarter less: still longer than the wait before. */
	s->retry_us =
	    now_us + wait - (int64_t)(jitter % ((uint64_t)wait / 4 + 1));
}

void sizing_on_thrown_out(struct sizing *s, int64_t now_us, uint64_t jitter)
{
	sizing_on_failed(s, now_us, jitter);
	s->thrown_out = true;
	s->thrown_out_us = now_us;
}

void sizing_on_carried(struct sizing *s, int64_t opened_us)
{
	/* That an older connection works says nothing of new ones. */
	if (!s->thrown_out || opened_us <= s->thrown_out_us)
		return;
	s->thrown_out = false;
	s->failures = 0;
	s->retry_us = 0;
}

void sizing_try_now(struct sizing *s)
{
	s->retry_us = 0;
	/* Whoever asks again and again does not make it longer. */
	if (s->failures > 1)
		s->failures = 1;
}

void sizing_on_conn_limit(struct sizing *s, unsigned open, int64_t now_us)
{
	unsigned limit = open > 2 ? open - 1 : 1;

	if (limit < s->limit)
		s->limit = limit;
	s->limit_grows_us = now_us + LIMIT_GROWS_EVERY_US;
}

int64_t sizing_next(const struct sizing *s, int64_t now_us)
{
	int64_t next = INT64_MAX;

	if (s->failures > 0 && s->retry_us > now_us)
		next = s->retry_us;
	if (s->limit_grows_us != 0 && s->limit_grows_us < next)
		next = s->limit_grows_us;
	return next;
}
