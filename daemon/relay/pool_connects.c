/*
 * How often connecting to each port worked and failed, for the metrics.  Part
 * of the pool; loop thread.  Counted by number, so over reloads; a pool that
 * has had more ports than there is room for counts the rest as port 0.
 */
#include "relay/pool_private.h"

static struct pool_connects *find(struct pool *pool, uint16_t port)
{
	unsigned i = 0;

	while (i < pool->n_connects && pool->connects[i].port != port)
		i++;
	if (i == pool->n_connects) {
		if (i == ARRAY_LEN(pool->connects) - 1)
			port = 0;
		if (i < ARRAY_LEN(pool->connects))
			pool->n_connects++;
		else
			i--;
		pool->connects[i].port = port;
	}
	return &pool->connects[i];
}

void pool_count_connect(struct pool *pool, const struct outbound *o, bool ok)
{
	struct pool_connects *c =
	    find(pool, o->upstream->options.ports[o->port_index].port);

	if (ok)
		c->ok++;
	else
		c->failed++;
}

void pool_each_connects(struct pool *pool,
    void (*fn)(void *ctx, const struct pool_connects *connects), void *ctx)
{
	const struct pool_options *options = &pool->upstream->options;

	/* Those that were never tried are there, too. */
	for (unsigned i = 0; i < options->n_ports; i++)
		(void)find(pool, options->ports[i].port);
	for (unsigned i = 0; i < pool->n_connects; i++)
		fn(ctx, &pool->connects[i]);
}
