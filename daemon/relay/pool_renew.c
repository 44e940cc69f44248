/*
 * Renewing connections: which may not go on, which are to be replaced, in what
 * order.  Part of the pool; loop thread.
 *
 * A connection at its hard limit is closed before the next message.  At the
 * soft one it is closed, too, when nothing waits; under load a new one is
 * opened first (o->replacement), and when that is logged in, the neediest of
 * the old ones leaves: at once, or when its message is done (o->leaving).  Where
 * delivery.connections leaves no room for one more, the old one has to go
 * first.  Only so many renewals run at a time as the limits need
 * (policy/rotate.h), so the pool is never renewed in one wave.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"

/* A pool that sent nothing for so long needs no connection in advance. */
#define IN_USE_US (1 * US_PER_S)
/* For each connection: looking at all of them in each turn costs more, where
 * they are hundreds, than is gained by knowing it this moment. */
#define SURVEY_EVERY_US 10
/* Connections this full were in danger when SES named a cap so long ago. */
#define CAP_NEWS_US (200 * US_PER_MS)

static const struct rotate_options *rotate(const struct pool *pool)
{
	return &pool->upstream->options.rotate;
}

void pool_plan(struct pool *pool, struct outbound *o)
{
	o->limits =
	    rotate_plan(rotate(pool), &pool->learned, o->opened_us, o->number);
}

void pool_plan_all(struct pool *pool)
{
	struct outbound *o;

	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link)
		pool_plan(pool, o);
	TAILQ_FOREACH (o, &pool->lists[POOL_BUSY], link)
		pool_plan(pool, o);
}

static enum histogram_close close_of(enum rotate_reason reason)
{
	return reason == ROTATE_AGE ? CLOSE_AGE
	    : reason == ROTATE_IDLE ? CLOSE_IDLE
				    : CLOSE_COUNT;
}

/* Its replacement is due. */
static bool is_soft(const struct outbound *o, int64_t now)
{
	return o->rotate ||
	    rotate_soon(&o->limits, o->n_messages, now) != ROTATE_NOT;
}

/* Why it leaves before its hard limit. */
static enum histogram_close soft_reason(const struct outbound *o, int64_t now)
{
	enum rotate_reason soon = rotate_soon(&o->limits, o->n_messages, now);

	return o->rotate && soon == ROTATE_NOT ? CLOSE_ROTATE : close_of(soon);
}

/* For the log: the reasons that we ourselves have. */
static const char *words(enum histogram_close reason)
{
	switch (reason) {
	case CLOSE_COUNT:
		return "message count";
	case CLOSE_RELOAD:
		return "configuration changed";
	case CLOSE_ROTATE:
		return "rotation was asked for";
	case CLOSE_PAUSED:
		return "delivery is paused";
	case CLOSE_SHUTDOWN:
		return "stopping";
	default:
		return histogram_close_name(reason);
	}
}

static void quit(
    struct pool *pool, struct outbound *o, enum histogram_close reason)
{
	o->closing = reason;
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: closing after %u messages: %s", o->number,
	    o->via, o->n_messages, words(reason));
	pool_move(pool, o, POOL_DRAINING);
	outbound_quit(o);
}

static void leave(struct pool *pool, struct outbound *o, int64_t now)
{
	if (o->state == POOL_IDLE) {
		quit(pool, o, soft_reason(o, now));
		return;
	}
	o->leaving = true;
	o->closing = soft_reason(o, now);
}

/* --- what may not go on --- */

/* SES has just cut one that had carried no more: so it would cut this. */
static bool is_in_danger(
    const struct pool *pool, const struct outbound *o, int64_t now)
{
	return pool->cap_messages > 0 && o->n_messages >= pool->cap_messages &&
	    now - pool->cap_us < CAP_NEWS_US;
}

/* Another connection could take the next message. */
static bool has_another(
    const struct pool *pool, const struct outbound *than, int64_t now)
{
	const struct outbound *o;

	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link)
		if (o != than && !is_soft(o, now))
			return true;
	TAILQ_FOREACH (o, &pool->lists[POOL_BUSY], link)
		if (!o->leaving && !o->stale && !is_soft(o, now))
			return true;
	return false;
}

/* It would be missed: something waits, or has just been sent by it alone. */
static bool is_needed(const struct pool *pool, const struct outbound *o,
    size_t backlog, int64_t now)
{
	return backlog > 0 ||
	    (pool->sent_us != 0 && now - pool->sent_us < IN_USE_US &&
		!has_another(pool, o, now));
}

/* Why this idle connection may not carry the next message; CLOSE_N: it may. */
static enum histogram_close due_reason(const struct pool *pool,
    const struct outbound *o, size_t backlog, int64_t now)
{
	enum rotate_reason due;

	if (pool->stopping)
		return CLOSE_SHUTDOWN;
	if (pool->relay->delivery_paused)
		return CLOSE_PAUSED;
	if (o->stale)
		return CLOSE_RELOAD;
	if (o->leaving)
		return o->closing;
	due = rotate_due(
	    rotate(pool), &o->limits, o->n_messages, o->idle_since_us, now);
	if (due != ROTATE_NOT)
		return close_of(due);
	if (is_in_danger(pool, o, now))
		return CLOSE_COUNT;
	if (is_soft(o, now) && !is_needed(pool, o, backlog, now))
		return soft_reason(o, now);
	return CLOSE_N;
}

static void close_due(struct pool *pool, size_t backlog, int64_t now)
{
	struct outbound *o, *next;

	for (o = TAILQ_FIRST(&pool->lists[POOL_IDLE]); o != NULL; o = next) {
		enum histogram_close reason = due_reason(pool, o, backlog, now);

		next = TAILQ_NEXT(o, link);
		if (reason != CLOSE_N)
			quit(pool, o, reason);
	}
}

/* --- what is to be replaced --- */

/* The connections that carry mail, as far as renewals go. */
struct survey {
	struct rotate_crowd crowd;
	struct outbound *first; /* the neediest; NULL: none stays */
	unsigned first_slots;
	bool first_soft;
	unsigned n, n_soft, n_leaving;
};

static void survey_list(const struct pool *pool, enum pool_state state,
    struct survey *s, int64_t now)
{
	struct outbound *o;

	TAILQ_FOREACH (o, &pool->lists[state], link) {
		unsigned slots = rotate_slots_left(
		    &o->limits, o->n_messages, pool->renewal_us, now);
		bool soft = is_soft(o, now);

		if (o->leaving || o->stale) {
			s->n_leaving++;
			continue;
		}
		s->n++;
		s->n_soft += soft;
		rotate_crowd_add(&s->crowd, slots);
		if (s->first == NULL || (soft && !s->first_soft) ||
		    (soft == s->first_soft && slots < s->first_slots)) {
			s->first = o;
			s->first_slots = slots;
			s->first_soft = soft;
		}
	}
}

static void survey(const struct pool *pool, struct survey *s, int64_t now)
{
	*s = (struct survey){ 0 };
	survey_list(pool, POOL_IDLE, s, now);
	survey_list(pool, POOL_BUSY, s, now);
}

static unsigned n_replacements(const struct pool *pool)
{
	const struct outbound *o;
	unsigned n = 0;

	TAILQ_FOREACH (o, &pool->lists[POOL_CONNECTING], link)
		n += o->replacement;
	return n;
}

static bool has_room(const struct pool *pool)
{
	unsigned n = 0;

	for (int i = 0; i < POOL_N_STATES; i++)
		n += pool->counts[i];
	return n < pool_limit(pool);
}

static bool needs_replacement(
    const struct pool *pool, const struct survey *s, unsigned parallel)
{
	unsigned coming = n_replacements(pool);
	unsigned going = coming + s->n_leaving;

	if (s->first == NULL)
		return false;
	return s->n_soft > coming ||
	    (going < parallel && rotate_crowd_is_dense(&s->crowd, parallel));
}

static void replace_needed(struct pool *pool, size_t backlog, int64_t now)
{
	struct survey s;

	unsigned n = pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY];

	/* While connecting fails, what there is works on. */
	if (pool->stopping || pool->relay->delivery_paused ||
	    pool->sizing.failures > 0 ||
	    now - pool->surveyed_us < n * SURVEY_EVERY_US)
		return;
	pool->surveyed_us = now;
	for (;;) {
		unsigned parallel, busy;

		survey(pool, &s, now);
		parallel = rotate_parallel(
		    rotate(pool), &pool->learned, s.n, pool->renewal_us);
		busy = pool->counts[POOL_CONNECTING] +
		    pool->counts[POOL_DRAINING] + s.n_leaving;
		if (busy >= parallel ||
		    !needs_replacement(pool, &s, parallel) ||
		    !is_needed(pool, s.first, backlog, now))
			return;
		if (has_room(pool))
			pool_open(pool, pool->upstream)->replacement = true;
		else if (backlog > 0)
			leave(pool, s.first, now);
		else
			return;
	}
}

void pool_renew(struct pool *pool, int64_t now)
{
	size_t backlog = pool->stopping ? 0 : relay_backlog(pool->relay);

	close_due(pool, backlog, now);
	replace_needed(pool, backlog, now);
}

void pool_on_replacement(struct pool *pool, struct outbound *o, int64_t now)
{
	struct survey s;

	o->replacement = false;
	survey(pool, &s, now);
	if (s.first != NULL)
		leave(pool, s.first, now);
}

bool pool_await_fresh(struct pool *pool)
{
	unsigned others = pool_trial_count(pool) + pool_scout_count(pool);

	/* What there is, rather than to wait for what may take long. */
	if (pool->sizing.failures > 0)
		return false;
	if (pool->counts[POOL_CONNECTING] > others ||
	    pool->counts[POOL_DRAINING] > 0)
		return true; /* it comes, or there will be room for it */
	if (has_room(pool))
		(void)pool_open(pool, pool->upstream);
	else if (pool->counts[POOL_IDLE] > 0)
		quit(pool, TAILQ_LAST(&pool->lists[POOL_IDLE], pool_list),
		    CLOSE_COUNT);
	return true;
}

int64_t pool_renew_next(const struct pool *pool, int64_t now)
{
	int64_t next = INT64_MAX;
	const struct outbound *o;

	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link) {
		int64_t due = o->idle_since_us + rotate(pool)->idle_timeout_us;
		int64_t by_age = o->limits.soft_us > now ? o->limits.soft_us
							 : o->limits.expires_us;

		due = by_age < due ? by_age : due;
		next = due < next ? due : next;
	}
	return next;
}

unsigned pool_rotate(struct pool *pool)
{
	struct outbound *o;
	unsigned n = 0;

	TAILQ_FOREACH (o, &pool->lists[POOL_IDLE], link) {
		o->rotate = true;
		n++;
	}
	TAILQ_FOREACH (o, &pool->lists[POOL_BUSY], link) {
		o->rotate = true;
		n++;
	}
	relay_kick(pool->relay);
	return n;
}
