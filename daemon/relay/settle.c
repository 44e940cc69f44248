/*
 * relay_settle(): what becomes of a message after an attempt.  The one place
 * that decides, in this order:
 *
 *   1. recipients that SES took are recorded, then those given up are buried;
 *   2. what is still pending goes by the strongest of its verdicts:
 *      account trouble (gate closes or pace falls; no charge; head of the
 *      lane, or, where it may be this message's only, by the schedule),
 *      uncertain (held or by the schedule), refused for now (by the schedule,
 *      or dead when too old), lost connection (head of the lane, no charge, up
 *      to RELAY_MAX_FREE_RETRIES in a row), not tried yet (ready).
 *
 * Nothing but a verdict that names the recipient or the message ever ends in a
 * dead letter; what the connection, the network or the account did, never.
 */
#include "relay/settle_private.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/operate.h"
#include "relay/pace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum settle_weight settle_weigh(const struct verdict *v)
{
	switch (v->class) {
	case VERDICT_RATE:
	case VERDICT_DAILY:
	case VERDICT_HOLD_AUTH:
	case VERDICT_HOLD_ACCOUNT:
		return W_ACCOUNT;
	case VERDICT_UNCERTAIN:
		return W_UNCERTAIN;
	case VERDICT_RETRY:
		return W_RETRY;
	default:
		return W_FREE;
	}
}

static bool is_failure(const struct settlement *res, const struct verdict *v)
{
	if (v->class == VERDICT_SPLIT)
		return res->a->mail.n_rcpts == 1;
	if (v->class == VERDICT_RETRY)
		return res->expired;
	return v->class == VERDICT_RCPT_FAILED ||
	    v->class == VERDICT_MSG_FAILED;
}

static void add_failure(
    struct settlement *res, uint16_t position, const struct verdict *v)
{
	struct relay_failure *f = &res->failed[res->n_failed++];

	f->position = position;
	memcpy(f->dsn, v->dsn, sizeof f->dsn);
	f->text = v->text;
	f->replied = v->code != 0;
	res->failed_verdict = v;
}

static void sort_recipient(struct settlement *res, unsigned i)
{
	struct attempt *a = res->a;
	const struct verdict *v = attempt_verdict(a, i, res->verdict);
	uint16_t position = a->positions[i];

	if (v->class == VERDICT_DELIVERED) {
		a->m->rcpts[position].state = RCPT_SENT;
		res->sent[res->n_sent++] = position;
		res->sent_verdict = v;
	} else if (is_failure(res, v)) {
		a->m->rcpts[position].state = RCPT_FAILED;
		add_failure(res, position, v);
	} else {
		if (v->class == VERDICT_SPLIT)
			res->split = true;
		if (res->stays == NULL ||
		    settle_weigh(v) > settle_weigh(res->stays))
			res->stays = v;
	}
}

static void tell_pacer(const struct settlement *res)
{
	bool throttled =
	    res->stays != NULL && res->stays->class == VERDICT_RATE;

	relay_pace_settle(
	    res->relay, res->a, res->n_sent, throttled ? res->stays : NULL);
}

static void record_sent(struct settlement *res)
{
	struct attempt *a = res->a;
	struct spool_outcome outcome = relay_outcome(a->stub, SPOOL_SENT);

	if (res->n_sent == 0)
		return;
	/* In the common case, all of them at once, the line names none. */
	outcome.rcpts = res->sent;
	outcome.n_rcpts = res->n_sent == a->m->n_rcpts ? 0 : res->n_sent;
	outcome.last = message_n_pending(a->m) == 0 && res->n_failed == 0;
	outcome.dsn = res->sent_verdict->dsn;
	outcome.reply = res->sent_verdict->text;
	outcome.message_id = a->m->message_id;
	outcome.written = a->recorded;
	outcome.ctx = a->recorded_ctx;
	a->recorded = NULL;
	spool_settle(res->relay->spool, &outcome);
	stat_add(STAT_RCPT_SENT, res->n_sent);
}

/* Other recipients, behind the ones of this attempt, still wait their turn. */
static bool more_behind(const struct attempt *a)
{
	unsigned last = a->positions[a->mail.n_rcpts - 1];

	for (unsigned i = last + 1; i < a->m->n_rcpts; i++)
		if (a->m->rcpts[i].state == RCPT_PENDING)
			return true;
	return false;
}

/* A free retry keeps its place, and its content if that is in memory. */
static void untake(struct settlement *res)
{
	struct attempt *a = res->a;

	if (relay_grant_wish(res->relay, a->stub))
		return;
	if (message_in_memory(a->m)) {
		a->stub->loaded = a->m;
		res->relay->kept_bytes += a->m->body.len;
		a->m = NULL;
	}
	queue_untake(res->relay->queue, a->stub);
}

static int64_t next_attempt(const struct settlement *res)
{
	const struct backoff_options *backoff = &res->relay->options.backoff;
	const struct stub *stub = res->a->stub;
	int64_t next =
	    backoff_next(backoff, stub->arrival_us, res->now_us, stub->id);

	/* The next slot may be near; what may have been delivered is not sent
	 * again at once all the same. */
	if (settle_weigh(res->stays) == W_UNCERTAIN &&
	    next < res->now_us + backoff->waits_us[0])
		next = res->now_us + backoff->waits_us[0];
	return next;
}

/* SES takes the others in another transaction; with some taken, at once. */
static bool had_too_many(const struct settlement *res)
{
	return res->n_sent > 0 && res->stays != NULL &&
	    res->stays->class == VERDICT_RETRY &&
	    strcmp(res->stays->dsn, "4.5.3") == 0;
}

/* What to do with the message; *next and res->due_us go with PLAN_MOVE. */
static enum settle_plan make_plan(struct settlement *res, enum relay_next *next)
{
	struct relay *r = res->relay;
	struct stub *stub = res->a->stub;
	enum settle_weight weight =
	    res->stays != NULL ? settle_weigh(res->stays) : W_NONE;
	bool wait = false;

	*next = RELAY_NEXT_READY;
	if (message_n_pending(res->a->m) == 0) {
		*next = RELAY_NEXT_DONE;
		return PLAN_MOVE;
	}
	if (res->split) {
		stub->singly = true;
		return PLAN_MOVE;
	}
	if (had_too_many(res)) {
		stub->cursor = 0;
		return PLAN_MOVE;
	}
	if (res->stays != NULL && res->stays->class == VERDICT_HOLD_ACCOUNT) {
		/* The next probe has to be another message: if SES means only
		 * this one (an identity, a header), it may not stop the rest. */
		stub->suspect = true;
		*next = RELAY_NEXT_WAIT;
		res->due_us = next_attempt(res);
		return PLAN_MOVE;
	}
	if (weight == W_ACCOUNT) {
		res->due_us = res->stays->class == VERDICT_RATE
		    ? r->pace_until_us
		    : r->gate.until_us;
		return PLAN_UNTAKE;
	}
	if (weight == W_UNCERTAIN && r->options.hold_uncertain) {
		*next = RELAY_NEXT_HOLD;
		return PLAN_MOVE;
	}
	if (weight == W_FREE && res->stays->charge == false &&
	    stub->free_retries < RELAY_MAX_FREE_RETRIES) {
		stub->free_retries++;
		return PLAN_UNTAKE;
	}
	stub->free_retries = 0;
	if (weight != W_NONE) {
		wait = !more_behind(res->a);
		stat_add(STAT_RCPT_DEFERRED,
		    res->a->mail.n_rcpts - res->n_sent - res->n_failed);
	}
	/* Go on behind this piece, or begin anew after the wait. */
	stub->cursor = wait || !more_behind(res->a)
	    ? 0
	    : (uint16_t)(res->a->positions[res->a->mail.n_rcpts - 1] + 1);
	if (wait) {
		*next = RELAY_NEXT_WAIT;
		res->due_us = next_attempt(res);
	}
	return PLAN_MOVE;
}

static void bury(struct settlement *res, enum relay_next next)
{
	const struct relay_burial burial = {
		.stub = res->a->stub,
		.message = res->a->m,
		.failures = res->failed,
		.n_failures = res->n_failed,
		.reason = res->failed_reason,
		.via = res->via,
		.next = next,
		.due_us = res->due_us,
	};

	res->a->m = NULL;
	relay_bury(res->relay, &burial);
}

static void carry_out(
    struct settlement *res, enum settle_plan plan, enum relay_next next)
{
	struct relay *r = res->relay;
	struct stub *stub = res->a->stub;

	stub_keep_rcpts(stub, res->a->m);
	queue_set_reply(
	    r->queue, stub, res->stays != NULL ? res->stays->text : NULL);
	if (next == RELAY_NEXT_HOLD)
		settle_hold(res);
	if (res->n_failed > 0) {
		/* Whatever was planned for the others comes after the letter;
		 * what would have kept its place goes on at once. */
		bury(res, next);
	} else if (next == RELAY_NEXT_HOLD) {
		; /* settle_hold() moves it */
	} else if (plan == PLAN_UNTAKE) {
		untake(res);
	} else {
		relay_move(r, stub, next, res->due_us);
	}
}

void relay_settle(struct relay *r, struct attempt *a,
    const struct verdict *verdict, const char *relayed_via, unsigned conn)
{
	struct settlement res = {
		.relay = r,
		.a = a,
		.verdict = verdict,
		.via = relayed_via,
		.conn = conn,
		.now_us = clock_mono_us(),
		.sent = xcalloc(a->mail.n_rcpts, sizeof(uint16_t)),
		.failed =
		    xcalloc(a->mail.n_rcpts, sizeof(struct relay_failure)),
	};
	struct crash_mark before = crash_enter(a->stub->id, CRASH_SETTLE);
	enum relay_next next;
	enum settle_plan plan;

	relay_note_outage(r);
	res.expired = settle_is_expired(&res);
	for (unsigned i = 0; i < a->mail.n_rcpts; i++)
		sort_recipient(&res, i);
	if (res.stays == NULL || settle_weigh(res.stays) != W_ACCOUNT)
		a->stub->attempts += res.stays == NULL || res.stays->charge;
	if (res.n_failed > 0)
		snprintf(res.failed_reason, sizeof res.failed_reason,
		    "%s%s%s%s",
		    res.failed_verdict->class == VERDICT_RETRY
			? "too old (delivery.expire); last reply: "
			: "",
		    res.failed_verdict->text,
		    res.failed_verdict->advice != NULL ? "; " : "",
		    res.failed_verdict->advice != NULL
			? res.failed_verdict->advice
			: "");
	settle_tell_gate(&res);
	tell_pacer(&res);
	plan = make_plan(&res, &next);
	settle_log(&res, plan);
	record_sent(&res);
	if (a->recorded != NULL)
		a->recorded(a->recorded_ctx); /* there was nothing to record */
	carry_out(&res, plan, next);
	free(res.sent);
	free(res.failed);
	attempt_free(a);
	crash_leave(before);
	relay_kick(r);
}
