/*
 * Output: when a reply leaves, how fast, and what follows it.
 *
 * Owns nothing; works on the session's link and timers. While `busy` a reply
 * is on its way: it waits for its delay, then for the turn's end, leaves at
 * the pace of rules and settings, and then the connection goes on as
 * s->after says. The timer `delay` serves all waits of output, of which
 * there is only ever one.
 */
#include "session.h"

enum { FROZEN_POLL_MS = 500 };

void session_timer(struct event *ev, long ms)
{
	struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	event_add(ev, &tv);
}

enum link_end session_farewell(const struct session *s)
{
	const struct settings *set = &s->server->set;

	if (s->silent || set->no_close_notify)
		return LINK_END_BARE;
	return s->cancels || set->user_canceled ? LINK_END_CANCELED
						: LINK_END_TLS;
}

void session_pace(struct session *s)
{
	s->io.write_rate =
	    s->write_rate > 0 ? s->write_rate : s->server->set.write_rate;
}

void session_await_room(struct session *s, long drip_ms)
{
	long ms = s->io.wait_ms > drip_ms ? s->io.wait_ms : drip_ms;

	if (ms > 0)
		session_timer(&s->delay, ms);
	else
		event_add(&s->writable, NULL);
}

void session_freeze(struct session *s)
{
	s->state = SESSION_FROZEN;
	event_del(&s->readable);
	session_timer(&s->delay, FROZEN_POLL_MS);
}

void session_send(struct session *s, long delay_ms)
{
	s->busy = true;
	s->early = false;
	/* What follows is not ours to read yet, or is meant to wait. */
	if ((s->phase == PHASE_BODY || s->phase == PHASE_TLS) && !s->paused) {
		event_del(&s->readable);
		s->paused = true;
	}
	server_wake(s->server);
	if (delay_ms > 0) {
		session_timer(&s->delay, delay_ms);
	} else if (!s->dirty) {
		s->dirty = true;
		TAILQ_INSERT_TAIL(&s->server->dirty, s, turn);
	}
}

/* The reply has left. */
static void sent(struct session *s)
{
	s->busy = false;
	s->active_us = clock_us();
	switch (s->after) {
	case AFTER_READ:
		break;
	case AFTER_CLOSE:
		session_end(s, s->why, END_FIN);
		return;
	case AFTER_RESET:
		session_end(s, s->why, END_RESET);
		return;
	case AFTER_HALFCLOSE:
		link_finish(&s->io, session_farewell(s));
		s->state = SESSION_SINK;
		break;
	case AFTER_STALL:
		if (s->phase == PHASE_BODY) {
			session_freeze(s);
			return;
		}
		s->state = SESSION_SINK;
		break;
	case AFTER_ABORT_TLS:
		s->abort_tls = true;
		session_start_tls(s);
		return;
	case AFTER_TLS:
		session_start_tls(s);
		return;
	}
	if (s->paused && !s->slowed) {
		s->paused = false;
		event_add(&s->readable, NULL);
	}
	if (s->io.in_len > s->io.in_start || s->eof || s->body_done ||
	    link_more(&s->io))
		event_active(&s->readable, EV_READ, 0);
}

/* New keys if a rule wants them, then what is queued. */
static enum link_status push(struct session *s)
{
	while (s->rekey > 0 && s->io.ssl != NULL) {
		enum link_status st = link_rekey(&s->io);

		if (st != LINK_OK)
			return st;
		/* Before TLS 1.3 a second request waits for the first. */
		s->rekey =
		    SSL_version(s->io.ssl) == TLS1_3_VERSION ? s->rekey - 1 : 0;
	}
	return link_write(&s->io);
}

void session_flush(struct session *s)
{
	if (s->state >= SESSION_LEAVING)
		return;
	s->io.single = s->drip_ms > 0;
	session_pace(s);
	switch (push(s)) {
	case LINK_OK:
		event_del(&s->writable);
		sent(s);
		break;
	case LINK_BLOCKED:
		session_await_room(s, s->drip_ms);
		break;
	default:
		session_end(s, "write-failed", END_NOW);
		break;
	}
}
