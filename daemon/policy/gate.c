/*
 * Whether deliveries may start: open, closed for a while, or one probe.
 *
 * Pure; owns only its struct.  Invariants: while not open, at most one probe
 * is under way; a wait is never cut short by trouble that weighs less; only a
 * success, a login or the operator shortens it.
 */
#include "policy/gate.h"

#include "base/clock.h"

#define MINUTE_US (60 * US_PER_S)
#define MAX_STEPS 4

/* Waits after the first, second, ... closing; the last repeats. */
static const struct {
	const char *name;
	int64_t waits_us[MAX_STEPS];
	unsigned n_waits;
	unsigned spread; /* up to a this-th part is added at random */
} causes[GATE_N] = {
	[GATE_NONE] = { "ok", { 0 }, 1, 1 },
	[GATE_DAILY] = { "daily quota", { 10 * MINUTE_US }, 1, 1 },
	[GATE_AUTH] = { "credentials refused",
	    { 1 * MINUTE_US, 2 * MINUTE_US, 5 * MINUTE_US, 15 * MINUTE_US }, 4,
	    10 },
	[GATE_ACCOUNT] = { "account refused",
	    { 1 * MINUTE_US, 2 * MINUTE_US, 5 * MINUTE_US, 15 * MINUTE_US }, 4,
	    10 },
};

void gate_init(struct gate *g)
{
	*g = (struct gate){ .state = GATE_OPEN };
}

bool gate_would_pass(const struct gate *g, int64_t now_us)
{
	switch (g->state) {
	case GATE_OPEN:
		return true;
	case GATE_CLOSED:
		return now_us >= g->until_us;
	case GATE_PROBING:
		break;
	}
	return !g->probe_out;
}

bool gate_pass(struct gate *g, int64_t now_us)
{
	if (!gate_would_pass(g, now_us))
		return false;
	if (g->state != GATE_OPEN) {
		g->state = GATE_PROBING;
		g->probe_out = true;
	}
	return true;
}

void gate_probe_lost(struct gate *g)
{
	g->probe_out = false;
}

void gate_on_success(struct gate *g)
{
	gate_init(g);
}

void gate_on_login(struct gate *g)
{
	if (g->cause == GATE_AUTH)
		gate_init(g);
}

static int64_t wait_us(enum gate_cause cause, unsigned times, uint64_t jitter)
{
	unsigned last = causes[cause].n_waits - 1;
	unsigned step = times - 1 < last ? times - 1 : last;
	int64_t wait = causes[cause].waits_us[step];
	uint64_t room = (uint64_t)wait / causes[cause].spread;

	return wait + (int64_t)(jitter % (room + 1));
}

bool gate_on_trouble(
    struct gate *g, enum gate_cause cause, int64_t now_us, uint64_t jitter)
{
	bool was_open = g->state == GATE_OPEN;
	bool waiting = g->state == GATE_CLOSED && now_us < g->until_us;
	unsigned times = 1;
	int64_t until;

	ASSERT(cause > GATE_NONE && cause < GATE_N);
	/* Those that were under way when it closed say the same again. */
	if (waiting && cause == g->cause)
		return false;
	if (cause == g->cause)
		times = g->times + 1;
	until = now_us + wait_us(cause, times, jitter);
	if (waiting && until <= g->until_us)
		return false;
	if (was_open)
		g->since_us = now_us;
	g->state = GATE_CLOSED;
	g->cause = cause;
	g->times = times;
	g->until_us = until;
	g->probe_out = false;
	return was_open;
}

void gate_reopen(struct gate *g)
{
	if (g->state == GATE_OPEN)
		return;
	g->state = GATE_PROBING;
	g->probe_out = false;
	g->times = 0;
	g->until_us = g->since_us;
}

int64_t gate_next(const struct gate *g)
{
	if (g->state == GATE_OPEN || g->probe_out)
		return INT64_MAX;
	return g->until_us;
}

const char *gate_cause_name(enum gate_cause cause)
{
	ASSERT((unsigned)cause < GATE_N);
	return causes[cause].name;
}
