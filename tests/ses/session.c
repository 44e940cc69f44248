/*
 * The life of a connection: events, timers, and its one end.
 *
 * Owns struct session and everything in it. A session is on exactly one of
 * the server's lists live, leaving, dead; session_end is the only way off
 * the first, session_free runs only at a turn's end. While `busy` a reply is
 * on its way and no input is taken; bytes that come meanwhile are the
 * client's violation. What input means is decided in stage.c, how output leaves
 * in output.c.
 */
#include "session.h"

#include "listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { LEAVE_MS = 2000, READS_A_WAKE = 8, SLOW_BUFFER = 8192 };

void session_event(struct session *s, const char *event)
{
	journal_begin(&s->server->journal, event);
	journal_number(&s->server->journal, "conn", s->number);
}

void session_violation(struct session *s, enum violation v, const char *detail)
{
	struct server *sv = s->server;

	sv->stats.violations[v]++;
	sv->stats.violations_total++;
	session_event(s, "protocol");
	journal_text(&sv->journal, "violation", violation_name(v));
	if (detail != NULL)
		journal_text(&sv->journal, "detail", detail);
	journal_end(&sv->journal);
	server_wake(sv);
}

void session_free(struct session *s)
{
	event_del(&s->readable);
	event_del(&s->writable);
	event_del(&s->delay);
	event_del(&s->idle);
	event_del(&s->resume);
	link_close(&s->io);
	link_fini(&s->io);
	command_reset(s);
	free(s->rcpts);
	body_free(&s->body);
	free(s);
}

static void bury(struct session *s, struct session_list *from)
{
	event_del(&s->readable);
	event_del(&s->writable);
	event_del(&s->delay);
	event_del(&s->idle);
	event_del(&s->resume);
	link_close(&s->io);
	s->state = SESSION_DEAD;
	TAILQ_REMOVE(from, s, link);
	TAILQ_INSERT_TAIL(&s->server->dead, s, link);
	server_wake(s->server);
}

void session_end(struct session *s, const char *reason, enum session_end how)
{
	struct server *sv = s->server;

	if (s->state >= SESSION_LEAVING)
		return;
	session_event(s, "close");
	journal_text(&sv->journal, "reason", reason);
	journal_number(&sv->journal, "messages", s->messages);
	journal_end(&sv->journal);
	if (s->counted)
		sv->stats.connections_now--;
	if (s->dirty)
		TAILQ_REMOVE(&sv->dirty, s, turn);
	s->dirty = false;
	if (how == END_RESET)
		link_reset(&s->io);
	else if (how == END_FIN)
		link_finish(&s->io, session_farewell(s));
	if (how != END_FIN || s->eof || s->io.broken) {
		bury(s, &sv->live);
		return;
	}
	/* Closing now, with input unread, would turn our FIN into a RST. */
	s->state = SESSION_LEAVING;
	TAILQ_REMOVE(&sv->live, s, link);
	TAILQ_INSERT_TAIL(&sv->leaving, s, link);
	event_del(&s->writable);
	event_del(&s->idle);
	event_del(&s->resume);
	event_add(&s->readable, NULL);
	session_timer(&s->delay, LEAVE_MS);
	server_wake(sv);
}

static void drain(struct session *s)
{
	ssize_t n;

	do {
		n = recv(s->io.fd, s->io.in, sizeof(s->io.in), MSG_DONTWAIT);
	} while (n == (ssize_t)sizeof(s->io.in));
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		bury(s, &s->server->leaving);
}

/* A frozen session reads nothing, so a FIN or RST must be asked for. */
static bool peer_is_gone(const struct session *s)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(s->io.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
	    info.tcpi_state != TCP_ESTABLISHED;
}

static void on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	if (s->state == SESSION_LEAVING) {
		bury(s, &s->server->leaving);
	} else if (s->state == SESSION_FROZEN) {
		if (peer_is_gone(s))
			session_end(s, "gone", END_NOW);
		else
			session_freeze(s);
	} else if (s->state == SESSION_HANDSHAKE && s->io.ssl != NULL) {
		session_handshake(s);
	} else {
		journal_flush(&s->server->journal);
		session_flush(s);
	}
}

void session_arm_idle(struct session *s)
{
	if (s->server->set.idle_ms > 0)
		session_timer(&s->idle, s->server->set.idle_ms);
	else
		event_del(&s->idle);
}

static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	long quiet_ms = (long)((clock_us() - s->active_us) / 1000);
	long left = s->server->set.idle_ms - quiet_ms;

	(void)fd;
	(void)what;
	if (s->state >= SESSION_SINK)
		return;
	if (s->busy || left > 0) {
		session_timer(
		    &s->idle, left > 0 ? left : s->server->set.idle_ms);
		return;
	}
	session_arm_idle(s);
	session_timed_out(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	if (s->state == SESSION_HANDSHAKE && s->io.ssl != NULL)
		session_handshake(s);
	else
		session_flush(s);
}

/* They are gone, in one way or another; a reply under way still goes out. */
static void on_lost(struct session *s, enum link_status st)
{
	s->eof = true;
	event_del(&s->readable);
	if (st == LINK_RESET)
		session_end(s, "reset", END_NOW);
	else if (st == LINK_TLS_FAILED)
		session_end(s, "tls-failed", END_NOW);
	else
		s->eof_reason = st == LINK_EOF ? "eof" : "truncated";
}

/* Bytes while our reply is still on its way. */
static void note_early(struct session *s)
{
	if (!s->busy || s->early || s->phase == PHASE_BODY ||
	    s->phase == PHASE_IDLE || s->state >= SESSION_SINK)
		return;
	s->early = true;
	session_violation(s,
	    s->phase == PHASE_STARTTLS ? VIOLATION_BEFORE_TLS
				       : VIOLATION_PIPELINING,
	    phase_name(s->phase));
}

/* The read_rate's debt is paid. */
static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	s->slowed = false;
	if (s->busy || s->state >= SESSION_FROZEN)
		return;
	s->paused = false;
	event_add(&s->readable, NULL);
	event_active(&s->readable, EV_READ, 0);
}

/*
 * Content was read: pauses for as long as the rate wants. The kernel's buffer
 * is made small, or it would take the whole message in our place.
 */
static void slow_down(struct session *s, size_t n)
{
	long rate = s->read_rate > 0 ? s->read_rate : s->server->set.read_rate;
	uint64_t now = clock_us();
	int small = SLOW_BUFFER;

	if (rate == 0 || s->state != SESSION_BODY)
		return;
	if (s->credit_us == 0) {
		(void)setsockopt(
		    s->io.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		s->credit_us = now;
	}
	s->read_credit += (double)rate * (double)(now - s->credit_us) / 1e6;
	if (s->read_credit > 1)
		s->read_credit = 1;
	s->credit_us = now;
	s->read_credit -= (double)n;
	if (s->read_credit >= 0)
		return;
	s->slowed = s->paused = true;
	event_del(&s->readable);
	session_timer(
	    &s->resume, (long)(-s->read_credit * 1000 / (double)rate) + 1);
}

/* One read and what it leads to; false when there is no more to be had. */
static bool read_step(struct session *s)
{
	size_t before = s->io.in_len - s->io.in_start;
	enum link_status st = s->eof ? LINK_BLOCKED : link_read(&s->io);

	if (st == LINK_OK) {
		s->active_us = clock_us();
		note_early(s);
		slow_down(s, s->io.in_len - before);
	} else if (st == LINK_FULL && s->busy) {
		s->paused = true;
		event_del(&s->readable);
		return false;
	} else if (st != LINK_BLOCKED && st != LINK_FULL) {
		on_lost(s, st);
	}
	session_pump(s);
	return (st == LINK_OK || st == LINK_FULL) && !s->paused &&
	    s->state < SESSION_FROZEN && link_more(&s->io);
}

static void read_input(struct session *s)
{
	bool more = true;

	for (int i = 0; i < READS_A_WAKE && more; i++)
		more = read_step(s);
	if (s->state >= SESSION_LEAVING)
		return;
	if (s->eof && !s->busy)
		session_end(s, s->eof_reason, END_FIN);
	else if (more)
		event_active(&s->readable, EV_READ, 0);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	if (s->state == SESSION_LEAVING)
		drain(s);
	else if (s->state == SESSION_HANDSHAKE && s->io.ssl != NULL)
		session_handshake(s);
	else
		read_input(s);
}

static void count_connection(struct session *s)
{
	struct stats *st = &s->server->stats;
	long max = s->server->set.max_connections;

	s->number = (long)++st->connections_total;
	s->counted = max == 0 || st->connections_now < (unsigned long)max;
	if (!s->counted)
		return;
	st->connections_now++;
	if (st->connections_peak < st->connections_now)
		st->connections_peak = st->connections_now;
}

void session_new(struct listener *l, int fd, const char *peer)
{
	struct server *sv = l->server;
	struct session *s = xcalloc(1, sizeof(*s));
	int on = 1;

	link_init(&s->io, fd);
	s->server = sv;
	s->listener = l;
	s->mode = l->mode;
	s->port = l->port;
	(void)snprintf(s->peer, sizeof(s->peer), "%s", peer);
	s->began_us = s->active_us = clock_us();
	event_assign(
	    &s->readable, sv->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	event_assign(
	    &s->writable, sv->base, fd, EV_WRITE | EV_PERSIST, on_writable, s);
	evtimer_assign(&s->delay, sv->base, on_delay, s);
	evtimer_assign(&s->idle, sv->base, on_idle, s);
	evtimer_assign(&s->resume, sv->base, on_resume, s);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	TAILQ_INSERT_TAIL(&sv->live, s, link);
	count_connection(s);
	s->client = peers_get(&sv->peers, s->peer, "");
	session_event(s, "connect");
	journal_text(&sv->journal, "addr", l->addr);
	journal_number(&sv->journal, "port", l->port);
	journal_text(&sv->journal, "mode", mode_name(l->mode));
	journal_text(&sv->journal, "peer", s->peer);
	journal_end(&sv->journal);
	event_add(&s->readable, NULL);
	session_arm_idle(s);
	server_wake(sv);
	session_begin(s);
}
