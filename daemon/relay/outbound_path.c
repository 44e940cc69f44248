/*
 * Do large segments pass?  Watches a connection where they may be lost, in the
 * TLS handshake and while content is sent, for relay/outbound.c.  Runs on the
 * loop thread, from o->timer; policy/path judges.
 *
 * Until a segment as large as those of the content has passed, here or lately
 * on another connection, the final dot waits.  So content that vanishes was
 * surely not delivered, and goes again at once, at no cost; it takes one round
 * trip, once.
 */
#include "relay/outbound.h"

#include "base/clock.h"
#include "base/crash.h"

#include <stdio.h>

#define LOOK_EVERY_US (250 * US_PER_MS)
#define LOOK_SOON_US (1 * US_PER_MS)

static bool take_sample(
    const struct outbound *o, struct conn_tcp *tcp, struct path_sample *s)
{
	if (!conn_tcp_state(o->conn, tcp))
		return false;
	*s = (struct path_sample){
		.now_us = clock_mono_us(),
		.acked = tcp->acked,
		.received = tcp->received,
		.unacked = tcp->unacked,
		.in_flight = tcp->in_flight,
		.retransmits = tcp->retransmits,
		.sacked = tcp->sacked,
		.mss = tcp->mss,
		.window = tcp->window,
		.out_of_order = tcp->out_of_order,
	};
	return true;
}

/* When to look again: often while the dot waits, in proportion to how long. */
static void set_timer(struct outbound *o, const struct conn_tcp *tcp)
{
	int64_t delay = LOOK_EVERY_US;

	if (o->dot_waits) {
		delay = (clock_mono_us() - o->watch_since_us) / 4;
		if (delay < tcp->rtt_us / 4)
			delay = tcp->rtt_us / 4;
		if (delay < LOOK_SOON_US)
			delay = LOOK_SOON_US;
		if (delay > LOOK_EVERY_US)
			delay = LOOK_EVERY_US;
	}
	loop_timer_set(&o->timer, delay);
}

/* Here: segments as large as those of this content, or as there are. */
static bool has_passed_before(const struct outbound *o)
{
	return o->attempt->m->size <= PATH_SMALL ||
	    o->attempt->m->size <= o->watch.passed ||
	    (o->watch.passed > 0 && o->watch.passed >= o->watch.last.mss);
}

void outbound_path_begin(struct outbound *o, enum path_stage stage)
{
	struct path_sample s;
	struct conn_tcp tcp;

	loop_timer_clear(&o->timer);
	o->watching = o->dot_waits = false;
	if ((stage == PATH_BODY && has_passed_before(o)) ||
	    !pool_path_is_judged(o->pool, o) || !take_sample(o, &tcp, &s))
		return;
	path_watch_begin(&o->watch, stage, &s);
	o->watch_since_us = s.now_us;
	if (stage == PATH_BODY) {
		uint64_t size = o->attempt->m->size;

		if (o->watch.passed >= s.mss)
			return;
		o->must_pass = size < s.mss ? (uint32_t)size : s.mss;
		o->dot_waits = o->watch.passed < o->must_pass &&
		    !pool_path_vouches(o->pool, o, o->must_pass);
	}
	o->watching = true;
	set_timer(o, &tcp);
}

void outbound_path_secured(struct outbound *o)
{
	loop_timer_clear(&o->timer);
	pool_path_secured(o->pool, o);
}

static enum path_judgement take_look(
    struct outbound *o, const struct path_sample *s)
{
	uint32_t passed = o->watch.passed;
	enum path_judgement judgement = path_watch_look(&o->watch, s);

	if (o->watch.passed > passed)
		pool_path_passed(
		    o->pool, o, o->watch.passed, o->watch.passed >= s->mss);
	return judgement;
}

void outbound_path_answered(struct outbound *o)
{
	struct path_sample s;
	struct conn_tcp tcp;

	/* Content may have been through before it was looked at. */
	if (o->watching && take_sample(o, &tcp, &s))
		(void)take_look(o, &s);
	o->watching = false;
}

static void give_up(struct outbound *o, const struct path_sample *s,
    enum path_judgement judgement)
{
	char detail[300];

	o->path_stalled = pool_path_stalled(
	    o->pool, o, o->watch.inbound, judgement == PATH_CERTAIN);
	if (o->watch.inbound)
		snprintf(detail, sizeof detail,
		    "the certificate does not arrive, as if large segments "
		    "were lost on the way (MTU)");
	else
		snprintf(detail, sizeof detail,
		    "segments of up to %u bytes are not acknowledged, sent "
		    "again %u times, as if large ones were lost on the way "
		    "(MTU)",
		    s->mss, s->retransmits);
	outbound_lose(o, LOSS_TIMEOUT, detail);
}

/* Of the content: all of it has arrived, or at least what was in doubt. */
static bool has_passed(const struct outbound *o, const struct path_sample *s)
{
	return o->watch.passed >= o->must_pass || o->watch.passed >= s->mss ||
	    (o->body_offset == o->attempt->m->size && s->unacked == 0 &&
		conn_output_len(o->conn) == 0);
}

static void look(struct outbound *o)
{
	bool in_body = o->client.state == CLIENT_BODY;
	enum path_judgement judgement;
	struct path_sample s;
	struct conn_tcp tcp;

	if (!in_body && o->client.state != CLIENT_TLS &&
	    o->client.state != CLIENT_TLS_WRAP)
		return;
	if (!take_sample(o, &tcp, &s))
		return;
	judgement = take_look(o, &s);
	/* With the dot on its way it could be delivered, for all we know. */
	if (judgement != PATH_GOES_ON && !(in_body && o->body_queued)) {
		give_up(o, &s, judgement);
		return;
	}
	if (o->dot_waits && has_passed(o, &s)) {
		o->dot_waits = false;
		outbound_feed(o);
	}
	if (o->told_closed)
		return;
	if (o->dot_waits || !in_body || o->watch.passed < s.mss)
		set_timer(o, &tcp);
}

void outbound_on_timer(void *outbound)
{
	struct outbound *o = outbound;
	struct crash_mark before = crash_enter(
	    o->attempt != NULL ? o->attempt->stub->id : 0, CRASH_SEND);

	if (o->resolving)
		outbound_on_impatience(o);
	else if (o->conn != NULL && o->client.options != NULL)
		look(o);
	crash_leave(before);
}
