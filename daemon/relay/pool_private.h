/*
 * Between pool.c (lists, dispatch, life), pool_ports.c (which port is tried)
 * and pool_events.c (what a connection's beginning and end teach).
 */
#ifndef RELAY_POOL_PRIVATE_H
#define RELAY_POOL_PRIVATE_H

#include "policy/sizing.h"
#include "relay/outbound.h"
#include "relay/pool.h"

struct port_health {
	int64_t penalty_us;
	int64_t until_us; /* passed over before this; 0: in good standing */
};

struct pool {
	struct relay *relay;
	struct upstream *upstream;
	struct sizing sizing;
	TAILQ_HEAD(pool_list, outbound) lists[POOL_N_STATES];
	unsigned counts[POOL_N_STATES];
	struct port_health ports[POOL_MAX_PORTS];
	int port_in_use;
	unsigned last_number;
	bool stopping;
	struct loop_timer timer;
	char last_error[1400];
};

/* The only mover; checks that the edge is legal. */
void pool_move(struct pool *pool, struct outbound *o, enum pool_state state);

#endif
