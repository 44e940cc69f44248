/*
 * Which of ses.ports a connection tries, and what became of it.  Part of the
 * pool; loop thread.  Health is kept by position in ses.ports (policy/ports)
 * and forgotten when those change.
 *
 * A port that failed comes back by a scout: one connection that no mail waits
 * for and that takes no other port.  It is sent only while there is mail now
 * and then, and when the limit of connections leaves room; with a limit of one
 * connection it gives way to mail.  Invariants: pool->scout is on CONNECTING
 * or NULL; a connection made from other options than those in force tells
 * nothing about ports.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

/* Mail was sent that lately: it pays to know more. */
#define TRAFFIC_US (60 * US_PER_S)

void pool_ports_reset(struct pool *pool)
{
	ports_init(&pool->ports, pool->upstream->options.n_ports);
	pool->port_in_use = 0;
	if (pool->scout != NULL)
		pool->scout->scout = false;
	pool->scout = NULL;
}

int pool_port(const struct pool *pool)
{
	return pool->port_in_use;
}

unsigned pool_ports_view(const struct pool *pool, struct pool_port_view *out)
{
	const struct pool_options *options = &pool->upstream->options;
	int64_t now = clock_mono_us();

	for (unsigned i = 0; i < pool->ports.n; i++) {
		const struct ports_entry *e = &pool->ports.entries[i];

		out[i] = (struct pool_port_view){
			.port = options->ports[i].port,
			.wrapper = options->ports[i].wrapper,
			.in_use = options->ports[i].port == pool->port_in_use,
			.state = ports_state(&pool->ports, i, now),
			.reason = e->reason,
			.advice = e->advice,
			.since_us = e->since_us,
			.next_try_us = e->until_us,
		};
	}
	return pool->ports.n;
}

/* --- for a connection --- */

/* Its ports are those of the pool. */
static bool is_of_pool(const struct pool *pool, const struct outbound *o)
{
	return !o->stale && !o->trial &&
	    o->upstream->options.n_ports == pool->ports.n;
}

int pool_choose_port(
    struct pool *pool, const struct upstream *u, uint32_t tried)
{
	if (upstream_same_place(u, pool->upstream))
		return ports_choose(&pool->ports, tried);
	for (unsigned i = 0; i < u->options.n_ports; i++)
		if ((tried & 1u << i) == 0)
			return (int)i;
	return -1;
}

bool pool_port_is_proven(const struct pool *pool, const struct outbound *o)
{
	return is_of_pool(pool, o) && pool->ports.entries[o->port_index].proven;
}

/* "587: connection timed out; 465: refused", of those before the first good. */
static void describe_passed_over(
    const struct pool *pool, int first, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (int i = 0; i < first && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%u: %s",
		    i > 0 ? "; " : "", pool->upstream->options.ports[i].port,
		    pool->ports.entries[i].reason);
}

static void tell_change(const struct pool *pool, int first, bool is_first_ever)
{
	char passed_over[700];

	if (first == 0) {
		if (!is_first_ever)
			log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
			    "mail goes by port %d again, the first of "
			    "ses.ports",
			    pool->port_in_use);
		return;
	}
	describe_passed_over(pool, first, passed_over, sizeof passed_over);
	log_msg(LOG_LEVEL_WARNING, LOG_SMTP, LOG_NO_ID,
	    "mail goes by port %d now; %s (%s); see \"sesrelayctl check\"",
	    pool->port_in_use, passed_over, pool->ports.entries[0].advice);
}

void pool_port_works(struct pool *pool, const struct outbound *o)
{
	int first, before = pool->port_in_use;

	if (!is_of_pool(pool, o))
		return;
	ports_on_ok(&pool->ports, o->port_index);
	first = ports_first_good(&pool->ports);
	ASSERT(first >= 0);
	pool->port_in_use = pool->upstream->options.ports[first].port;
	if (pool->port_in_use != before)
		tell_change(pool, first, before == 0);
}

void pool_port_failed(struct pool *pool, const struct outbound *o,
    bool may_pass, const char *reason, const char *advice)
{
	const struct ports_entry *e = &pool->ports.entries[o->port_index];
	int64_t now = clock_mono_us();

	if (!is_of_pool(pool, o) ||
	    (may_pass && !ports_on_doubt(&pool->ports, o->port_index, now)))
		return;
	ports_on_failed(&pool->ports, o->port_index, reason, advice, now);
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: the port is passed over: %s; next try in %lld s",
	    o->number, o->via, reason,
	    (long long)((e->until_us - now) / US_PER_S));
}

/* --- scouts --- */

unsigned pool_scout_count(const struct pool *pool)
{
	return pool->scout != NULL;
}

/* May one connection more be opened, and is there anybody whom it helps? */
static bool may_scout(const struct pool *pool, size_t backlog)
{
	unsigned limit = pool_limit(pool);
	unsigned have = pool->counts[POOL_CONNECTING] - pool_trial_count(pool) +
	    pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY] +
	    pool->counts[POOL_DRAINING];

	return !pool->stopping && !pool->relay->delivery_paused &&
	    pool->relay->gate.state == GATE_OPEN && have < limit &&
	    !(limit == 1 && backlog > 0);
}

static bool has_traffic(const struct pool *pool, size_t backlog, int64_t now)
{
	return backlog > 0 || pool->counts[POOL_BUSY] > 0 ||
	    (pool->sent_us > 0 && now - pool->sent_us < TRAFFIC_US);
}

int64_t pool_ports_scout(struct pool *pool, size_t backlog, int64_t now)
{
	int port = ports_scout(&pool->ports, now);

	if (pool->scout != NULL) {
		/* It may have the only place there is. */
		if (backlog > 0 && pool_limit(pool) == 1)
			outbound_drop(pool->scout, "mail needs its place");
		return INT64_MAX;
	}
	if (!has_traffic(pool, backlog, now))
		return INT64_MAX;
	if (port < 0)
		return ports_scout_next(&pool->ports, now);
	if (!may_scout(pool, backlog))
		return INT64_MAX; /* whatever changes that is a turn */
	pool->scout = pool_open(pool, pool->upstream);
	pool->scout->scout = true;
	pool->scout->port_index = (unsigned)port;
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u: does port %u work again?", pool->scout->number,
	    pool->upstream->options.ports[port].port);
	return INT64_MAX;
}

void pool_scout_arrived(struct pool *pool, struct outbound *o)
{
	o->scout = false;
	pool->scout = NULL;
}

void pool_scout_lost(
    struct pool *pool, struct outbound *o, const struct verdict *v)
{
	pool->scout = NULL;
	if (pool->stopping || o->dropped)
		return;
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: it does not, or could not be seen: %s",
	    o->number, o->via, v->text);
	/* Unless that was the port's own fault, and is counted. */
	ports_on_nothing(&pool->ports, o->port_index, clock_mono_us());
	relay_on_account(pool->relay, v);
}
