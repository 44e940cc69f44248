/*
 * Which of ses.ports a connection tries, and what became of it.  Part of the
 * pool; loop thread.  A port that fails is passed over while others are good;
 * health is kept by position in ses.ports and forgotten when those change.
 */
#include "relay/pool_private.h"

#include "base/clock.h"

/* A port that failed is tried again after this, doubling to the most. */
#define PORT_PENALTY_MIN_US (30 * US_PER_S)
#define PORT_PENALTY_MAX_US (600 * US_PER_S)

int pool_port(const struct pool *pool)
{
	return pool->port_in_use;
}

int pool_choose_port(
    struct pool *pool, const struct upstream *u, uint32_t tried)
{
	int64_t now = clock_mono_us();
	int best = -1;

	for (unsigned i = 0; i < u->options.n_ports; i++) {
		if ((tried & 1u << i) != 0)
			continue;
		if (pool->ports[i].until_us <= now)
			return (int)i;
		/* All in penalty: the one that comes out of it first. */
		if (best < 0 ||
		    pool->ports[i].until_us < pool->ports[best].until_us)
			best = (int)i;
	}
	return best;
}

bool pool_report_port(struct pool *pool, const struct outbound *o, bool ok)
{
	struct port_health *p = &pool->ports[o->port_index];
	bool news = ok != (p->penalty_us == 0);

	if (o->stale || o->trial)
		return news; /* its ports are those of another configuration */

	if (ok) {
		*p = (struct port_health){ 0 };
		pool->port_in_use =
		    o->upstream->options.ports[o->port_index].port;
		return news;
	}
	p->penalty_us =
	    p->penalty_us == 0 ? PORT_PENALTY_MIN_US : p->penalty_us * 2;
	if (p->penalty_us > PORT_PENALTY_MAX_US)
		p->penalty_us = PORT_PENALTY_MAX_US;
	p->until_us = clock_mono_us() + p->penalty_us;
	return news;
}
