/*
 * The registry of histograms, and their exposition.
 *
 * Owns the values: one atomic a bucket and one for the sum, relaxed, as those
 * of base/stat.  The count is not kept but added up, so that it always is what
 * the buckets hold.
 */
#include "base/histogram.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "sesrelayd_"
#define LABELS_MAX 16

static struct {
	_Atomic uint64_t buckets[HISTOGRAM_BOUNDS + 1];
	_Atomic int64_t sum;
} values[HISTOGRAM_N][LABELS_MAX];

static const char *const close_names[CLOSE_N] = {
	[CLOSE_COUNT] = "count",
	[CLOSE_AGE] = "age",
	[CLOSE_IDLE] = "idle",
	[CLOSE_SESSION_CAP] = "session_cap",
	[CLOSE_CONN_LIMIT] = "connection_limit",
	[CLOSE_LOST_IDLE] = "lost_idle",
	[CLOSE_LOST] = "lost",
	[CLOSE_TIMEOUT] = "timeout",
	[CLOSE_PROTOCOL] = "protocol",
	[CLOSE_REFUSED] = "refused",
	[CLOSE_RELOAD] = "reload",
	[CLOSE_ROTATE] = "rotate",
	[CLOSE_PAUSED] = "paused",
	[CLOSE_SHUTDOWN] = "shutdown",
};
static const char *const stage_names[STAGE_N] = {
	[STAGE_QUEUE] = "queue",
	[STAGE_CONNECT] = "connect",
	[STAGE_TRANSMISSION] = "transmission",
	[STAGE_TOTAL] = "total",
};
_Static_assert(CLOSE_N <= LABELS_MAX && STAGE_N <= LABELS_MAX, "labels");

static const struct histogram_info table[HISTOGRAM_N] = {
	[HISTOGRAM_CONNECTION_AGE] = {
		.name = "connection_age_seconds",
		.help = "Age of connections to SES when they ended, from the "
			"login on",
		.label = "reason",
		.labels = close_names,
		.n_labels = CLOSE_N,
		.unit = US_PER_S,
		.bounds = { US_PER_S / 10, US_PER_S, 2 * US_PER_S,
			5 * US_PER_S, 10 * US_PER_S, 20 * US_PER_S,
			30 * US_PER_S, 45 * US_PER_S, 60 * US_PER_S,
			120 * US_PER_S, 300 * US_PER_S, 900 * US_PER_S,
			3600 * US_PER_S },
		.n_bounds = 13,
	},
	[HISTOGRAM_CONNECTION_MESSAGES] = {
		.name = "connection_messages",
		.help = "Messages that connections to SES carried until they "
			"ended",
		.label = "reason",
		.labels = close_names,
		.n_labels = CLOSE_N,
		.unit = 1,
		.bounds = { 0, 1, 2, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50,
			100, 200, 500 },
		.n_bounds = 16,
	},
	[HISTOGRAM_DELIVERY_DELAY] = {
		.name = "delivery_delay_seconds",
		.help = "Time from acceptance to SES's 250, for each message "
			"that it took, by where it went",
		.label = "stage",
		.labels = stage_names,
		.n_labels = STAGE_N,
		.unit = US_PER_S,
		.bounds = { US_PER_S / 100, US_PER_S / 40, US_PER_S / 20,
			US_PER_S / 10, US_PER_S / 4, US_PER_S / 2, US_PER_S,
			5 * US_PER_S / 2, 5 * US_PER_S, 10 * US_PER_S,
			30 * US_PER_S, 60 * US_PER_S, 300 * US_PER_S,
			1800 * US_PER_S, 7200 * US_PER_S, 86400 * US_PER_S },
		.n_bounds = 16,
	},
};

const char *histogram_close_name(enum histogram_close reason)
{
	ASSERT((unsigned)reason < CLOSE_N);
	return close_names[reason];
}

const struct histogram_info *histogram_info(enum histogram_id id)
{
	ASSERT((unsigned)id < HISTOGRAM_N);
	return &table[id];
}

void histogram_observe(enum histogram_id id, unsigned label, int64_t value)
{
	const struct histogram_info *info = histogram_info(id);
	unsigned i = 0;

	ASSERT(label < info->n_labels);
	if (value < 0)
		value = 0;
	while (i < info->n_bounds && value > info->bounds[i])
		i++;
	atomic_fetch_add_explicit(
	    &values[id][label].buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(
	    &values[id][label].sum, value, memory_order_relaxed);
}

void histogram_read(
    enum histogram_id id, unsigned label, struct histogram_values *out)
{
	const struct histogram_info *info = histogram_info(id);

	ASSERT(label < info->n_labels);
	*out = (struct histogram_values){
		.sum = atomic_load_explicit(
		    &values[id][label].sum, memory_order_relaxed),
	};
	for (unsigned i = 0; i <= info->n_bounds; i++) {
		out->buckets[i] = atomic_load_explicit(
		    &values[id][label].buckets[i], memory_order_relaxed);
		out->count += out->buckets[i];
	}
}

/* 1500000 of a million: "1.5". */
static const char *format_value(int64_t value, int64_t unit, char buf[40])
{
	int64_t rest = value % unit;
	size_t len;

	if (rest == 0) {
		snprintf(buf, 40, "%" PRId64, value / unit);
		return buf;
	}
	ASSERT(unit == US_PER_S);
	len = (size_t)snprintf(
	    buf, 40, "%" PRId64 ".%06" PRId64, value / unit, rest);
	while (buf[len - 1] == '0')
		buf[--len] = '\0';
	return buf;
}

static void write_series(const struct histogram_info *info, const char *label,
    const struct histogram_values *v, void (*line)(void *ctx, const char *text),
    void *ctx)
{
	char text[256], number[40];
	uint64_t up_to = 0;

	for (unsigned i = 0; i <= info->n_bounds; i++) {
		up_to += v->buckets[i];
		snprintf(text, sizeof text,
		    PREFIX "%s_bucket{%s=\"%s\",le=\"%s\"} %" PRIu64,
		    info->name, info->label, label,
		    i < info->n_bounds
			? format_value(info->bounds[i], info->unit, number)
			: "+Inf",
		    up_to);
		line(ctx, text);
	}
	snprintf(text, sizeof text, PREFIX "%s_sum{%s=\"%s\"} %s", info->name,
	    info->label, label, format_value(v->sum, info->unit, number));
	line(ctx, text);
	snprintf(text, sizeof text, PREFIX "%s_count{%s=\"%s\"} %" PRIu64,
	    info->name, info->label, label, v->count);
	line(ctx, text);
}

void histogram_each(void (*line)(void *ctx, const char *text), void *ctx)
{
	struct histogram_values v;
	char text[256];

	for (int id = 0; id < HISTOGRAM_N; id++) {
		const struct histogram_info *info = &table[id];

		snprintf(text, sizeof text, "# HELP " PREFIX "%s %s",
		    info->name, info->help);
		line(ctx, text);
		snprintf(text, sizeof text, "# TYPE " PREFIX "%s histogram",
		    info->name);
		line(ctx, text);
		for (unsigned i = 0; i < info->n_labels; i++) {
			histogram_read((enum histogram_id)id, i, &v);
			if (v.count > 0)
				write_series(
				    info, info->labels[i], &v, line, ctx);
		}
	}
}

void histogram_reset(void)
{
	for (int id = 0; id < HISTOGRAM_N; id++)
		for (int i = 0; i < LABELS_MAX; i++) {
			atomic_store(&values[id][i].sum, 0);
			for (int k = 0; k <= HISTOGRAM_BOUNDS; k++)
				atomic_store(&values[id][i].buckets[k], 0);
		}
}
