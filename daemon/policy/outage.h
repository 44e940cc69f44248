/*
 * When the account could not send, whoever's message it was: credentials
 * refused, sending paused, daily quota used up.  That time makes no message
 * older: what has waited for the account is not too old when the account is
 * well again.
 */
#ifndef POLICY_OUTAGE_H
#define POLICY_OUTAGE_H

#include "base/base.h"

#define OUTAGE_KEPT 32

struct outage {
	bool now; /* one lasts */
	int64_t since_us;
	/* Those that are over, in order; the oldest two become one, with the
	 * time between them, when there are too many. */
	struct {
		int64_t from_us, to_us;
	} past[OUTAGE_KEPT];
	unsigned n_past;
};

void outage_init(struct outage *o);
/* What is the case now; to be told at each change, and as often as one likes. */
void outage_note(struct outage *o, bool out, int64_t now_us);
/* How much of the time from `from_us` until now was an outage. */
int64_t outage_within(const struct outage *o, int64_t from_us, int64_t now_us);

#endif
