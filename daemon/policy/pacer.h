/*
 * How fast recipients may be sent.  SES limits an account's recipients per
 * second and refuses what comes faster after the whole message was sent (454
 * Throttling failure); it tells neither the limit nor what the account's other
 * senders use of it.  So the rate is learned, by additive increase and
 * multiplicative decrease, as TCP learns a path's:
 *
 *   no throttle seen yet   no pace but the configured one
 *   the first throttle     the rate is what SES took in the last second, less
 *                          a fifth
 *   a throttle later       the rate falls by a fifth, or by the part of the
 *                          last second's recipients that was refused, if that
 *                          is more; at most once a second
 *   after a fall that   (throttles in a row, or one before anything was
 *   says little          taken) the rate grows by a fifth each second, up to
 *                        two thirds of what it was before
 *   otherwise, while the pace is what holds mail back, it grows by a constant,
 *   the same for all senders of an account, so that they come to equal shares;
 *   more slowly where many replies throttle, faster after a long time without
 *
 * The rate is in recipients per second, as SES's is.  A burst of half a second
 * is allowed after a pause.  Pure: `now` is any monotonic clock in us.
 *
 * https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas.html
 */
#ifndef POLICY_PACER_H
#define POLICY_PACER_H

#include "base/base.h"

#define PACER_SLOTS 10 /* of a tenth of a second: the last second */

struct pacer_slot {
	int64_t number; /* now / slot length */
	unsigned taken, refused; /* recipients */
};

struct pacer {
	double cap; /* configured; 0: none */
	double rate; /* learned; 0: no throttle was ever seen */
	double tokens; /* negative: owed for a message with many recipients */
	int64_t filled_us;
	double throttled; /* part of the replies, smoothed */
	unsigned quiet; /* replies since the last throttle */
	int64_t grown_us; /* up to here the rate has grown */
	int64_t limited_us; /* the pace last held something back; 0: never */
	int64_t cut_us; /* the rate last fell; 0: never */
	int64_t throttled_us; /* last throttle; 0: never */
	/* What was kept to before throttles came in a row; to be found again
	 * in large steps.  Infinite: nothing is known yet. */
	double before;
	struct pacer_slot slots[PACER_SLOTS];
};

/* `learned`: pacer_learned() of an earlier process; 0: nothing known. */
void pacer_init(
    struct pacer *p, double cap_per_s, double learned_per_s, int64_t now_us);
/* The configured cap changed. */
void pacer_set_cap(struct pacer *p, double cap_per_s, int64_t now_us);
/*
 * 0: a message for n recipients may go now; else how long until it may, in us.
 * At most some minutes, whatever n is.
 */
int64_t pacer_wait(struct pacer *p, unsigned n, int64_t now_us);
/* Recipients that may go at once; SIZE_MAX: there is no limit. */
size_t pacer_room(struct pacer *p, int64_t now_us);
/* It goes. */
void pacer_take(struct pacer *p, unsigned n, int64_t now_us);
/* It did not get as far as the account's limit: the tokens come back. */
void pacer_give_back(struct pacer *p, unsigned n);
/* SES took, or throttled, a message for n recipients. */
void pacer_on_taken(struct pacer *p, unsigned n, int64_t now_us);
void pacer_on_throttled(struct pacer *p, unsigned n, int64_t now_us);
/* What is in force now, learned or configured; 0: no limit known. */
double pacer_rate(const struct pacer *p);
/* For the next process; 0: nothing learned. */
double pacer_learned(const struct pacer *p);
/* The pace held something back within the last seconds. */
bool pacer_is_limiting(const struct pacer *p, int64_t now_us);

#endif
