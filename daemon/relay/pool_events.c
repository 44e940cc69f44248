/*
 * What a connection tells the pool: it is logged in, it is free again, it is
 * gone; and what follows from that for size, account and log.  Part of the
 * pool; loop thread.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stat.h"

#include <stdio.h>
#include <string.h>

void pool_on_ready(struct pool *pool, struct outbound *o)
{
	int64_t now = clock_mono_us();

	stat_add(STAT_CONNECTS_OK, 1);
	if (o->trial)
		pool_trial_accepted(pool, o);
	sizing_on_connected(&pool->sizing, now);
	gate_on_login(&pool->relay->gate);
	if (pool->last_error[0] != '\0')
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "connected to %s again", o->via);
	pool->last_error[0] = '\0';
	o->limits =
	    rotate_plan(&pool->upstream->options.rotate, now, o->number);
	pool_move(pool, o, POOL_IDLE);
}

void pool_on_free(struct pool *pool, struct outbound *o)
{
	pool_move(pool, o, POOL_IDLE);
}

void pool_on_transaction(struct pool *pool, int64_t took_us, unsigned n_rcpts)
{
	sizing_on_transaction(&pool->sizing, took_us, n_rcpts);
}

/* Trouble before the login: one log line when it begins or changes. */
static void note_connect_failure(
    struct pool *pool, const struct outbound *o, const struct verdict *v)
{
	char text[sizeof pool->last_error];

	stat_add(STAT_CONNECTS_FAILED, 1);
	snprintf(text, sizeof text, "%s%s%s", v->text,
	    v->advice != NULL ? ": " : "", v->advice != NULL ? v->advice : "");
	log_msg(strcmp(text, pool->last_error) != 0 ? LOG_LEVEL_WARNING
						    : LOG_LEVEL_DEBUG,
	    LOG_SMTP, LOG_NO_ID, "conn=%u relay=%s: %s", o->number, o->via,
	    text);
	memcpy(pool->last_error, text, sizeof text);
}

static bool is_about_login(const struct verdict *v)
{
	return v->class == VERDICT_HOLD_AUTH;
}

void pool_on_closed(struct pool *pool, struct outbound *o, bool logged_in,
    const struct verdict *verdict)
{
	int64_t now = clock_mono_us();

	TAILQ_REMOVE(&pool->lists[o->state], o, link);
	pool->counts[o->state]--;
	if (verdict->class == VERDICT_CONN_LIMIT)
		sizing_on_conn_limit(&pool->sizing,
		    pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY], now);
	if (o->trial) {
		pool_trial_closed(pool, o, verdict);
	} else if (!logged_in && o->stale && is_about_login(verdict)) {
		/* Of credentials that are not in force any more. */
	} else if (!logged_in && !pool->stopping) {
		sizing_on_failed(&pool->sizing, now, o->number);
		note_connect_failure(pool, o, verdict);
		relay_on_account(pool->relay, verdict);
		if (is_about_login(verdict))
			pool_seek_credentials(pool);
	} else if (logged_in && verdict->class != VERDICT_NONE) {
		/* It logs us in and throws us out: don't knock at once. */
		if (o->n_delivered == 0 && o->n_messages > 0)
			sizing_on_failed(&pool->sizing, now, o->number);
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "conn=%u relay=%s: lost after %u messages, %.1f s: %s",
		    o->number, o->via, o->n_messages,
		    (double)(now - o->opened_us) / US_PER_S, verdict->text);
	}
	relay_kick(pool->relay);
}
