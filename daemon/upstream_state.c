/*
 * Does mail go out, and if not, why.  No state of its own; loop thread.
 *
 * The strongest reason is told: what the operator did, what SES said about the
 * account, what the network does, and last that SES slows us down.
 */
#include "upstream_state.h"

#include "relay/pace.h"

enum upstream_state upstream_state(const struct relay *r)
{
	static const enum upstream_state of_gate[GATE_N] = {
		[GATE_DAILY] = UPSTREAM_DAILY_QUOTA,
		[GATE_AUTH] = UPSTREAM_CREDENTIALS,
		[GATE_ACCOUNT] = UPSTREAM_ACCOUNT,
	};

	if (r->delivery_paused)
		return UPSTREAM_PAUSED;
	if (r->gate.state != GATE_OPEN)
		return of_gate[r->gate.cause];
	if (pool_last_error(r->pool)[0] != '\0' &&
	    pool_count(r->pool, POOL_IDLE) + pool_count(r->pool, POOL_BUSY) ==
		0)
		return UPSTREAM_UNREACHABLE;
	if (relay_is_throttled(r))
		return UPSTREAM_THROTTLED;
	return UPSTREAM_OK;
}

const char *upstream_state_name(enum upstream_state state)
{
	static const char *const names[UPSTREAM_N_STATES] = {
		[UPSTREAM_OK] = "ok",
		[UPSTREAM_THROTTLED] = "throttled",
		[UPSTREAM_DAILY_QUOTA] = "daily quota",
		[UPSTREAM_CREDENTIALS] = "credentials refused",
		[UPSTREAM_ACCOUNT] = "account refused",
		[UPSTREAM_UNREACHABLE] = "unreachable",
		[UPSTREAM_PAUSED] = "paused",
	};

	return names[state];
}

bool upstream_state_is_up(enum upstream_state state)
{
	return state == UPSTREAM_OK || state == UPSTREAM_THROTTLED;
}

double upstream_rate_limit(const struct relay *r)
{
	return pacer_rate(&r->pacer);
}
