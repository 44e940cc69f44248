/*
 * What the operator does to queued messages and to the relay as a whole.
 *
 * A message that is INFLIGHT is left to its attempt when that has begun: what
 * SES takes is delivered, whatever was asked meanwhile.  The wish is noted in
 * the stub and carried out when the attempt is settled, for what is then still
 * pending.  One that is only loaded, or being loaded, is taken back.
 *
 * hold, release and delete are outcome lines; they last over restarts.  A
 * pause does not: it is a state of this process.
 */
#ifndef RELAY_OPERATE_H
#define RELAY_OPERATE_H

#include "relay/relay.h"

enum operate_verb {
	OPERATE_NONE,
	OPERATE_RETRY, /* READY, also one that waits for its time */
	OPERATE_HOLD,
	OPERATE_RELEASE, /* of what is held; READY */
	OPERATE_DELETE, /* no dead letter, no notice */
};

enum operate_result {
	OPERATE_DONE,
	OPERATE_LATER, /* it is being sent: see above */
	OPERATE_NOT, /* nothing to do: not held, already held, ... */
};

/* After OPERATE_DONE of a DELETE the stub is gone. */
enum operate_result relay_operate(
    struct relay *r, struct stub *stub, enum operate_verb verb);
/* For relay_settle(): does the wish, if there is one, replace `next`? */
bool relay_grant_wish(struct relay *r, struct stub *stub);

/* No new transaction begins; connections are closed as they fall idle. */
void relay_pause_delivery(struct relay *r, bool paused);
/* New mail gets 452 4.3.2 at MAIL; what is under way is finished. */
void relay_pause_intake(struct relay *r, bool paused);

#endif
