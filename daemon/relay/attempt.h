/*
 * One transaction to be: a message in memory and the recipients that this
 * transaction is for.
 */
#ifndef RELAY_ATTEMPT_H
#define RELAY_ATTEMPT_H

#include "relay/relay.h"

/*
 * Takes the message.  Its pending recipients from stub->cursor on, at most
 * `max` of them; NULL (and the message freed) when none is pending.
 */
struct attempt *attempt_new(struct stub *stub, struct message *m, unsigned max);
void attempt_free(struct attempt *a); /* and the message; NULL is legal */
/* The verdict of recipient i of the transaction: its own or the message's. */
const struct verdict *attempt_verdict(
    const struct attempt *a, unsigned i, const struct verdict *message);

/* The outcome line of a stub's message, now; the rest is to be filled in. */
struct spool_outcome relay_outcome(
    const struct stub *stub, enum spool_event event);

/* --- parts of relay.c that settle.c and bury.c use --- */

/* Where a stub goes after its attempt. */
enum relay_next {
	RELAY_NEXT_DONE, /* nothing pending is left: forget it */
	RELAY_NEXT_READY, /* other recipients are still to be tried */
	RELAY_NEXT_WAIT, /* until due_us */
	RELAY_NEXT_HOLD, /* until the operator has looked */
};

/* A recipient that is given up. */
struct relay_failure {
	uint16_t position;
	char dsn[12];
	const char *text; /* what SES replied, or what happened */
	bool replied; /* it is a reply */
};

struct relay_burial {
	struct stub *stub;
	struct message *message; /* taken; with its content, unless large */
	const struct relay_failure *failures; /* copied, as the texts are */
	unsigned n_failures;
	const char *reason; /* in words, for all of them */
	const char *via;
	enum relay_next next;
	int64_t due_us;
};
/*
 * Dead letter for these recipients, the notice of it (relay/notice.h), then
 * their outcome line; the stub stays INFLIGHT meanwhile and goes where `next`
 * says afterwards.
 */
void relay_bury(struct relay *r, const struct relay_burial *burial);
/* The lines of a message that is durable now. */
void relay_log_accepted(const struct message *m);
/*
 * An INFLIGHT stub whose message is only loaded or being loaded: that is
 * forgotten, and the caller places the stub.  false: its attempt has begun.
 */
bool relay_take_back(struct relay *r, struct stub *stub);
/* Where a stub goes after its attempt, unless the operator has a wish. */
void relay_move(
    struct relay *r, struct stub *stub, enum relay_next next, int64_t due_us);

#endif
