/*
 * Between settle.c, which decides, and its helpers: settle_account.c (what it
 * means for all mail), settle_hold.c and settle_log.c (which tells).
 */
#ifndef RELAY_SETTLE_PRIVATE_H
#define RELAY_SETTLE_PRIVATE_H

#include "relay/attempt.h"

/* What an attempt did, recipient by recipient, and what it leaves. */
struct settlement {
	struct relay *relay;
	struct attempt *a;
	const struct verdict *verdict;
	const char *via;
	unsigned conn;
	int64_t now_us; /* monotonic */
	uint16_t *sent; /* positions */
	struct relay_failure *failed;
	unsigned n_sent, n_failed;
	const struct verdict *sent_verdict, *failed_verdict;
	char failed_reason[REPLY_TEXT_MAX + 600];
	/* The strongest verdict of those that stay; NULL: none stays. */
	const struct verdict *stays;
	bool expired;
	bool split;
	int64_t due_us; /* when it is tried again, monotonic; for the log */
};

/* What is done with a message of which something is left. */
enum settle_plan { PLAN_MOVE, PLAN_UNTAKE };

enum settle_weight { W_NONE, W_FREE, W_RETRY, W_UNCERTAIN, W_ACCOUNT };

enum settle_weight settle_weigh(const struct verdict *v);
/* A line for each recipient, in Postfix's shape; and the metrics of delay. */
void settle_log(const struct settlement *res, enum settle_plan plan);
/* Opens or closes the gate. */
void settle_tell_gate(const struct settlement *res);
/* Too old, without the time that the account could not send. */
bool settle_is_expired(const struct settlement *res);
/* Record the hold; then move the stub, unless its burial will, and say so. */
void settle_hold(struct settlement *res);

#endif
