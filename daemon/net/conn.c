/*
 * One stream connection: its states, its events, and what its owner is told.
 *
 * Owns the socket, both buffers, the TLS of the connection and its timer.
 * Loop thread only.  The bytes themselves are moved by conn_io.c, straight
 * between socket and buffers, the same way in clear and inside TLS; output is
 * written at the end of the turn, so that what a turn gives is one write.
 *
 * Invariants: owners are called from events, from the timer and at the end of
 * the turn, never from inside a conn_ function; after each such call the state
 * is looked at again, as the owner may have closed.  Once it has ended, no
 * event is armed and nothing is queued.  Only the deferred call frees.
 */
#include "net/conn_private.h"

#include "base/clock.h"
#include "base/mem.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One event must not keep the others waiting. */
#define READS_PER_EVENT 4
#define WRITE_BYTES_PER_TURN (256 * 1024)
#define LINGER_US (2 * US_PER_S)

static const struct conn_events no_events;

static bool conn_open(const struct conn *c)
{
	return c->state < CONN_DOOMED;
}

static bool conn_established(const struct conn *c)
{
	return c->state == CONN_CLEAR || c->state == CONN_SECURE;
}

/* Is input wanted from the socket? */
static bool conn_reading(const struct conn *c)
{
	if (!conn_established(c) || (c->told && !c->orphan))
		return false;
	return c->orphan ? !c->eof : !c->paused && !c->full;
}

static void arm_event(struct event *event, bool wanted, bool *armed)
{
	if (wanted == *armed)
		return;
	*armed = wanted;
	if ((wanted ? event_add(event, NULL) : event_del(event)) < 0)
		fatal("cannot change an event of the loop");
}

/* Makes the events those that the state waits for. */
static void conn_arm(struct conn *c)
{
	short wants = 0;

	if (c->state == CONN_CONNECTING)
		wants = EV_WRITE;
	else if (c->state == CONN_HANDSHAKE)
		wants = c->read_wants;
	else if (conn_established(c))
		wants = (conn_reading(c) ? c->read_wants : 0) | c->write_wants;
	arm_event(&c->read_event, wants & EV_READ, &c->read_armed);
	arm_event(&c->write_event, wants & EV_WRITE, &c->write_armed);
}

/* Nothing happens to it any more. */
static void conn_halt(struct conn *c, enum conn_state state)
{
	c->state = state;
	conn_arm(c);
	loop_timer_clear(&c->timer);
	loop_unqueue_flush(c->loop, &c->flush_hook);
	evbuffer_drain(c->out, evbuffer_get_length(c->out));
}

static void conn_free(void *ptr)
{
	struct conn *c = ptr;

	conn_io_free(c);
	evbuffer_free(c->in);
	evbuffer_free(c->out);
	loop_timer_fini(&c->timer);
	free(c->line);
	free(c);
}

void conn_close(struct conn *c)
{
	if (!c || c->state == CONN_CLOSED)
		return;
	if (!c->lingering)
		conn_io_say_goodbye(c);
	c->events = &no_events;
	conn_halt(c, CONN_CLOSED);
	loop_remove_orphan(c->loop, &c->orphan_hook);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	loop_defer(c->loop, conn_free, c);
}

static void conn_end(struct conn *c, enum conn_end end, const char *reason)
{
	if (c->orphan) {
		conn_close(c);
		return;
	}
	if (c->told) {
		conn_halt(c, CONN_ENDED);
		return;
	}
	c->told = true;
	if (conn_established(c) &&
	    (end == CONN_END_EOF || end == CONN_END_TIMEOUT)) {
		/* Only input is over: the owner's last words may still go. */
		loop_timer_clear(&c->timer);
		conn_arm(c);
	} else {
		conn_halt(c, CONN_ENDED);
	}
	if (c->events->on_end)
		c->events->on_end(c->ctx, end, reason);
}

/* As conn_end(), but not while the owner is in a call of ours. */
static void conn_doom(struct conn *c, enum conn_end end, const char *reason)
{
	c->end = end;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	conn_halt(c, CONN_DOOMED);
	loop_timer_set(&c->timer, 0);
}

static void on_timer(void *ctx)
{
	struct conn *c = ctx;

	if (c->state == CONN_DOOMED)
		conn_end(c, c->end, c->reason);
	else
		conn_end(c, CONN_END_TIMEOUT, "timed out");
}

static void tell(struct conn *c, void (*fn)(void *ctx))
{
	if (fn)
		fn(c->ctx);
}

static enum conn_io fill_once(struct conn *c)
{
	char *buf = loop_scratch(c->loop);
	size_t room = CONN_INPUT_FULL_BYTES, len = 0;
	enum conn_io io;

	/* Never 0: conn_reading() is false when it is full. */
	if (!c->orphan)
		room -= evbuffer_get_length(c->in);
	io = conn_io_read(c, buf, room, &len);
	if (io != CONN_IO_OK || c->orphan)
		return io;
	if (evbuffer_add(c->in, buf, len) < 0)
		fatal("out of memory: input");
	c->full = evbuffer_get_length(c->in) >= CONN_INPUT_FULL_BYTES;
	tell(c, c->events->on_readable);
	/* Not to hear EAGAIN: most likely this was all there is. */
	if (c->ssl ? !conn_io_has_pending(c) : len < room)
		return CONN_IO_AGAIN;
	return CONN_IO_OK;
}

/*
 * Takes from the socket and offers to the owner.  OK: there may be more that
 * no event tells of; else what stopped it.
 */
static enum conn_io conn_fill(struct conn *c)
{
	enum conn_io io = CONN_IO_AGAIN;

	_Static_assert(CONN_INPUT_FULL_BYTES <= LOOP_SCRATCH_BYTES,
	    "a read goes to the scratch buffer");
	for (int i = 0; i < READS_PER_EVENT && conn_reading(c); i++) {
		io = fill_once(c);
		if (io != CONN_IO_OK)
			return io;
	}
	if (conn_established(c) && conn_io_has_pending(c)) {
		c->read_again = true;
		if (conn_reading(c))
			loop_queue_flush(c->loop, &c->flush_hook);
	}
	return io;
}

/* What was read before the end is offered once more, with nothing to come. */
static void conn_meet_end(struct conn *c, enum conn_end end, const char *reason)
{
	if (!conn_open(c))
		return;
	if (!c->orphan && !c->told && !c->paused && !conn_input_empty(c))
		tell(c, c->events->on_readable);
	if (conn_open(c))
		conn_end(c, end, reason);
}

static void conn_read(struct conn *c)
{
	c->read_again = false;
	switch (conn_fill(c)) {
	case CONN_IO_OK:
	case CONN_IO_AGAIN:
		break;
	case CONN_IO_EOF:
		c->eof = true;
		/* Of an orphan, the output may still be taken. */
		if (c->orphan && evbuffer_get_length(c->out) > 0)
			break;
		conn_meet_end(c, CONN_END_EOF, "connection closed by peer");
		break;
	case CONN_IO_FAILED:
		conn_meet_end(c, c->end, c->reason);
		break;
	}
}

/* What the peer said before it went is often why: it is read first. */
static void conn_write_failed(struct conn *c)
{
	enum conn_end end = c->end;
	char reason[sizeof(c->reason)];

	memcpy(reason, c->reason, sizeof(reason));
	evbuffer_drain(c->out, evbuffer_get_length(c->out));
	if (end == CONN_END_RESET)
		conn_fill(c);
	conn_meet_end(c, end, reason);
}

/* An orphan's output is written: closing now would be a reset for a peer that
 * is still sending, and could cost it what it has not read yet. */
static void conn_linger(struct conn *c)
{
	conn_io_say_goodbye(c);
	c->lingering = true;
	shutdown(c->fd, SHUT_WR);
	if (c->eof)
		conn_close(c);
}

static void conn_flush(struct conn *c)
{
	size_t total = 0, n;

	while (evbuffer_get_length(c->out) > 0 && !c->write_wants &&
	    total < WRITE_BYTES_PER_TURN) {
		switch (conn_io_write(c, &n)) {
		case CONN_IO_OK:
			total += n;
			c->written += n;
			break;
		case CONN_IO_AGAIN:
			break;
		case CONN_IO_EOF:
			c->end = CONN_END_RESET;
			snprintf(c->reason, sizeof(c->reason),
			    "connection closed by peer");
			conn_write_failed(c);
			return;
		case CONN_IO_FAILED:
			conn_write_failed(c);
			return;
		}
	}
	if (evbuffer_get_length(c->out) > 0 && !c->write_wants)
		loop_queue_flush(c->loop, &c->flush_hook);
	if (evbuffer_get_length(c->out) == 0 && c->orphan && !c->lingering)
		conn_linger(c);
	else if (total > 0 && evbuffer_get_length(c->out) <= c->low_water)
		tell(c, c->events->on_writable);
}

static void on_flush(struct loop_hook *hook)
{
	struct conn *c = CONTAINER_OF(hook, struct conn, flush_hook);

	loop_wake(c->loop);
	if (c->read_again)
		conn_read(c);
	if (conn_established(c))
		conn_flush(c);
	conn_arm(c);
}

void conn_output_added(struct conn *c)
{
	if (conn_established(c) && !c->write_wants)
		loop_queue_flush(c->loop, &c->flush_hook);
}

/* Reading is possible again, if it is. */
static void conn_reading_changed(struct conn *c)
{
	if (c->read_again && conn_reading(c))
		loop_queue_flush(c->loop, &c->flush_hook);
	conn_arm(c);
}

void conn_input_taken(struct conn *c)
{
	if (!c->full || evbuffer_get_length(c->in) > CONN_INPUT_LOW_BYTES)
		return;
	c->full = false;
	conn_reading_changed(c);
}

void conn_pause(struct conn *c)
{
	c->paused = true;
	conn_arm(c);
}

void conn_resume(struct conn *c)
{
	c->paused = false;
	conn_reading_changed(c);
}

static void finish_connect(struct conn *c)
{
	int rc = conn_socket_connected(c);

	if (rc < 0)
		conn_end(c, c->end, c->reason);
	if (rc <= 0)
		return;
	c->state = CONN_CLEAR;
	conn_output_added(c);
	tell(c, c->events->on_connected);
}

static void handshake(struct conn *c)
{
	switch (conn_io_handshake(c)) {
	case CONN_IO_OK:
		c->state = CONN_SECURE;
		conn_output_added(c);
		tell(c, c->events->on_secured);
		/* The peer's first words may have come with the handshake. */
		if (conn_established(c) && conn_io_has_pending(c))
			conn_read(c);
		break;
	case CONN_IO_FAILED:
		conn_end(c, c->end, c->reason);
		break;
	case CONN_IO_AGAIN:
	case CONN_IO_EOF:
		break;
	}
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	loop_wake(c->loop);
	if (c->state == CONN_CONNECTING) {
		finish_connect(c);
	} else if (c->state == CONN_HANDSHAKE) {
		handshake(c);
	} else {
		if ((what & c->read_wants) && conn_reading(c))
			conn_read(c);
		if (conn_established(c) && (what & c->write_wants)) {
			c->write_wants = 0;
			conn_flush(c);
		}
	}
	conn_arm(c);
}

static void on_loop_free(struct loop_hook *hook)
{
	conn_close(CONTAINER_OF(hook, struct conn, orphan_hook));
}

static struct conn *conn_new(struct loop *loop, int fd,
    const struct conn_events *events, void *ctx, enum conn_state state)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	struct event_base *base = loop_base(loop);

	c->loop = loop;
	c->fd = fd;
	c->events = events;
	c->ctx = ctx;
	c->state = state;
	c->read_wants = EV_READ;
	c->record_size = CONN_RECORD_BYTES;
	c->in = evbuffer_new();
	c->out = evbuffer_new();
	if (!c->in || !c->out)
		fatal("out of memory: connection");
	c->flush_hook.fn = on_flush;
	c->orphan_hook.fn = on_loop_free;
	loop_timer_init(&c->timer, loop, on_timer, c);
	event_assign(
	    &c->read_event, base, fd, EV_READ | EV_PERSIST, on_socket, c);
	event_assign(
	    &c->write_event, base, fd, EV_WRITE | EV_PERSIST, on_socket, c);
	return c;
}

struct conn *conn_accept(
    struct loop *loop, int fd, const struct conn_events *events, void *ctx)
{
	struct conn *c = conn_new(loop, fd, events, ctx, CONN_CLEAR);

	conn_socket_accepted(c);
	conn_arm(c);
	return c;
}

struct conn *conn_connect(struct loop *loop, const struct conn_target *target,
    const struct conn_events *events, void *ctx)
{
	struct conn *c;
	struct err err;
	int fd;
	int rc = conn_socket_connect(&fd, target, &err);

	c = conn_new(loop, fd, events, ctx, CONN_CONNECTING);
	conn_socket_set_peer(c, &target->addr);
	if (rc < 0) {
		c->error = err.code;
		conn_doom(c, CONN_END_REFUSED, err.text);
	} else {
		conn_arm(c);
	}
	return c;
}

void conn_start_tls(struct conn *c, struct tls_context *tls, const char *host)
{
	struct err err;

	if (!conn_open(c) || c->orphan)
		return;
	ASSERT(c->state == CONN_CLEAR);
	/* A hostile peer can answer before it was asked: no assertion. */
	if (!conn_input_empty(c) || conn_output_len(c) > 0) {
		conn_doom(c, CONN_END_TLS,
		    "TLS: data in clear where the handshake should begin");
		return;
	}
	if (conn_io_start_tls(c, tls, host, &err) < 0) {
		conn_doom(c, CONN_END_TLS, err.text);
		return;
	}
	c->state = CONN_HANDSHAKE;
	c->read_wants = EV_WRITE;
	c->skipping = false;
	conn_arm(c);
}

bool conn_is_secure(const struct conn *c)
{
	return c->state == CONN_SECURE;
}

void conn_deadline(struct conn *c, int64_t delay_us)
{
	if (!conn_open(c) || c->orphan)
		return;
	if (delay_us < 0)
		loop_timer_clear(&c->timer);
	else
		loop_timer_set(&c->timer, delay_us);
}

void conn_close_after_flush(struct conn *c)
{
	if (!c || c->orphan)
		return;
	if (!conn_established(c)) {
		conn_close(c);
		return;
	}
	c->orphan = true;
	c->events = &no_events;
	conn_discard_input(c);
	c->read_again = c->ssl != NULL;
	loop_add_orphan(c->loop, &c->orphan_hook);
	loop_timer_set(&c->timer, LINGER_US);
	loop_queue_flush(c->loop, &c->flush_hook);
	conn_arm(c);
}

const char *conn_peer_ip(const struct conn *c)
{
	return c->peer_ip;
}

int conn_peer_port(const struct conn *c)
{
	return c->peer_port;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

void conn_set_record_size(struct conn *c, size_t bytes)
{
	ASSERT(evbuffer_get_length(c->out) == 0);
	c->record_size =
	    bytes > 0 && bytes < CONN_RECORD_BYTES ? bytes : CONN_RECORD_BYTES;
}

int conn_error(const struct conn *c)
{
	return c->error;
}

void conn_describe_tls(const struct conn *c, char *buf, size_t size)
{
	buf[0] = '\0';
	if (c->state == CONN_SECURE)
		tls_describe(c->ssl, buf, size);
}
