/*
 * What the operator does to queued messages and to the relay as a whole.
 *
 * A message that is INFLIGHT is left to its attempt when that has begun: what
 * SES takes is delivered, whatever was asked meanwhile.  The wish is noted in
 * the stub and carried out when the attempt is settled, for what is then still
 * pending.  One that is only loaded, or being loaded, is taken back.
 *
 * hold, release and delete are outcome lines; they last over restarts.  A wish
 * and a pause do not: they are states of this process.
 */
#ifndef RELAY_OPERATE_H
#define RELAY_OPERATE_H

#include "relay/relay.h"

enum operate_verb {
	OPERATE_NONE,
	OPERATE_RETRY, /* READY, if it waits for its time */
	OPERATE_HOLD,
	OPERATE_RELEASE, /* of what is held; READY */
	OPERATE_DELETE, /* no dead letter, no notice */
};

enum operate_result {
	OPERATE_DONE,
	OPERATE_LATER, /* it is being sent: see above */
	OPERATE_NOT, /* nothing to do: not held, already held, ... */
};

struct operate_order {
	enum operate_verb verb;
	unsigned uid; /* who asked; for the log and the history */
	/*
	 * Called after OPERATE_DONE, of all but RETRY, when the outcome line
	 * is with the kernel; when spool_can_settle() is false then, it could
	 * not be written.
	 */
	void (*written)(void *ctx);
	void *ctx;
};

/* After OPERATE_DONE of a DELETE the stub is gone. */
enum operate_result relay_operate(
    struct relay *r, struct stub *stub, const struct operate_order *order);
/*
 * For who places a stub that is INFLIGHT and has nothing under way any more:
 * is there a wish?  true: it was carried out, and the stub may be gone.
 */
bool relay_grant_wish(struct relay *r, struct stub *stub);

/* Knock at SES now, whatever it said and however connecting went before. */
void relay_try_now(struct relay *r);
/* No new transaction begins; connections are closed as they fall idle.  The end
 * of a pause is also a relay_try_now(). */
void relay_pause_delivery(struct relay *r, bool paused);
/* New mail gets 452 4.3.2 at MAIL; what is under way is finished. */
void relay_pause_intake(struct relay *r, bool paused);
/* As a pause of the intake that ends by itself: while a drain runs. */
void relay_drain(struct relay *r, bool draining);
/* May a message of about `bytes` begin to come in? */
struct server_refusal relay_refusal(const struct relay *r, uint64_t bytes);

#endif
