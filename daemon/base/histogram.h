/*
 * Histograms of the process: how often a value fell into which of some fixed
 * ranges, by one label each.  As Prometheus has them: `le` counts all values up
 * to a bound, with the sum and the count of all.  Any thread may observe;
 * reading is relaxed, but what is read of one series fits together.
 *
 * Values are integers (us, messages); the exposition divides them by `unit`.
 * A new histogram is a row in histogram.c and a line in the enum here.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/base.h"

enum histogram_id {
	HISTOGRAM_CONNECTION_AGE, /* us; label: enum histogram_close */
	HISTOGRAM_CONNECTION_MESSAGES, /* label: enum histogram_close */
	HISTOGRAM_DELIVERY_DELAY, /* us; label: enum histogram_stage */
	HISTOGRAM_N
};

/* Why a connection to SES ended that had been logged in. */
enum histogram_close {
	CLOSE_COUNT, /* messages_per_connection, or what was learned */
	CLOSE_AGE, /* connection_lifetime, or what was learned */
	CLOSE_IDLE, /* idle_timeout */
	CLOSE_SESSION_CAP, /* SES: that many messages are enough */
	CLOSE_CONN_LIMIT, /* SES: too many connections */
	CLOSE_LOST_IDLE, /* closed by SES or the network between messages */
	CLOSE_LOST, /* the same, with a message under way */
	CLOSE_TIMEOUT,
	CLOSE_PROTOCOL, /* what SES said made no sense */
	CLOSE_REFUSED, /* after a reply that ends it: account, credentials */
	CLOSE_RELOAD, /* the configuration changed */
	CLOSE_ROTATE, /* the operator asked for it */
	CLOSE_PAUSED, /* by the operator */
	CLOSE_SHUTDOWN,
	CLOSE_N
};
const char *histogram_close_name(enum histogram_close reason);

/* Where the time of a message went that SES took, as in `delays=` of the log. */
enum histogram_stage {
	STAGE_QUEUE, /* waiting, other attempts included */
	STAGE_CONNECT, /* until the connection was there that it waited for */
	STAGE_TRANSMISSION, /* MAIL to the reply to the final dot */
	STAGE_TOTAL,
	STAGE_N
};

#define HISTOGRAM_BOUNDS 16

struct histogram_info {
	const char *name; /* without "sesrelayd_" */
	const char *help;
	const char *label;
	const char *const *labels; /* its values */
	unsigned n_labels;
	int64_t unit;
	int64_t bounds[HISTOGRAM_BOUNDS]; /* ascending */
	unsigned n_bounds;
};

struct histogram_values {
	uint64_t
	    buckets[HISTOGRAM_BOUNDS + 1]; /* each alone; last: above all */
	uint64_t count;
	int64_t sum;
};

/* Negative values count as 0. */
void histogram_observe(enum histogram_id id, unsigned label, int64_t value);
const struct histogram_info *histogram_info(enum histogram_id id);
void histogram_read(
    enum histogram_id id, unsigned label, struct histogram_values *values);
/*
 * Every line of the text exposition, HELP and TYPE included, without its line
 * feed.  Series that nothing was observed of are left out.
 */
void histogram_each(void (*line)(void *ctx, const char *text), void *ctx);
void histogram_reset(void); /* for tests */

#endif
