/*
 * What the answers of SES tell of the account: whether deliveries may start
 * (policy/gate), and since when the account could not send (policy/outage).
 * Runs on the loop thread; owns nothing.
 *
 * A reply that names the account is believed of all mail only when nothing
 * speaks against it; and no message is too old for what was the account's.
 */
#include "relay/settle_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stat.h"
#include "relay/pace.h"

#include <stdio.h>

static enum gate_cause cause_of(const struct verdict *v)
{
	switch (v->class) {
	case VERDICT_DAILY:
		return GATE_DAILY;
	case VERDICT_HOLD_AUTH:
		return GATE_AUTH;
	case VERDICT_HOLD_ACCOUNT:
		return GATE_ACCOUNT;
	default:
		return GATE_NONE;
	}
}

void relay_note_reply(struct relay *r, const struct verdict *v)
{
	snprintf(r->last_reply, sizeof r->last_reply, "%.250s", v->text);
	r->last_reply_us = clock_wall_us();
	r->last_advice = v->advice;
	troubles_note(&r->troubles, r->last_reply_us, v->text);
}

void relay_on_account(struct relay *r, const struct verdict *v)
{
	enum gate_cause cause = cause_of(v);
	int64_t now = clock_mono_us();

	if (v->class == VERDICT_RATE)
		relay_pace_throttled(r, 0, v);
	if (cause == GATE_NONE)
		return;
	if (cause == GATE_DAILY)
		stat_add(STAT_THROTTLED_DAILY, 1);
	else if (cause == GATE_AUTH)
		stat_add(STAT_AUTH_FAILURES, 1);
	relay_note_reply(r, v);
	if (!gate_on_trouble(&r->gate, cause, now, (uint64_t)now))
		return;
	log_msg(LOG_LEVEL_ERROR, LOG_QMGR, LOG_NO_ID,
	    "deliveries pause (%s): %s%s%s; nothing is lost or "
	    "bounced, next try in %lld s",
	    gate_cause_name(cause), v->text, v->advice != NULL ? ": " : "",
	    v->advice != NULL ? v->advice : "",
	    (long long)((r->gate.until_us - now) / US_PER_S));
}

static enum gate_cause cause_of_stay(const struct settlement *res)
{
	return res->stays != NULL ? cause_of(res->stays) : GATE_NONE;
}

void relay_note_outage(struct relay *r)
{
	bool out = r->gate.state != GATE_OPEN &&
	    (r->gate.cause == GATE_AUTH || r->gate.cause == GATE_ACCOUNT ||
		r->gate.cause == GATE_DAILY);

	outage_note(&r->outage, out, clock_mono_us());
}

/*
 * The time that the account could not send counts for nothing; and the first
 * refusal that this process sees is not the last word, whatever it was that
 * kept the message waiting before.
 */
bool settle_is_expired(const struct settlement *res)
{
	const struct relay *r = res->relay;
	const struct stub *stub = res->a->stub;
	int64_t lost = outage_within(&r->outage, stub->arrival_us, res->now_us);

	return stub->attempts > 0 &&
	    backoff_expired(
		&r->options.backoff, stub->arrival_us, res->now_us - lost);
}

/*
 * SES says "access denied" of an account and of one sender, "does not exist"
 * of everybody's configuration set and of one that a program asked for.  Mail
 * that has gone out before speaks for the account: then the reply has to come
 * for a second message, with none between that went out, to stop them all; and
 * a message that has once been suspected stops nobody again.
 */
static bool is_about_account(const struct settlement *res)
{
	struct relay *r = res->relay;
	bool well = r->account_well;

	if (cause_of_stay(res) != GATE_ACCOUNT)
		return cause_of_stay(res) != GATE_NONE;
	if (r->gate.state != GATE_OPEN)
		return true;
	if (res->a->stub->suspect)
		return false;
	r->account_well = false;
	if (well) {
		relay_note_reply(r, res->stays);
		log_msg(LOG_LEVEL_WARNING, LOG_QMGR, res->a->stub->id,
		    "SES refuses this message, though others went out: %s: "
		    "%s; it is tried again, and mail stops if the next one is "
		    "refused like it",
		    res->stays->text, res->stays->advice);
	}
	return !well;
}

void settle_tell_gate(const struct settlement *res)
{
	struct gate *gate = &res->relay->gate;
	enum gate_state before = gate->state;

	if (res->n_sent > 0) {
		res->relay->account_well = true;
		gate_on_success(gate);
		if (before != GATE_OPEN)
			log_msg(LOG_LEVEL_INFO, LOG_QMGR, LOG_NO_ID,
			    "deliveries go on");
	}
	if (is_about_account(res))
		relay_on_account(res->relay, res->stays);
	else if (res->a->probe)
		gate_probe_lost(gate);
}
