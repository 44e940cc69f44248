/*
 * The operator's hands: hold, release, delete, retry, pause.  Loop thread;
 * owns nothing.
 *
 * Invariants: what is held or deleted is recorded by an outcome line before
 * anybody is told so; a stub whose attempt has begun is not touched before
 * that attempt is settled; what relay_take_back() gave back is INFLIGHT with
 * nobody who knows it, and is placed here at once.
 */
#include "relay/operate.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELD "held by uid "
#define BEFORE "; last reply: "

/* Recorded with a hold, and shown for as long as it lasts. */
static void explain_hold(struct relay *r, struct stub *stub, const char *who)
{
	char *text = stub->last_reply == NULL
	    ? xstrdup(who)
	    : xasprintf("%s" BEFORE "%s", who, stub->last_reply);

	queue_set_reply(r->queue, stub, text);
	free(text);
}

static void forget_hold(struct relay *r, struct stub *stub)
{
	const char *before = stub->last_reply;
	char *text;

	if (before == NULL || strncmp(before, HELD, strlen(HELD)) != 0)
		return;
	before = strstr(before, BEFORE);
	text = before != NULL ? xstrdup(before + strlen(BEFORE)) : NULL;
	queue_set_reply(r->queue, stub, text);
	free(text);
}

/* The stub is on a list, or taken back, and the verb fits its state. */
static void carry_out(struct relay *r, struct stub *stub,
    const struct operate_order *order, const char *who)
{
	struct spool_outcome outcome = relay_outcome(stub,
	    order->verb == OPERATE_HOLD         ? SPOOL_HOLD
		: order->verb == OPERATE_DELETE ? SPOOL_DELETE
						: SPOOL_RELEASE);

	if (order->verb == OPERATE_HOLD)
		explain_hold(r, stub, who);
	else if (order->verb == OPERATE_RELEASE)
		forget_hold(r, stub);
	outcome.last = order->verb == OPERATE_DELETE;
	outcome.reply = order->verb == OPERATE_HOLD ? stub->last_reply : who;
	outcome.written = order->written;
	outcome.ctx = order->ctx;
	log_msg(LOG_LEVEL_INFO, LOG_QMGR, stub->id, "%s", who);
	spool_settle(r->spool, &outcome);
	stub->wish = OPERATE_NONE;
	if (order->verb == OPERATE_HOLD)
		relay_move(r, stub, RELAY_NEXT_HOLD, 0);
	else if (order->verb == OPERATE_DELETE)
		relay_move(r, stub, RELAY_NEXT_DONE, 0);
	else
		relay_move(r, stub, RELAY_NEXT_READY, 0);
}

static const char *past_tense(enum operate_verb verb)
{
	return verb == OPERATE_HOLD  ? "held"
	    : verb == OPERATE_DELETE ? "deleted"
				     : "released";
}

/* Its attempt has begun. */
static enum operate_result note_wish(
    struct stub *stub, const struct operate_order *order)
{
	stub->wish = (uint8_t)order->verb;
	stub->wish_uid = order->uid;
	log_msg(LOG_LEVEL_INFO, LOG_QMGR, stub->id,
	    "it is being sent; if SES does not take it, it will be %s, as "
	    "asked by uid %u",
	    past_tense(order->verb), order->uid);
	return OPERATE_LATER;
}

static enum operate_result retry(struct relay *r, struct stub *stub)
{
	if (stub->state == STUB_HELD)
		return OPERATE_NOT;
	if (stub->state == STUB_WAITING)
		queue_ready(r->queue, stub);
	relay_kick(r);
	return OPERATE_DONE;
}

enum operate_result relay_operate(
    struct relay *r, struct stub *stub, const struct operate_order *order)
{
	char who[64];

	if (order->verb == OPERATE_RETRY)
		return retry(r, stub);
	if (order->verb == OPERATE_RELEASE && stub->state != STUB_HELD) {
		if (stub->wish == OPERATE_HOLD)
			stub->wish = OPERATE_NONE;
		return OPERATE_NOT;
	}
	if (order->verb == OPERATE_HOLD && stub->state == STUB_HELD)
		return OPERATE_NOT;
	if (stub->state == STUB_INFLIGHT && !relay_take_back(r, stub))
		return note_wish(stub, order);
	snprintf(who, sizeof who, "%s by uid %u", past_tense(order->verb),
	    order->uid);
	carry_out(r, stub, order, who);
	relay_kick(r);
	return OPERATE_DONE;
}

bool relay_grant_wish(struct relay *r, struct stub *stub)
{
	struct operate_order order = { .verb = (enum operate_verb)stub->wish };

	char who[80];

	if (order.verb == OPERATE_NONE)
		return false;
	snprintf(who, sizeof who, "%s by uid %u while it was being sent",
	    past_tense(order.verb), (unsigned)stub->wish_uid);
	carry_out(r, stub, &order, who);
	return true;
}

void relay_try_now(struct relay *r)
{
	gate_reopen(&r->gate);
	pool_try_now(r->pool);
	relay_kick(r);
}

void relay_pause_delivery(struct relay *r, bool paused)
{
	r->delivery_paused = paused;
	if (paused)
		relay_kick(r);
	else
		relay_try_now(r);
}

void relay_pause_intake(struct relay *r, bool paused)
{
	r->intake_paused = paused;
}

void relay_drain(struct relay *r, bool draining)
{
	r->draining = draining;
}

struct server_refusal relay_refusal(const struct relay *r, uint64_t bytes)
{
	if (r->draining)
		return (struct server_refusal){ "4.3.2",
			"The relay is being drained, try again later" };
	if (r->intake_paused)
		return (struct server_refusal){ "4.3.2",
			"Mail intake is paused by the operator" };
	return (
	    struct server_refusal){ "4.3.1", spool_refusal(r->spool, bytes) };
}
