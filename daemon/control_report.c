/*
 * status: the state of everything as one object, all of it from memory.  Loop
 * thread.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/pace.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char *upstream_state(const struct relay *r)
{
	if (r->delivery_paused)
		return "paused";
	if (r->gate.state != GATE_OPEN)
		return gate_cause_name(r->gate.cause);
	if (relay_is_throttled(r))
		return "throttled";
	if (pool_last_error(r->pool)[0] != '\0' &&
	    pool_count(r->pool, POOL_IDLE) + pool_count(r->pool, POOL_BUSY) ==
		0)
		return "unreachable";
	return "ok";
}

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
	struct spool_usage u;

	spool_usage(r->spool, &u);
	return json_pack("{s:b,s:s,s:I,s:I,s:I,s:I,s:b}", "healthy", u.healthy,
	    "reason", u.reason != NULL ? u.reason : "", "free_bytes",
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

static json_t *ports_report(const struct relay *r)
{
	struct pool_port_view ports[POOL_MAX_PORTS];
	unsigned n = pool_ports_view(r->pool, ports);
	int64_t now = clock_mono_us();
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		const struct pool_port_view *p = &ports[i];
		json_t *o = json_pack("{s:I,s:s,s:b,s:s,s:o,s:o}", "port",
		    (json_int_t)p->port, "mode",
		    p->wrapper ? "wrapper" : "starttls", "in_use", p->in_use,
		    "state", ports_state_name(p->state), "reason",
		    report_text(p->reason), "advice", report_text(p->advice));

		if (p->state != PORTS_GOOD) {
			json_object_set_new(o, "for_seconds",
			    json_integer((now - p->since_us) / US_PER_S));
			json_object_set_new(o, "next_try_seconds",
			    json_integer(p->next_try_us > now
				    ? (p->next_try_us - now) / US_PER_S + 1
				    : 0));
		}
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *upstream_report(const struct daemon *d)
{
	struct relay *r = d->relay;
	int64_t wait = r->gate.until_us - clock_mono_us();
	json_t *o = json_object();

	json_object_set_new(o, "state", json_string(upstream_state(r)));
	json_object_set_new(o, "endpoint", report_text(d->config->endpoint));
	json_object_set_new(o, "port", json_integer(pool_port(r->pool)));
	json_object_set_new(o, "ports", ports_report(r));
	json_object_set_new(o, "mss", json_integer(pool_learned_mss(r->pool)));
	json_object_set_new(
	    o, "connect_error", report_text(pool_last_error(r->pool)));
	if (pool_new_credentials(r->pool)[0] != '\0')
		json_object_set_new(o, "new_credentials",
		    report_text(pool_new_credentials(r->pool)));
	json_object_set_new(o, "last_error", report_text(r->last_reply));
	if (r->last_reply_us != 0)
		json_object_set_new(
		    o, "last_error_time", report_time(r->last_reply_us));
	if (r->gate.state == GATE_CLOSED && wait > 0)
		json_object_set_new(
		    o, "next_try_seconds", json_integer(wait / US_PER_S + 1));
	return o;
}

void control_status(struct control_client *c, struct slice args)
{
	struct daemon *d = c->daemon;
	struct relay *r = d->relay;
	json_t *o = json_object();

	(void)args;
	json_object_set_new(o, "version", json_string(SESRELAYD_VERSION));
	json_object_set_new(o, "uptime_seconds",
	    json_integer((clock_mono_us() - r->started_us) / US_PER_S));
	json_object_set_new(o, "upstream", upstream_report(d));
	json_object_set_new(o, "paused",
	    json_pack("{s:b,s:b,s:b}", "delivery", r->delivery_paused, "intake",
		r->intake_paused, "draining", r->draining));
	json_object_set_new(o, "queue", queue_report(r));
	json_object_set_new(o, "connections", connections_report(r));
	json_object_set_new(o, "listening", listening_report(r));
	json_object_set_new(
	    o, "bounce_from", report_text(d->config->bounce.from));
	json_object_set_new(
	    o, "sessions", json_integer(inbound_n_sessions(r->inbound)));
	json_object_set_new(o, "spool", spool_report(r));
	json_object_set_new(
	    o, "last_reload_ok", json_boolean(d->last_reload_ok));
	json_object_set_new(o, "stopping", json_boolean(d->stopping));
	json_object_set_new(o, "counters", counters_report());
	control_put(c, o);
	control_ok(c);
}
