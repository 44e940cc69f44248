/*
 * status: the state of everything as one object, all of it from memory; and
 * metrics.  Loop thread.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "metrics.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static json_t *queue_report(struct relay *r)
{
	int64_t oldest = queue_oldest(r->queue), now = clock_mono_us();
	json_t *q = json_object();

	for (int i = STUB_READY; i < STUB_N_STATES; i++)
		json_object_set_new(q, stub_state_name((enum stub_state)i),
		    json_integer(
			(json_int_t)queue_count(r->queue, (enum stub_state)i)));
	json_object_set_new(
	    q, "bytes", json_integer((json_int_t)queue_bytes(r->queue)));
	json_object_set_new(q, "oldest_age_seconds",
	    json_integer(oldest < now ? (now - oldest) / US_PER_S : 0));
	oldest = queue_oldest_moving(r->queue);
	json_object_set_new(q, "oldest_moving_age_seconds",
	    json_integer(oldest < now ? (now - oldest) / US_PER_S : 0));
	return q;
}

/* Where programs hand in mail, whoever opened the sockets. */
static json_t *listening_report(const struct relay *r)
{
	json_t *addresses = json_array();
	const char *address;

	for (unsigned i = 0; (address = inbound_address(r->inbound, i)); i++)
		json_array_append_new(addresses, json_string(address));
	return addresses;
}

static json_t *connections_report(const struct relay *r)
{
	json_t *o = json_object();

	for (int i = 0; i < POOL_N_STATES; i++)
		json_object_set_new(o, pool_state_name((enum pool_state)i),
		    json_integer(pool_count(r->pool, (enum pool_state)i)));
	return o;
}

static json_t *spool_report(const struct relay *r)
{
	const char *trouble = spool_intake_trouble(r->spool);
	struct spool_usage u;

	spool_usage(r->spool, &u);
	return json_pack("{s:b,s:o,s:I,s:I,s:I,s:I,s:b}", "healthy",
	    trouble == NULL, "reason", report_text(trouble), "free_bytes",
	    (json_int_t)u.free_bytes, "bytes", (json_int_t)u.bytes,
	    "live_bytes", (json_int_t)u.live_bytes, "failed",
	    (json_int_t)u.n_failed, "scanning", u.scanning);
}

static json_t *counters_report(void)
{
	json_t *o = json_object();

	for (int i = 0; i < STAT_N; i++) {
		const struct stat_info *info = stat_info((enum stat_id)i);
		char name[160];

		snprintf(name, sizeof name, "%s%s%s%s", info->name,
		    info->labels[0] != '\0' ? "{" : "", info->labels,
		    info->labels[0] != '\0' ? "}" : "");
		json_object_set_new(o, name,
		    json_integer((json_int_t)stat_get((enum stat_id)i)));
	}
	return o;
}

static json_t *rate_report(const struct rates *r)
{
	const int64_t short_us = 10 * US_PER_S, long_us = 60 * US_PER_S;
	json_t *o = json_object();

	json_object_set_new(
	    o, "accepted_10s", report_rate(rates_accepted(r, short_us)));
	json_object_set_new(
	    o, "sent_10s", report_rate(rates_sent(r, short_us)));
	json_object_set_new(
	    o, "accepted_60s", report_rate(rates_accepted(r, long_us)));
	json_object_set_new(o, "sent_60s", report_rate(rates_sent(r, long_us)));
	return o;
}

json_t *control_state(struct daemon *d)
{
	struct relay *r = d->relay;
	json_t *o = json_object();

	json_object_set_new(o, "version", json_string(SESRELAYD_VERSION));
	json_object_set_new(o, "uptime_seconds",
	    json_integer((clock_mono_us() - r->started_us) / US_PER_S));
	json_object_set_new(o, "upstream", control_upstream(d));
	json_object_set_new(o, "paused",
	    json_pack("{s:b,s:b,s:b}", "delivery", r->delivery_paused, "intake",
		r->intake_paused, "draining", r->draining));
	json_object_set_new(o, "queue", queue_report(r));
	json_object_set_new(o, "connections", connections_report(r));
	json_object_set_new(o, "listening", listening_report(r));
	json_object_set_new(
	    o, "bounce_from", report_text(d->config->bounce.from));
	json_object_set_new(o, "rate", rate_report(&d->rates));
	json_object_set_new(
	    o, "sessions", json_integer(inbound_n_sessions(r->inbound)));
	json_object_set_new(o, "spool", spool_report(r));
	json_object_set_new(
	    o, "last_reload_ok", json_boolean(d->last_reload_ok));
	json_object_set_new(o, "needs_restart", report_text(d->needs_restart));
	json_object_set_new(
	    o, "log_level", json_string(log_level_name(log_level())));
	json_object_set_new(o, "stopping", json_boolean(d->stopping));
	json_object_set_new(o, "counters", counters_report());
	return o;
}

void control_status(struct control_client *c, struct slice args)
{
	(void)args;
	control_put(c, control_state(c->daemon));
	control_ok(c);
}

void control_metrics(struct control_client *c, struct slice args)
{
	char *text = metrics_text(c->daemon);

	(void)args;
	control_put(c, json_pack("{s:s}", "metrics", text));
	free(text);
	control_ok(c);
}
