/*
 * New options: in force at once, or, when they bring new credentials while the
 * old ones work, after SES has accepted a login with them.  Part of the pool;
 * loop thread.
 *
 * Owns pool->candidate, what waits to be in force, and the timer of its next
 * trial.  The trial is one connection, made from the candidate, that is on the
 * list CONNECTING with o->trial set: it counts for nothing but itself.
 * Invariants: at most one trial is under way; there is none without a
 * candidate; a candidate that is replaced takes its trial along.
 *
 * SES answers 535 for the first minutes of a new key's life, so a refusal is
 * not the last word: the trial is repeated.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stat.h"

#include <stdio.h>
#include <string.h>

/* After a trial that SES did not answer. */
#define TRIAL_UNANSWERED_US (10 * US_PER_S)

unsigned pool_trial_count(const struct pool *pool)
{
	return pool->trial != NULL;
}

const char *pool_new_credentials(const struct pool *pool)
{
	if (pool->candidate == NULL)
		return "";
	return pool->trial_error[0] != '\0' ? pool->trial_error : "being tried";
}

/* Forgets the candidate, and the trial that may be under way. */
static void forget(struct pool *pool)
{
	struct outbound *trial = pool->trial;

	pool->trial = NULL;
	if (trial != NULL)
		outbound_drop(trial, "other credentials are to be tried");
	loop_timer_clear(&pool->trial_timer);
	gate_init(&pool->trial_gate);
	pool->trial_error[0] = '\0';
	upstream_unref(pool->candidate);
	pool->candidate = NULL;
}

static void begin(struct pool *pool)
{
	if (pool->stopping || pool->trial != NULL)
		return;
	loop_timer_clear(&pool->trial_timer);
	pool->trial = pool_open(pool, pool->candidate);
	pool->trial->trial = true;
}

/* Asks for what the sources have by now; pool_configure() may be called. */
static void reread(struct pool *pool)
{
	struct relay *r = pool->relay;

	if (r->reread_credentials != NULL)
		r->reread_credentials(r->reread_ctx);
}

static void on_trial_timer(void *ctx)
{
	struct pool *pool = ctx;

	reread(pool);
	if (pool->candidate != NULL)
		begin(pool);
}

void pool_trial_init(struct pool *pool)
{
	gate_init(&pool->trial_gate);
	loop_timer_init(
	    &pool->trial_timer, pool->relay->loop, on_trial_timer, pool);
}

void pool_trial_stop(struct pool *pool)
{
	forget(pool);
}

void pool_trial_fini(struct pool *pool)
{
	forget(pool);
	loop_timer_fini(&pool->trial_timer);
}

/* --- what is in force --- */

/* Takes the reference. */
static void put_in_force(struct pool *pool, struct upstream *u)
{
	bool moved = !upstream_same_place(pool->upstream, u);

	pool->last_error[0] = '\0';
	gate_reopen(&pool->relay->gate);
	upstream_unref(pool->upstream);
	pool->upstream = u;
	if (moved)
		pool_ports_reset(pool);
}

/* Of connections in these states, but `fresh`, none carries another message;
 * mail that waits for one which is not there yet waits for a new one. */
static void make_stale(struct pool *pool, enum pool_state first,
    enum pool_state last, const struct outbound *fresh)
{
	struct outbound *o, *next;

	for (enum pool_state i = first; i <= last; i++)
		for (o = TAILQ_FIRST(&pool->lists[i]); o != NULL; o = next) {
			next = TAILQ_NEXT(o, link);
			if (o == fresh)
				continue;
			o->stale = true;
			if (i == POOL_CONNECTING)
				outbound_drop(o, "the configuration changed");
		}
}

/* At once: what there is leads elsewhere, or is good for nothing. */
static void replace(struct pool *pool, struct upstream *u)
{
	make_stale(pool, 0, POOL_N_STATES - 1, NULL);
	sizing_init(&pool->sizing);
	put_in_force(pool, u);
}

/*
 * `fresh` is made from `u`.  What is logged in to the same place is as good as
 * before, and is replaced one by one; else it has to go.
 */
static void succeed(
    struct pool *pool, struct upstream *u, struct outbound *fresh)
{
	bool moved = !upstream_same_place(pool->upstream, u);

	make_stale(pool, 0, moved ? POOL_N_STATES - 1 : POOL_CONNECTING, fresh);
	if (moved)
		sizing_init(&pool->sizing);
	else
		(void)pool_rotate(pool);
	put_in_force(pool, u);
}

/*
 * The old credentials work, as far as is known, and so they are not given up
 * before the new ones have shown that they do.
 */
static bool has_to_prove_itself(
    const struct pool *pool, const struct upstream *u)
{
	if (upstream_same_login(pool->upstream, u) ||
	    pool->relay->gate.cause == GATE_AUTH)
		return false;
	return pool->last_error[0] == '\0' ||
	    pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY] > 0;
}

/* The limits are nothing that SES would have to agree to. */
static void take_limits(struct pool *pool, const struct pool_options *options)
{
	struct upstream *u = upstream_with_limits(pool->upstream, options);

	upstream_unref(pool->upstream);
	pool->upstream = u;
}

int pool_configure(
    struct pool *pool, const struct pool_options *options, struct err *err)
{
	struct upstream *u = upstream_new(options, err);

	if (u == NULL)
		return -1;
	if (pool->stopping || upstream_same(pool->upstream, u)) {
		forget(pool);
		upstream_unref(pool->upstream);
		pool->upstream = u;
	} else if (!has_to_prove_itself(pool, u)) {
		forget(pool);
		replace(pool, u);
	} else {
		take_limits(pool, options);
		/* The same again is no reason to begin anew what is under
		 * way, but one to try now. */
		if (pool->candidate == NULL ||
		    !upstream_same(pool->candidate, u))
			forget(pool);
		upstream_unref(pool->candidate);
		pool->candidate = u;
		begin(pool);
	}
	return 0;
}

/* --- the trial's end --- */

void pool_trial_accepted(struct pool *pool, struct outbound *o)
{
	struct upstream *u = pool->candidate;

	ASSERT(o == pool->trial && u != NULL);
	log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: SES accepted the new credentials; they are in "
	    "force, and connections are renewed with them",
	    o->number, o->via);
	o->trial = false;
	pool->trial = NULL;
	pool->candidate = NULL;
	succeed(pool, u, o);
	forget(pool);
}

static void note_refusal(struct pool *pool, const struct verdict *v)
{
	char text[sizeof pool->trial_error];
	int64_t now = clock_mono_us();
	bool news;

	stat_add(STAT_AUTH_FAILURES, 1);
	(void)gate_on_trouble(&pool->trial_gate, GATE_AUTH, now, (uint64_t)now);
	loop_timer_set(&pool->trial_timer, pool->trial_gate.until_us - now);
	snprintf(text, sizeof text, "refused: %s%s%s", v->text,
	    v->advice != NULL ? ": " : "", v->advice != NULL ? v->advice : "");
	news = strcmp(text, pool->trial_error) != 0;
	memcpy(pool->trial_error, text, sizeof text);
	log_msg(news ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
	    "the new password was %s; connections go on with the old one, the "
	    "new one is tried again in %lld s and at each reload",
	    text, (long long)((pool->trial_gate.until_us - now) / US_PER_S));
}

/* The network, or the load, but not a word about the credentials. */
static void note_unanswered(
    struct pool *pool, const struct outbound *o, const struct verdict *v)
{
	char text[sizeof pool->trial_error];

	stat_add(STAT_CONNECTS_FAILED, 1);
	snprintf(text, sizeof text, "not tried yet: %s", v->text);
	log_msg(strcmp(text, pool->trial_error) != 0 ? LOG_LEVEL_WARNING
						     : LOG_LEVEL_DEBUG,
	    LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: the new password could not be tried, and will "
	    "be soon; connections go on with the old one: %s",
	    o->number, o->via, v->text);
	memcpy(pool->trial_error, text, sizeof text);
	loop_timer_set(&pool->trial_timer, TRIAL_UNANSWERED_US);
}

void pool_trial_closed(
    struct pool *pool, struct outbound *o, const struct verdict *v)
{
	if (o != pool->trial)
		return; /* nobody wants to know any more */
	pool->trial = NULL;
	if (pool->stopping)
		return;
	if (v->class != VERDICT_HOLD_AUTH && v->class != VERDICT_HOLD_ACCOUNT) {
		note_unanswered(pool, o, v);
		return;
	}
	note_refusal(pool, v);
	reread(pool);
}

/* --- when nothing works --- */

void pool_seek_credentials(struct pool *pool)
{
	struct upstream *u = pool->candidate;

	if (pool->stopping)
		return;
	if (u == NULL) {
		reread(pool);
		return;
	}
	log_msg(LOG_LEVEL_WARNING, LOG_SMTP, LOG_NO_ID,
	    "SES refuses the old credentials: the new ones are in force "
	    "without a trial");
	pool->candidate = NULL;
	forget(pool);
	replace(pool, u);
}
