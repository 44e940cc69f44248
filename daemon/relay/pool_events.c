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

#define RENEWAL_MIN_US (20 * US_PER_MS)
/* A message that finds its connection lost after such a pause was not the
 * reason: SES closes what is idle. */
#define PAUSE_US (1 * US_PER_S)

/* A renewal is a QUIT, too, but that takes a fraction of a login. */
static void note_login_time(struct pool *pool, const struct outbound *o)
{
	int64_t took_us = 2 * (o->opened_us - o->connect_started_us);

	pool->renewal_us += (took_us - pool->renewal_us) / 8;
	if (pool->renewal_us < RENEWAL_MIN_US)
		pool->renewal_us = RENEWAL_MIN_US;
}

void pool_on_ready(struct pool *pool, struct outbound *o)
{
	int64_t now = clock_mono_us();

	stat_add(STAT_CONNECTS_OK, 1);
	if (o->trial)
		pool_trial_accepted(pool, o);
	else if (o == pool->scout)
		pool_scout_arrived(pool, o);
	sizing_on_connected(&pool->sizing, now);
	gate_on_login(&pool->relay->gate);
	if (pool->last_error[0] != '\0')
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "connected to %s again", o->via);
	pool->last_error[0] = '\0';
	note_login_time(pool, o);
	rotate_learn_opened(
	    &pool->learned, &pool->upstream->options.rotate, o->number, now);
	pool_plan(pool, o);
	if (o->replacement)
		pool_on_replacement(pool, o, now);
	pool_move(pool, o, POOL_IDLE);
}

void pool_on_free(struct pool *pool, struct outbound *o)
{
	o->n_carried++;
	o->carried_us = o->sent_us;
	sizing_on_carried(&pool->sizing, o->opened_us);
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
	troubles_note(&pool->relay->troubles, clock_wall_us(), text);
}

/* --- what the end of a session teaches --- */

static enum histogram_close close_reason(
    const struct outbound *o, const struct verdict *v)
{
	bool idle = o->n_messages == o->n_carried || o->gap_us >= PAUSE_US;

	if (o->state == POOL_DRAINING)
		return o->closing;
	if (v->class == VERDICT_SESSION_CAP)
		return CLOSE_SESSION_CAP;
	if (v->class == VERDICT_CONN_LIMIT)
		return CLOSE_CONN_LIMIT;
	if (o->lost && o->loss == LOSS_TIMEOUT)
		return CLOSE_TIMEOUT;
	if (o->lost && o->loss == LOSS_SHUTDOWN)
		return CLOSE_SHUTDOWN;
	if (v->class == VERDICT_DESYNC || (o->lost && o->loss == LOSS_PROTOCOL))
		return CLOSE_PROTOCOL;
	if (o->lost || v->class == VERDICT_RETRY_FREE)
		return idle ? CLOSE_LOST_IDLE : CLOSE_LOST;
	return CLOSE_REFUSED;
}

static void look_at_open(const struct pool *pool, struct rotate_ended *ended)
{
	static const enum pool_state states[] = { POOL_IDLE, POOL_BUSY };
	const struct outbound *o;

	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		TAILQ_FOREACH (o, &pool->lists[states[i]], link) {
			int64_t age_us = o->carried_us - o->opened_us;

			if (o->n_carried > ended->open_messages)
				ended->open_messages = o->n_carried;
			if (age_us > ended->open_age_us)
				ended->open_age_us = age_us;
		}
}

static void tell_learned(const struct pool *pool, unsigned messages_before,
    int64_t age_before_us, const struct rotate_ended *ended)
{
	bool adaptive = pool->upstream->options.rotate.adaptive;
	unsigned messages = pool_learned_messages(pool);
	int64_t age_us = pool_learned_age_us(pool);
	const char *then =
	    adaptive ? "" : " (not acted on: delivery.adaptive_rotation)";

	if (messages != messages_before && messages == 0)
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "SES does not end sessions by their messages any more");
	else if (messages != messages_before)
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "a session with SES %s after %u messages: connections are "
		    "renewed after %u from now on%s",
		    ended->end == ROTATE_END_CLOSED ? "went well" : "was ended",
		    ended->messages, messages, then);
	if (age_us != age_before_us && age_us == 0)
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "SES does not end sessions by their age any more");
	else if (age_us != age_before_us)
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "a session with SES %s after %.1f s: connections are "
		    "renewed after %.1f s from now on%s",
		    ended->end == ROTATE_END_CLOSED ? "went well" : "was ended",
		    (double)ended->age_us / US_PER_S, (double)age_us / US_PER_S,
		    then);
}

/* It is on no list any more. */
static void learn_from_end(struct pool *pool, const struct outbound *o,
    enum histogram_close reason, int64_t now)
{
	bool in_use = reason == CLOSE_LOST;
	struct rotate_ended ended = {
		.end = reason == CLOSE_SESSION_CAP ? ROTATE_END_CAP
		    : in_use                       ? ROTATE_END_LOST
						   : ROTATE_END_CLOSED,
		.number = o->number,
		.messages = o->n_carried,
		.age_us = in_use         ? now - o->opened_us
		    : o->carried_us != 0 ? o->carried_us - o->opened_us
					 : 0,
	};
	unsigned messages = pool_learned_messages(pool);
	int64_t age_us = pool_learned_age_us(pool);

	histogram_observe(HISTOGRAM_CONNECTION_AGE, reason, now - o->opened_us);
	histogram_observe(HISTOGRAM_CONNECTION_MESSAGES, reason, o->n_messages);
	if (reason == CLOSE_SESSION_CAP && o->n_carried > 0) {
		pool->cap_messages = o->n_carried;
		pool->cap_us = now;
	}
	look_at_open(pool, &ended);
	if (!rotate_learn_ended(
		&pool->learned, &pool->upstream->options.rotate, &ended, now))
		return;
	pool_plan_all(pool);
	tell_learned(pool, messages, age_us, &ended);
}

unsigned pool_learned_messages(const struct pool *pool)
{
	return rotate_learned_messages(&pool->learned);
}

int64_t pool_learned_age_us(const struct pool *pool)
{
	return rotate_learned_age_us(&pool->learned);
}

void pool_set_learned(struct pool *pool, unsigned messages, int64_t age_us)
{
	rotate_learn_init(&pool->learned, messages, age_us, clock_mono_us());
	pool->cap_messages = 0;
	pool_plan_all(pool);
}

static bool is_about_login(const struct verdict *v)
{
	return v->class == VERDICT_HOLD_AUTH;
}

static bool is_any_logged_in(const struct pool *pool)
{
	return pool->counts[POOL_IDLE] + pool->counts[POOL_BUSY] > 0;
}

/* Those that are logged in go on; the gate would stop them, too. */
static void note_login_refused(struct pool *pool, const struct verdict *verdict)
{
	stat_add(STAT_AUTH_FAILURES, 1);
	relay_note_reply(pool->relay, verdict);
}

/*
 * It sent nothing: don't knock at once.  When it was not the message either, SES
 * logs us in to throw us out.  What was idle for long has its own end.
 */
static void note_useless(
    struct pool *pool, const struct outbound *o, const struct verdict *v)
{
	int64_t now = clock_mono_us();

	if (o->n_delivered > 0 ||
	    (o->n_messages == 0 && now - o->opened_us >= PAUSE_US))
		return;
	if (v->scope == SCOPE_CONNECTION || v->class == VERDICT_UNCERTAIN)
		sizing_on_thrown_out(&pool->sizing, now, o->number);
	else
		sizing_on_failed(&pool->sizing, now, o->number);
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
	if (logged_in)
		learn_from_end(pool, o, close_reason(o, verdict), now);
	path_mss_on_closed(&pool->path, o->mss);
	if (o->trial) {
		pool_trial_closed(pool, o, verdict);
	} else if (o == pool->scout) {
		pool_scout_lost(pool, o, verdict);
	} else if (o->path_stalled) {
		/* The next one goes at once, in smaller segments. */
		log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
		    "conn=%u relay=%s: given up: %s", o->number, o->via,
		    verdict->text);
	} else if (!logged_in && o->stale) {
		/* Of what is not in force any more. */
	} else if (!logged_in && !pool->stopping) {
		sizing_on_failed(&pool->sizing, now, o->number);
		note_connect_failure(pool, o, verdict);
		if (is_about_login(verdict) && is_any_logged_in(pool))
			note_login_refused(pool, verdict);
		else
			relay_on_account(pool->relay, verdict);
		if (is_about_login(verdict))
			pool_seek_credentials(pool);
	} else if (logged_in && verdict->class != VERDICT_NONE) {
		note_useless(pool, o, verdict);
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "conn=%u relay=%s: lost after %u messages, %.1f s: %s",
		    o->number, o->via, o->n_messages,
		    (double)(now - o->opened_us) / US_PER_S, verdict->text);
	}
	relay_kick(pool->relay);
}
