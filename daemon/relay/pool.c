/*
 * The pool of connections to SES.  Owns every struct outbound from
 * outbound_open() until pool_on_closed(); a connection's state is the list it
 * is on, and pool_move() is the only mover.  Runs on the loop thread.
 *
 * pool_dispatch() runs once a turn: it renews what is due, hands messages to
 * idle connections (the most recently used first) and opens new ones as
 * policy/sizing says.  Everything else only changes state and lets the next
 * turn see it.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Until the first login has shown it. */
#define RENEWAL_GUESS_US (500 * US_PER_MS)
/* A message that was lost with so many connections in a row goes out on a fresh
 * one; well before RELAY_MAX_FREE_RETRIES. */
#define FRESH_RETRIES 2

const char *pool_state_name(enum pool_state state)
{
	static const char *const names[POOL_N_STATES] = {
		[POOL_CONNECTING] = "connecting",
		[POOL_IDLE] = "idle",
		[POOL_BUSY] = "busy",
		[POOL_DRAINING] = "draining",
	};

	return names[state];
}

/* Legal edges; a connection may be closed from every state. */
static const bool edges[POOL_N_STATES][POOL_N_STATES] = {
	[POOL_CONNECTING] = { [POOL_IDLE] = true },
	[POOL_IDLE] = { [POOL_BUSY] = true, [POOL_DRAINING] = true },
	[POOL_BUSY] = { [POOL_IDLE] = true },
};

void pool_move(struct pool *pool, struct outbound *o, enum pool_state state)
{
	ASSERT(edges[o->state][state]);
	TAILQ_REMOVE(&pool->lists[o->state], o, link);
	pool->counts[o->state]--;
	o->state = state;
	/* At the head: the most recently used idle connection goes first. */
	TAILQ_INSERT_HEAD(&pool->lists[state], o, link);
	pool->counts[state]++;
	o->idle_since_us = state == POOL_IDLE ? clock_mono_us() : 0;
}

unsigned pool_count(const struct pool *pool, enum pool_state state)
{
	return pool->counts[state];
}

bool pool_empty(const struct pool *pool)
{
	for (int i = 0; i < POOL_N_STATES; i++)
		if (pool->counts[i] > 0)
			return false;
	return true;
}

const char *pool_last_error(const struct pool *pool)
{
	return pool->last_error;
}

const char *pool_host(const struct pool *pool)
{
	return pool->upstream->options.host;
}

unsigned pool_limit(const struct pool *pool)
{
	unsigned max = pool->upstream->options.max_connections;

	return pool->sizing.limit < max ? pool->sizing.limit : max;
}

/* --- opening and closing --- */

struct outbound *pool_open(struct pool *pool, struct upstream *u)
{
	struct outbound *o =
	    outbound_open(pool, pool->relay, u, ++pool->last_number);

	o->state = POOL_CONNECTING;
	TAILQ_INSERT_HEAD(&pool->lists[POOL_CONNECTING], o, link);
	pool->counts[POOL_CONNECTING]++;
	return o;
}

/* When an idle connection, or the hold-off of connecting, is next due; `next`:
 * what else is. */
static void set_timer(
    struct pool *pool, int64_t now, bool backlog, int64_t next)
{
	int64_t due = pool_renew_next(pool, now);

	next = due < next ? due : next;
	if (backlog && sizing_next(&pool->sizing, now) < next)
		next = sizing_next(&pool->sizing, now);
	if (next == INT64_MAX)
		loop_timer_clear(&pool->timer);
	else
		loop_timer_set(&pool->timer, next - now);
}

static void open_wanted(struct pool *pool, size_t backlog, int64_t now)
{
	/* A scout is one of the connections, and none that mail waits for. */
	unsigned scouts = pool_scout_count(pool);
	struct sizing_view view = {
		.max = pool->upstream->options.max_connections,
		.connecting = pool->counts[POOL_CONNECTING] -
		    pool_trial_count(pool) - scouts,
		/* For SES, one that has said QUIT is there until it is gone. */
		.open = pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY] +
		    pool->counts[POOL_DRAINING] + scouts,
		.idle = pool->counts[POOL_IDLE],
		.backlog = backlog,
		.rate = pacer_rate(&pool->relay->pacer),
	};
	unsigned n = sizing_want(&pool->sizing, &view, now);

	if (n > 0 && pool->relay->gate.cause == GATE_AUTH)
		pool_seek_credentials(pool);
	while (n-- > 0)
		(void)pool_open(pool, pool->upstream);
}

/*
 * The most recently used; for a message that a connection was lost with, the
 * one that is furthest from being lost by its own messages; and if that did
 * not help, a fresh one alone: NULL until that is there.
 */
static struct outbound *choose_idle(struct pool *pool, const struct attempt *a)
{
	struct outbound *best = TAILQ_FIRST(&pool->lists[POOL_IDLE]), *o;

	if (a->stub->free_retries == 0)
		return best;
	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link)
		if (o->n_messages < best->n_messages)
			best = o;
	if (a->stub->free_retries < FRESH_RETRIES || best->n_messages == 0)
		return best;
	return pool_await_fresh(pool) ? NULL : best;
}

static void give_out(struct pool *pool, int64_t now)
{
	while (!pool->stopping && pool->counts[POOL_IDLE] > 0) {
		const struct attempt *next = relay_peek(pool->relay);
		struct outbound *o =
		    next != NULL ? choose_idle(pool, next) : NULL;
		struct attempt *a = o != NULL ? relay_take(pool->relay) : NULL;

		if (a == NULL)
			break;
		o->gap_us = now - o->idle_since_us;
		o->sent_us = pool->sent_us = now;
		pool_move(pool, o, POOL_BUSY);
		outbound_send(o, a);
	}
}

void pool_dispatch(struct pool *pool)
{
	int64_t now = clock_mono_us(), next;
	size_t backlog;

	pool_renew(pool, now);
	give_out(pool, now);
	backlog = pool->stopping ? 0 : relay_backlog(pool->relay);
	next = pool_ports_scout(pool, backlog, now);
	if (backlog > 0)
		open_wanted(pool, backlog, now);
	set_timer(pool, now, backlog > 0, next);
}

/* --- life --- */

static void on_timer(void *ctx)
{
	struct pool *pool = ctx;

	relay_kick(pool->relay);
}

struct pool *pool_new(
    struct relay *relay, const struct pool_options *options, struct err *err)
{
	struct upstream *u = upstream_new(options, err);
	struct pool *pool;

	if (u == NULL)
		return NULL;
	pool = xcalloc(1, sizeof *pool);
	pool->relay = relay;
	pool->upstream = u;
	sizing_init(&pool->sizing);
	rotate_learn_init(&pool->learned, 0, 0, clock_mono_us());
	pool->renewal_us = RENEWAL_GUESS_US;
	pool_ports_reset(pool);
	for (int i = 0; i < POOL_N_STATES; i++)
		TAILQ_INIT(&pool->lists[i]);
	loop_timer_init(&pool->timer, relay->loop, on_timer, pool);
	pool_trial_init(pool);
	return pool;
}

void pool_shutdown(struct pool *pool)
{
	struct outbound *o, *next;

	pool->stopping = true;
	pool_trial_stop(pool);
	for (o = TAILQ_FIRST(&pool->lists[POOL_CONNECTING]); o != NULL;
	     o = next) {
		next = TAILQ_NEXT(o, link);
		outbound_drop(o, "stopping");
	}
}

void pool_try_now(struct pool *pool)
{
	sizing_try_now(&pool->sizing);
	ports_try_now(&pool->ports, clock_mono_us());
}

void pool_drop(struct pool *pool, bool all)
{
	struct outbound *o, *next;

	for (int i = 0; i < POOL_N_STATES; i++)
		for (o = TAILQ_FIRST(&pool->lists[i]); o != NULL; o = next) {
			next = TAILQ_NEXT(o, link);
			if (all || !outbound_at_dot(o))
				outbound_drop(o, "stopping");
		}
}

void pool_free(struct pool *pool)
{
	if (pool == NULL)
		return;
	pool->stopping = true;
	pool_drop(pool, true);
	pool_trial_fini(pool);
	loop_timer_fini(&pool->timer);
	upstream_unref(pool->upstream);
	free(pool);
}
