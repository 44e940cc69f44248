/*
 * What `status` says of SES and of the way there.  All of it from memory; loop
 * thread.
 */
#include "control_private.h"

#include "base/clock.h"
#include "upstream_state.h"

#include <limits.h>

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static json_t *seconds(int64_t us)
{
	return json_integer((us + US_PER_S - 1) / US_PER_S);
}

static json_t *port_report(const struct pool_port_view *port, int64_t now_us)
{
	json_t *o = json_object();

	set(o, "port", json_integer(port->port));
	set(o, "mode", json_string(port->wrapper ? "wrapper" : "starttls"));
	set(o, "in_use", json_boolean(port->in_use));
	set(o, "state", json_string(ports_state_name(port->state)));
	set(o, "reason", report_text(port->reason));
	set(o, "advice", report_text(port->advice));
	if (port->state == PORTS_GOOD)
		return o;
	set(o, "for_seconds",
	    json_integer((now_us - port->since_us) / US_PER_S));
	set(o, "next_try_seconds",
	    port->next_try_us > now_us ? seconds(port->next_try_us - now_us)
				       : json_integer(0));
	return o;
}

static json_t *ports_report(const struct relay *r)
{
	struct pool_port_view views[POOL_MAX_PORTS];
	unsigned n = pool_ports_view(r->pool, views);
	int64_t now = clock_mono_us();
	json_t *ports = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(ports, port_report(&views[i], now));
	return ports;
}

static json_t *rate_limit_report(const struct relay *r)
{
	json_t *o = json_object();

	double rate = upstream_rate_limit(r),
	       learned = pacer_learned(&r->pacer);

	set(o, "recipients_per_second", report_rate(rate));
	/* Of the two the lower one is in force. */
	set(o, "source",
	    json_string(rate <= 0                    ? "none"
		    : learned > 0 && learned <= rate ? "learned"
						     : "configured"));
	return o;
}

/* What SES was seen to do; only what there is of it. */
static json_t *learned_report(const struct relay *r)
{
	unsigned messages = pool_learned_messages(r->pool);
	int64_t age_us = pool_learned_age_us(r->pool);
	double rate = pacer_learned(&r->pacer);
	json_t *o = json_object();

	if (rate > 0)
		set(o, "recipients_per_second", report_rate(rate));
	if (messages > 0)
		set(o, "session_messages", json_integer(messages));
	if (age_us > 0)
		set(o, "session_seconds",
		    report_rate((double)age_us / US_PER_S));
	return o;
}

static json_t *size_report(const struct relay *r)
{
	json_t *o = json_object();
	struct pool_size_view view;

	pool_size(r->pool, &view);
	set(o, "max", json_integer(view.max));
	if (view.limit != UINT_MAX)
		set(o, "limit", json_integer(view.limit));
	if (view.retry_us > 0)
		set(o, "retry_seconds", seconds(view.retry_us));
	return o;
}

json_t *control_upstream(const struct daemon *d)
{
	const struct relay *r = d->relay;
	int64_t now = clock_mono_us(), wait = r->gate.until_us - now;
	json_t *o = json_object();

	set(o, "state", json_string(upstream_state_name(upstream_state(r))));
	set(o, "endpoint", report_text(d->config->endpoint));
	set(o, "port", json_integer(pool_port(r->pool)));
	set(o, "connect_error", report_text(pool_last_error(r->pool)));
	if (pool_new_credentials(r->pool)[0] != '\0')
		set(o, "new_credentials",
		    report_text(pool_new_credentials(r->pool)));
	set(o, "last_error", report_text(r->last_reply));
	if (r->gate.state != GATE_OPEN)
		set(o, "advice", report_text(r->last_advice));
	if (r->last_reply_us != 0)
		set(o, "last_error_time", report_time(r->last_reply_us));
	if (r->gate.state != GATE_OPEN)
		set(o, "since",
		    report_time(clock_wall_us() - (now - r->gate.since_us)));
	if (r->gate.state == GATE_CLOSED && wait > 0)
		set(o, "next_try_seconds", json_integer(wait / US_PER_S + 1));
	set(o, "rate_limit", rate_limit_report(r));
	set(o, "learned", learned_report(r));
	set(o, "adaptive_rotation",
	    json_boolean(d->config->options.pool.rotate.adaptive));
	set(o, "ports", ports_report(r));
	set(o, "mss", json_integer(pool_learned_mss(r->pool)));
	set(o, "pool", size_report(r));
	return o;
}
