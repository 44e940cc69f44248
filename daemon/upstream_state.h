/*
 * Does mail go out, and if not, why: one word for everything that `status` and
 * the metrics say about SES.
 */
#ifndef UPSTREAM_STATE_H
#define UPSTREAM_STATE_H

#include "relay/relay.h"

enum upstream_state {
	UPSTREAM_OK, /* or nothing had to be sent so far */
	UPSTREAM_THROTTLED, /* mail goes out, at the pace that SES allows */
	UPSTREAM_DAILY_QUOTA,
	UPSTREAM_CREDENTIALS, /* refused */
	UPSTREAM_ACCOUNT, /* may not send */
	UPSTREAM_UNREACHABLE, /* no connection could be made */
	UPSTREAM_PAUSED, /* by the operator */
	UPSTREAM_N_STATES
};

enum upstream_state upstream_state(const struct relay *r);
const char *upstream_state_name(enum upstream_state state);
/* Mail goes out, as far as is known. */
bool upstream_state_is_up(enum upstream_state state);
/* Recipients a second; 0: none is known. */
double upstream_rate_limit(const struct relay *r);

#endif
