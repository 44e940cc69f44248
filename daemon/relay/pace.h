/*
 * The account's pace, as the relay keeps it: what starts asks policy/pacer,
 * and what SES answers teaches it.
 */
#ifndef RELAY_PACE_H
#define RELAY_PACE_H

#include "relay/relay.h"

/* It may start now, and is counted; false: nothing before pace_until_us. */
bool relay_pace_take(struct relay *r, struct attempt *a);
/* How many messages could start now; none while one has to wait. */
size_t relay_pace_room(struct relay *r);
/*
 * The attempt is over: SES took `n_sent` recipients.  `throttled` is what it
 * said if that was that the account sends too fast; else NULL.
 */
void relay_pace_settle(struct relay *r, const struct attempt *a,
    unsigned n_sent, const struct verdict *throttled);
/* The same, told before there was any message. */
void relay_pace_throttled(
    struct relay *r, unsigned n, const struct verdict *throttled);
/* Mail waits, or did seconds ago, for the pace that SES's throttling taught. */
bool relay_is_throttled(const struct relay *r);

#endif
