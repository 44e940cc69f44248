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

static void quit_connection(
    struct pool *pool, struct outbound *o, const char *reason)
{
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: closing after %u messages: %s", o->number,
	    o->via, o->n_messages, reason);
	pool_move(pool, o, POOL_DRAINING);
	outbound_quit(o);
}

/* Why this idle connection may not carry the next message; NULL: it may. */
static const char *due_reason(
    const struct pool *pool, const struct outbound *o, int64_t now)
{
	enum rotate_reason due;

	if (pool->stopping)
		return "stopping";
	if (pool->relay->delivery_paused)
		return "delivery is paused";
	if (o->stale)
		return "configuration changed";
	due = rotate_due(&pool->upstream->options.rotate, &o->limits,
	    o->n_messages, o->idle_since_us, now);
	return due == ROTATE_NOT ? NULL : rotate_reason_name(due);
}

static void close_due(struct pool *pool, int64_t now)
{
	struct outbound *o, *next;

	for (o = TAILQ_FIRST(&pool->lists[POOL_IDLE]); o != NULL; o = next) {
		const char *reason = due_reason(pool, o, now);

		next = TAILQ_NEXT(o, link);
		if (reason != NULL)
			quit_connection(pool, o, reason);
	}
}

/* When an idle connection, or the hold-off of connecting, is next due. */
static void set_timer(struct pool *pool, int64_t now, bool backlog)
{
	const struct rotate_options *rotate = &pool->upstream->options.rotate;
	int64_t next = backlog ? sizing_next(&pool->sizing, now) : INT64_MAX;
	struct outbound *o;

	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link) {
		int64_t due = o->idle_since_us + rotate->idle_timeout_us;

		if (o->limits.expires_us < due)
			due = o->limits.expires_us;
		if (due < next)
			next = due;
	}
	if (next == INT64_MAX)
		loop_timer_clear(&pool->timer);
	else
		loop_timer_set(&pool->timer, next - now);
}

static void open_wanted(struct pool *pool, size_t backlog, int64_t now)
{
	struct sizing_view view = {
		.max = pool->upstream->options.max_connections,
		.connecting =
		    pool->counts[POOL_CONNECTING] - pool_trial_count(pool),
		.open = pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY],
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

void pool_dispatch(struct pool *pool)
{
	int64_t now = clock_mono_us();
	struct outbound *o;
	size_t backlog;

	close_due(pool, now);
	while (!pool->stopping &&
	    (o = TAILQ_FIRST(&pool->lists[POOL_IDLE])) != NULL) {
		struct attempt *a = relay_take(pool->relay);

		if (a == NULL)
			break;
		pool_move(pool, o, POOL_BUSY);
		outbound_send(o, a);
	}
	backlog = pool->stopping ? 0 : relay_backlog(pool->relay);
	if (backlog > 0)
		open_wanted(pool, backlog, now);
	set_timer(pool, now, backlog > 0);
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
