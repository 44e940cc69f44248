/*
 * The times at which the account could not send.
 *
 * Pure; owns only its struct, of a fixed size.  Invariants: the times don't
 * overlap and are in order; what is told of a clock that stands still or goes
 * back makes an outage of no length, never a negative one.
 */
#include "policy/outage.h"

#include <string.h>

void outage_init(struct outage *o)
{
	memset(o, 0, sizeof(*o));
}

static void keep(struct outage *o, int64_t from_us, int64_t to_us)
{
	if (o->n_past == OUTAGE_KEPT) {
		o->past[1].from_us = o->past[0].from_us;
		memmove(&o->past[0], &o->past[1],
		    (OUTAGE_KEPT - 1) * sizeof(o->past[0]));
		o->n_past--;
	}
	o->past[o->n_past].from_us = from_us;
	o->past[o->n_past++].to_us = to_us;
}

void outage_note(struct outage *o, bool out, int64_t now_us)
{
	if (out == o->now)
		return;
	o->now = out;
	if (out)
		o->since_us = now_us;
	else if (now_us > o->since_us)
		keep(o, o->since_us, now_us);
}

static int64_t common(int64_t from, int64_t to, int64_t start, int64_t end)
{
	if (from < start)
		from = start;
	if (to > end)
		to = end;
	return to > from ? to - from : 0;
}

int64_t outage_within(const struct outage *o, int64_t from_us, int64_t now_us)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < o->n_past; i++)
		sum += common(
		    o->past[i].from_us, o->past[i].to_us, from_us, now_us);
	if (o->now)
		sum += common(o->since_us, now_us, from_us, now_us);
	return sum;
}
