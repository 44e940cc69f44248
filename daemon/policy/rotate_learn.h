/*
 * Learning where SES ends sessions, by the ends of connections.
 *
 * Two thresholds, messages and age.  What counts as evidence:
 *
 *   SES says so (421 Maximum message count per session reached)
 *                        the messages until then are the cap
 *   a connection lost while a message was under way
 *                        may be chance; four at alike places, at different
 *                        moments, while none came past there, are a cap
 *   an idle connection closed, time-outs, our own closing
 *                        no evidence of a cap; but one that came past the
 *                        place of an earlier loss shows that there is none
 *
 * The threshold goes below what was seen, by a margin, never below a floor; at
 * the configured limit and beyond it is none.  It recovers by scouts: from time
 * to time one connection, and never more, is allowed past the place of the last
 * cut.  If it is cut, the time until the next scout doubles (10 minutes to 4
 * hours); if it comes through, the threshold rises to where it came.  So a cap
 * that went away is found out, at the price of one more cut a scout.
 *
 * Pure; `now` is any monotonic clock in us.
 */
#ifndef POLICY_ROTATE_LEARN_H
#define POLICY_ROTATE_LEARN_H

#include "base/base.h"

#define ROTATE_FLOOR_MESSAGES 2
#define ROTATE_FLOOR_US 3000000
#define ROTATE_LOSSES 8

/* Losses that no connection has come past since. */
struct rotate_loss {
	int64_t value; /* messages or us */
	int64_t at_us; /* 0: none */
};

struct rotate_threshold {
	int64_t limit; /* 0: none */
	int64_t cut; /* the place of the cut that it lies below */
	int64_t next_scout_us, wait_us;
	unsigned scout; /* number of the connection; 0: none under way */
	struct rotate_loss losses[ROTATE_LOSSES];
	unsigned next_loss;
};

struct rotate_learned {
	struct rotate_threshold messages, age;
};

enum rotate_end {
	ROTATE_END_CLOSED, /* by us, or by SES while it was idle, or timed out */
	ROTATE_END_LOST, /* by SES or the network, with a message under way */
	ROTATE_END_CAP, /* SES said that the session has had its messages */
};

struct rotate_ended {
	enum rotate_end end;
	unsigned number; /* of the connection, as in rotate_plan() */
	unsigned messages; /* that it had carried, without the one it lost */
	/* When it was LOST; else when the last one that it carried began: so
	 * far SES has let it come. */
	int64_t age_us;
	/* The furthest that one of the connections still open has come, by the
	 * last message that it carried. */
	unsigned open_messages;
	int64_t open_age_us;
};

struct rotate_options;

/* Values of an earlier process, see rotate_learned_messages(); 0: none. */
void rotate_learn_init(struct rotate_learned *l, unsigned messages,
    int64_t age_us, int64_t now_us);
/* A connection was opened: it may be the next scout.  Before rotate_plan(). */
void rotate_learn_opened(struct rotate_learned *l,
    const struct rotate_options *options, unsigned number, int64_t now_us);
/* true: a threshold moved; every open connection has to be planned anew. */
bool rotate_learn_ended(struct rotate_learned *l,
    const struct rotate_options *options, const struct rotate_ended *ended,
    int64_t now_us);
/* The thresholds now, whether acted on or not; 0: none. */
unsigned rotate_learned_messages(const struct rotate_learned *l);
int64_t rotate_learned_age_us(const struct rotate_learned *l);
/* Is this connection to go past the last cut? */
bool rotate_is_scout(const struct rotate_learned *l, unsigned number);
/* What holds for connection `number`: configured, learned or a scout's. */
unsigned rotate_learned_max_messages(const struct rotate_learned *l,
    const struct rotate_options *options, unsigned number);
int64_t rotate_learned_lifetime_us(const struct rotate_learned *l,
    const struct rotate_options *options, unsigned number);

#endif
